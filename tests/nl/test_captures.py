"""The codec against bytes that a kernel sent: parsed to the expected value, and built back.

``tests/captures`` says how they were recorded, and what its hosts' addresses, ports and IDs are.
The values here are written by hand from that, not by the parser; what the kernel draws at random,
the tokens, comes from the head of each recording, where it was taken from the socket (MPTCP_INFO).
"""

from __future__ import annotations

import errno
import sys
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from mptcpd.nl import attrs, genl, messages, mptcp_event
from mptcpd.nl import uapi as u
from mptcpd.nl.mptcp import AF_INET, AF_INET6
from mptcpd.nl.mptcp_event import Event
from tests.captures import record
from tests.captures.params import params
from tests.captures.record import Record
from tests.captures.scene import CLOSED_PORT, FIRST, IPS, JOIN, OURS, PORT, THEIRS

FLAVOURS = tuple(IPS)
EVENTS, REPLIES = record.load("events"), record.load("replies")


@pytest.fixture(params=params(EVENTS))
def events(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(params=params(REPLIES))
def replies(request: pytest.FixtureRequest) -> Any:
    return request.param


def payload(recording: Record, name: str) -> bytes:
    return next(messages.split(recording.messages[name])).payload


def packed(text: str) -> bytes:
    return ip_address(text).packed


# --- events ----------------------------------------------------------------------------------


def expected_events(flavour: str, tokens: dict[str, int]) -> dict[str, Event]:
    """Every event of a recording, by its name there."""
    client1, client2, server1, server2 = (
        packed(IPS[flavour].format(link, host)) for host in (1, 2) for link in (1, 2)
    )
    # Over IPv6 sockets IPv4 addresses come mapped; only an announced address comes as it is.
    announced = server2[-4:] if flavour == "mapped" else server2
    family = AF_INET if flavour == "ipv4" else AF_INET6
    client, server, refused = (
        tokens[f"{connection}/{flavour}"] for connection in ("client", "server", "refused")
    )
    first: dict[str, Any] = {"family": family, "local_id": 0, "remote_id": 0}
    at_client = Event(
        1, client, local_ip=client1, remote_ip=server1, local_port=FIRST, remote_port=PORT, **first
    )
    at_server = Event(
        1, server, local_ip=server1, remote_ip=client1, local_port=PORT, remote_port=FIRST,
        flags=u.MPTCP_PM_EV_FLAG_SERVER_SIDE, server_side=1, **first,
    )  # fmt: skip
    # The second link: local and remote ID, then the client's port.
    join = Event(10, client, family, OURS, THEIRS, client2, server2, JOIN, PORT, 0)
    joined = Event(10, server, family, THEIRS, OURS, server2, client2, PORT, JOIN, 0)
    # Once THEIRS is removed, the server gives its address the ID 1.
    bound = join._replace(remote_id=1, local_port=JOIN + 2, ifindex=3)
    bound_to = joined._replace(local_id=1, remote_port=JOIN + 2)
    backup = join._replace(remote_id=1, local_port=JOIN + 3)
    backed = joined._replace(local_id=1, remote_port=JOIN + 3, backup=1)
    found = {
        "listener_created": Event(15, family=family, local_ip=server1, local_port=PORT),
        "created/client": at_client,
        "created/server": at_server,
        "created/deny_join": at_client._replace(
            token=refused, flags=u.MPTCP_PM_EV_FLAG_DENY_JOIN_ID0
        ),
        "established/client": at_client._replace(kind=2),
        "established/server": at_server._replace(kind=2),
        "announced": Event(6, client, remote_id=THEIRS, remote_ip=announced, remote_port=PORT),
        "sub_established/client": join,
        "sub_established/server": joined,
        "sub_priority/backup": joined._replace(kind=13, backup=1),
        "sub_priority/normal": joined._replace(kind=13, backup=0),
        "removed": Event(7, client, remote_id=THEIRS),
        "sub_closed/removed/client": join._replace(kind=11),
        "sub_closed/removed/server": joined._replace(kind=11),
        "sub_closed/refused": join._replace(
            kind=11, remote_id=0, local_port=JOIN + 1, remote_port=CLOSED_PORT,
            error=errno.ECONNREFUSED,
        ),
        "sub_established/bound/client": bound,
        "sub_established/bound/server": bound_to,
        "sub_closed/destroyed/client": bound._replace(kind=11),
        "sub_closed/destroyed/server": bound_to._replace(kind=11),
        "sub_established/backup/client": backup,
        "sub_established/backup/server": backed,
        "sub_closed/reset": join._replace(
            kind=11, token=refused, remote_id=1, error=errno.ECONNRESET, reset_reason=0,
            reset_flags=0,
        ),
        "closed/client": Event(3, client),
        "closed/server": Event(3, server),
        "listener_closed": Event(16, family=family, local_ip=server1, local_port=PORT),
    }  # fmt: skip
    return {f"{name}/{flavour}": event for name, event in found.items()}


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_events(flavour: str, events: Record) -> None:
    expected = expected_events(flavour, events.tokens)
    assert sorted(expected) == sorted(n for n in events.messages if n.endswith("/" + flavour))
    for name, value in expected.items():
        data = payload(events, name)
        assert mptcp_event.parse_plain(data) == value, name
        for _plain_then_compiled in range(2):
            assert mptcp_event.parse(data) == value, name
        assert mptcp_event.unknown(data) == [], name


def test_every_kind_of_event_was_recorded(events: Record) -> None:
    for flavour in FLAVOURS:
        kinds = {payload(events, n)[0] for n in events.messages if n.endswith("/" + flavour)}
        assert kinds == set(mptcp_event.EVENTS)


def test_every_attribute_of_events_was_recorded(events: Record) -> None:
    seen = set()
    for name in events.messages:
        seen |= set(attrs.parse(payload(events, name), genl.HEADER))
    assert set(range(1, 19)) - seen == {u.MPTCP_ATTR_TIMEOUT}  # no event of Linux 6.18 has it


def test_events_built_back(events: Record) -> None:
    """To the byte where the kernel, too, orders attributes by number; else one by one."""
    alike = 0
    for name in events.messages:
        data = payload(events, name)
        built = mptcp_event.build(mptcp_event.parse(data))
        assert built[: genl.HEADER] == data[: genl.HEADER]
        sent = attrs.split(data, genl.HEADER)
        assert attrs.split(built, genl.HEADER) == sorted(sent), name
        if sent == sorted(sent):
            assert built == data, name
            alike += 1
    assert alike >= 3 * len(FLAVOURS)  # REMOVED, and CLOSED on both sides


# --- all messages ----------------------------------------------------------------------------


@pytest.mark.parametrize("recording", params(EVENTS + REPLIES))
def test_headers_both_ways(recording: Record) -> None:
    for name, data in recording.messages.items():
        (message,) = messages.split(data)
        assert messages.build(*message) == data, name
    joined = b"".join(recording.messages.values())
    assert [messages.build(*message) for message in messages.split(joined)] == list(
        recording.messages.values()
    )


def test_attributes_both_ways(events: Record, replies: Record) -> None:
    """The order and the payloads of attributes; nests are payloads here."""
    headers = {
        "connections": 72, "subflows": 72, "link": 16, "address": 8, "route": 12, "lookup": 12,
    }  # fmt: skip
    count = 0
    for recording in (events, replies):
        for name, data in recording.messages.items():
            (message,) = messages.split(data)
            if message.type in (u.NLMSG_ERROR, u.NLMSG_DONE) or name.endswith(".request"):
                continue
            header = next((size for key, size in headers.items() if name.startswith(key)), 4)
            if recording is events:
                header = genl.HEADER
            found = attrs.split(message.payload, header)
            flagged = message.payload[:header]
            offset = header
            for kind, data in found:
                # The kernel marks some nests and not others: the flag is taken from its bytes.
                length = len(data) + 4
                sent = message.payload[offset + 2 : offset + 4]
                assert int.from_bytes(sent, sys.byteorder) & attrs.TYPE_MASK == kind
                flagged += length.to_bytes(2, sys.byteorder) + sent + data + bytes(-length & 3)
                offset += (length + 3) & ~3
            assert flagged == message.payload, name
            plain = [item for item in found if item[0] < attrs.TYPE_MASK]
            assert attrs.split(attrs.build(plain)) == found, name
            count += 1
    assert count > 100


# --- the files themselves --------------------------------------------------------------------


def test_a_recording_read_and_written_again(tmp_path: Path, events: Record) -> None:
    events.write(tmp_path / "again.txt")
    again = record.read(tmp_path / "again.txt")
    assert (again.kernel, again.byte_order) == (events.kernel, events.byte_order)
    assert again.tokens == events.tokens
    assert again.messages == events.messages


@pytest.mark.parametrize("text", ["", "made of nothing\n", "# Linux, little-endian;\nname zz\n",
                                  "# Linux, little-endian;\na 00\na 00\n"])  # fmt: skip
def test_a_file_that_is_no_recording(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.txt").write_text(text or "\n")
    with pytest.raises(ValueError):
        record.read(tmp_path / "bad.txt")
