"""sock_diag: connections and subflows as the kernel lists them, requests, and what is refused."""

from __future__ import annotations

import socket
import struct
import sys
from ipaddress import ip_address

import pytest

from mptcpd.nl import attrs, diag, messages
from mptcpd.nl import uapi as u
from mptcpd.nl.diag import Connection, Path, Subflow
from mptcpd.nl.errors import DecodeError
from mptcpd.nl.mptcp import AF_INET, AF_INET6
from tests.captures import record
from tests.captures.scene import FIRST, IPS, JOIN, OURS, PORT

little = pytest.mark.skipif(sys.byteorder == "big", reason="the table holds little-endian bytes")


@pytest.fixture(autouse=True)
def nothing_learnt() -> None:
    diag._INFO_AT.clear()
    diag._ULP_AT.clear()


def ip(text: str) -> bytes:
    return ip_address(text).packed


# --- requests --------------------------------------------------------------------------------


@little
@pytest.mark.parametrize(
    ("body", "text"),
    [
        (
            diag.request(AF_INET, u.IPPROTO_MPTCP, 0xFFF),
            "02 06 02 00 ff0f0000" + "00" * 40 + "ff" * 8 + "0800 0300 06010000",
        ),
        (
            diag.request(AF_INET6, socket.IPPROTO_TCP, 1),
            "0a 06 02 00 01000000" + "00" * 40 + "ff" * 8,
        ),
        (
            diag.request(AF_INET, u.IPPROTO_MPTCP, 2, token=0xDEADBEEF),
            "02 06 02 00 02000000" + "00" * 40 + "efbeadde 00000000" + "0800 0300 06010000",
        ),
        (
            diag.request(AF_INET, 6, 2, path=Path(ip("10.0.0.1"), 40000, ip("10.0.0.2"), 8080)),
            "02 06 02 00 02000000 9c40 1f90 0a000001" + "00" * 12 + "0a000002" + "00" * 16
            + "ff" * 8,
        ),
        (
            diag.request(
                AF_INET, 6, 2, path=Path(ip("10.0.0.1"), 1, ip("10.0.0.2"), 2), ifindex=0x1234
            ),
            "02 06 02 00 02000000 0001 0002 0a000001" + "00" * 12 + "0a000002" + "00" * 12
            + "34120000" + "ff" * 8,
        ),
    ],
)
def test_request(body: bytes, text: str) -> None:
    assert body.hex() == bytes.fromhex(text).hex()
    assert len(body) - (8 if "0300 06010000" in text else 0) == diag.REQUEST == 56


def test_states() -> None:
    """As include/net/tcp_states.h numbers them."""
    named = {bit for bit in range(1, 13) if diag.CONNECTED >> bit & 1}
    assert named == {1, 4, 5, 8, 9, 11}
    assert diag.LISTENING == 1 << 10


# --- answers ---------------------------------------------------------------------------------


def answer(
    *parts: tuple[int, attrs.Payload], family: int = AF_INET, ips: tuple[str, str] = ("::", "::"),
    uid: int = 1000, inode: int = 77, state: int = 1, ifindex: int = 0,
) -> bytes:  # fmt: skip
    """struct inet_diag_msg and attributes."""
    ends = b"".join(ip(text).ljust(16, b"\0") for text in ips)
    head = struct.pack("=BBBB", family, state, 0, 0) + struct.pack(">HH", 40000, 8080)
    numbers = struct.pack("=IIIIIIII", ifindex, 0xFFFFFFFF, 0xFFFFFFFF, 1, 2, 3, uid, inode)
    assert len(head + ends + numbers) == 72
    return head + ends + numbers + attrs.build(parts)


def info(token: int, flags: int = 2, size: int = 96) -> bytes:
    return (struct.pack("=8B", *[1] * 8) + struct.pack("=II", flags, token)).ljust(size, b"\5")


V4, V6 = ("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")


@pytest.mark.parametrize(("family", "ips"), [(AF_INET, V4), (AF_INET6, V6)])
@pytest.mark.parametrize("size", [16, 64, 96, 120])  # struct mptcp_info grows with the kernel
def test_connection(family: int, ips: tuple[str, str], size: int) -> None:
    told = info(0xDEADBEEF, 3, size)
    data = answer((8, b"\0"), (u.INET_DIAG_INFO, told), (21, bytes(8)), family=family, ips=ips,
                  state=4, ifindex=3)  # fmt: skip
    path = Path(ip(ips[0]), 40000, ip(ips[1]), 8080)
    expected = Connection(path, 4, 3, 1000, 77, 0xDEADBEEF, 3, told)
    for _plain_then_known in range(3):
        assert diag.parse_connection(data) == expected


def test_closed() -> None:
    """By its program, while the kernel still sends; not so a socket that waits to be accepted."""
    def closed(state: int, inode: int) -> bool:
        data = answer((u.INET_DIAG_INFO, info(1)), inode=inode, state=state)
        return diag.parse_connection(data).closed

    assert closed(diag.TCP_FIN_WAIT1, 0)
    assert closed(diag.TCP_CLOSING, 0)
    assert not closed(diag.TCP_FIN_WAIT1, 77)  # shut down, but held open
    assert not closed(diag.TCP_ESTABLISHED, 0)
    assert not closed(diag.TCP_CLOSE_WAIT, 0)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "inet_diag_msg: 0 bytes instead of 72"),
        (answer()[:71], "inet_diag_msg: 71 bytes instead of 72"),
        (answer(family=1), "inet_diag_msg: address family 1"),
        (answer(), "INET_DIAG_INFO: 0 bytes, at least 16"),
        (answer((u.INET_DIAG_INFO, bytes(15))), "INET_DIAG_INFO: 15 bytes, at least 16"),
        (answer((u.INET_DIAG_INFO, info(1))) + bytes(4), "attribute at offset 172: length 0"),
        (answer() + b"\xff\xff\2\0" + info(1), "attribute at offset 72: length 65535"),
    ],
)
def test_malformed_connection(data: bytes, words: str) -> None:
    for _again in range(2):
        with pytest.raises(DecodeError, match=words):
            diag.parse_connection(data)


def ulp(*parts: tuple[int, attrs.Payload], name: bytes = b"mptcp\0") -> tuple[int, attrs.Payload]:
    return (u.INET_DIAG_ULP_INFO, [(1, name), (u.INET_ULP_INFO_MPTCP, parts)])


MPTCP: tuple[tuple[int, attrs.Payload], ...] = (
    (u.MPTCP_SUBFLOW_ATTR_TOKEN_REM, struct.pack("=I", 1)),
    (u.MPTCP_SUBFLOW_ATTR_TOKEN_LOC, struct.pack("=I", 0xDEADBEEF)),
    (u.MPTCP_SUBFLOW_ATTR_FLAGS, struct.pack("=I", 0xCC)),
    (u.MPTCP_SUBFLOW_ATTR_ID_REM, b"\2"),
    (u.MPTCP_SUBFLOW_ATTR_ID_LOC, b"\7"),
    (99, b"new"),
)


def test_subflow() -> None:
    data = answer((u.INET_DIAG_INFO, bytes(280)), ulp(*MPTCP), ips=V4, ifindex=2)
    expected = Subflow(Path(ip(V4[0]), 40000, ip(V4[1]), 8080), 1, 2, 0xDEADBEEF, 0xCC, 7, 2)
    for _plain_then_known in range(3):
        assert diag.parse_subflow(data) == expected


def test_what_is_no_subflow() -> None:
    """Plain TCP, another ULP (kernel TLS), and all that is told to others than CAP_NET_ADMIN."""
    tls: tuple[int, attrs.Payload] = (u.INET_DIAG_ULP_INFO, [(1, b"tls\0"), (2, [(1, b"\4\3")])])
    name: tuple[int, attrs.Payload] = (u.INET_DIAG_ULP_INFO, [(1, b"mptcp\0")])
    for parts in ([], [tls], [name], [(u.INET_DIAG_ULP_INFO, b"")], [ulp()]):
        assert diag.parse_subflow(answer(*parts)) is None


def test_a_subflow_with_nothing_said_of_it() -> None:
    found = diag.parse_subflow(answer(ulp(MPTCP[-1])))
    assert found is not None
    assert found[3:] == (0, 0, 0, 0)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (answer(family=0), "address family 0"),
        (answer((u.INET_DIAG_ULP_INFO, b"\xff\xff\3\0")), "length 65535"),
        (answer(ulp((u.MPTCP_SUBFLOW_ATTR_TOKEN_LOC, b"1"))), "ATTR_TOKEN_LOC: 1 bytes"),
        (answer(ulp((u.MPTCP_SUBFLOW_ATTR_FLAGS, b"1"))), "ATTR_FLAGS: 1 bytes"),
        (answer(ulp((u.MPTCP_SUBFLOW_ATTR_ID_LOC, bytes(4)))), "ATTR_ID_LOC: 4 bytes"),
        (answer(ulp((u.MPTCP_SUBFLOW_ATTR_ID_REM, bytes(4)))), "ATTR_ID_REM: 4 bytes"),
    ],
)
def test_malformed_subflow(data: bytes, words: str) -> None:
    with pytest.raises(DecodeError, match=words):
        diag.parse_subflow(data)


def test_what_was_learnt_misleads_nobody() -> None:
    """A message as long as a known one, but its attributes elsewhere, or one of them malformed."""
    known = answer((8, bytes(8)), (u.INET_DIAG_INFO, info(1)))
    diag.parse_connection(known)
    elsewhere = answer((u.INET_DIAG_INFO, info(2)), (8, bytes(8)))
    assert len(elsewhere) == len(known)
    assert diag.parse_connection(elsewhere).token == 2
    assert diag.parse_connection(known).token == 1
    broken = known[:72] + bytes(4) + known[76:]
    with pytest.raises(DecodeError, match="attribute at offset 72: length 0"):
        diag.parse_connection(broken)


def test_no_more_shapes_than_some_are_remembered() -> None:
    for size in range(100):
        data = answer((8, bytes(4 * size)), (u.INET_DIAG_INFO, info(size)))
        assert diag.parse_connection(data).token == size
        subflow = diag.parse_subflow(answer((8, bytes(4 * size)), ulp(*MPTCP)))
        assert subflow is not None
        assert subflow.token == 0xDEADBEEF
    assert len(diag._INFO_AT) == 64
    assert len(diag._ULP_AT) == 64


# --- bytes of a kernel -----------------------------------------------------------------------


@pytest.mark.parametrize("flavour", ["ipv4", "ipv6"])
@pytest.mark.parametrize(
    "recording", record.load("replies"), ids=lambda one: one.kernel.partition(",")[0]
)
def test_recorded(recording: record.Record, flavour: str) -> None:
    """A connection with two subflows, at the client."""
    def payloads(what: str) -> list[bytes]:
        labels = [f"{what}/{flavour}.{index}" for index in range(9)]
        return [
            message.payload
            for label in labels if label in recording.messages
            for message in messages.split(recording.messages[label])
            if message.type == u.SOCK_DIAG_BY_FAMILY
        ]  # fmt: skip

    token = recording.tokens[f"sockets/{flavour}"]
    paths = [
        Path(ip(IPS[flavour].format(link, 1)), port, ip(IPS[flavour].format(link, 2)), PORT)
        for link, port in ((1, FIRST), (2, JOIN + (flavour == "ipv6")))
    ]
    (connection,) = map(diag.parse_connection, payloads("connections"))
    assert (connection.path, connection.token) == (paths[0], token)
    assert connection.state == diag.TCP_ESTABLISHED
    assert connection.inode != 0
    assert connection.info[0] == 1  # subflows beside the first
    assert not connection.closed
    found = sorted(filter(None, map(diag.parse_subflow, payloads("subflows"))))
    assert [subflow.path for subflow in found] == paths
    assert {subflow.token for subflow in found} == {token}
    assert [(subflow.local_id, subflow.remote_id) for subflow in found] == [(0, 0), (OURS, 1)]
    assert found[1].flags == 0xCC  # JOIN_REM, JOIN_LOC, FULLY_ESTABLISHED, CONNECTED


# --- what struct mptcp_info says ------------------------------------------------------------


@pytest.mark.parametrize(
    ("info", "outstanding", "received"),
    [
        (b"", 0, None),
        (bytes(31), 0, None),
        (struct.pack("=16xQQ", 1000, 400), 600, None),
        (struct.pack("=16xQQ", 5, (1 << 64) - 5), 10, None),
        (struct.pack("=16xQQ59x", 7, 7), 0, None),
        (struct.pack("=16xQQ32xQ16xI", 7, 6, 1 << 40, 12), 1, (1 << 40, 12)),
        (struct.pack("=16xQQ32xQ16xI8x", 7, 6, 1 << 40, 12), 1, (1 << 40, 12)),
    ],
)
def test_what_waits_and_what_came(
    info: bytes, outstanding: int, received: tuple[int, int] | None
) -> None:
    path = Path(ip("10.0.0.1"), 1, ip("10.0.0.2"), 2)
    found = Connection(path, 1, 0, 0, 1, 7, 0, info)
    assert (found.outstanding, found.received) == (outstanding, received)
