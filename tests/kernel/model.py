"""What endpoints there should be: the rules, said simply, for a network that is simulated.

Nothing of the daemon is used here. ``World`` does to its own records what an operation does to the
kernel's, side effects included (a link that goes down loses its IPv6 addresses and its routes), and
``World.wanted`` says which endpoints follow. An operation that makes no sense at the moment does
nothing, so any part of a sequence is a sequence: that is what makes it possible to shrink one.
"""

from __future__ import annotations

import random
from fnmatch import fnmatchcase
from typing import NamedTuple

SLOTS = range(4)  # interfaces, whatever they are called at the moment
NAMES = ("eth0", "eth1", "eth2", "eth3", "wwan0", "wwan1", "docker0")
FAMILIES = (4, 6)
MAIN, TABLES = 254, (101, 102)  # a rule for table 101 comes before one for 102, then main
METRICS = (50, 150)  # of default routes to nowhere; those over slot N have 100 + N


class Operation(NamedTuple):
    """One thing done to the network; ``str()`` is what a run's report shows."""

    what: str
    slot: int = 0
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.what}({self.slot}{', ' if self.detail else ''}{self.detail})"


class Settings(NamedTuple):
    """A configuration, as text for the daemon and as facts for the model.

    flags     what interfaces are used, by pattern, and the flags of their endpoints
    most      by pattern, how many addresses of an interface are used
    ips       the addresses that an operation may add to a slot
    routes    check_route is on
    foreign   endpoints of others, there from the start
    """

    core: str
    flags: tuple[tuple[str, tuple[str, ...]], ...]
    most: tuple[tuple[str, int], ...] = ()
    ips: tuple[tuple[str, ...], ...] = ()
    routes: bool = False
    foreign: tuple[str, ...] = ()

    def flags_of(self, name: str) -> tuple[str, ...] | None:
        """None: the interface is not used."""
        for pattern, flags in self.flags:
            if fnmatchcase(name, pattern):
                return flags
        return None

    def most_of(self, name: str) -> int:
        return next((most for pattern, most in self.most if fnmatchcase(name, pattern)), 255)


FLAGS = (("eth*", ("subflow",)), ("wwan*", ("subflow", "backup")))
_SHARED = tuple(f"10.0.0.{number}" for number in range(1, 6)) + tuple(
    f"fd00::{number}" for number in range(1, 4)
)
SETTINGS = {
    # Few addresses, any of them anywhere, also on two interfaces at once.
    "routes": Settings(
        """hold-down-return=0
        interfaces=!docker*
        notify-flags=existing,skip_link_local,skip_loopback,check_route
        [interface wwan*]
        flags=subflow,backup
        """,
        FLAGS,
        ips=(_SHARED,) * len(SLOTS),
        routes=True,
    ),
    "held": Settings(
        """hold-down-return=30ms
        hold-down-loss=20ms
        [interface docker*]
        enabled=no
        [interface wwan*]
        flags=subflow,backup
        max-addresses=1
        """,
        FLAGS,
        most=(("wwan*", 1),),
        ips=tuple((f"10.0.{slot}.1", f"10.0.{slot}.2", f"fd00:{slot + 1}::1") for slot in SLOTS),
    ),
    # More addresses than the kernel takes, and others' endpoints in the way.
    "scarce": Settings(
        """hold-down-return=0
        addresses=ipv4
        interfaces=!docker*
        [interface wwan*]
        flags=subflow,backup
        """,
        FLAGS,
        ips=tuple(tuple(f"10.0.{slot}.{number}" for number in range(1, 8)) for slot in SLOTS),
        foreign=("10.9.9.1", "10.9.9.2"),
    ),
}


class Route(NamedTuple):
    """A default route; ``slot`` None: to nowhere."""

    family: int
    table: int
    slot: int | None
    metric: int


class Link:
    """A cable with our end of it. ``addresses``: IP -> whether it may be used (not deprecated)."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.up = False
        self.plugged = True  # the other end is up
        self.away = False  # in another namespace
        self.addresses: dict[str, bool] = {}

    @property
    def running(self) -> bool:
        return self.up and self.plugged and not self.away


class World:
    """A host's links, addresses, routes and rules."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.links: dict[int, Link] = {}
        self.routes: set[Route] = set()
        self.rules: set[tuple[str, int]] = set()  # addresses, and the table for what they send

    # What an operation does. Each method returns False if it makes no sense now.

    def apply(self, operation: Operation) -> bool:
        what: str = operation.what
        link = self.links.get(operation.slot)
        if what in ("create", "rule", "unrule", "nowhere", "no_nowhere"):
            method = getattr(self, f"_{what}")
            return bool(method(operation))
        if link is None or (link.away and what not in ("back", "delete", "pull", "plug")):
            return False
        return bool(getattr(self, f"_{what}")(operation, link))

    def _create(self, operation: Operation) -> bool:
        if operation.slot in self.links or self._taken(operation.detail):
            return False
        self.links[operation.slot] = Link(operation.detail)
        return True

    def _delete(self, operation: Operation, link: Link) -> bool:
        del self.links[operation.slot]
        self._drop_routes(operation.slot)
        return True

    def _up(self, operation: Operation, link: Link) -> bool:
        changed = not link.up
        link.up = True
        return changed

    def _down(self, operation: Operation, link: Link) -> bool:
        changed = link.up
        link.up = False
        link.addresses = {ip: good for ip, good in link.addresses.items() if ":" not in ip}
        self._drop_routes(operation.slot)
        return changed

    def _pull(self, operation: Operation, link: Link) -> bool:
        changed, link.plugged = link.plugged, False
        return changed

    def _plug(self, operation: Operation, link: Link) -> bool:
        changed, link.plugged = not link.plugged, True
        return changed

    def _rename(self, operation: Operation, link: Link) -> bool:
        if self._taken(operation.detail):
            return False
        link.name = operation.detail
        return True

    def _move(self, operation: Operation, link: Link) -> bool:
        if self._taken(link.name, away=True):
            return False
        link.away, link.up = True, False
        link.addresses.clear()
        self._drop_routes(operation.slot)
        return True

    def _back(self, operation: Operation, link: Link) -> bool:
        if not link.away or self._taken(link.name):
            return False
        link.away = False
        return True

    def _add(self, operation: Operation, link: Link) -> bool:
        ip = operation.detail
        if ip in link.addresses or (":" in ip and not link.up):
            return False
        link.addresses[ip] = True
        return True

    def _remove(self, operation: Operation, link: Link) -> bool:
        if link.addresses.pop(operation.detail, None) is None:
            return False
        if not any(":" not in ip for ip in link.addresses):
            self._drop_routes(operation.slot, 4)  # with the last IPv4 address
        return True

    def _deprecate(self, operation: Operation, link: Link) -> bool:
        return self._usable(link, operation.detail, False)

    def _renew(self, operation: Operation, link: Link) -> bool:
        return self._usable(link, operation.detail, True)

    def _usable(self, link: Link, ip: str, usable: bool) -> bool:
        if link.addresses.get(ip, usable) == usable:
            return False
        link.addresses[ip] = usable
        return True

    def _route(self, operation: Operation, link: Link) -> bool:
        route = self._parsed(operation)
        ready = link.up and (route.family == 6 or any(":" not in ip for ip in link.addresses))
        if not ready or self._too_much(route):
            return False
        self.routes.add(route)
        return True

    def _unroute(self, operation: Operation, link: Link) -> bool:
        return self._gone(self._parsed(operation))

    def _too_much(self, route: Route) -> bool:
        """Whether there is such a route, or it is one that the daemon need not understand.

        For IPv6 no look-up tells what a socket gets that is bound to an interface and an address,
        if the table for the address has more than one default route, or if there are several such
        tables. mptcpd then may say no where the answer is yes.
        """
        if route.family == 6 and route.table != MAIN:
            return any((r.family, r.table) == (6, route.table) for r in self.routes)
        return route in self.routes

    def _nowhere(self, operation: Operation) -> bool:
        route = self._parsed(operation)
        if self._too_much(route) or (route.family == 6 and route.table != MAIN):
            return False
        self.routes.add(route)
        return True

    def _no_nowhere(self, operation: Operation) -> bool:
        return self._gone(self._parsed(operation))

    def _gone(self, route: Route) -> bool:
        there = route in self.routes
        self.routes.discard(route)
        return there

    def _rule(self, operation: Operation) -> bool:
        rule = rule_of(operation)
        other = ":" in rule[0] and any(ip == rule[0] for ip, _table in self.rules)
        if rule in self.rules or other:
            return False
        self.rules.add(rule)
        return True

    def _unrule(self, operation: Operation) -> bool:
        rule = rule_of(operation)
        there = rule in self.rules
        self.rules.discard(rule)
        return there

    def _taken(self, name: str, away: bool = False) -> bool:
        return any(link.name == name and link.away == away for link in self.links.values())

    def _drop_routes(self, slot: int, family: int | None = None) -> None:
        self.routes = {
            route
            for route in self.routes
            if route.slot != slot or family not in (None, route.family)
        }

    def _parsed(self, operation: Operation) -> Route:
        return route_of(operation)

    # What follows.

    def candidates(self, slot: int) -> list[str]:
        """The addresses of a slot that endpoints may be made of, seen for themselves."""
        link = self.links.get(slot)
        if link is None or not link.running or self.settings.flags_of(link.name) is None:
            return []
        return [
            ip
            for ip, usable in link.addresses.items()
            if usable and (not self.settings.routes or self.served(ip, slot))
        ]

    def served(self, ip: str, slot: int) -> bool:
        """Whether a packet from ``ip`` out of the slot would take a default route."""
        family = 6 if ":" in ip else 4
        tables = [table for table in TABLES if (ip, table) in self.rules]
        for table in [*tables, MAIN]:
            for route in sorted(self.routes, key=lambda route: route.metric):
                if (route.family, route.table) != (family, table):
                    continue
                if route.slot == slot:
                    return True
                if route.slot is None and family == 4:
                    return False  # IPv6 goes past it, to a route of the interface asked for
        return False


def route_of(operation: Operation) -> Route:
    """The route in ``detail``: family, table, and for one to nowhere its metric."""
    family, table, *metric = map(int, operation.detail.split())
    if metric:
        return Route(family, table, None, metric[0])
    return Route(family, table, operation.slot, 100 + operation.slot)


def rule_of(operation: Operation) -> tuple[str, int]:
    ip, table = operation.detail.split()
    return ip, int(table)


WEIGHTS = {
    "up": 10, "down": 1, "pull": 3, "plug": 10, "delete": 0.7, "create": 8, "rename": 2,
    "move": 0.7, "back": 3, "add": 20, "remove": 4, "deprecate": 2, "renew": 2,
}  # fmt: skip
ROUTE_WEIGHTS = {"route": 22, "unroute": 3, "nowhere": 1, "no_nowhere": 2, "rule": 3, "unrule": 2}


def bursts(seed: int, count: int, settings: Settings) -> list[list[Operation]]:
    """``count`` operations that do something, in bursts of 1 to 6 with quiet between them."""
    dice = random.Random(seed)
    world = World(settings)
    weights: dict[str, float] = {**WEIGHTS, **(ROUTE_WEIGHTS if settings.routes else {})}
    found: list[list[Operation]] = []
    while count > 0:
        burst: list[Operation] = []
        for _ in range(min(count, dice.choice((1, 1, 2, 3, 6)))):
            while not world.apply(operation := _any(dice, weights, settings)):
                pass
            burst.append(operation)
        count -= len(burst)
        found.append(burst)
    return found


def _any(dice: random.Random, weights: dict[str, float], settings: Settings) -> Operation:
    what = dice.choices(list(weights), list(weights.values()))[0]
    slot = dice.choice(SLOTS)
    detail = ""
    if what in ("create", "rename"):
        detail = dice.choice(NAMES)
    elif what in ("add", "remove", "deprecate", "renew"):
        detail = dice.choice(settings.ips[slot])
    elif what in ("route", "unroute", "nowhere", "no_nowhere"):
        table = dice.choice((MAIN, MAIN, *TABLES))
        detail = f"{dice.choice(FAMILIES)} {table}"
        if "nowhere" in what:
            slot, detail = 0, f"{detail} {dice.choice(METRICS)}"
    elif what in ("rule", "unrule"):
        slot, detail = 0, f"{dice.choice(settings.ips[0])} {dice.choice(TABLES)}"
    return Operation(what, slot, detail)
