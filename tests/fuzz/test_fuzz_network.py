"""Claim: what plugins were told is what the rules make of what was heard last, in any order.

Links and addresses appear, change and vanish in any order, events are repeated, come for things
that nobody knows, or are lost until a dump puts everything right; routes come and go. After every
step the interfaces and addresses that plugins were told of are those that a plain model of the
rules gives; every hook made sense after the ones before it; and an event that comes twice calls no
hook the second time. A batch of events is told as if only its outcome had happened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ipaddress import ip_address

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mptcpd.core.config import NOTIFY_FLAGS
from mptcpd.core.network import Network
from mptcpd.nl import rtnl
from mptcpd.nl import uapi as u
from tests.core.stubs import READY, Noting, address, link

INDEXES = st.integers(1, 3)
LINKS = st.builds(
    link,
    INDEXES,
    st.sampled_from([READY, READY, READY, u.IFF_UP, 0, READY | u.IFF_LOOPBACK, READY | 0x100]),
    st.sampled_from(["", "", "wan"]),
)
TEXTS = ["10.0.1.1/24", "10.0.1.1/32", "10.0.1.2/24", "fd00::1/64"]
ADDRESSES = st.builds(
    address,
    st.sampled_from(TEXTS),
    INDEXES,
    flags=st.sampled_from(
        [
            0, 0, 0, u.IFA_F_PERMANENT, u.IFA_F_TENTATIVE, u.IFA_F_TENTATIVE | u.IFA_F_OPTIMISTIC,
            u.IFA_F_DEPRECATED, u.IFA_F_TENTATIVE | u.IFA_F_DADFAILED,
        ]
    ),
    scope=st.sampled_from(
        [u.RT_SCOPE_UNIVERSE, u.RT_SCOPE_UNIVERSE, u.RT_SCOPE_LINK, u.RT_SCOPE_HOST]
    ),
    peer=st.sampled_from([None, None, None, "10.0.1.9"]),
)  # fmt: skip
GONE = st.builds(lambda index: link(index, gone=True), INDEXES)
EVENTS = st.one_of(LINKS, GONE, ADDRESSES, ADDRESSES.map(lambda a: a._replace(gone=True)))
DUMPS = st.tuples(
    st.lists(LINKS, max_size=4, unique_by=lambda value: value.ifindex),
    st.lists(ADDRESSES, max_size=8, unique_by=lambda value: (value.ifindex, key(value))),
)
# At the start most is as it usually is, so that there is something to lose.
FIRST = st.tuples(
    st.just([link(1), link(2), link(3, u.IFF_UP)]),
    st.lists(
        st.builds(address, st.sampled_from(TEXTS), INDEXES),
        min_size=2,
        max_size=8,
        unique_by=lambda value: (value.ifindex, key(value)),
    ),
)
NOTIFY = st.sampled_from(
    [set(), set(), {"existing"}, {"check_route"}, {"skip_link_local", "skip_loopback"}]
) | st.sets(st.sampled_from(NOTIFY_FLAGS))
IPS = [ip_address(text.partition("/")[0]).packed for text in TEXTS]


def key(value: rtnl.Address) -> tuple[object, ...]:
    return value.ip, value.prefixlen, value.peer


class Machine(RuleBasedStateMachine):
    @initialize(notify=NOTIFY, dump=FIRST)
    def start(
        self, notify: set[str], dump: tuple[list[rtnl.Link], list[rtnl.Address]]
    ) -> None:
        self.notify = notify
        self.routes = set(IPS[::2])
        self.heard = Noting()
        has_route = self.has_route if "check_route" in notify else None
        self.network = Network(self.heard, frozenset(notify), has_route)
        self.links: dict[int, rtnl.Link] = {}
        self.addresses: dict[tuple[int, object], rtnl.Address] = {}
        self.silent: set[tuple[int, bytes]] = set()
        if "existing" not in notify:
            self.silent = {(value.ifindex, value.ip) for value in dump[1]}
        self.again: Callable[[], None] | None = None
        self.note(*dump)
        self.network.start(*dump)

    def has_route(self, value: rtnl.Address) -> bool:
        return value.ip in self.routes

    # The model

    def note(self, links: Iterable[rtnl.Link], addresses: Iterable[rtnl.Address]) -> None:
        self.links = {value.ifindex: value for value in links}
        self.addresses = {(value.ifindex, key(value)): value for value in addresses}

    def forget(self, before: Iterable[int] = ()) -> None:
        """An existing address that went, alone or with its interface, is news when it returns."""
        there = {(value.ifindex, value.ip) for value in self.addresses.values()}
        lost = {index for index in before if not self.ready(index)}
        self.silent = {(index, ip) for index, ip in self.silent & there if index not in lost}

    def ready(self, index: int) -> bool:
        value = self.links.get(index)
        return value is not None and value.flags & (READY | u.IFF_LOOPBACK) == READY

    def wanted(self, value: rtnl.Address) -> bool:
        tentative = value.flags & u.IFA_F_TENTATIVE and not value.flags & u.IFA_F_OPTIMISTIC
        return not (
            (value.ifindex, value.ip) in self.silent
            or tentative
            or value.flags & (u.IFA_F_DADFAILED | u.IFA_F_DEPRECATED)
            or (value.scope == u.RT_SCOPE_LINK and "skip_link_local" in self.notify)
            or (value.scope == u.RT_SCOPE_HOST and "skip_loopback" in self.notify)
            or ("check_route" in self.notify and value.ip not in self.routes)
        )

    # What happens

    def happen(self, step: Callable[[], None]) -> None:
        """Take a step, and let the model know which interfaces plugins knew of before it."""
        before = set(self.heard.told)
        step()
        self.forget(before)

    @rule(value=LINKS)
    def link_told(self, value: rtnl.Link) -> None:
        def step() -> None:
            self.links[value.ifindex] = value
            self.network.link(value)

        self.happen(step)
        self.again = lambda: self.network.link(value)

    @rule(index=INDEXES)
    def carrier_changes(self, index: int) -> None:
        if index in self.links:
            before = self.links[index]
            self.link_told(before._replace(flags=before.flags ^ u.IFF_RUNNING))

    @rule(index=INDEXES)
    def link_gone(self, index: int) -> None:
        value = link(index, gone=True)

        def step() -> None:
            self.links.pop(index, None)
            self.addresses = {k: v for k, v in self.addresses.items() if k[0] != index}
            self.network.link(value)

        self.happen(step)
        self.again = lambda: self.network.link(value)

    @rule(value=ADDRESSES)
    def address_told(self, value: rtnl.Address) -> None:
        self.addresses[value.ifindex, key(value)] = value
        self.network.address(value)
        self.again = lambda: self.network.address(value)

    @rule(value=ADDRESSES, which=st.none() | st.integers(0, 9))
    def address_gone(self, value: rtnl.Address, which: int | None) -> None:
        """One that is there, or any."""
        if which is not None and self.addresses:
            value = list(self.addresses.values())[which % len(self.addresses)]
        gone = value._replace(gone=True)

        def step() -> None:
            self.addresses.pop((value.ifindex, key(value)), None)
            self.network.address(gone)

        self.happen(step)
        self.again = lambda: self.network.address(gone)

    @rule(events=st.lists(EVENTS, max_size=6))
    def a_batch(self, events: list[rtnl.Link | rtnl.Address]) -> None:
        before = set(self.heard.told)
        self.heard.calls.clear()
        with self.network.batch():
            for event in events:
                if isinstance(event, rtnl.Address):
                    self.addresses[event.ifindex, key(event)] = event
                    if event.gone:
                        del self.addresses[event.ifindex, key(event)]
                    self.network.address(event)
                else:
                    self.links[event.ifindex] = event
                    if event.gone:
                        del self.links[event.ifindex]
                        kept = self.addresses.items()
                        self.addresses = {k: v for k, v in kept if k[0] != event.ifindex}
                    self.network.link(event)
                self.forget()
            assert self.heard.calls == []
        self.forget(before)
        self.again = None

    @rule(dump=DUMPS)
    def lost_and_dumped(self, dump: tuple[list[rtnl.Link], list[rtnl.Address]]) -> None:
        def step() -> None:
            self.note(*dump)
            self.network.replace(*dump)

        self.happen(step)
        self.again = lambda: self.network.replace(*dump)

    @rule(ip=st.sampled_from(IPS), index=st.none() | INDEXES)
    def route_comes_or_goes(self, ip: bytes, index: int | None) -> None:
        """The event may be for all interfaces, or a look at one and the event later."""
        self.routes ^= {ip}
        self.network.routes_changed(index)
        self.network.routes_changed()
        self.again = self.network.routes_changed

    @precondition(lambda self: self.again)
    @rule()
    def once_more(self) -> None:
        assert self.again is not None
        self.heard.calls.clear()
        self.again()
        assert self.heard.calls == []

    # What must be true after each step

    @invariant()
    def told_what_the_rules_say(self) -> None:
        ready = filter(self.ready, self.links)
        expected: dict[int, set[bytes]] = {index: set() for index in ready}
        for value in self.addresses.values():
            if value.ifindex in expected and self.wanted(value):
                expected[value.ifindex].add(value.ip)
        told = {index: {a.packed for a in those} for index, those in self.heard.told.items()}
        assert told == expected
        shown = self.network.interfaces
        assert {i: {a.packed for a in shown[i].addresses} for i in shown} == expected
        for index, interface in shown.items():
            now = self.links[index]
            assert (interface.name, interface.flags) == (now.name, now.flags)


TestNetwork = Machine.TestCase
