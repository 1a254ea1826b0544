"""What a client asks and what it makes of the answers; a scripted socket stands for the kernel."""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from mptcpd.nl import attrs, genl, mptcp, rtnl, rtnl_rule
from mptcpd.nl import uapi as u
from mptcpd.nl.client import MptcpClient, RouteClient
from mptcpd.nl.errors import DecodeError, KernelError, NetlinkError, Unavailable
from mptcpd.nl.exchange import Names
from mptcpd.nl.mptcp import AF_INET, AF_INET6, Address, Limits


class Asked(NamedTuple):
    """One request as it came to the socket."""

    how: str
    kind: int
    body: bytes
    command: str
    names: Names | None
    flags: int | None
    header: int | None


Answer = list[bytes] | Exception


class Scripted:
    """Answers request after request with what it was given, and keeps what was asked."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.asked: list[Asked] = []

    def _answer(self, asked: Asked) -> list[bytes]:
        self.asked.append(asked)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def query(self, kind: int, body: bytes, command: str, names: Names | None = None) -> bytes:
        (answer,) = self._answer(Asked("query", kind, body, command, names, None, None))
        return answer

    def request(
        self, kind: int, body: bytes, command: str, names: Names | None = None,
        *, flags: int = u.NLM_F_ACK, header: int = 4,
    ) -> list[bytes]:  # fmt: skip
        return self._answer(Asked("request", kind, body, command, names, flags, header))

    def dump(
        self, kind: int, body: bytes, command: str, names: Names | None = None, *, header: int = 4
    ) -> list[bytes]:
        return self._answer(Asked("dump", kind, body, command, names, None, header))


def u16(value: int) -> bytes:
    return struct.pack("=H", value)


def u32(value: int) -> bytes:
    return struct.pack("=I", value)


FAMILY_ID = 29


def family(groups: dict[str, int]) -> bytes:
    nests: list[tuple[int, attrs.Payload]] = [
        (index, [(u.CTRL_ATTR_MCAST_GRP_NAME, name.encode() + b"\0"),
                 (u.CTRL_ATTR_MCAST_GRP_ID, u32(ident))])
        for index, (name, ident) in enumerate(groups.items(), 1)
    ]  # fmt: skip
    return genl.header(u.CTRL_CMD_NEWFAMILY, 2) + attrs.build(
        [
            (u.CTRL_ATTR_FAMILY_NAME, b"mptcp_pm\0"),
            (u.CTRL_ATTR_FAMILY_ID, u16(FAMILY_ID)),
            (u.CTRL_ATTR_MCAST_GROUPS, nests),
        ]
    )


FAMILY = family({"mptcp_pm_cmds": 11, "mptcp_pm_events": 12})


def client(*answers: Answer) -> tuple[MptcpClient, Scripted]:
    """A client that has looked its family up, and the socket it asks."""
    socket = Scripted([FAMILY], *answers)
    ready = MptcpClient(socket)
    assert socket.asked.pop(0) == Asked(
        "query", u.GENL_ID_CTRL, genl.get_family("mptcp_pm"), "CTRL_CMD_GETFAMILY", None, None, None
    )
    return ready, socket


# --- the family ------------------------------------------------------------------------------


def test_the_family() -> None:
    ready, _socket = client()
    assert ready.family.id == FAMILY_ID
    assert ready.events_group == 12


def test_a_kernel_without_mptcp() -> None:
    refusal = KernelError("CTRL_CMD_GETFAMILY", errno.ENOENT)
    with pytest.raises(Unavailable, match="the kernel has no mptcp_pm family") as caught:
        MptcpClient(Scripted(refusal))
    assert caught.value.__cause__ is refusal


def test_a_kernel_without_events() -> None:
    ready = MptcpClient(Scripted([family({"mptcp_pm_cmds": 11})]))
    with pytest.raises(Unavailable, match="mptcp_pm has no mptcp_pm_events"):
        _ = ready.events_group


def test_a_malformed_family() -> None:
    with pytest.raises(DecodeError):
        MptcpClient(Scripted([b""]))


# --- mptcp_pm --------------------------------------------------------------------------------

ONE = Address(bytes([10, 0, 0, 1]), id=1, flags=2)
TWO = Address(bytes([10, 0, 0, 2]), 80)

DO: list[tuple[str, Callable[[MptcpClient], None], bytes]] = [
    ("ADD_ADDR", lambda c: c.add_addr(ONE), mptcp.add_addr(ONE)),
    ("DEL_ADDR", lambda c: c.del_addr(ONE), mptcp.del_addr(ONE)),
    ("FLUSH_ADDRS", lambda c: c.flush_addrs(), mptcp.flush_addrs()),
    ("SET_LIMITS", lambda c: c.set_limits(3, 4), mptcp.set_limits(3, 4)),
    ("SET_FLAGS", lambda c: c.set_flags(ONE), mptcp.set_flags(ONE)),
    ("SET_FLAGS", lambda c: c.set_flags(ONE, TWO, 7), mptcp.set_flags(ONE, TWO, 7)),
    ("ANNOUNCE", lambda c: c.announce(7, ONE), mptcp.announce(7, ONE)),
    ("REMOVE", lambda c: c.remove(7, 8), mptcp.remove(7, 8)),
    ("SUBFLOW_CREATE", lambda c: c.subflow_create(7, ONE, TWO), mptcp.subflow_create(7, ONE, TWO)),
    ("SUBFLOW_DESTROY", lambda c: c.subflow_destroy(7, ONE, TWO),
     mptcp.subflow_destroy(7, ONE, TWO)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "call", "body"), DO)
def test_commands_without_an_answer(
    name: str, call: Callable[[MptcpClient], None], body: bytes
) -> None:
    """One request each, acknowledged, with names for what the kernel may complain about."""
    ready, socket = client([])
    call(ready)
    command = f"MPTCP_PM_CMD_{name}"
    assert socket.asked == [
        Asked("request", FAMILY_ID, body, command, mptcp.NAMES, u.NLM_F_ACK, genl.HEADER)
    ]
    refusal = KernelError(command, errno.EPERM)
    ready, _socket = client(refusal)
    with pytest.raises(KernelError) as caught:
        call(ready)
    assert caught.value is refusal


def endpoint(address: Address) -> bytes:
    """How the kernel answers GET_ADDR."""
    return genl.header(u.MPTCP_PM_CMD_GET_ADDR) + mptcp.add_addr(address)[genl.HEADER :]


@pytest.mark.parametrize("token", [None, 7])
def test_get_addr(token: int | None) -> None:
    ready, socket = client([endpoint(ONE)])
    assert ready.get_addr(1, token) == ONE
    body = mptcp.get_addr(1, token)
    assert socket.asked == [
        Asked("query", FAMILY_ID, body, "MPTCP_PM_CMD_GET_ADDR", mptcp.NAMES, None, None)
    ]


@pytest.mark.parametrize("token", [None, 0])
def test_dump_addrs(token: int | None) -> None:
    other = ONE._replace(id=2, ip=bytes(16))
    ready, socket = client([endpoint(ONE), endpoint(other)], [])
    assert ready.dump_addrs(token) == [ONE, other]
    assert ready.dump_addrs(token) == []
    body = mptcp.dump_addrs(token)
    asked = Asked("dump", FAMILY_ID, body, "MPTCP_PM_CMD_GET_ADDR", mptcp.NAMES, None, genl.HEADER)
    assert socket.asked == [asked, asked]


def test_get_limits() -> None:
    answer = genl.header(6) + mptcp.set_limits(3, 4)[genl.HEADER :]
    ready, socket = client([answer])
    assert ready.get_limits() == Limits(add_addr_accepted=4, subflows=3)
    assert [asked[:4] for asked in socket.asked] == [
        ("query", FAMILY_ID, mptcp.get_limits(), "MPTCP_PM_CMD_GET_LIMITS")
    ]


@pytest.mark.parametrize(
    "call",
    [lambda c: c.get_limits(), lambda c: c.get_addr(1), lambda c: c.dump_addrs()],
)
def test_an_answer_that_is_none(call: Callable[[MptcpClient], Any]) -> None:
    ready, _socket = client([b"\6\1\0\0"])
    with pytest.raises(DecodeError):
        call(ready)


def test_a_value_that_does_not_fit_is_not_sent() -> None:
    ready, socket = client()
    with pytest.raises(ValueError):
        ready.remove(7, 256)
    assert socket.asked == []


# --- rtnetlink -------------------------------------------------------------------------------


def link(index: int, name: bytes) -> bytes:
    return struct.pack("=BBHiII", 0, 0, 1, index, 0, 0) + attrs.build([(u.IFLA_IFNAME, name)])


def address(ip: bytes, ifindex: int = 2, family: int | None = None) -> bytes:
    known = AF_INET if len(ip) == 4 else AF_INET6
    return struct.pack(
        "=BBBBI", known if family is None else family, 8 * len(ip), 0, 0, ifindex
    ) + attrs.build([(u.IFA_LOCAL, ip)])


def route(family: int, oif: int) -> bytes:
    return struct.pack("=BBBBBBBBI", family, 0, 0, 0, 254, 0, 0, 1, 0) + attrs.build(
        [(u.RTA_OIF, u32(oif))]
    )


def test_links() -> None:
    socket = Scripted([link(1, b"lo\0"), link(2, b"eth0\0")])
    assert [found.name for found in RouteClient(socket).links()] == ["lo", "eth0"]
    assert socket.asked == [
        Asked("dump", u.RTM_GETLINK, rtnl.get_links(), "RTM_GETLINK", None, None, rtnl.IFINFOMSG)
    ]


FOUR, SIX = bytes([10, 0, 0, 1]), b"\xfd" + bytes(15)


def ips(found: list[rtnl.Address]) -> list[bytes]:
    return [one.ip for one in found]


def test_addresses_of_both_families() -> None:
    socket = Scripted([address(FOUR)], [address(SIX, 3)])
    assert ips(RouteClient(socket).addresses()) == [FOUR, SIX]
    assert [asked.body for asked in socket.asked] == [
        rtnl.get_addresses(AF_INET), rtnl.get_addresses(AF_INET6),
    ]  # fmt: skip
    assert {asked[:2] + asked[3:] for asked in socket.asked} == {
        ("dump", u.RTM_GETADDR, "RTM_GETADDR", None, None, rtnl.IFADDRMSG)
    }


def test_addresses_of_one_interface_from_a_kernel_that_does_not_filter() -> None:
    socket = Scripted([address(FOUR, 2), address(FOUR, 3)], [address(SIX, 3), address(SIX, 2)])
    found = RouteClient(socket).addresses(3)
    assert [(one.ip, one.ifindex) for one in found] == [(FOUR, 3), (SIX, 3)]
    assert socket.asked[0].body == rtnl.get_addresses(AF_INET, 3)


def test_addresses_of_families_that_we_do_not_follow() -> None:
    socket = Scripted([address(FOUR, family=129), address(FOUR)], [])
    assert ips(RouteClient(socket).addresses()) == [FOUR]


@pytest.mark.parametrize("number", rtnl.NOTHING_THERE)
def test_a_family_that_is_not_there_has_no_addresses(number: int) -> None:
    refusal = KernelError("RTM_GETADDR", number)
    assert ips(RouteClient(Scripted([address(FOUR)], refusal)).addresses()) == [FOUR]
    assert ips(RouteClient(Scripted(refusal, [address(SIX)])).addresses()) == [SIX]


def test_addresses_refused() -> None:
    refusal = KernelError("RTM_GETADDR", errno.EPERM)
    with pytest.raises(KernelError):
        RouteClient(Scripted(refusal)).addresses()


def test_routes() -> None:
    socket = Scripted([route(AF_INET6, 2), route(28, 3), route(AF_INET6, 4)])
    assert [found.oifs for found in RouteClient(socket).routes(AF_INET6)] == [(2,), (4,)]
    body = rtnl.get_routes(AF_INET6)
    assert socket.asked == [
        Asked("dump", u.RTM_GETROUTE, body, "RTM_GETROUTE", None, None, rtnl.RTMSG)
    ]


def rule(family: int) -> bytes:
    """struct fib_rule_hdr: everything to the table local."""
    return struct.pack("=8BI", family, 0, 0, 0, 255, 0, 0, u.FR_ACT_TO_TBL, 0)


def test_rules() -> None:
    socket = Scripted([rule(AF_INET6), rule(28), rule(AF_INET6)])
    found = RouteClient(socket).rules(AF_INET6)
    assert [one.table for one in found] == [255, 255]
    body = rtnl_rule.get_rules(AF_INET6)
    assert socket.asked == [
        Asked("dump", u.RTM_GETRULE, body, "RTM_GETRULE", None, None, rtnl_rule.RULE)
    ]


def test_lookup() -> None:
    socket = Scripted([route(AF_INET, 5)])
    found = RouteClient(socket).lookup(FOUR, 5, FOUR)
    assert found is not None
    assert found.oifs == (5,)
    body = rtnl.get_route(FOUR, 5, FOUR)
    assert socket.asked == [
        Asked("request", u.RTM_GETROUTE, body, "RTM_GETROUTE", None, 0, rtnl.RTMSG)
    ]


@pytest.mark.parametrize("first", [[route(AF_INET6, 4)], KernelError("", errno.ENETUNREACH)])
def test_lookup_of_an_interface_and_an_ipv6_address(first: Answer) -> None:
    """IPv6 may answer with another interface: it is asked again without the address."""
    socket = Scripted(first, [route(AF_INET6, 5)])
    found = RouteClient(socket).lookup(SIX, 5, SIX)
    assert found is not None
    assert found.oifs == (5,)
    assert [asked.body for asked in socket.asked] == [
        rtnl.get_route(SIX, 5, SIX), rtnl.get_route(SIX, 5),
    ]  # fmt: skip
    for oif, src in ((None, SIX), (5, None), (4, SIX)):  # once is enough
        other = RouteClient(Scripted([route(AF_INET6, 4)])).lookup(SIX, oif, src)
        assert other == found._replace(oifs=(4,))


@pytest.mark.parametrize("number", [*rtnl.NO_ROUTE, errno.EINVAL])
def test_lookup_of_what_no_route_leads_to(number: int) -> None:
    assert RouteClient(Scripted(KernelError("RTM_GETROUTE", number))).lookup(FOUR) is None


@pytest.mark.parametrize(
    "refusal",
    [
        KernelError("RTM_GETROUTE", errno.EINVAL, "Invalid header for route get request"),
        KernelError("RTM_GETROUTE", errno.EPERM),
        NetlinkError("no answer"),
        DecodeError("malformed"),
    ],
)
def test_lookup_that_went_wrong(refusal: Exception) -> None:
    with pytest.raises(type(refusal)) as caught:
        RouteClient(Scripted(refusal)).lookup(FOUR)
    assert caught.value is refusal
