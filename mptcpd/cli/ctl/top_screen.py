"""The whole screen of ``top``: title, blocks, what changed, keys; the same for a frame of text.

Knows the order of things and how much fits; must not know curses, the clock or the kernel.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from mptcpd.cli.ctl import glyphs as g
from mptcpd.cli.ctl import quantity
from mptcpd.cli.ctl.ends import end_text
from mptcpd.cli.ctl.rates import Change, ConnectionView, SubflowView
from mptcpd.cli.ctl.top_view import Grid, Line, Look, Span, cut

_LOG = 5  # changes shown at most

SORTS: dict[str, Callable[[ConnectionView], float]] = {  # values.SORTS
    "rate": lambda view: -sum(view.history[-3:]),  # of three looks: rows that jump cannot be read
    "rtt": lambda view: -view.rtt,
    "retrans": lambda view: -_retransmitted(view),
    "token": lambda view: view.socket.token,
}
KEYS = (
    ("q", "quit"), ("s", "sort"), ("/", "filter"), ("space", "pause"), ("enter", "follow"),
    ("+ -", "pace"), ("?", "help"),
)  # fmt: skip
HELP = """\
 q            quit
 s            sort by rate, rtt, retransmissions, token, in turn
 r t x k      sort by rate, by rtt, by retransmissions, by token
 /            type a filter, as for "connection show": local 10.0.0.0/8 dev eth0
 up, down     select a connection          home, end   the first, the last
 enter, f     follow the selected connection; again, or esc: back to all
 space, p     pause and go on
 + -          look more often, less often
 ?            this page

 up and down  data of the application, confirmed by the peer and received
 share        of the connection's traffic since the last look
 resent       segments sent again: since the last look, in all
 rtt          as TCP measures it; cwnd in segments

 any key goes back\
"""


def _retransmitted(view: ConnectionView) -> float:
    total = sum(subflow.info.total_retrans or 0 for subflow in view.subflows.values())
    return view.resent * 1e6 + total  # those of now count first


class State:
    """What the viewer has chosen, and what happened lately.

    selected, followed  cookies of connections     message  for the last line, once
    """

    def __init__(self, interval: float, sort: str = "rate") -> None:
        self.interval = interval
        self.sort = sort
        self.selected: int | None = None
        self.followed: int | None = None
        self.paused = False
        self.help = False
        self.filter = ""
        self.typing: str | None = None
        self.message = ""
        self.changes: deque[tuple[str, Change, str]] = deque(maxlen=_LOG)

    def note(self, clock: str, changes: Iterable[Change], name: Callable[[Change], str]) -> None:
        self.changes.extend((clock, change, name(change)) for change in changes)


class Frame(NamedTuple):
    """What is shown: clock as text, the glyphs, the size in cells, names of interfaces."""

    clock: str
    now: float
    glyphs: g.Glyphs
    width: int
    height: int
    interface: Callable[[SubflowView], str | None]


def order(views: Iterable[ConnectionView], state: State) -> list[ConnectionView]:
    """The connections to show, in their order."""
    key = SORTS[state.sort]
    if state.followed is not None:
        views = [view for view in views if view.socket.cookie == state.followed]
    return sorted(views, key=lambda view: (view.gone is not None, key(view), view.socket.token))


def whole(views: Sequence[ConnectionView], state: State, frame: Frame) -> Iterator[Line]:
    """Title and all connections, however many: made as it is read."""
    yield title(views, state, frame)
    for line in _table(order(views, state), state, frame, None):
        yield cut(line, frame.width)


def compose(views: Sequence[ConnectionView], state: State, frame: Frame) -> list[Line]:
    """The lines of a screen, none longer than it is wide, and as many as it is high at most."""
    head = title(views, state, frame)
    if state.help:
        lines = [head, [], *([Span(text[: frame.width])] for text in HELP.splitlines())]
        return lines[: frame.height]
    views = order(views, state)
    log = _log(state, frame) if frame.height >= 12 else []
    foot = [_foot(state, frame)] if frame.height >= 3 else []
    room = max(0, frame.height - 1 - len(log) - len(foot))
    table = list(_table(views, state, frame, room))[:room]
    blank: list[Line] = [[] for _ in range(room - len(table))]
    lines = [head, *table, *blank, *log, *foot]
    return [cut(line, frame.width) for line in lines[: frame.height]]


def title(views: Iterable[ConnectionView], state: State, frame: Frame) -> Line:
    living = [view for view in views if view.gone is None]
    subflows = sum(1 for view in living for _subflow in view.living)
    glyphs = frame.glyphs
    parts = [f"mptcpctl top {frame.clock}"]
    if state.paused:
        parts.append("paused")
    parts.append(f"{_count(len(living), 'connection')}, {_count(subflows, 'subflow')}")
    if any(view.up is not None for view in living):
        up = quantity.rate(sum(view.up or 0 for view in living))
        down = quantity.rate(sum(view.down or 0 for view in living))
        parts.append(f"{glyphs.up} {up} {glyphs.down} {down}")
    if state.filter:
        parts.append(f"only {state.filter}")
    parts.append(f"by {state.sort}")
    parts.append(f"every {state.interval:g} s")
    between = f" {glyphs.dot} "
    while len(parts) > 1 and 1 + len(between.join(parts)) > frame.width:
        parts.pop()
    text = " " + between.join(parts)
    return [Span(text[: frame.width].ljust(frame.width), "title")]


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _table(
    views: Sequence[ConnectionView], state: State, frame: Frame, room: int | None
) -> Iterator[Line]:
    if not views:
        words = "no connection matches" if state.filter else "no MPTCP connection"
        if state.followed is not None:
            words = "the connection is gone; esc shows all"
        yield from ([], [Span(g.shorten(frame.glyphs, f"  {words}", frame.width), "dim")])
        return
    if room is not None:
        views = _window(views, state, room)
    grid = Grid(
        Look(frame.glyphs, frame.width, frame.now, frame.interface, state.selected), views
    )
    lines = sum(2 + len(view.subflows) for view in views)
    airy = room is None or lines <= room  # an empty line between two connections
    yield grid.head()
    for index, view in enumerate(views):
        if airy and index:
            yield []
        yield grid.connection(view)
        for row in sorted(view.subflows.values(), key=lambda one: one.gone is not None):
            yield grid.subflow(row)


def _window(
    views: Sequence[ConnectionView], state: State, room: int
) -> Sequence[ConnectionView]:
    """As many as fit, from the first on, or so that the selected one is among them."""
    sizes = [1 + len(view.subflows) for view in views]
    first = last = 0
    used = 1
    chosen = [index for index, view in enumerate(views) if view.socket.cookie == state.selected]
    least = chosen[0] if chosen else 0
    while last < len(views) and (used < room or last <= least):
        used += sizes[last]
        last += 1
        while used > room and first < least:
            used -= sizes[first]
            first += 1
    return views[first:last]


_SAID = {
    "created": "is new",
    "closed": "is closed",
    "established": "has a subflow",
    "subflow closed": "lost a subflow",
    "backup": "has a backup, by us",
    "no backup": "has a backup less, by us",
    "backup by peer": "has a backup, by the peer",
    "no backup by peer": "has a backup less, by the peer",
}


def _log(state: State, frame: Frame) -> list[Line]:
    """The last changes, below a rule."""
    rule = frame.glyphs.horizontal * frame.width
    lines: list[Line] = [[Span(rule, "dim")]]
    shown = min(_LOG, frame.height // 5)
    for clock, change, name in list(state.changes)[-shown:]:
        text = f" {clock}  {change.token:08x} {_SAID[change.kind]}"
        if change.subflow is not None:
            path = change.subflow.path
            text += f": {name} {end_text(path.local_ip, path.local_port)} {frame.glyphs.arrow} "
            text += end_text(path.remote_ip, path.remote_port)
        style = "warn" if change.kind in ("closed", "subflow closed") else "dim"
        lines.append([Span(g.shorten(frame.glyphs, text, frame.width), style)])
    lines += [[] for _ in range(1 + shown - len(lines))]
    return lines


def _foot(state: State, frame: Frame) -> Line:
    """What is typed, a message, or the keys."""
    if state.typing is not None:
        text = f" filter: {state.typing}"
        return [Span(text[-frame.width :], "bold")]
    if state.message:
        return [Span(g.shorten(frame.glyphs, f" {state.message}", frame.width), "warn")]
    line, used = [], 0
    for key, words in KEYS:
        if used + 4 + len(key) + len(words) > frame.width:
            break
        line += [Span(f" {key}", "bold"), Span(f" {words}  ", "dim")]
        used += 4 + len(key) + len(words)
    return line
