"""What was seen over a time: how much each subflow carried when, and what happened.

Knows time, bytes and events; must not know where they come from or how they are drawn. However long
it goes on, it does not grow beyond its bounds: when there are too many intervals, each two become
one; when there are too many subflows, the least ones are counted together as ``others``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from mptcpd.cli.ctl.rates import ConnectionView, SubflowView
from mptcpd.nl.diag import TCP_ESTABLISHED, Path

NameOf = Callable[[SubflowView], str | None]  # of its interface
INTERVALS = 1200
SUBFLOWS = 200
EVENTS = 500
TOKENS = 10_000
USED, BACKUP, IDLE = range(3)


class Happening(NamedTuple):
    """Something to be marked.

    time   seconds from the start       kind  "appears", "ends", "fails", "other"
    token  None where it is of no connection: of an interface
    """

    time: float
    kind: str
    token: int | None
    text: str


class Series:
    """A subflow over the time.

    up, down  bytes by interval          resent    segments sent again, while we looked
    born      seconds from the start, None: it was there before; gone: None: it was there at the end
    phases    (time, USED, BACKUP or IDLE) from then on; IDLE: it is being opened or closed
    """

    __slots__ = (
        "born", "cookie", "down", "gone", "joined", "name", "path", "phases", "resent", "rtt",
        "token", "up",
    )  # fmt: skip

    def __init__(self, cookie: int, token: int, path: Path, name: str) -> None:
        self.cookie, self.token, self.path, self.name = cookie, token, path, name
        self.joined = False
        self.born: float | None = None
        self.gone: float | None = None
        self.up: dict[int, float] = {}
        self.down: dict[int, float] = {}
        self.phases: list[tuple[float, int]] = []
        self.resent = 0
        self.rtt: list[int] = []  # least and most, microseconds

    @property
    def bytes(self) -> float:
        return sum(self.up.values()) + sum(self.down.values())

    def _measured(self, rtt: int | None) -> None:
        if rtt:
            self.rtt = [min([rtt, *self.rtt]), max([rtt, *self.rtt])]


class Recording:
    """edges: the times of the looks, seconds from the first one; interval N ends at edges[N + 1].

    data        bytes of the programs' data by interval, each byte once; what subflows carry may
                be more: data that a path keeps is sent again by another one
    whom        token -> "client to 10.0.1.2:443" of the connections that were seen
    connections, subflows    how many there were at once, at most
    happenings  in the order in which they came; missed: those that there was no room for
    coarse      how many intervals of the beginning each one is by now: looks should be as far apart
    """

    def __init__(self, start: float) -> None:
        self.start = start
        self.edges: list[float] = [0.0]
        self.series: dict[int, Series] = {}
        self.data_up: dict[int, float] = {}
        self.data_down: dict[int, float] = {}
        self.others_up: dict[int, float] = {}
        self.others_down: dict[int, float] = {}
        self.folded = 0
        self.whom: dict[int, str] = {}
        self.happenings: list[Happening] = []
        self.missed = 0
        self.connections = 0
        self.subflows = 0
        self.coarse = 1
        self._folded: set[int] = set()

    @property
    def length(self) -> float:
        """Seconds."""
        return self.edges[-1]

    def look(
        self, time: float, seconds: float | None, views: Iterable[tuple[ConnectionView, str]],
        name: NameOf,
    ) -> None:
        """Take what a look has found: connections, each with words for it.

        time     of the look, as ``start``       seconds   since the one before, None at the first
        """
        now = time - self.start
        if seconds is not None:
            self.edges.append(now)
        connections = subflows = 0
        for view, words in views:
            connections += view.gone is None
            subflows += sum(1 for _subflow in view.living)
            if view.socket.token not in self.whom and len(self.whom) < TOKENS:
                self.whom[view.socket.token] = words
            self._add(self.data_up, view.up, seconds)
            self._add(self.data_down, view.down, seconds)
            for subflow in view.subflows.values():
                self._take(now, seconds, view.socket.token, subflow, name)
        self.connections = max(self.connections, connections)
        self.subflows = max(self.subflows, subflows)
        if len(self.edges) > INTERVALS:
            self._halve()

    def _take(
        self, now: float, seconds: float | None, token: int, view: SubflowView, name: NameOf
    ) -> None:
        cookie = view.socket.cookie
        if cookie in self._folded:
            self._add(self.others_up, view.up, seconds)
            self._add(self.others_down, view.down, seconds)
            return
        series = self.series.get(cookie)
        if series is None:
            if len(self.series) >= SUBFLOWS and not self._fold(bool(view.up or view.down)):
                return
            series = Series(cookie, token, view.socket.path, name(view) or "-")
            if view.since is not None:
                series.born = max(0.0, view.since - self.start)
            self.series[cookie] = series
        series.joined = view.joined
        series.gone = None if view.gone is None else view.gone - self.start
        if view.gone is not None:
            return
        self._add(series.up, view.up, seconds)
        self._add(series.down, view.down, seconds)
        series.resent += view.resent
        series._measured(view.info.rtt)
        phase = BACKUP if view.backup else USED
        phase = phase if view.socket.state == TCP_ESTABLISHED else IDLE
        if not series.phases or series.phases[-1][1] != phase:
            series.phases.append((now, phase))

    def _add(self, to: dict[int, float], rate: float | None, seconds: float | None) -> None:
        if rate and seconds is not None:
            index = len(self.edges) - 2
            to[index] = to.get(index, 0.0) + rate * seconds

    def happened(self, happening: Happening) -> None:
        if len(self.happenings) < EVENTS:
            self.happenings.append(happening)
        else:
            self.missed += 1

    def _halve(self) -> None:
        """Each two intervals become one; an odd last one stays."""
        self.coarse *= 2
        last = self.edges[-1]
        self.edges = self.edges[::2]
        if self.edges[-1] != last:
            self.edges.append(last)
        for amounts in self._amounts():
            merged: dict[int, float] = {}
            for index, amount in amounts.items():
                merged[index // 2] = merged.get(index // 2, 0.0) + amount
            amounts.clear()
            amounts.update(merged)

    def _amounts(self) -> Iterable[dict[int, float]]:
        for series in self.series.values():
            yield series.up
            yield series.down
        yield self.data_up
        yield self.data_down
        yield self.others_up
        yield self.others_down

    def _fold(self, busy: bool) -> bool:
        """Make room for a subflow, if it is ``busy``; whether there is room.

        Those that never carried anything go first, and are no loss. Then the lesser half of all.
        """
        if not busy:
            return False
        idle = [series for series in self.series.values() if not (series.up or series.down)]
        if idle:
            del self.series[idle[0].cookie]
            return True
        least = sorted(self.series.values(), key=lambda series: series.bytes)
        for series in least[: len(least) // 2]:
            for to, amounts in ((self.others_up, series.up), (self.others_down, series.down)):
                for index, amount in amounts.items():
                    to[index] = to.get(index, 0.0) + amount
            self.folded += 1
            if series.gone is None:
                self._folded.add(series.cookie)
            del self.series[series.cookie]
        return True
