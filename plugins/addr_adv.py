"""addr_adv: gives the kernel's own path manager an endpoint for every local address.

The flags of the endpoints are the configuration's ``addr-flags``. The limits grow with the number
of addresses: as many subflows as addresses, and two more; as many accepted announcements if the
flags have ``subflow``; never less than what was found at the start.

The kernel has room for few endpoints. Addresses beyond that wait, and each endpoint that comes free
goes to the one that has waited longest.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, TypeAlias

from mptcpd.plugin import Endpoint, Interface, KernelError, Limits, NoFreeId, Plugin, SockAddr

if TYPE_CHECKING:
    from mptcpd.core.pm import PathManager

MIN_LIMIT = 2  # subflows beside those of the known addresses
Place: TypeAlias = tuple[SockAddr, int]  # an address and the ifindex it is on


class AddrAdv(Plugin):
    description = "announces and uses local addresses through the in-kernel path manager"
    needs = "kernel"

    def init(self, pm: PathManager) -> None:
        # Every address we were told of, in that order; the ID of its endpoint, None while it waits.
        self.places: dict[Place, int | None] = {}
        self.flags = pm.config.addr_flags
        self.found = pm.limits()
        self.current = self.found
        self.most: int | None = None  # the greatest limit that the kernel takes, once it said so
        self.full_said = False
        self.foreign_said: set[Place] = set()
        self.fit_limits(pm)

    def new_local_address(self, interface: Interface, address: SockAddr, pm: PathManager) -> None:
        self.places[address, interface.index] = None
        self.fit_limits(pm)
        self.fill(pm)

    def delete_local_address(
        self, interface: Interface, address: SockAddr, pm: PathManager
    ) -> None:
        place = address, interface.index
        if place not in self.places:
            pm.log.info("No address ID associated with %s.", address)
            return
        ident = self.places.pop(place)
        self.foreign_said.discard(place)
        if not any(other == address for other, _ifindex in self.places):
            pm.ids.remove(address)
        try:
            if ident is not None:
                pm.remove_endpoint(ident)
        except KernelError as error:
            if error.errno != errno.EINVAL or error.words != "address not found":
                raise
            pm.log.info("The endpoint of %s (ID %d) was gone already.", address, ident)
        finally:
            self.fit_limits(pm)
            self.fill(pm)

    def fill(self, pm: PathManager) -> None:
        """Make endpoints of the addresses that wait, until the kernel has room for no more."""
        for place, ident in list(self.places.items()):
            if ident is not None:
                continue
            address, ifindex = place
            try:
                endpoint = pm.add_endpoint(address, flags=self.flags, ifindex=ifindex)
            except NoFreeId as error:
                self.say_full(pm, address, str(error))
                return
            except KernelError as error:
                if error.reason == errno.ERANGE:
                    taken = len(pm.endpoints())
                    self.say_full(pm, address, f"the kernel has room for {taken} endpoints")
                    return
                if error.reason != errno.EEXIST:
                    raise
                self.places[place] = self.adopt(pm, place)
                continue
            self.places[place] = endpoint.id
            pm.log.info("Endpoint %s: ID %d on ifindex %d.", address, endpoint.id, ifindex)

    def adopt(self, pm: PathManager, place: Place) -> int | None:
        """The ID of an endpoint that is there already and just like ours; else None, said once."""
        address, ifindex = place
        ours = {ident for ident in self.places.values() if ident is not None}
        for endpoint in pm.endpoints():
            if endpoint.address == address and endpoint.id not in ours:
                if endpoint == Endpoint(address, endpoint.id, self.in_order(), ifindex):
                    pm.ids.map(address, endpoint.id)
                    pm.log.info("Endpoint %s: ID %d was there already.", address, endpoint.id)
                    return endpoint.id
                if place not in self.foreign_said:
                    self.foreign_said.add(place)
                    pm.log.warning("Somebody else's %s is left as it is.", endpoint)
        return None

    def in_order(self) -> tuple[str, ...]:
        return tuple(self.flags)

    def say_full(self, pm: PathManager, address: SockAddr, why: str) -> None:
        if not self.full_said:
            self.full_said = True
            pm.log.warning(
                "%s is not used for now: %s. Addresses beyond that wait for a free one.",
                address,
                why,
            )

    def fit_limits(self, pm: PathManager) -> None:
        """Limits for as many subflows as there are addresses, and MIN_LIMIT more."""
        count = MIN_LIMIT + len(self.places)
        if self.most is not None:
            count = min(count, self.most)
        accepted = count if "subflow" in self.flags else 0
        wanted = Limits(
            add_addr_accepted=max(accepted, self.found.add_addr_accepted),
            subflows=max(count, self.found.subflows),
        )
        if wanted == self.current:
            return
        try:
            pm.set_limits(wanted.subflows, wanted.add_addr_accepted)
        except KernelError as error:
            most = maximum(error.words or "")
            if most is None or self.most is not None:
                raise
            self.most = most
            self.fit_limits(pm)
            return
        self.current = wanted


def maximum(words: str) -> int | None:
    """The number in the kernel's ``limit greater than maximum (8)``, None if there is none."""
    number = words.rpartition("maximum (")[2].rstrip(")")
    return int(number) if number.isascii() and number.isdigit() else None
