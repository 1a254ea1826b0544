"""The same requests, good and bad ones at random, to the real kernel and to the fake one: the same
answers, byte for byte. Connections are not in it; tests/scenarios has those."""

from __future__ import annotations

import random
import socket
import sys
from collections.abc import Iterator

import pytest

from lab import Host
from lab.network import Interface, add_address
from mptcpd.nl import attrs, genl, messages
from mptcpd.nl import uapi as u
from tests.fake.network import LO, NetworkTable
from tests.fake_kernel import FakeKernel

SEEDS = range(8)
REQUESTS = 150
_IPS = [bytes([10, 0, 1, last]) for last in (1, 2, 3)] + [bytes([127, 0, 0, 9])]


def _number(draw: random.Random, size: int, *usual: int) -> bytes:
    """A scalar: mostly of its size and with a value that means something."""
    value = draw.choice([*usual, 0, (1 << 8 * size) - 1]) & ((1 << 8 * size) - 1)
    data = value.to_bytes(size, sys.byteorder)
    return data[: size - 1] if draw.random() < 0.05 else data


def _address(draw: random.Random) -> list[tuple[int, attrs.Payload]]:
    """What is in an address: each attribute is there or not."""
    # A port makes the kernel listen; those tries are few, as they cost time.
    chance = {u.MPTCP_PM_ADDR_ATTR_FAMILY: 0.9, u.MPTCP_PM_ADDR_ATTR_ADDR4: 0.9,
              u.MPTCP_PM_ADDR_ATTR_PORT: 0.1}  # fmt: skip
    values: dict[int, attrs.Payload] = {
        u.MPTCP_PM_ADDR_ATTR_FAMILY: _number(draw, 2, 2, 2, 2, 10, 7),
        u.MPTCP_PM_ADDR_ATTR_ADDR4: draw.choice(_IPS),
        u.MPTCP_PM_ADDR_ATTR_ADDR6: bytes(15) + b"\1",
        u.MPTCP_PM_ADDR_ATTR_ID: _number(draw, 1, 1, 2, 3, 4),
        u.MPTCP_PM_ADDR_ATTR_PORT: _number(draw, 2, 4443),
        u.MPTCP_PM_ADDR_ATTR_FLAGS: _number(draw, 4, 1, 2, 4, 5, 6, 8, 9, 10, 16),
        u.MPTCP_PM_ADDR_ATTR_IF_IDX: _number(draw, 4, 1, 2),
    }
    found = [
        (kind, value) for kind, value in values.items() if draw.random() < chance.get(kind, 0.4)
    ]
    # The kernel hides an endpoint with ID 0 from dumps, and so gives no ID of the fake's.
    return [each for each in found if each != (u.MPTCP_PM_ADDR_ATTR_ID, b"\0")]


def requests(seed: int) -> Iterator[bytes]:
    """Commands of mptcp_pm with what belongs to them, and what does not."""
    draw = random.Random(seed)
    for seq in range(1, REQUESTS + 1):
        command = draw.choice([*range(1, 12), 1, 1, 2, 3, 7, 7, 77])
        values: dict[int, attrs.Payload] = {
            u.MPTCP_PM_ATTR_ADDR: _address(draw),
            u.MPTCP_PM_ATTR_RCV_ADD_ADDRS: _number(draw, 4, 2, 8, 9),
            u.MPTCP_PM_ATTR_SUBFLOWS: _number(draw, 4, 2, 8, 9),
            u.MPTCP_PM_ATTR_TOKEN: _number(draw, 4, 7),
            u.MPTCP_PM_ATTR_LOC_ID: _number(draw, 1, 1),
            u.MPTCP_PM_ATTR_ADDR_REMOTE: _address(draw),
            99: b"unknown",
        }
        chance = {u.MPTCP_PM_ATTR_ADDR: 0.9, u.MPTCP_PM_ATTR_TOKEN: 0.5 if command > 7 else 0.05}
        chosen = [
            (kind, value) for kind, value in values.items() if draw.random() < chance.get(kind, 0.3)
        ]
        dump = command == u.MPTCP_PM_CMD_GET_ADDR and draw.random() < 0.5
        flags = u.NLM_F_REQUEST | (u.NLM_F_DUMP if dump else u.NLM_F_ACK)
        yield messages.build(0, flags, seq, 0, genl.header(command) + attrs.build(chosen))


def answers(datagrams: list[bytes]) -> list[tuple[int, int, bytes]]:
    """Type, flags and payload of each message, without what only copies the request's header."""
    return [
        (message.type, message.flags, message.payload)
        for datagram in datagrams
        for message in messages.split(datagram)
    ]


def ask(sock: socket.socket, request: bytes) -> list[bytes]:
    """What the kernel answers, up to the ack or the end of a dump."""
    sock.send(request)
    found = []
    while True:
        found.append(sock.recv(1 << 16))
        kinds = {message.type for message in messages.split(found[-1])}
        if kinds & {u.NLMSG_ERROR, u.NLMSG_DONE}:
            return found


@pytest.mark.parametrize("seed", SEEDS)
def test_the_same_answers(seed: int, lone_host: Host, latest: None) -> None:
    add_address(Interface(lone_host, "lo", LO), "10.0.1.1/24")
    network = NetworkTable()
    network.add_address(network.links[LO], "10.0.1.1/24")
    fake = FakeKernel(network=network)
    fake.pm.id = family = lone_host.mptcp.family.id
    with lone_host, socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, u.NETLINK_GENERIC) as sock:
        sock.settimeout(5)
        sock.bind((0, 0))
        portid = sock.getsockname()[0]
        for option in (u.NETLINK_EXT_ACK, u.NETLINK_CAP_ACK):
            sock.setsockopt(270, option, 1)
        for body in requests(seed):
            (message,) = messages.split(body)
            request = messages.build(family, message.flags, message.seq, portid, message.payload)
            real = answers(ask(sock, request))
            assert answers(fake.ask(u.NETLINK_GENERIC, request)) == real, describe(request)
            assert fake.mptcp.dump_addrs() == lone_host.mptcp.dump_addrs(), describe(request)


def describe(request: bytes) -> str:
    """A request as it can be looked at."""
    (one,) = messages.split(request)
    kinds = [
        (kind, data.hex(" ")) for kind, data in attrs.split(one.payload, genl.HEADER)
    ]
    return f"command {one.payload[0]}, flags {one.flags:#x}: {kinds}"
