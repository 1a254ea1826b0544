"""When the table is compared because connections may have ended without an event."""

from __future__ import annotations

from typing import Any

import pytest

from mptcpd.core.loop import Timer
from mptcpd.core.silent_ends import FIRST, SilentEnds


class World:
    """A clock with a loop, the kernel's count, and a table that takes time to compare."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[tuple[float, Timer]] = []
        self.aborted = 7  # by others, before we came
        self.connections = 1
        self.takes = 0.0  # seconds that a comparison takes
        self.compared: list[float] = []
        loop: Any = self
        self.ends = SilentEnds(
            loop, lambda: self.aborted, self.compare, lambda: bool(self.connections),
            lambda: self.now,
        )  # fmt: skip

    def call_later(self, seconds: float, function: Any) -> Timer:
        timer = Timer(function, ())
        self.timers.append((self.now + seconds, timer))
        return timer

    def compare(self) -> None:
        self.compared.append(self.now)
        self.now += self.takes

    def pass_until(self, moment: float, *, busy: bool = False) -> list[float]:
        """Let time pass, with events every 0.1 s if ``busy``; returns when it was woken."""
        woken = []
        while self.now < moment:
            if busy:
                self.ends.stirred()
            step = min(self.now + 0.1, moment) if busy else moment
            due = [at for at, timer in self.timers if timer.pending and at <= step]
            self.now = max(self.now, min([*due, step]))
            for at, timer in list(self.timers):
                if timer.pending and at <= self.now:
                    woken.append(self.now)
                    timer.fire()
            self.timers = [entry for entry in self.timers if entry[1].pending]
        return woken


@pytest.fixture
def world() -> World:
    return World()


def test_nothing_is_looked_at_before_there_was_an_event(world: World) -> None:
    assert world.pass_until(10_000.0) == []


def test_an_abort_is_noticed_after_the_events_around_it(world: World) -> None:
    world.pass_until(5.0)
    world.ends.stirred()
    world.aborted += 1
    world.pass_until(5.0 + FIRST)
    assert world.compared == [5.0 + FIRST]


def test_it_is_compared_once_more(world: World) -> None:
    """The kernel counts a moment before it lets the token go."""
    world.aborted += 1
    world.ends.stirred()
    world.pass_until(100.0)
    assert world.compared == [FIRST, 2 * FIRST]


def test_who_ends_with_the_listener(world: World) -> None:
    world.ends.suspect()
    world.pass_until(100.0)
    assert world.compared == [FIRST]


def test_no_reason_no_comparison(world: World) -> None:
    world.pass_until(50.0, busy=True)
    assert world.compared == []


def test_looks_become_rare_and_stop_with_the_last_connection(world: World) -> None:
    world.ends.stirred()
    assert world.pass_until(2000.0) == [1.0, 2.0, 6.0, 22.0, 86.0, 342.0, 1366.0]
    world.connections = 0
    assert world.pass_until(6000.0) == [1366.0 + 4096.0]
    assert world.pass_until(10**6) == []


def test_an_event_brings_the_next_look_back(world: World) -> None:
    world.ends.stirred()
    world.pass_until(400.0)
    world.ends.stirred()
    assert world.pass_until(403.0) == [401.0, 402.0]


def test_an_abort_while_all_is_quiet_is_found_by_the_next_look(world: World) -> None:
    world.ends.stirred()
    world.pass_until(30.0)
    world.aborted += 1
    world.pass_until(100.0)
    assert world.compared[0] == 86.0


def test_comparing_takes_a_small_share_of_busy_time(world: World) -> None:
    world.takes = 0.5
    while world.now < 200.0:
        world.aborted += 1
        world.pass_until(world.now + 0.5, busy=True)
    assert len(world.compared) * world.takes < 0.06 * world.now
    ended = world.now
    world.pass_until(ended + 2.5)
    assert world.compared[-1] > ended  # as soon as it is quiet, however short a time ago the last


def test_stop(world: World) -> None:
    world.ends.stirred()
    world.ends.stop()
    assert world.pass_until(100.0) == []
