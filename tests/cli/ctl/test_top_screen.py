"""The screen of top: what is on it, in which order, and never beyond its edges."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mptcpd.cli.ctl import glyphs
from mptcpd.cli.ctl.rates import SubflowView, Tracker
from mptcpd.cli.ctl.snapshot import Connection
from mptcpd.cli.ctl.top_screen import SORTS, Frame, State, compose, order, whole
from mptcpd.cli.ctl.top_view import plain
from mptcpd.cli.ctl.values import SORTS as WORDS
from mptcpd.nl import diag
from mptcpd.nl import uapi as u
from tests.cli.ctl.made import CLIENT, JOIN, connection, path, subflow

Make = Callable[[int], list[Connection]]


def name(_view: SubflowView) -> str:
    return "eth0"


def tracked(make: Make, times: int = 2) -> Tracker:
    """Look ``times`` times, a second apart, at what ``make`` says for each second."""
    tracker = Tracker()
    for time in range(times):
        tracker.update(time, make(time))
    return tracker


def shown(
    tracker: Tracker, width: int = 120, height: int = 24, state: State | None = None,
    shapes: glyphs.Glyphs = glyphs.UNICODE,
) -> list[str]:  # fmt: skip
    frame = Frame("12:00:00", tracker.time, shapes, width, height, name)
    lines = compose(list(tracker.connections.values()), state or State(1.0), frame)
    return [plain(line) for line in lines]


def two(time: int) -> list[Connection]:
    return [
        connection(0xA, subflow(11, 10_000 * time, rtt=9000), sent=10_000 * time),
        connection(
            0xB, subflow(21, 90_000 * time, resent=7), subflow(22, 30_000 * time, flags=JOIN),
            sent=120_000 * time,
        ),
    ]  # fmt: skip


def test_what_is_on_it() -> None:
    lines = shown(tracked(two))
    assert lines[0].startswith(" mptcpctl top 12:00:00 · 2 connections, 3 subflows · ↑ 1.04 Mbit/s")
    assert lines[0].endswith("by rate · every 1 s")
    assert lines[2].startswith("  0000000b client to 10.0.1.2:443")
    assert lines[3].startswith("    eth0 10.0.1.1  █████")
    assert "75 %" in lines[3]
    assert "25 %" in lines[4]
    assert lines[5] == ""
    assert lines[6].startswith("  0000000a client to 10.0.1.2:443")
    assert lines[-1].startswith(" q quit")
    assert len(lines) == 24


@pytest.mark.parametrize(
    ("width", "shown_path"),
    [
        (200, "eth0 10.0.1.1:40011 → 10.0.1.2:443  "),
        (130, "eth0 10.0.1.1 → 10.0.1.2  "),
        (70, "eth0 10.0.1.1  "),
    ],
)
def test_paths_as_the_width_allows(width: int, shown_path: str) -> None:
    lines = shown(tracked(two), width)
    assert lines[6 + 1].strip().startswith(shown_path)
    serving = tracked(lambda time: [connection(0xA, subflow(11, flags=1))])
    assert shown(serving, 68)[3].startswith("    eth0 from 10.0.1.2  ")


@pytest.mark.parametrize(
    ("sort", "tokens"),
    [("rate", [0xB, 0xA]), ("rtt", [0xA, 0xB]), ("retrans", [0xB, 0xA]), ("token", [0xA, 0xB])],
)
def test_order(sort: str, tokens: list[int]) -> None:
    views = tracked(two).connections.values()
    assert [view.socket.token for view in order(views, State(1.0, sort))] == tokens
    assert set(SORTS) == set(WORDS)


def test_gone_ones_are_last() -> None:
    tracker = tracked(lambda time: two(time)[: 2 if time < 2 else 1], times=3)
    lines = shown(tracker)
    assert "1 connection, 1 subflow " in lines[0]
    assert [line.split()[0] for line in lines if " client to " in line] == ["0000000a", "0000000b"]
    assert "just gone" in "\n".join(lines)


def test_states_and_notes() -> None:
    fallback = u.MPTCP_INFO_FLAG_FALLBACK
    tracker = tracked(
        lambda time: [
            connection(0xA, subflow(11, state=diag.TCP_SYN_SENT), flags=fallback),
            connection(0xB, subflow(21, flags=CLIENT | u.MPTCP_SUBFLOW_FLAG_BKUP_LOC),
                       state=diag.TCP_FIN_WAIT1),
        ]
    )  # fmt: skip
    text = "\n".join(shown(tracker))
    for words in ("fallback to TCP", "syn-sent", "fin-wait-1", "  backup"):
        assert words in text


def test_a_server_sees_whom_it_serves() -> None:
    tracker = tracked(lambda time: [connection(0xA, subflow(11, flags=1))])
    assert "server for 10.0.1.2:443" in "\n".join(shown(tracker))


def many(time: int) -> list[Connection]:
    return [
        connection(n, subflow(n, n * 1000 * time), sent=n * 1000 * time) for n in range(1, 200)
    ]


def test_more_than_fit() -> None:
    tracker = tracked(many)
    lines = shown(tracker, height=20)
    assert len(lines) == 20
    assert lines[2].startswith("  000000c7")
    assert sum(" client to " in line for line in lines) == 6
    state = State(1.0)
    state.selected = tracker.connections[1_000_001].socket.cookie  # the last one
    assert any(line.startswith("▸ 00000001") for line in shown(tracker, height=20, state=state))
    frame = Frame("12:00:00", tracker.time, glyphs.UNICODE, 100, 0, name)
    everything = [*map(plain, whole(list(tracker.connections.values()), State(1.0), frame))]
    assert sum(" client to " in line for line in everything) == 199


def test_followed() -> None:
    tracker = tracked(two)
    state = State(1.0)
    state.followed = tracker.connections[1_000_010].socket.cookie
    assert "0000000b" not in "\n".join(shown(tracker, state=state)[1:])
    state.followed = 5
    assert "the connection is gone" in "\n".join(shown(tracker, state=state))


def test_nothing() -> None:
    assert "no MPTCP connection" in shown(Tracker())[2]


@given(
    st.integers(1, 200), st.integers(1, 60), st.booleans(), st.booleans(), st.integers(0, 3),
    st.sampled_from([glyphs.UNICODE, glyphs.ASCII]),
)  # fmt: skip
def test_it_stays_within_its_edges(
    width: int, height: int, help_: bool, long: bool, times: int, shapes: glyphs.Glyphs
) -> None:
    at = path("fd00:1:2:3:4:5:6:7", "fd00:1:2:3:4:5:6:8") if long else path()
    tracker = tracked(
        lambda time: [
            connection(n, subflow(n, n * 10 ** (3 * time), at=at, resent=10**time), at=at,
                       sent=n * 10 ** (4 * time))
            for n in range(1, 9)
        ],
        times,
    )  # fmt: skip
    state = State(0.5)
    state.help = help_
    state.message = "x" * 300 if long else ""
    state.note("12:00:00", tracker.changes, lambda change: "eth0")
    lines = shown(tracker, width, height, state, shapes)
    assert len(lines) <= height
    assert all(len(line) <= width for line in lines)
    if shapes is glyphs.ASCII:
        assert all(line.isascii() for line in lines)
