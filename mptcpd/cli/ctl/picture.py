"""One picture of a recording: SVG that needs nothing, on a light ground of its own.

Knows layout, colours and words; must not know the kernel. From above: what it is about; for each
direction with traffic a panel, where the subflows' rates stand on each other; a line for each
subflow that shows when it was there; the events, numbered as on the time line.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

from mptcpd.cli.ctl import quantity, scales
from mptcpd.cli.ctl.ends import end_text
from mptcpd.cli.ctl.recording import BACKUP, IDLE, USED, Happening, Recording, Series
from mptcpd.cli.ctl.svg import element, escape, polygon, text

WIDTH = 960
_LEFT, _RIGHT = 66, 24  # margins of everything that has the time axis
_PLOT = WIDTH - _LEFT - _RIGHT
_PANEL, _TWO_PANELS = 230, 150  # heights
_ROW, _EVENT = 34, 19
# Colours that the colour-blind can tell apart as well (Okabe and Ito), blue and orange first.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8a63d2", "#5b8c00")
_OTHERS = "#9aa4af"
_KINDS = {"appears": "#1a7f37", "ends": "#57606a", "fails": "#cf222e", "other": "#8250df"}
_LEAST = 0.01  # of all traffic: a direction with less is not drawn
EVENTS = 14  # told of; the rest are counted
_STYLE = (
    "text{font:12px system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif;fill:#24292f}"
    ".title{font-size:17px;font-weight:600}.quiet{fill:#57606a}.small{font-size:11px}"
    ".axis{font-size:11px;fill:#57606a}.strong{font-weight:600}.end{text-anchor:end}"
    ".mid{text-anchor:middle}.mark{font-size:10px;font-weight:600;fill:#fff;text-anchor:middle}"
)


class Band(NamedTuple):
    """What is stacked: bytes by interval, in both directions."""

    name: str
    colour: str
    up: dict[int, float]
    down: dict[int, float]


class Picture:
    """Draws a recording. when: the start in words; note: what could not be seen, or ""."""

    def __init__(self, recording: Recording, when: str, note: str = "") -> None:
        self._rec = recording
        self._when = when
        self._note = note
        self._parts: list[str] = []
        shown = sorted(recording.series.values(), key=_first)
        if len(shown) > len(COLOURS):
            most = sorted(shown, key=lambda series: -series.bytes)[: len(COLOURS)]
            shown = [series for series in shown if series in most]
        self._shown = shown
        self._rest = [series for series in recording.series.values() if series not in shown]
        self._colour = {one.cookie: COLOURS[at] for at, one in enumerate(shown)}
        known = recording.whom
        self._events = [
            one for one in recording.happenings
            if (one.token is None or one.token in known) and 0 <= one.time <= recording.length
        ]  # fmt: skip
        self._told = self._events[:EVENTS]

    def svg(self) -> str:
        """The whole document."""
        y = self._head()
        top = y
        panels = list(self._panels())
        for label, bands in panels:
            y = self._panel(y, _PANEL if len(panels) == 1 else _TWO_PANELS, label, bands)
        y = self._time_axis(y)
        self._marks(top, y - 22)
        y = self._rows(y + 14)
        y = self._list(y)
        height = y + 12
        title = escape(self._title())
        ground = element(
            "rect", x=0.5, y=0.5, width=WIDTH - 1, height=height - 1, rx=8, fill="#ffffff",
            stroke="#d0d7de",
        )  # fmt: skip
        inside = "\n".join(
            [f"<title>{title}</title>", f"<style>{_STYLE}</style>", ground, *self._parts]
        )
        return (
            element(
                "svg", f"\n{inside}\n", xmlns="http://www.w3.org/2000/svg", role="img",
                viewBox=f"0 0 {WIDTH} {height}", width=WIDTH, height=height,
            )
            + "\n"
        )  # fmt: skip

    def _add(self, *parts: str) -> None:
        self._parts += parts

    def _title(self) -> str:
        tokens = list(dict.fromkeys(one.token for one in self._shown)) or list(self._rec.whom)
        if len(self._rec.whom) == 1 and tokens:
            return f"MPTCP connection {tokens[0]:08x}, {self._rec.whom[tokens[0]]}"
        return f"{max(len(self._rec.whom), self._rec.connections)} MPTCP connections"

    def _head(self) -> int:
        """What it is about; where the next thing may begin."""
        rec = self._rec
        self._add(text(_LEFT - 42, 34, self._title(), "title"))
        length = quantity.duration(rec.length)
        self._add(text(_LEFT - 42, 54, f"{length} from {self._when}", "quiet"))
        total, back = sum(rec.data_up.values()), sum(rec.data_down.values())
        words = [f"{quantity.size(round(total))} sent", f"{quantity.size(round(back))} received"]
        self._add(text(WIDTH - _RIGHT, 34, ", ".join(words), "strong end"))
        if rec.length > 0:
            rates = f"on average {quantity.rate(max(total, back) / rec.length)}"
            carried = sum(series.bytes for series in rec.series.values())
            carried += sum(rec.others_up.values()) + sum(rec.others_down.values())
            if carried > 1.01 * (total + back) > 0:
                rates += f"; subflows carried {carried / (total + back) - 1:.0%} more"
            self._add(text(WIDTH - _RIGHT, 54, rates, "quiet end"))
        return 72

    def _bands(self) -> Iterator[Band]:
        for one in self._shown:
            yield Band(_words(one), self._colour[one.cookie], one.up, one.down)
        rec = self._rec
        if self._rest or rec.folded:
            up, down = dict(rec.others_up), dict(rec.others_down)
            for one in self._rest:
                for to, amounts in ((up, one.up), (down, one.down)):
                    for index, amount in amounts.items():
                        to[index] = to.get(index, 0.0) + amount
            yield Band("other subflows", _OTHERS, up, down)

    def _panels(self) -> Iterator[tuple[str, list[tuple[str, str, dict[int, float]]]]]:
        """What to draw: a direction and its bands."""
        bands = list(self._bands())
        up = [(band.name, band.colour, band.up) for band in bands]
        down = [(band.name, band.colour, band.down) for band in bands]
        sent, received = (
            sum(sum(amounts.values()) for _name, _colour, amounts in way) for way in (up, down)
        )
        whole = sent + received
        if sent >= _LEAST * whole:
            yield "sent", up
        if received > _LEAST * whole:
            yield "received", down

    def _x(self, seconds: float) -> float:
        return _LEFT + _PLOT * seconds / (self._rec.length or 1)

    def _panel(
        self, top: int, height: int, label: str, bands: list[tuple[str, str, dict[int, float]]]
    ) -> int:
        """The subflows' rates, one on the other; where the next thing may begin."""
        edges = self._rec.edges
        widths = [end - begin for begin, end in itertools.pairwise(edges)]
        sums = [0.0] * len(widths)
        for _name, _colour, amounts in bands:
            for index, amount in amounts.items():
                sums[index] += 8 * amount / widths[index]
        ticks, unit, divisor = scales.rates(max(sums, default=0), 4 if height < 200 else 5)
        bottom, top = top + 20 + height, top + 20
        self._add(text(_LEFT - 42, top - 10, f"{label}, {unit}", "axis"))

        def at(rate: float) -> float:
            return bottom - height * rate / ticks[-1]

        for tick in ticks:
            y = at(tick)
            self._add(element("line", x1=_LEFT, x2=WIDTH - _RIGHT, y1=y, y2=y,
                              stroke="#afb8c1" if not tick else "#e4e8ec"))  # fmt: skip
            self._add(text(_LEFT - 8, y + 4, scales.number(tick / divisor), "axis end"))
        below = [0.0] * len(widths)
        for name, colour, amounts in bands:
            above = [
                base + 8 * amounts.get(index, 0.0) / widths[index]
                for index, base in enumerate(below)
            ]
            shape = list(self._outline(above, at)) + list(reversed(list(self._outline(below, at))))
            total = quantity.size(round(sum(amounts.values())))
            tip = f"<title>{escape(f'{name}: {total} {label}')}</title>"
            if amounts:
                self._add(element("g", tip + polygon(shape, fill=colour, fill_opacity="0.85")))
            below = above
        return bottom + 6

    def _outline(
        self, rates: list[float], at: Callable[[float], float]
    ) -> Iterator[tuple[float, float]]:
        """The rate as steps: each is the mean of its interval, and nothing is known within."""
        for index, rate in enumerate(rates):
            y = at(rate)
            yield self._x(self._rec.edges[index]), y
            yield self._x(self._rec.edges[index + 1]), y

    def _time_axis(self, y: int) -> int:
        length = self._rec.length
        for tick in scales.times(length, 12):
            x = self._x(tick)
            self._add(element("line", x1=x, x2=x, y1=y - 6, y2=y - 1, stroke="#afb8c1"))
            self._add(text(x, y + 12, scales.clock(tick, length), "axis mid"))
        return y + 22

    def _marks(self, top: int, bottom: int) -> None:
        """A line for each event that is told of, its number above; close ones share a place."""
        last = -100.0
        level = 0
        for number, one in enumerate(self._told, 1):
            x = self._x(one.time)
            level = level + 1 if x - last < 16 else 0
            last = x
            self._mark(x, top + 26 + 15 * (level % 8), str(number), one, bottom)

    def _mark(self, x: float, y: float, number: str, one: Happening, bottom: float = 0) -> None:
        colour = _KINDS[one.kind]
        tip = f"<title>{escape(self._told_of(one))}</title>"
        line = ""
        if bottom:
            line = element(
                "line", x1=x, x2=x, y1=y + 7, y2=bottom, stroke=colour, stroke_dasharray="3 3"
            )
        disc = element("circle", cx=x, cy=y, r=7.5 if len(number) < 2 else 8.5, fill=colour)
        self._add(element("g", tip + line + disc + text(x, y + 3.5, number, "mark")))

    def _told_of(self, one: Happening) -> str:
        many = len(self._rec.whom) > 1 and one.token is not None
        return f"{one.token:08x} {one.text}" if many and one.token is not None else one.text

    def _rows(self, y: int) -> int:
        """A line for each subflow: who, how much, and when it was there."""
        whole = sum(series.bytes for series in self._rec.series.values())
        amounts = [series.bytes for series in self._shown]
        rest = sum(series.bytes for series in self._rest)
        rest += sum(self._rec.others_up.values()) + sum(self._rec.others_down.values())
        percents = quantity.percentages([*amounts, rest])
        many = len(self._rec.whom) > 1
        for series, percent in zip(self._shown, percents, strict=False):
            words = _words(series)
            if many:
                words = f"{series.token:08x} \u00b7 {words}"
            figures = [*_percent(percent), quantity.size(round(series.bytes))]
            if series.rtt:
                least, most = map(quantity.milliseconds, series.rtt)
                span = least if least == most else f"{least.removesuffix(' ms')} to {most}"
                figures.append(f"rtt {span}")
            if series.resent:
                figures.append(f"{series.resent} segment{'s' * (series.resent > 1)} resent")
            self._add(text(_LEFT, y + 12, words), text(WIDTH - _RIGHT, y + 12,
                      " \u00b7 ".join(figures), "quiet end"))  # fmt: skip
            self._life(series, y + 19)
            y += _ROW
        hidden = len(self._rest) + self._rec.folded
        hidden = max(hidden, self._rec.subflows - len(self._shown))
        if hidden:
            words = f"{hidden} other subflow" + ("s" if hidden > 1 else "")
            self._add(text(_LEFT, y + 12, words, "quiet"))
            figures = [*_percent(percents[-1]), quantity.size(round(rest))]
            self._add(text(WIDTH - _RIGHT, y + 12, " \u00b7 ".join(figures), "quiet end"))
            y += _ROW - 10
        if not whole and not self._shown:
            self._add(text(_LEFT, y + 12, "No MPTCP connection was seen.", "quiet"))
            y += _ROW
        return y

    def _life(self, series: Series, y: float) -> None:
        """When a subflow was there: full, hollow as a backup, thin while it opens or closes."""
        rec, colour = self._rec, self._colour[series.cookie]
        self._add(element("line", x1=_LEFT, x2=WIDTH - _RIGHT, y1=y + 3, y2=y + 3,
                          stroke="#e4e8ec"))  # fmt: skip
        begin = series.born if series.born is not None else 0.0
        end = series.gone if series.gone is not None else rec.length
        turns = [*(series.phases or [(begin, USED)]), (end, IDLE)]
        turns[0] = (begin, turns[0][1])
        for (start, phase), (stop, _then) in itertools.pairwise(turns):
            x = self._x(start)
            thick = 2 if phase == IDLE else 6
            self._add(element(
                "rect", x=x, y=y + 3 - thick / 2, width=max(1.5, self._x(min(stop, end)) - x),
                height=thick, rx=thick / 2, fill="#ffffff" if phase == BACKUP else colour,
                stroke=colour if phase == BACKUP else None,
            ))  # fmt: skip

    def _list(self, y: int) -> int:
        """The events in words, by their numbers."""
        y += 8
        for number, one in enumerate(self._told, 1):
            self._mark(_LEFT + 7, y + 8, str(number), one)
            long = self._rec.length >= 120
            time = scales.clock(one.time, self._rec.length) if long else f"{one.time:.1f} s"
            self._add(text(_LEFT + 62, y + 12, time, "quiet end"))
            self._add(text(_LEFT + 74, y + 12, self._told_of(one)))
            y += _EVENT
        more = len(self._events) - len(self._told) + self._rec.missed
        notes = [f"and {more} more event{'s' if more > 1 else ''}"] if more else []
        notes += [self._note] if self._note else []
        for note in notes:
            self._add(text(_LEFT, y + 12, note, "quiet small"))
            y += _EVENT
        return y


def _first(series: Series) -> tuple[int, bool, float]:
    """By connection, the first subflow first, then as they came."""
    return series.token, series.joined, series.born or 0.0


def _percent(share: int | None) -> list[str]:
    return [] if share is None else [quantity.share(share)]


def _words(series: Series) -> str:
    path = series.path
    local = end_text(path.local_ip, path.local_port)
    words = f"{series.name} \u00b7 {local} \u2192 {end_text(path.remote_ip, path.remote_port)}"
    return words + (" \u00b7 backup" if series.phases and series.phases[-1][1] == BACKUP else "")
