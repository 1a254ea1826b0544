"""Requests that change the network: what is refused, and what an error calls things.

That the kernel takes them is shown by ``tests/kernel``, which builds its hosts with them.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable

import pytest

from mptcpd.nl import attrs, rtnl_change
from mptcpd.nl import uapi as u
from mptcpd.nl.change_client import ChangeClient
from mptcpd.nl.errors import KernelError
from mptcpd.nl.exchange import Exchange, Names
from mptcpd.nl.messages import Ack, build
from mptcpd.nl.mptcp import AF_INET
from mptcpd.nl.rtnl_change import Change

FOUR, SIX = bytes([10, 0, 0, 1]), b"\xfd" + bytes(14) + b"\1"


@pytest.mark.parametrize(
    "call",
    [
        lambda: rtnl_change.add_address(1, b"12345", 24),
        lambda: rtnl_change.delete_address(1, b"", 24),
        lambda: rtnl_change.set_tbf(1, 0, 1, 1),
        lambda: rtnl_change.set_tbf(1, 1 << 32, 1, 1),
        lambda: rtnl_change.set_link(1, mtu=-1),
        lambda: rtnl_change.add_veth("x", -1, "y", -1),
    ],
)
def test_a_value_that_does_not_fit(call: Callable[[], Change]) -> None:
    with pytest.raises(ValueError):
        call()


def test_only_what_is_given_is_asked_for() -> None:
    ifinfo, rt = 16, 12
    link = rtnl_change.set_link(3, mtu=1400, netns=9)
    assert attrs.split(link.body, ifinfo) == [
        (kind, number.to_bytes(4, sys.byteorder))
        for kind, number in ((u.IFLA_MTU, 1400), (u.IFLA_NET_NS_FD, 9))
    ]
    assert rtnl_change.set_link(3).body[ifinfo:] == b""
    route = rtnl_change.add_route(AF_INET, FOUR, 32, oif=2, metric=7)
    number = {kind: int.from_bytes(data, sys.byteorder) for kind, data in
              attrs.split(route.body, rt)}  # fmt: skip
    assert number[u.RTA_OIF] == 2
    assert number[u.RTA_PRIORITY] == 7
    assert u.RTA_GATEWAY not in number


class Fake:
    """Commands that keeps what was asked and answers with a given ack."""

    def __init__(self, answer: Ack) -> None:
        self.asked: list[tuple[int, int, int, str]] = []
        self.answer = answer

    def query(self, kind: int, body: bytes, command: str, names: Names | None = None) -> bytes:
        raise AssertionError("a change is no question")

    def dump(
        self, kind: int, body: bytes, command: str, names: Names | None = None, *, header: int = 4
    ) -> list[bytes]:
        raise AssertionError("a change is no dump")

    def request(
        self,
        kind: int,
        body: bytes,
        command: str,
        names: Names | None = None,
        *,
        flags: int = u.NLM_F_ACK,
        header: int = 4,
    ) -> list[bytes]:
        self.asked.append((kind, flags, header, command))
        exchange = Exchange(command, build(kind, flags, 1, 1, body), header=header, names=names)
        exchange._end(self.answer)
        return []


CHANGES = [
    (rtnl_change.add_veth("a", 3, "b", 4), "RTM_NEWLINK", "IFLA_IFNAME"),
    (rtnl_change.set_link(2, name="x"), "RTM_SETLINK", "IFLA_IFNAME"),
    (rtnl_change.set_link(2, mtu=1500), "RTM_SETLINK", "IFLA_MTU"),
    (rtnl_change.add_address(2, FOUR, 24), "RTM_NEWADDR", "IFA_LOCAL"),
    (rtnl_change.delete_address(2, SIX, 64), "RTM_DELADDR", "IFA_LOCAL"),
    (rtnl_change.add_route(AF_INET, via=FOUR), "RTM_NEWROUTE", "RTA_TABLE"),
    (rtnl_change.delete_route(AF_INET), "RTM_DELROUTE", "RTA_TABLE"),
    (rtnl_change.add_rule(AF_INET, 100, FOUR, 32), "RTM_NEWRULE", "FRA_TABLE"),
    (rtnl_change.delete_rule(AF_INET, 100), "RTM_DELRULE", "FRA_TABLE"),
    (rtnl_change.set_tbf(2, 1000, 2000, 3000), "RTM_NEWQDISC", "TCA_KIND"),
]


@pytest.mark.parametrize(("change", "command", "first"), CHANGES)
def test_an_error_has_names(change: Change, command: str, first: str) -> None:
    """The kernel points at the first attribute behind the family's header."""
    assert getattr(u, command) == change.kind
    header = {"LINK": 16, "ADDR": 8, "ROUTE": 12, "RULE": 12, "QDISC": 20}[command[7:]]
    fake = Fake(Ack(errno.EINVAL, "words", offset=16 + header))
    with pytest.raises(KernelError) as caught:
        ChangeClient(fake).make(change)
    assert fake.asked == [(change.kind, change.flags, header, command)]
    assert (caught.value.command, caught.value.attribute) == (command, first)


@pytest.mark.parametrize(
    "change",
    [change for change, _, _ in CHANGES]
    + [rtnl_change.delete_link(2), rtnl_change.delete_qdisc(2)],
)
def test_every_change_wants_an_ack(change: Change) -> None:
    assert change.flags & u.NLM_F_ACK
    assert change.flags & u.NLM_F_DUMP != u.NLM_F_DUMP  # those bits mean other things in a change


def test_an_address_of_a_rule() -> None:
    change = rtnl_change.add_rule(AF_INET, 1000, FOUR, 32, priority=7)
    found = attrs.parse(change.body, 12)
    assert found[u.FRA_SRC] == FOUR
    assert attrs.u32("", found[u.FRA_PRIORITY]) == 7
    assert attrs.u32("", found[u.FRA_TABLE]) == 1000


def test_an_address_with_lifetimes_flags_and_a_peer() -> None:
    change = rtnl_change.add_address(
        2, FOUR, 24, peer=bytes(4), flags=u.IFA_F_NODAD, preferred=0, valid=60
    )
    found = attrs.parse(change.body, 8)
    assert found[u.IFA_LOCAL] == FOUR
    assert found[u.IFA_ADDRESS] == bytes(4)
    assert attrs.u32("", found[u.IFA_FLAGS]) == u.IFA_F_NODAD
    assert attrs.u32("", found[u.IFA_CACHEINFO][4:8]) == 60
