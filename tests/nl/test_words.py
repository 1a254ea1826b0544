"""Messages in words: what --debug shows."""

from __future__ import annotations

import struct

import pytest

from mptcpd.nl import attrs, genl, mptcp, words
from mptcpd.nl import uapi as u
from mptcpd.nl.messages import Message
from mptcpd.nl.mptcp import Address
from mptcpd.nl.mptcp_event import Event

FOUR, SIX = bytes([10, 0, 0, 1]), b"\xfd" + bytes(14) + b"\1"
LINK = struct.pack("=BBHiII", 0, 0, 1, 2, 0x1003, 0)
NAME: tuple[int, attrs.Payload] = (u.IFLA_IFNAME, b"eth0\0")
ADDRESS = struct.pack("=BBBBI", 2, 24, 0x80, 0, 2) + attrs.build([(u.IFA_LOCAL, FOUR)])
ROUTE = struct.pack("=BBBBBBBBI", 10, 0, 0, 0, 254, 3, 0, 1, 0) + attrs.build(
    [(u.RTA_OIF, struct.pack("=I", 2)), (u.RTA_GATEWAY, SIX)]
)


@pytest.mark.parametrize(
    ("kind", "payload", "text"),
    [
        (u.RTM_NEWLINK, LINK + attrs.build([NAME]),
         "RTM_NEWLINK: ifindex 2 type 1 flags 0x1003 name eth0"),
        (u.RTM_DELLINK, LINK + attrs.build([NAME]),
         "RTM_DELLINK: ifindex 2 type 1 flags 0x1003 name eth0 gone"),
        (u.RTM_NEWADDR, ADDRESS,
         "RTM_NEWADDR: ifindex 2 ip 10.0.0.1 prefixlen 24 scope 0 flags 0x80"),
        (u.RTM_NEWROUTE, ROUTE, "RTM_NEWROUTE: family 10 dst_len 0 table 254 type 1 protocol 3 "
         "flags 0x0 oifs 2 gateway fd00::1"),
        (u.RTM_NEWADDR, b"", "RTM_NEWADDR: malformed: ifaddrmsg: 0 bytes instead of 8"),
        (u.RTM_NEWRULE, b"1234", "RTM_NEWRULE: 4 bytes"),
        (60, b"1234", "message type 60: 4 bytes"),
    ],
)  # fmt: skip
def test_route(kind: int, payload: bytes, text: str) -> None:
    assert words.route(Message(kind, 0, 0, 0, payload)) == text


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (Event(3, 0xBEEF), "MPTCP_EVENT_CLOSED: token 0000beef"),
        (Event(6, 1, remote_id=0, remote_ip=SIX, remote_port=80),
         "MPTCP_EVENT_ANNOUNCED: token 00000001 remote_id 0 remote_ip fd00::1 remote_port 80"),
        (Event(1, 1, flags=3), "MPTCP_EVENT_CREATED: token 00000001 flags 0x3"),
        (Event(99), "MPTCP_EVENT 99: "),
    ],
)  # fmt: skip
def test_event(event: Event, text: str) -> None:
    assert words.event(event) == text


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (mptcp.get_limits(), "NAME"),
        (mptcp.set_limits(2, 3), "NAME RCV_ADD_ADDRS 3 SUBFLOWS 2"),
        (mptcp.remove(0xBEEF, 3), "NAME TOKEN 0000beef LOC_ID 3"),
        (
            mptcp.announce(1, Address(FOUR, 80, 5, 5, 2)),
            "NAME TOKEN 00000001 ADDR {FAMILY 2 ADDR4 10.0.0.1 ID 5 PORT 80 FLAGS signal,backup "
            "IF_IDX 2}",
        ),
        (mptcp.add_addr(Address(SIX, flags=0)), "NAME ADDR {FAMILY 10 ADDR6 fd00::1 FLAGS 0}"),
        (genl.header(1) + attrs.build([(99, b"\1\0\0\0")]), "NAME attribute 99 1"),
        (genl.header(1) + b"\xff\xff\1\0", "NAME: malformed: attribute at offset 4: "
         "length 65535, but 4 bytes are left"),
    ],
)  # fmt: skip
def test_command(body: bytes, text: str) -> None:
    if b"\1\0\0\0" in body and not struct.pack("=H", 1)[0]:
        pytest.skip("the row holds little-endian bytes")
    assert words.command("NAME", body, mptcp.NAMES) == text


def test_a_request_of_a_family_without_names() -> None:
    assert words.command("RTM_GETLINK", b"whatever", None) == "RTM_GETLINK"


def test_answers() -> None:
    assert words.answer("RTM_GETADDR", ADDRESS, None) == (
        "RTM_NEWADDR: ifindex 2 ip 10.0.0.1 prefixlen 24 scope 0 flags 0x80"
    )
    family = genl.header(u.CTRL_CMD_NEWFAMILY) + attrs.build(
        [
            (u.CTRL_ATTR_FAMILY_NAME, b"mptcp_pm\0"),
            (u.CTRL_ATTR_FAMILY_ID, struct.pack("=H", 28)),
            (u.CTRL_ATTR_MCAST_GROUPS, [(1, [(u.CTRL_ATTR_MCAST_GRP_NAME, b"events\0"),
                                             (u.CTRL_ATTR_MCAST_GRP_ID, struct.pack("=I", 9))])]),
        ]
    )  # fmt: skip
    assert words.answer("CTRL_CMD_GETFAMILY", family, None) == (
        "CTRL_CMD_NEWFAMILY: name mptcp_pm id 28 version 0 maxattr 0 groups events=9"
    )
    assert words.answer("CTRL_CMD_GETFAMILY", b"", None) == (
        "CTRL_CMD_GETFAMILY: malformed: genlmsghdr: 0 bytes instead of 4"
    )
    limits = genl.header(6) + mptcp.set_limits(2, 3)[genl.HEADER :]
    assert words.answer("MPTCP_PM_CMD_GET_LIMITS", limits, mptcp.NAMES) == (
        "MPTCP_PM_CMD_GET_LIMITS RCV_ADD_ADDRS 3 SUBFLOWS 2"
    )


def test_an_odd_ip_is_shown_in_digits() -> None:
    assert words.event(Event(3, local_ip=b"12345")) == "MPTCP_EVENT_CLOSED: local_ip 3132333435"
