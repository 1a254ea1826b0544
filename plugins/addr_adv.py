"""addr_adv: gives the kernel's own path manager an endpoint for every local address.

The flags of an endpoint are those of its interface: the configuration's ``addr-flags``, or the
``flags`` of the interface's own section. The limits grow with the number of addresses: as many
subflows as addresses, and two more; as many accepted announcements if some endpoint has the flag
``subflow``; never less than what others set, before or after mptcpd first changed them.

The kernel has room for few endpoints. The first address of every interface comes before any second
one, and one that carries data before a backup; the others wait, and each endpoint that comes free
goes to the next in line. How many there is room for the kernel says, by refusing one too many. That
somebody else has deleted an endpoint it tells nobody: while an address waits for that, this tries
again now and then.

    [addr_adv]
    renew-on-loss=no    yes: when an interface is lost, subflows of the others are made anew

Data that was under way over a lost path is sent again behind all that waits in the other subflows,
which programs see as a stall; new subflows have nothing waiting (``mptcpd/core/renewal.py`` has the
numbers). The kernel's path manager makes them for whatever endpoint is deleted and added again: for
every connection, whether it carries data or not, and one whose peer takes no new subflow then is
left without any. So this has to be wished for.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from mptcpd.plugin import Interface, KernelError, Limits, NoFreeId, Plugin, SockAddr

if TYPE_CHECKING:
    from mptcpd.core.config import Section
    from mptcpd.core.loop import Timer
    from mptcpd.core.pm import PathManager

MIN_LIMIT = 2  # subflows beside those of the known addresses
KEY = "renew-on-loss"
AGAIN = 30.0  # seconds until what others may have made room for is tried again


class Place:
    """An address on an interface; ``ident`` is the ID of its endpoint, None while it waits."""

    __slots__ = ("address", "flags", "ident", "ifindex")

    def __init__(self, address: SockAddr, ifindex: int, flags: tuple[str, ...]) -> None:
        self.address = address
        self.ifindex = ifindex
        self.flags = flags
        self.ident: int | None = None


class AddrAdv(Plugin):
    description = "announces and uses local addresses through the in-kernel path manager"
    needs = "kernel"

    def init(self, pm: PathManager) -> None:
        self.places: dict[tuple[SockAddr, int], Place] = {}  # in the order we were told of them
        self.most: int | None = None  # the greatest limit that the kernel takes, once it said so
        self.full_said = False
        self.said: set[tuple[SockAddr, int]] = set()  # places that a warning was about
        self.soon: Timer | None = None
        self.again: Timer | None = None
        self.renewal: Timer | None = None
        self.renews = renew_on_loss(pm.config.section(self.name))
        self.vacated: set[int] = set()  # interfaces that lost an endpoint since they were there
        self.fit_limits(pm)

    def new_local_address(self, interface: Interface, address: SockAddr, pm: PathManager) -> None:
        place = Place(address, interface.index, interface.address_flags)
        self.places[address, interface.index] = place
        self.settle(pm)

    def delete_local_address(
        self, interface: Interface, address: SockAddr, pm: PathManager
    ) -> None:
        place = self.places.pop((address, interface.index), None)
        if place is None:
            pm.log.info("No address ID associated with %s.", address)
            return
        self.said.discard((address, interface.index))
        if place.ident is not None:
            self.vacated.add(interface.index)
        try:
            self.vacate(pm, place)
        finally:
            if not any(other.address == address for other in self.places.values()):
                pm.ids.remove(address)
            # Of an interface that goes, one address after the other is lost: those that wait are
            # not to step in for each, only to be lost next. The kernel takes 10 ms to delete one.
            if self.soon is None or not self.soon.pending:
                self.soon = pm.call_later(0, self.settle, pm)

    def delete_interface(self, interface: Interface, pm: PathManager) -> None:
        if interface.index in self.vacated:
            self.vacated.discard(interface.index)
            # Other interfaces may be lost in the same moment: they are to be left before, and
            # theirs not to be renewed.
            if self.renews and (self.renewal is None or not self.renewal.pending):
                self.renewal = pm.call_later(0, self.renew, pm)

    def renew(self, pm: PathManager) -> None:
        """Have the kernel make the subflows of all endpoints anew."""
        for place in self.in_line():
            if place.ident is not None and "subflow" in place.flags:
                self.vacate(pm, place)
                self.occupy(pm, place)

    def update_interface(self, interface: Interface, pm: PathManager) -> None:
        """A renamed interface may have another section of the configuration."""
        for place in self.places.values():
            if place.ifindex == interface.index and place.flags != interface.address_flags:
                changed = {*place.flags} ^ {*interface.address_flags}
                place.flags = interface.address_flags
                if place.ident is not None and changed == {"backup"} and self.is_ours(pm, place):
                    pm.set_endpoint_flags(place.ident, place.flags)  # and no subflow is closed
                else:
                    self.vacate(pm, place)
        self.settle(pm)

    def settle(self, pm: PathManager) -> None:
        """Limits and endpoints for the addresses as they are now."""
        try:
            self.fit_limits(pm)
        finally:
            self.fill(pm)

    def in_line(self) -> list[Place]:
        """The places in the order in which they get endpoints."""
        count: dict[int, int] = {}
        ranked: list[tuple[int, bool, int, Place]] = []
        for place in self.places.values():
            nth = count[place.ifindex] = count.get(place.ifindex, -1) + 1
            ranked.append((nth, "backup" in place.flags, len(ranked), place))
        return [place for _nth, _backup, _arrival, place in sorted(ranked, key=lambda r: r[:3])]

    def fill(self, pm: PathManager) -> None:
        """Make endpoints of the places that come first, until the kernel has room for no more."""
        line = self.in_line()
        # The kernel takes an IP once, on whichever interface: others with it wait for that one.
        tried = {place.address for place in line if place.ident is not None}
        for nth, place in enumerate(line):
            if place.ident is not None or place.address in tried:
                continue
            tried.add(place.address)
            try:
                if self.occupy(pm, place):
                    continue
                behind = [other for other in line[nth + 1 :] if other.ident is not None]
                if not behind:
                    return
                self.vacate(pm, behind[-1])
                tried.discard(behind[-1].address)
                self.occupy(pm, place)
                if any(other.address == behind[-1].address for other in line[:nth]):
                    # Its IP was in line further ahead, on another interface, and waited for it.
                    self.fill(pm)
                    return
            except NoFreeId as error:
                self.say_full(pm, place, str(error))
                return

    def occupy(self, pm: PathManager, place: Place) -> bool:
        """Try to give a place its endpoint; False if the kernel has no room for one more."""
        try:
            endpoint = pm.add_endpoint(place.address, flags=place.flags, ifindex=place.ifindex)
        except KernelError as error:
            there = pm.endpoints()
            # A full kernel does not say that the address is there already. Old ones (5.15) say
            # "too many addresses or duplicate one" and EINVAL for everything.
            vague = error.reason == errno.EINVAL and (error.words or "").startswith("too many")
            if any(endpoint.address == place.address for endpoint in there):
                why = f"Somebody else's endpoint for {place.address} is left as it is."
                self.try_again(pm)
            elif vague or error.reason == errno.ERANGE:
                self.say_full(pm, place, f"the kernel has room for {len(there)} endpoints")
                self.try_again(pm)
                return False
            else:
                why = f"{place.address} is not used: {error}"
            if (place.address, place.ifindex) not in self.said:
                self.said.add((place.address, place.ifindex))
                pm.log.warning("%s", why)
            return True
        place.ident = endpoint.id
        pm.log.info(
            "Endpoint %s: ID %d on ifindex %d.", place.address, endpoint.id, place.ifindex
        )
        return True

    def vacate(self, pm: PathManager, place: Place) -> None:
        """Delete a place's endpoint, if it has one, and if its ID was given to no other since."""
        if place.ident is None:
            return
        ours = self.is_ours(pm, place)
        ident, place.ident = place.ident, None
        if ours:
            pm.remove_endpoint(ident)
        else:
            pm.log.info("The endpoint of %s (ID %d) was gone already.", place.address, ident)

    def is_ours(self, pm: PathManager, place: Place) -> bool:
        """Whether the endpoint with the ID of this place is still that of its address."""
        assert place.ident is not None
        try:
            return pm.get_endpoint(place.ident).address == place.address
        except KernelError as error:
            if error.errno != errno.EINVAL or error.words != "address not found":
                raise
            return False

    def say_full(self, pm: PathManager, place: Place, why: str) -> None:
        if not self.full_said:
            self.full_said = True
            # At the start some of the room may be that of endpoints of an earlier run, which are
            # deleted once all addresses were told of.
            self.soon = pm.call_later(0, self.settle, pm)
            pm.log.warning(
                "%s is not used for now: %s. Addresses beyond that wait for a free one.",
                place.address,
                why,
            )

    def try_again(self, pm: PathManager) -> None:
        if self.again is None or not self.again.pending:
            self.again = pm.call_later(AGAIN, self.settle, pm)

    def fit_limits(self, pm: PathManager) -> None:
        """Limits for as many subflows as there are addresses, and MIN_LIMIT more."""
        count = MIN_LIMIT + len(self.places)
        if self.most is not None:
            count = min(count, self.most)
        flags = {flag for place in self.places.values() for flag in place.flags}
        accepted = count if "subflow" in (flags or pm.config.addr_flags) else 0
        found = pm.found_limits()
        wanted = Limits(
            add_addr_accepted=max(accepted, found.add_addr_accepted),
            subflows=max(count, found.subflows),
        )
        if wanted == pm.limits():
            return
        try:
            pm.set_limits(wanted.subflows, wanted.add_addr_accepted)
        except KernelError as error:
            if count <= MIN_LIMIT or not (error.words or "").startswith("limit greater"):
                raise
            # Before Linux 6.15 it does not say how much it takes: try with less until it does.
            said = maximum(error.words or "")
            self.most = count - 1 if said is None or said >= count else said
            self.fit_limits(pm)


def renew_on_loss(section: Section) -> bool:
    """What the configuration says. Errors: ConfigError with file and line."""
    for key in section:
        if key != KEY:
            raise section.error(key, f"unknown key; allowed: {KEY}")
    text = section.get(KEY, "no")
    if text not in ("yes", "no"):
        raise section.error(KEY, f'"{text}" is neither yes nor no')
    return text == "yes"


def maximum(words: str) -> int | None:
    """The number in the kernel's ``limit greater than maximum (8)``, None if there is none."""
    number = words.rpartition("maximum (")[2].rstrip(")")
    return int(number) if number.isascii() and number.isdigit() else None
