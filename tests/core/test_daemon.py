"""The daemon: notifications to state to hooks, and how it goes on when something is lost."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any, cast

import pytest

from mptcpd.core.daemon import Daemon
from mptcpd.core.loop import Loop
from mptcpd.core.registry import Registry
from mptcpd.nl import messages, rtnl
from mptcpd.nl import uapi as u
from mptcpd.nl._attrs import Encoder, ifaddrmsg, ifinfomsg, rtmsg
from mptcpd.nl.errors import KernelError, NetlinkError, Overrun
from tests.core.stubs import READY, Noting, address, link

NOTIFY = frozenset({"existing"})
_ENCODER = Encoder(512)


def link_message(value: rtnl.Link) -> bytes:
    body = ifinfomsg.pack(0, 0, value.type, value.ifindex, value.flags, 0)
    payload = _ENCODER.start(body).data(u.IFLA_IFNAME, value.name.encode() + b"\0").finish()
    return messages.build(u.RTM_DELLINK if value.gone else u.RTM_NEWLINK, 0, 0, 0, payload)


def address_message(value: rtnl.Address) -> bytes:
    family = socket.AF_INET if len(value.ip) == 4 else socket.AF_INET6
    body = ifaddrmsg.pack(family, value.prefixlen, 0, value.scope, value.ifindex)
    payload = _ENCODER.start(body).data(u.IFA_LOCAL, value.ip).u32(u.IFA_FLAGS, value.flags)
    kind = u.RTM_DELADDR if value.gone else u.RTM_NEWADDR
    return messages.build(kind, 0, 0, 0, payload.finish())


def route_message(dst: str | None = None, *, gone: bool = False) -> bytes:
    bits = 0 if dst is None else 24
    header = rtmsg.pack(socket.AF_INET, bits, 0, 0, 254, 4, 0, u.RTN_UNICAST, 0)
    encoder = _ENCODER.start(header)
    if dst is not None:
        encoder.data(u.RTA_DST, ip_address(dst).packed)
    kind = u.RTM_DELROUTE if gone else u.RTM_NEWROUTE
    return messages.build(kind, 0, 0, 0, encoder.u32(u.RTA_OIF, 2).finish())


class Kernel:
    """Events and answers as the test sets them; each thing asked is noted."""

    foreign = 0

    def __init__(self) -> None:
        self.queue: list[list[bytes] | Exception] = []
        self.groups: list[int] = []
        self.has_links: list[rtnl.Link] = []
        self.has_addresses: list[rtnl.Address] = []
        self.has_routes: set[bytes] = set()
        self.asked: list[str] = []
        self.fails: list[Exception] = []
        self._fd = os.eventfd(0, os.EFD_NONBLOCK)

    def close(self) -> None:
        os.close(self._fd)

    def send(self, *datagrams: bytes) -> None:
        """One batch."""
        self.put(list(datagrams))

    def lose(self) -> None:
        self.put(Overrun("the kernel dropped messages: the receive buffer was full"))

    def put(self, next_one: list[bytes] | Exception) -> None:
        self.queue.append(next_one)
        os.eventfd_write(self._fd, 1)

    def fileno(self) -> int:
        return self._fd

    def join(self, group: int) -> None:
        self.groups.append(group)

    def receive(self) -> list[bytes]:
        if not self.queue:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._fd)
            return []
        first = self.queue.pop(0)
        if isinstance(first, Exception):
            raise first
        return first

    def _ask(self, what: str) -> None:
        self.asked.append(what)
        if self.fails:
            raise self.fails.pop(0)

    def links(self) -> list[rtnl.Link]:
        self._ask("links")
        return list(self.has_links)

    def addresses(self, ifindex: int = 0) -> list[rtnl.Address]:
        self._ask("addresses")
        return list(self.has_addresses)

    def lookup(
        self, dst: bytes, oif: int | None = None, src: bytes | None = None
    ) -> rtnl.Route | None:
        self._ask("route")
        if src not in self.has_routes:
            return None
        return rtnl.Route(2, None, 0, None, 254, u.RTN_UNICAST, 4, 0, (oif or 0,))


class Heard(Noting):
    """Stands in for the registry."""

    stopped = False

    def stop(self) -> None:
        self.stopped = True


class Case:
    def __init__(self, notify: frozenset[str] = NOTIFY) -> None:
        self.clock = 0.0
        self.loop = Loop(lambda: self.clock)
        self.kernel = Kernel()
        self.heard = Heard()
        self.traced: list[messages.Message] = []
        self.daemon = Daemon(
            self.loop,
            cast(Registry, self.heard),
            self.kernel,
            self.kernel,
            notify,
            self.traced.append,
        )

    def begin(self) -> list[str]:
        self.daemon.start()
        return self.heard.taken()

    def turn(self, seconds: float = 0.0) -> list[str]:
        """Let the loop serve what is ready after some time, and return the hooks."""
        self.clock += seconds
        for _ in range(3):
            self.loop.call_later(0, self.loop.stop)
            self.loop.run()
        return self.heard.taken()

    def said(self) -> dict[int, list[str]]:
        return {index: [str(a) for a in told] for index, told in self.heard.told.items()}


@pytest.fixture
def case() -> Iterator[Case]:
    case = Case()
    yield case
    case.kernel.close()
    case.loop.close()


@pytest.fixture
def routed() -> Iterator[Case]:
    """One that checks routes; eth2 has an address without a route."""
    case = Case(NOTIFY | {"check_route"})
    case.kernel.has_links = [link()]
    case.kernel.has_addresses = [address()]
    yield case
    case.kernel.close()
    case.loop.close()


# At the start


def test_subscribes_before_it_asks(case: Case) -> None:
    case.kernel.has_links = [link()]
    case.kernel.has_addresses = [address()]
    # What comes in between is both in the queue and in the dump.
    case.kernel.send(link_message(link()), address_message(address()))
    assert case.begin() == ["new eth2", "eth2 has 10.0.1.1"]
    assert case.kernel.groups == [
        u.RTNLGRP_LINK, u.RTNLGRP_IPV4_IFADDR, u.RTNLGRP_IPV6_IFADDR,
    ]  # fmt: skip
    assert case.turn() == []


def test_routes_are_followed_only_if_wanted(routed: Case) -> None:
    routed.begin()
    assert set(routed.kernel.groups) >= {
        u.RTNLGRP_IPV4_ROUTE, u.RTNLGRP_IPV6_ROUTE, u.RTNLGRP_IPV4_RULE, u.RTNLGRP_IPV6_RULE,
        u.RTNLGRP_NEXTHOP,
    }  # fmt: skip


def test_a_start_that_fails_says_so(case: Case) -> None:
    case.kernel.fails = [KernelError("RTM_GETLINK", 1)]
    with pytest.raises(KernelError):
        case.begin()
    case.daemon.stop()
    assert case.heard.stopped


def test_a_stop_without_a_start(case: Case) -> None:
    case.daemon.stop()
    assert case.heard.stopped


def test_the_stop(case: Case) -> None:
    case.begin()
    case.daemon.stop()
    case.kernel.send(link_message(link()))
    assert case.turn() == []
    assert case.heard.stopped


# Notifications


def test_events_become_hooks(case: Case) -> None:
    case.begin()
    case.kernel.send(link_message(link()), address_message(address()))
    assert case.turn() == ["new eth2", "eth2 has 10.0.1.1"]
    case.kernel.send(address_message(address("fd00::1/64")))
    case.kernel.send(address_message(address(gone=True)))
    assert case.turn() == ["eth2 has fd00::1", "eth2 lost 10.0.1.1"]
    case.kernel.send(link_message(link(flags=u.IFF_UP)))
    assert case.turn() == ["eth2 lost fd00::1", "delete eth2"]
    case.kernel.send(link_message(link()) + link_message(link(3)))
    assert case.turn() == ["new eth2", "eth2 has fd00::1", "new eth3"]
    case.kernel.send(link_message(link(gone=True)))
    assert case.turn() == ["eth2 lost fd00::1", "delete eth2"]
    assert (case.daemon.decode_errors, case.daemon.overruns) == (0, 0)
    assert len(case.traced) == 8


def test_a_bounce_within_a_batch_is_nothing(case: Case) -> None:
    case.kernel.has_links = [link()]
    case.kernel.has_addresses = [address()]
    case.begin()
    case.kernel.send(
        link_message(link(flags=u.IFF_UP)), link_message(link()),
        address_message(address(gone=True)), address_message(address()),
    )  # fmt: skip
    assert case.turn() == []


def test_messages_that_are_none_of_ours(case: Case) -> None:
    case.begin()
    case.kernel.send(
        messages.build(u.NLMSG_NOOP, 0, 0, 0, b""),
        messages.build(u.NLMSG_DONE, 0, 0, 0, bytes(4)),
        messages.build(999, 0, 0, 0, b"whatever"),
        route_message(),
    )
    assert case.turn() == []
    assert case.daemon.decode_errors == 0


GARBAGE = [
    b"x",
    bytes(16),
    b"\xff" * 64,
    messages.build(u.RTM_NEWLINK, 0, 0, 0, b""),
    messages.build(u.RTM_NEWADDR, 0, 0, 0, b"\x02"),
    messages.build(u.RTM_NEWLINK, 0, 0, 0, ifinfomsg.pack(0, 0, 1, 2, READY, 0)),
    messages.build(u.RTM_NEWADDR, 0, 0, 0, ifaddrmsg.pack(2, 24, 0, 0, 2)),
    link_message(link())[:-2],
]


def test_malformed_messages_are_counted_said_and_dropped(
    case: Case, caplog: pytest.LogCaptureFixture
) -> None:
    case.begin()
    with caplog.at_level(logging.ERROR):
        for garbage in GARBAGE:
            case.kernel.send(garbage, link_message(link()))
            case.turn()
    assert case.daemon.decode_errors == len(GARBAGE)
    assert len(caplog.records) == len(GARBAGE)
    assert all("malformed message was dropped: " in r.getMessage() for r in caplog.records)
    assert case.said() == {2: []}


def test_a_malformed_message_does_not_take_others_along(case: Case) -> None:
    case.begin()
    broken = messages.build(u.RTM_NEWADDR, 0, 0, 0, ifaddrmsg.pack(2, 24, 0, 0, 2))
    case.kernel.send(link_message(link()) + broken + address_message(address()))
    assert case.turn() == ["new eth2", "eth2 has 10.0.1.1"]
    assert case.daemon.decode_errors == 1


def test_others_get_their_turn_during_a_flood(case: Case) -> None:
    case.begin()
    for number in range(100):
        case.kernel.send(link_message(link(10 + number)))
    case.loop.call_later(0, case.loop.stop)
    case.loop.run()
    assert 0 < len(case.heard.taken()) < 100
    for _ in range(5):
        case.turn()
    assert len(case.said()) == 100


# Overruns


def test_after_an_overrun_the_state_is_right(
    case: Case, caplog: pytest.LogCaptureFixture
) -> None:
    case.begin()
    case.kernel.send(link_message(link()), address_message(address()))
    case.turn()
    case.kernel.has_links = [link(3)]
    case.kernel.has_addresses = [address("10.0.3.1/24", 3)]
    case.kernel.asked.clear()
    case.kernel.lose()
    # Older than the dump to come, so it may not undo what the dump says.
    case.kernel.send(link_message(link(4)))
    case.kernel.lose()
    assert case.turn() == [
        "eth2 lost 10.0.1.1", "delete eth2", "new eth3", "eth3 has 10.0.3.1",
    ]  # fmt: skip
    assert case.kernel.asked == ["links", "addresses"]
    assert case.daemon.overruns == 2
    (record,) = caplog.records
    assert "the receive buffer was full; reading links and addresses anew" in record.getMessage()
    case.kernel.send(link_message(link(5)))
    assert case.turn() == ["new eth5"]


def test_a_flood_of_overruns_leaves_a_turn_to_others(case: Case) -> None:
    """A signal, for one: the daemon can be stopped while the kernel drops messages."""
    case.begin()
    for _ in range(500):
        case.kernel.lose()
    case.kernel.asked.clear()
    case.loop.call_later(0, case.loop.stop)
    case.loop.run()
    assert case.kernel.queue and case.kernel.asked == []
    for _ in range(20):
        case.turn()
    assert case.kernel.asked == ["links", "addresses"]
    assert case.daemon.overruns == 500


@pytest.mark.parametrize(
    "failure",
    [
        NetlinkError("RTM_GETADDR: interrupted by changes 20 times in a row"),
        KernelError("RTM_GETLINK", 12),
        Overrun("RTM_GETADDR: the kernel dropped the answer"),
    ],
    ids=["interrupted", "refused", "overrun"],
)
@pytest.mark.parametrize("asked", ["links", "addresses"])
def test_a_dump_that_fails_is_tried_again(
    case: Case, caplog: pytest.LogCaptureFixture, failure: NetlinkError, asked: str
) -> None:
    """A busy network must not end the daemon."""
    case.begin()
    case.kernel.has_links = [link()]
    case.kernel.lose()
    ask = case.kernel._ask

    def failing(what: str) -> None:
        ask(what)
        if what == asked:
            raise failure

    case.kernel._ask = failing  # type: ignore[method-assign]
    assert case.turn() == []
    assert "Unable to read the network: " + str(failure) in caplog.text
    assert case.turn(0.9) == []
    assert case.turn(0.2) == []  # tried again, in vain
    case.kernel._ask = ask  # type: ignore[method-assign]
    assert case.turn(1.1) == ["new eth2"]
    case.kernel.asked.clear()
    assert case.turn(100) == []
    assert case.kernel.asked == []


# Routes


def test_a_route_event_tells_a_waiting_address(routed: Case) -> None:
    assert routed.begin() == ["new eth2"]
    for _ in range(4):
        routed.turn(0.05)
    asked = len(routed.kernel.asked)
    assert routed.turn(10) == []
    assert len(routed.kernel.asked) == asked  # no look-up without a reason
    routed.kernel.has_routes = {address().ip}
    routed.kernel.send(route_message("10.9.9.0"))
    assert routed.turn() == []
    routed.kernel.send(route_message())
    assert routed.turn() == ["eth2 has 10.0.1.1"]
    routed.kernel.has_routes.clear()
    routed.kernel.send(route_message(gone=True))
    assert routed.turn() == ["eth2 lost 10.0.1.1"]


@pytest.mark.parametrize(
    "kind", [u.RTM_NEWRULE, u.RTM_DELRULE, u.RTM_NEWNEXTHOP, u.RTM_DELNEXTHOP]
)
def test_a_rule_can_change_routes(routed: Case, kind: int) -> None:
    routed.begin()
    routed.kernel.has_routes = {address().ip}
    routed.kernel.send(messages.build(kind, 0, 0, 0, bytes(12)))
    assert routed.turn() == ["eth2 has 10.0.1.1"]


def test_a_route_that_is_there_a_moment_later(routed: Case) -> None:
    assert routed.begin() == ["new eth2"]
    routed.kernel.has_routes = {address().ip}
    assert routed.turn(0.0005) == []
    assert routed.turn(0.001) == ["eth2 has 10.0.1.1"]


def test_many_route_events_are_one_look(routed: Case) -> None:
    routed.begin()
    for _ in range(5):
        routed.turn(0.05)
    routed.kernel.asked.clear()
    routed.kernel.send(*(route_message(gone=bool(number % 2)) for number in range(64)))
    routed.turn()
    assert routed.kernel.asked == ["route"]


def test_a_look_up_without_answer(routed: Case, caplog: pytest.LogCaptureFixture) -> None:
    """What was told stays as it is, and the network is read anew soon."""
    routed.kernel.has_routes = {address().ip, address("10.0.1.2/24").ip}
    assert routed.begin() == ["new eth2", "eth2 has 10.0.1.1"]
    routed.kernel.fails = [NetlinkError("RTM_GETROUTE: no answer from the kernel within 5 s")]
    routed.kernel.fails *= 2
    routed.kernel.send(address_message(address("10.0.1.2/24")), link_message(link(3)))
    routed.kernel.send(address_message(address("10.0.1.2/24")))
    assert routed.turn() == ["new eth3"]
    assert routed.daemon.decode_errors == 0
    (record,) = caplog.records
    assert "no answer from the kernel" in record.getMessage()
    routed.kernel.has_links = [link(), link(3)]
    routed.kernel.has_addresses = [address(), address("10.0.1.2/24")]
    assert routed.turn(1.1) == ["eth2 has 10.0.1.2"]


def test_a_route_event_and_no_answer(routed: Case) -> None:
    routed.begin()
    routed.kernel.fails = [NetlinkError("RTM_GETROUTE: no answer")]
    routed.kernel.has_routes = {address().ip}
    routed.kernel.send(route_message())
    assert routed.turn() == []
    assert routed.turn(1.1) == ["eth2 has 10.0.1.1"]


def test_a_failing_system_call_is_for_the_caller(case: Case) -> None:
    """There is nothing to go on with: the daemon's owner says so and ends."""
    case.begin()
    case.kernel.put(OSError(9, "Bad file descriptor"))
    with pytest.raises(OSError, match="Bad file"):
        case.turn()


def test_nothing_happens_at_rest(case: Case) -> None:
    case.begin()
    asked: list[Any] = list(case.kernel.asked)
    assert case.loop._wait() is None
    assert case.turn(1e6) == []
    assert case.kernel.asked == asked
