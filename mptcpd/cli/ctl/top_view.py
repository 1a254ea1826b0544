"""What ``top`` shows: a block for each connection, as lines of styled text.

Knows columns, widths and words; must not know curses, the clock or the kernel. One grid serves all
rows: what is left of the width goes to the bars, and what does not fit goes away, least needed
first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from mptcpd.cli.ctl import glyphs as g
from mptcpd.cli.ctl import quantity
from mptcpd.cli.ctl.connection_filter import STATES
from mptcpd.cli.ctl.ends import end_text, ip_text
from mptcpd.cli.ctl.rates import ConnectionView, SubflowView
from mptcpd.nl import diag
from mptcpd.nl import uapi as u

COLOURS = 6  # of interfaces; the seventh has the first one's again
_BAR_LEAST, _BAR_GOOD, _BAR_MOST = 12, 20, 44
_NEEDED = 5  # columns that are worth more than a good bar
_GAP = "  "
_INDENT = 2  # of subflows below their connection


class Span(NamedTuple):
    """A piece of a line. style: "", "title", "bold", "dim", "warn", "head", "0" to "5"."""

    text: str
    style: str = ""


Line = list[Span]


class Look(NamedTuple):
    """How to show. interface: the name for a subflow; now: monotonic, as in the views."""

    glyphs: g.Glyphs
    width: int
    now: float
    interface: Callable[[SubflowView], str | None]
    selected: int | None = None  # a connection's cookie


class Column(NamedTuple):
    """A column of figures: heading, width, the cell of a connection and of a subflow."""

    head: str
    width: int
    connection: Callable[[ConnectionView], str]
    subflow: Callable[[SubflowView], str]


def columns(glyphs: g.Glyphs) -> list[Column]:
    """All columns of figures, the least needed last."""
    return [
        Column("share", 5, lambda c: "", _share),
        Column(f"{glyphs.up} bit/s", 8, lambda c: _bits(c.up), lambda s: _bits(s.up)),
        Column(f"{glyphs.down} bit/s", 8, lambda c: _bits(c.down), lambda s: _bits(s.down)),
        Column("rtt", 8, lambda c: "", lambda s: quantity.milliseconds(s.info.rtt)),
        Column(
            "resent", 11,
            lambda c: _resent(c.living, c.resent), lambda s: _resent([s], s.resent),
        ),
        Column("cwnd", 5, lambda c: "", lambda s: _number(s.info.snd_cwnd)),
        Column("sent", 7, lambda c: _size(c.info.bytes_sent), lambda s: _size(s.info.bytes_sent)),
        Column(
            "received", 8,
            lambda c: _size(c.info.bytes_received), lambda s: _size(s.info.bytes_received),
        ),
    ]  # fmt: skip


def _bits(rate: float | None) -> str:
    """``38.2 M``: the column's head names the unit."""
    return quantity.rate(rate).removesuffix("bit/s").rstrip()


def _size(count: int | None) -> str:
    return quantity.size(count)


def _share(view: SubflowView) -> str:
    return "" if view.share is None else quantity.share(view.share)


def _resent(views: Iterable[SubflowView], now: int) -> str:
    total = sum(view.info.total_retrans or 0 for view in views)
    return f"+{_few(now)} {_few(total)}" if now else _few(total)


def _few(number: int) -> str:
    """A number in five characters: ``9999``, ``28.1k``."""
    return str(number) if number < 10_000 else quantity.scaled(number, "").replace(" ", "")


def _number(value: int | None) -> str:
    return quantity.UNKNOWN if value is None else str(value)


# How a subflow's path is shown, from the longest form to the shortest. Of a server's subflows the
# peer's addresses are what tells them apart.
_FORMS: tuple[Callable[[diag.Path, str, bool], str], ...] = (
    lambda p, arrow, serves: f"{end_text(p[0], p[1])} {arrow} {end_text(p[2], p[3])}",
    lambda p, arrow, serves: f"{ip_text(p[0])} {arrow} {ip_text(p[2])}",
    lambda p, arrow, serves: f"from {ip_text(p[2])}" if serves else ip_text(p[0]),
)


class Grid:
    """Where the columns are, for these connections and this width."""

    def __init__(self, look: Look, views: Sequence[ConnectionView]) -> None:
        self._look = look
        subflows = [subflow for view in views for subflow in view.subflows.values()]
        self._names = {id(subflow): look.interface(subflow) or "-" for subflow in subflows}
        # A colour for each interface, the same for all connections.
        names = sorted(set(self._names.values()))
        self._colours = {name: str(place % COLOURS) for place, name in enumerate(names)}
        self._serving = {
            id(subflow) for view in views if view.role == "server"
            for subflow in view.subflows.values()
        }  # fmt: skip
        self._name = min(15, max(map(len, self._names.values()), default=4))
        self._columns = columns(look.glyphs)
        while True:
            figures = sum(column.width + len(_GAP) for column in self._columns)
            free = look.width - 2 - figures - len(_GAP)
            least = _BAR_GOOD if len(self._columns) > _NEEDED else _BAR_LEAST
            for form in _FORMS:
                self._form = form
                left = max([self._left(subflow) for subflow in subflows], default=0)
                if free - left >= least:
                    break
            if free - left >= least or len(self._columns) <= 3:
                break
            self._columns.pop()
        self._bar = max(0, min(_BAR_MOST, free - left))
        self._text = max(0, free - self._bar)

    def _left(self, subflow: SubflowView) -> int:
        return _INDENT + self._name + 1 + len(self._path(subflow)) + (8 if subflow.backup else 0)

    def _path(self, subflow: SubflowView) -> str:
        serves = id(subflow) in self._serving
        return self._form(subflow.socket.path, self._look.glyphs.arrow, serves)

    def head(self) -> Line:
        room = self._text + len(_GAP) + self._bar
        cells = "".join(f"{_GAP}{column.head:>{column.width}}" for column in self._columns)
        return [Span(f"  {'connection, subflows':{room}.{room}}{cells}", "dim")]

    def connection(self, view: ConnectionView) -> Line:
        """Its row: who with whom, the curve of its rate, figures."""
        look = self._look
        share, *columns = self._columns
        room = self._text + len(_GAP) + self._bar
        mark = look.glyphs.mark if look.selected == view.socket.cookie else " "
        style = "dim" if view.gone is not None else "bold"
        words, notes = whom(view), _notes(view, look.now)
        # The share of a connection is no number: long words may use its column, too.
        whole = room + len(_GAP) + share.width
        text = g.shorten(look.glyphs, f"{view.socket.token:08x} {words}", whole)
        line = [Span(f"{mark} ", "bold"), Span(text, style)]
        used = len(text)
        for note, note_style in notes:
            if used + 2 + len(note) <= whole:
                line.append(Span(f"  {note}", note_style))
                used += 2 + len(note)
        start = max(used, self._text) + len(_GAP)
        curve = g.curve(look.glyphs, view.history, room - start)
        if curve:
            line += [Span(" " * (room - used - len(curve))), Span(curve, "dim")]
            used = room
        line.append(Span(" " * (whole - used)))
        for column in columns:
            line.append(Span(f"{_GAP}{column.connection(view):>{column.width}}", style))
        return line

    def subflow(self, view: SubflowView) -> Line:
        """Its row: interface and path, its share as a bar, figures."""
        look, gone = self._look, view.gone is not None
        colour = self._colours[self._names[id(view)]]
        style = "dim" if gone else ""
        name = f"{self._names[id(view)]:{self._name}.{self._name}}"
        used = _INDENT + self._name + 1
        path = g.shorten(look.glyphs, self._path(view), max(0, self._text - used))
        line = [Span(" " * (2 + _INDENT)), Span(name, "dim" if gone else colour)]
        line.append(Span(f" {path}", style))
        used += len(path)
        if view.backup and used + 8 <= self._text:
            line.append(Span("  backup", "dim"))
            used += 8
        line.append(Span(" " * (self._text - used) + _GAP))
        line += self._bar_of(view, colour)
        for column in self._columns:
            cell = "" if gone and column.head != "share" else column.subflow(view)
            warn = view.resent and column.head == "resent"
            line.append(Span(f"{_GAP}{cell:>{column.width}}", "warn" if warn else style))
        return line

    def _bar_of(self, view: SubflowView, colour: str) -> Line:
        look, width = self._look, self._bar
        if view.gone is not None:
            words = _gone(look.now - view.gone)
        elif view.socket.state != diag.TCP_ESTABLISHED:
            words = STATES.get(view.socket.state, "")
        elif view.share is None:
            words = ""
        else:
            filled = g.bar(look.glyphs, view.share / 100, width)
            track = look.glyphs.track * (width - len(filled))
            return [Span(filled, colour), Span(track, "dim")]
        style = "warn" if view.gone is not None or words else "dim"
        words = g.shorten(look.glyphs, words, width)
        if words:
            return [Span(f"{words:{width}}", style)]
        return [Span(look.glyphs.track * width, "dim")]


def whom(view: ConnectionView) -> str:
    """``client to 10.0.1.2:443``, as far as it is known."""
    path = view.socket.path
    if view.role == "server":
        return f"server for {end_text(path.remote_ip, path.remote_port)}"
    remote = end_text(path.remote_ip, path.remote_port)
    return f"client to {remote}" if view.role else f"with {remote}"


def _notes(view: ConnectionView, now: float) -> list[tuple[str, str]]:
    notes = []
    if view.gone is not None:
        notes.append((_gone(now - view.gone), "warn"))
    elif view.socket.state != diag.TCP_ESTABLISHED:
        notes.append((STATES.get(view.socket.state, f"state {view.socket.state}"), "warn"))
    if view.socket.flags & u.MPTCP_INFO_FLAG_FALLBACK:
        notes.append(("fallback to TCP", "warn"))
    if view.since is not None and view.gone is None:
        notes.append((f"for {quantity.duration(max(0.0, now - view.since))}", "dim"))
    return notes


def _gone(seconds: float) -> str:
    return f"gone for {seconds:.0f} s" if seconds >= 1 else "just gone"


def cut(line: Line, width: int) -> Line:
    """What of a line lies within ``width`` cells."""
    found: Line = []
    for span in line:
        if width <= 0:
            break
        found.append(Span(span.text[:width], span.style))
        width -= len(span.text)
    return found


def plain(line: Line) -> str:
    """A line without styles and without blanks at its end."""
    return "".join(span.text for span in line).rstrip()
