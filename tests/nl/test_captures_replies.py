"""Answers and notifications that a kernel sent, parsed to the value that they were asked for.

As in ``test_captures.py`` the values are written by hand, from what the recording's hosts are.
"""

from __future__ import annotations

import errno
import re
from ipaddress import ip_address
from typing import Any

import pytest

from mptcpd.nl import attrs, genl, messages, mptcp, rtnl
from mptcpd.nl import uapi as u
from mptcpd.nl.errors import DecodeError, KernelError
from mptcpd.nl.exchange import Exchange
from mptcpd.nl.mptcp import AF_INET, AF_INET6, Address, Limits
from tests.captures import record
from tests.captures.params import params
from tests.captures.record import Record
from tests.captures.scene import PORT

REPLIES = record.load("replies")


@pytest.fixture(params=params(REPLIES))
def replies(request: pytest.FixtureRequest) -> Any:
    return request.param


def payload(recording: Record, name: str) -> bytes:
    return next(messages.split(recording.messages[name])).payload


def packed(text: str) -> bytes:
    return ip_address(text).packed


def answers(recording: Record, name: str) -> list[bytes]:
    """Payloads of the answer to a recorded request, put together as from a socket."""
    exchange = Exchange(name, recording.messages[f"{name}.request"])
    key = re.compile(re.escape(name) + r"(\.\d+)?")
    datagrams = [data for label, data in recording.messages.items() if key.fullmatch(label)]
    for datagram in datagrams[:-1]:
        assert not exchange.feed(datagram)
    assert exchange.feed(datagrams[-1])
    assert exchange.stray == 0
    return exchange.replies


def test_family(replies: Record) -> None:
    (answer,) = answers(replies, "family")
    family = genl.parse_family(answer)
    assert (family.name, family.version) == ("mptcp_pm", 1)
    assert sorted(family.groups) == ["mptcp_pm_cmds", "mptcp_pm_events"]
    # The family's ID is the type of its messages.
    assert family.id == next(messages.split(replies.messages["limits"])).type
    request = next(messages.split(replies.messages["family.request"]))
    assert request.payload == genl.get_family("mptcp_pm")


ENDPOINTS = [
    Address(packed("10.0.1.1"), PORT, 1, u.MPTCP_PM_ADDR_FLAG_SIGNAL),
    Address(packed("10.0.2.1"), 0, 2,
            u.MPTCP_PM_ADDR_FLAG_SUBFLOW | u.MPTCP_PM_ADDR_FLAG_BACKUP, 3),
    Address(packed("fd00:2::1"), 0, 200,
            u.MPTCP_PM_ADDR_FLAG_SUBFLOW | u.MPTCP_PM_ADDR_FLAG_FULLMESH),
]  # fmt: skip


def test_endpoints(replies: Record) -> None:
    found = [mptcp.parse_address(answer) for answer in answers(replies, "endpoints")]
    assert found == ENDPOINTS
    assert answers(replies, "endpoints/none") == []
    assert mptcp.parse_address(answers(replies, "endpoint")[0]) == ENDPOINTS[1]


def test_limits(replies: Record) -> None:
    (answer,) = answers(replies, "limits")
    for _plain_then_compiled in range(2):
        assert mptcp.parse_limits(answer) == Limits(add_addr_accepted=4, subflows=3)
    built = mptcp.set_limits(subflows=3, add_addr_accepted=4)
    assert genl.header(u.MPTCP_PM_CMD_GET_LIMITS) + built[genl.HEADER :] == answer


def test_requests_that_the_kernel_took(replies: Record) -> None:
    """The encoder still builds what was sent when the recording was made."""
    for index, endpoint in enumerate(ENDPOINTS):
        assert payload(replies, f"add_addr/{index}.request") == mptcp.add_addr(endpoint)
        assert answers(replies, f"add_addr/{index}") == []
    assert payload(replies, "endpoints.request") == mptcp.dump_addrs()
    assert payload(replies, "endpoint.request") == mptcp.get_addr(2)
    assert payload(replies, "set_limits.request") == mptcp.set_limits(3, 4)
    assert payload(replies, "limits.request") == mptcp.get_limits()
    assert payload(replies, "links.request") == rtnl.get_links()
    assert payload(replies, "link.request") == rtnl.get_link(3)
    assert payload(replies, "addresses/ipv6.request") == rtnl.get_addresses(AF_INET6)
    assert payload(replies, "routes/ipv4.request") == rtnl.get_routes(AF_INET)
    near = packed("fd00:2::2")
    assert payload(replies, "lookup/link/ipv6.request") == rtnl.get_route(near, 3)


# --- errors ----------------------------------------------------------------------------------

# errno, words, the attribute that is named.
ERRORS = {
    "missing": (errno.EINVAL, None, "MPTCP_PM_ATTR_ADDR"),
    "words": (errno.EINVAL, "address not found", "MPTCP_PM_ATTR_ADDR"),
    "policy": (errno.ERANGE, "Attribute failed policy validation", "MPTCP_PM_ATTR_TOKEN"),
    "policy_in_nest": (
        errno.ERANGE, "Attribute failed policy validation", "MPTCP_PM_ADDR_ATTR_FLAGS",
    ),
    "too_many": (errno.EINVAL, "limit greater than maximum (8)", "MPTCP_PM_ATTR_SUBFLOWS"),
    "twice": (errno.EEXIST, "too many addresses or duplicate one: -17", None),
    "listen": (errno.EADDRNOTAVAIL, "create listen socket error: -99", None),
    "plain": (errno.EOPNOTSUPP, None, None),
    "dump": (errno.EINVAL, "invalid token", "MPTCP_PM_ATTR_TOKEN"),
}  # fmt: skip


@pytest.mark.parametrize("form", ["capped", "whole"])
@pytest.mark.parametrize("name", ERRORS)
def test_errors(name: str, form: str, replies: Record) -> None:
    """With NETLINK_CAP_ACK and without: the same."""
    request = replies.messages[f"error/{name}/{form}.request"]
    label = f"error/{name}/{form}" + (".0" if name == "dump" else "")
    exchange = Exchange("COMMAND", request, names=mptcp.NAMES)
    with pytest.raises(KernelError) as caught:
        exchange.feed(replies.messages[label])
    error = caught.value
    assert (error.errno, error.words, error.attribute) == ERRORS[name]
    (message,) = messages.split(replies.messages[label])
    capped = bool(message.flags & u.NLM_F_CAPPED)
    assert capped == (form == "capped" and message.type == u.NLMSG_ERROR)


def test_all_shapes_of_extended_acks_were_recorded(replies: Record) -> None:
    def ack(name: str) -> messages.Ack:
        (message,) = messages.split(replies.messages[name])
        return messages.parse_error(message.payload, message.flags)

    for form in ("capped", "whole"):
        missing, words, policy, plain = (
            ack(f"error/{name}/{form}") for name in ("missing", "words", "policy", "plain")
        )
        assert (missing.miss_type, missing.words, missing.offset) == (1, None, None)
        assert (words.words, words.offset, words.policy) == ("address not found", 20, None)
        assert policy.offset == 20
        assert policy.policy is not None
        assert attrs.parse(policy.policy)
        assert plain == messages.Ack(errno.EOPNOTSUPP)


def test_a_question_refused(replies: Record) -> None:
    exchange = Exchange("CTRL_CMD_GETFAMILY", replies.messages["family/unknown.request"])
    with pytest.raises(KernelError) as caught:
        exchange.feed(replies.messages["family/unknown"])
    assert caught.value.errno == errno.ENOENT


@pytest.mark.parametrize("size", range(0, 84, 4))
def test_errors_cut_short(size: int, replies: Record) -> None:
    """An error whose TLVs were promised and are not all there: DecodeError, or the plain errno."""
    for label in ("error/words/capped", "error/words/whole", "error/policy/whole"):
        (message,) = messages.split(replies.messages[label])
        cut = message.payload[:size]
        if len(cut) == len(message.payload):
            continue
        try:
            found = messages.parse_error(cut, message.flags)
        except DecodeError:
            continue
        whole = messages.parse_error(message.payload, message.flags)
        for one, other in zip(found, whole, strict=True):
            assert one in (None, other)


# --- links, addresses, routes ----------------------------------------------------------------

UP = u.IFF_UP | u.IFF_RUNNING | u.IFF_LOWER_UP


def one(recording: Record, name: str) -> Any:
    (message,) = messages.split(recording.messages[name])
    return rtnl.parse(message.type, message.payload)


def dump(recording: Record, name: str, kind: int) -> list[Any]:
    return [rtnl.parse(kind, answer) for answer in answers(recording, name)]


def test_links(replies: Record) -> None:
    found = dump(replies, "links", u.RTM_NEWLINK)
    assert [(link.ifindex, link.name, link.type) for link in found] == [
        (1, "lo", u.ARPHRD_LOOPBACK), (2, "eth0", u.ARPHRD_ETHER), (3, "eth1", u.ARPHRD_ETHER),
    ]  # fmt: skip
    assert all(link.flags & UP == UP for link in found)
    assert bool(found[0].flags & u.IFF_LOOPBACK)
    assert [link.operstate for link in found] == [0, 6, 6]  # IF_OPER_UNKNOWN, IF_OPER_UP
    assert not any(link.gone or link.master for link in found)
    link = one(replies, "link")
    assert link.rx_bytes > 0
    assert link.tx_bytes > 0


def test_link_notifications(replies: Record) -> None:
    down = one(replies, "link/down")
    assert (down.ifindex, down.name, down.operstate) == (3, "eth1", 2)  # IF_OPER_DOWN
    assert down.flags & UP == 0
    assert not down.gone
    gone = one(replies, "link/gone")
    assert (gone.ifindex, gone.name, gone.gone) == (4, "bridge", True)
    (message,) = messages.split(replies.messages["link/left_bridge"])
    assert message.type == u.RTM_DELLINK
    assert one(replies, "link/left_bridge") is None  # eth1 left the bridge and lives on
    assert rtnl.parse_link(message.type, message.payload).name == "eth1"


@pytest.mark.parametrize(
    ("family", "bits", "label", "flags"),
    [("ipv4", 24, "eth1", 0), ("ipv6", 64, None, u.IFA_F_NODAD)],
)
def test_address_notifications(
    family: str, bits: int, label: str | None, flags: int, replies: Record
) -> None:
    ip = packed({"ipv4": "10.0.9.1", "ipv6": "fd00:9::1"}[family])
    new = rtnl.Address(
        3, ip, bits, u.RT_SCOPE_UNIVERSE, flags | u.IFA_F_PERMANENT, label, rtnl.FOREVER,
        rtnl.FOREVER,
    )  # fmt: skip
    got = one(replies, f"address/new/{family}")
    assert got.created  # when this was recorded
    new = new._replace(created=got.created)
    assert got == new
    assert one(replies, f"address/gone/{family}") == new._replace(gone=True)
    peer = packed({"ipv4": "10.0.9.2", "ipv6": "fd00:9::2"}[family])
    assert one(replies, f"address/peer/{family}") == new._replace(
        flags=flags | u.IFA_F_NOPREFIXROUTE, preferred=600, valid=3600, peer=peer
    )


def test_addresses(replies: Record) -> None:
    four = dump(replies, "addresses/ipv4", u.RTM_NEWADDR)
    assert [(a.ifindex, a.ip, a.prefixlen, a.scope, a.label) for a in four] == [
        (1, packed("127.0.0.1"), 8, u.RT_SCOPE_HOST, "lo"),
        (2, packed("10.0.1.1"), 24, u.RT_SCOPE_UNIVERSE, "eth0"),
        (3, packed("10.0.2.1"), 24, u.RT_SCOPE_UNIVERSE, "eth1"),
    ]
    six = dump(replies, "addresses/ipv6", u.RTM_NEWADDR)
    link_local = [a for a in six if a.scope == u.RT_SCOPE_LINK]
    assert [(a.ifindex, a.ip[:8], a.prefixlen) for a in link_local] == [
        (2, packed("fe80::")[:8], 64), (3, packed("fe80::")[:8], 64),
    ]  # fmt: skip
    assert [(a.ifindex, a.ip, a.prefixlen) for a in six if a not in link_local] == [
        (1, packed("::1"), 128), (2, packed("fd00:1::1"), 64), (3, packed("fd00:2::1"), 64),
    ]  # fmt: skip
    assert not any(a.peer or a.gone for a in four + six)


@pytest.mark.parametrize("flavour", ["ipv4", "ipv6"])
def test_routes(flavour: str, replies: Record) -> None:
    family = AF_INET if flavour == "ipv4" else AF_INET6
    gateway = packed({"ipv4": "10.0.2.2", "ipv6": "fd00:2::2"}[flavour])
    default = rtnl.Route(
        family, None, 0, None, u.RT_TABLE_MAIN, u.RTN_UNICAST, u.RTPROT_STATIC, 0, (3,), gateway,
        None, 50,
    )  # fmt: skip
    assert one(replies, f"route/default/{flavour}") == default
    assert one(replies, f"route/gone/{flavour}") == default._replace(gone=True)
    assert one(replies, f"lookup/default/{flavour}") == default
    near = one(replies, f"lookup/link/{flavour}")
    network, bits = {"ipv4": ("10.0.2.0", 24), "ipv6": ("fd00:2::", 64)}[flavour]
    assert (near.dst, near.dst_len, near.oifs, near.gateway) == (packed(network), bits, (3,), None)
    assert near.protocol == u.RTPROT_KERNEL
    with pytest.raises(KernelError) as caught:
        answers(replies, f"lookup/none/{flavour}")
    assert caught.value.errno == errno.ENETUNREACH

    found = dump(replies, f"routes/{flavour}", u.RTM_NEWROUTE)
    assert not any(route.gone for route in found)
    far = packed({"ipv4": "192.0.2.1", "ipv6": "2001:db8::1"}[flavour])
    (both,) = [route for route in found if route.dst == far]
    assert both.oifs == (2, 3)
    assert {route.table for route in found} == {u.RT_TABLE_MAIN, 255}  # RT_TABLE_LOCAL
    assert {route.family for route in found} == {family}
