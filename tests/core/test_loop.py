"""The loop: what is called when, and that nothing is called for nothing."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
from collections.abc import Iterator

import pytest

from mptcpd.core.loop import Loop


class Clock:
    """Seconds that pass only when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Waits:
    """Stands in for the selector's wait: notes the timeouts and lets the clock pass."""

    def __init__(self, loop: Loop, clock: Clock) -> None:
        self.timeouts: list[float | None] = []
        self._real = loop._selector.select
        self._clock = clock
        loop._selector.select = self.select  # type: ignore[method-assign]

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.timeouts.append(timeout)
        ready = self._real(0)
        if not ready and timeout is None:
            raise AssertionError("the loop would sleep for ever")
        if not ready and timeout is not None:
            self._clock.now += timeout
        return ready


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def loop(clock: Clock) -> Iterator[Loop]:
    loop = Loop(clock)
    yield loop
    loop.close()


@contextlib.contextmanager
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_deadlines_are_met_in_their_order(loop: Loop, clock: Clock) -> None:
    waits = Waits(loop, clock)
    called: list[tuple[str, float]] = []

    def note(name: str) -> None:
        called.append((name, clock.now - 1000))

    loop.call_later(3, note, "third")
    loop.call_later(1, note, "first")
    loop.call_later(2, note, "second")
    loop.call_later(2, note, "second, set later")
    loop.call_later(4, loop.stop)
    loop.run()
    assert called == [("first", 1), ("second", 2), ("second, set later", 2), ("third", 3)]
    assert waits.timeouts == [1, 1, 1, 1]


def test_a_deadline_in_the_past_is_due_at_once(loop: Loop, clock: Clock) -> None:
    waits = Waits(loop, clock)
    loop.call_later(-5, loop.stop)
    loop.run()
    assert waits.timeouts == [0]


def test_a_cancelled_deadline_is_not_met_nor_waited_for(loop: Loop, clock: Clock) -> None:
    waits = Waits(loop, clock)
    early = loop.call_later(1, pytest.fail, "cancelled")
    was_pending = early.pending
    early.cancel()
    early.cancel()
    assert (was_pending, early.pending) == (True, False)
    end = loop.call_later(5, loop.stop)
    loop.run()
    assert waits.timeouts == [5]
    assert not end.pending
    end.cancel()


def test_one_deadline_cancels_another_that_is_due_as_well(loop: Loop, clock: Clock) -> None:
    Waits(loop, clock)
    loop.call_later(1, lambda: other.cancel())
    other = loop.call_later(1, pytest.fail, "cancelled")
    loop.call_later(1, loop.stop)
    loop.run()


def test_cancelled_deadlines_take_no_memory(loop: Loop) -> None:
    """Who sets a deadline anew at every event must not fill the memory until they pass."""
    kept = [loop.call_later(3600, pytest.fail) for _ in range(10)]
    for _ in range(10_000):
        loop.call_later(3600, pytest.fail).cancel()
    assert len(loop._timers) < 200
    assert all(timer.pending for timer in kept)
    assert sum(entry[2].pending for entry in loop._timers) == len(kept)


def test_order_survives_the_sweep_of_cancelled_deadlines(loop: Loop, clock: Clock) -> None:
    Waits(loop, clock)
    called: list[int] = []
    for number in range(300):
        timer = loop.call_later(300 - number, called.append, 300 - number)
        if number % 3:
            timer.cancel()
    loop.call_later(301, loop.stop)
    loop.run()
    assert called == [n for n in range(1, 301) if not (300 - n) % 3]


def test_without_deadline_the_wait_has_no_end(loop: Loop, clock: Clock) -> None:
    waits = Waits(loop, clock)
    with pair() as (ours, theirs):
        theirs.send(b"x")
        loop.add_reader(ours.fileno(), loop.stop)
        loop.run()
    assert waits.timeouts == [None]


@pytest.mark.parametrize("seconds", [2.6e6, 1e12, float("inf")], ids=["a month", "ages", "never"])
def test_a_far_deadline_is_waited_for_in_parts(loop: Loop, seconds: float) -> None:
    """epoll_wait takes 24 days at most; what a plugin asks for must not end the daemon."""
    timer = loop.call_later(seconds, pytest.fail)
    with pair() as (ours, theirs):
        theirs.send(b"x")
        loop.add_reader(ours.fileno(), loop.stop)
        loop.run()
        loop.remove_reader(ours.fileno())
    assert timer.pending


def test_a_far_deadline_is_met(loop: Loop, clock: Clock) -> None:
    waits = Waits(loop, clock)
    loop.call_later(5e6, loop.stop)
    loop.run()
    assert clock.now == 1000 + 5e6
    assert len(waits.timeouts) == 3


def test_a_deadline_that_is_no_number(loop: Loop) -> None:
    with pytest.raises(ValueError, match="nan"):
        loop.call_later(float("nan"), pytest.fail)


def test_a_deadline_that_sets_itself_again_starves_nobody(loop: Loop) -> None:
    rounds = 0

    def again() -> None:
        nonlocal rounds
        rounds += 1
        assert rounds < 100
        loop.call_later(0, again)

    def read() -> None:
        if ours.recv(1) == b"e":
            loop.stop()

    with pair() as (ours, theirs):
        loop.call_later(0, again)
        loop.add_reader(ours.fileno(), read)
        theirs.send(b"ende")
        loop.run()
        assert ours.recv(9) == b"nde"
        theirs.send(b"e")
        loop.run()
        loop.remove_reader(ours.fileno())
    assert rounds == 2  # once for each byte that was read


def test_a_deadline_may_set_others(loop: Loop, clock: Clock) -> None:
    Waits(loop, clock)
    called: list[float] = []

    def step(left: int) -> None:
        called.append(clock.now - 1000)
        if left:
            loop.call_later(0.5, step, left - 1)
        else:
            loop.stop()

    loop.call_later(0, step, 3)
    loop.run()
    assert called == [0, 0.5, 1, 1.5]


def test_a_reader_is_called_as_long_as_there_is_something(loop: Loop) -> None:
    read = bytearray()

    def one() -> None:
        read.extend(ours.recv(1))
        if len(read) == 3:
            loop.stop()

    with pair() as (ours, theirs):
        loop.add_reader(ours.fileno(), one)
        theirs.send(b"abc")
        loop.run()
        loop.remove_reader(ours.fileno())
    assert read == b"abc"


def test_removing_a_reader_in_a_call(loop: Loop) -> None:
    """Of two that are ready, the first takes the other one away: it is not called any more."""
    called: list[int] = []

    def only(this: socket.socket, other: socket.socket) -> None:
        called.append(this.fileno())
        loop.remove_reader(other.fileno())
        loop.stop()

    with pair() as (one, to_one), pair() as (two, to_two):
        loop.add_reader(one.fileno(), lambda: only(one, two))
        loop.add_reader(two.fileno(), lambda: only(two, one))
        to_one.send(b"x")
        to_two.send(b"x")
        loop.run()
        assert len(called) == 1
        loop.remove_reader(called[0])


def test_a_descriptor_number_used_again_in_a_call(loop: Loop) -> None:
    """The new reader under a number is not called for what was ready under the old one."""
    called: list[str] = []

    def swap(this: str, other: socket.socket) -> None:
        called.append(this)
        number = other.fileno()
        loop.remove_reader(number)
        os.dup2(quiet.fileno(), number)  # nothing to be read here
        loop.add_reader(number, lambda: called.append("new"))
        loop.stop()

    with pair() as (one, to_one), pair() as (two, to_two), pair() as (quiet, _):
        loop.add_reader(one.fileno(), lambda: swap("one", two))
        loop.add_reader(two.fileno(), lambda: swap("two", one))
        to_one.send(b"x")
        to_two.send(b"x")
        loop.run()
        assert len(called) == 1 and "new" not in called
        for reader in (one, two):
            loop.remove_reader(reader.fileno())


def test_removing_a_reader_that_is_not_there(loop: Loop) -> None:
    with pytest.raises(KeyError):
        loop.remove_reader(0)


def test_an_exception_ends_the_run(loop: Loop, clock: Clock) -> None:
    Waits(loop, clock)

    def broken() -> None:
        raise LookupError("on purpose")

    loop.call_later(1, broken)
    loop.call_later(2, loop.stop)
    with pytest.raises(LookupError, match="on purpose"):
        loop.run()
    loop.run()  # what was set stays set


def test_signals_come_through_the_loop(loop: Loop) -> None:
    called: list[str] = []

    def hang_up() -> None:
        called.append("HUP")
        os.kill(os.getpid(), signal.SIGTERM)
        # Only its number was written down: nothing interrupts this function.
        called.append("still HUP")

    loop.on_signal(signal.SIGHUP, hang_up)
    loop.on_signal(signal.SIGTERM, loop.stop)
    os.kill(os.getpid(), signal.SIGHUP)
    assert called == []
    loop.run()
    assert called == ["HUP", "still HUP"]


def test_a_signal_before_the_run_is_not_forgotten(loop: Loop) -> None:
    loop.on_signal(signal.SIGTERM, loop.stop)
    os.kill(os.getpid(), signal.SIGTERM)
    loop.run()


def test_a_signal_of_somebody_else_is_left_alone(loop: Loop) -> None:
    """A plugin's own handler writes its number into the same descriptor."""
    called: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _frame: called.append(number))
    try:
        loop.on_signal(signal.SIGTERM, loop.stop)
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGTERM)
        loop.run()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert called == [signal.SIGUSR1]


def test_more_signals_than_the_descriptor_holds(loop: Loop) -> None:
    """They are dropped without a word; those that are there wake the loop."""
    count = 0

    def note() -> None:
        nonlocal count
        count += 1
        loop.stop()

    loop.on_signal(signal.SIGHUP, note)
    for _ in range(2000):
        os.kill(os.getpid(), signal.SIGHUP)
    loop.run()
    assert count


def test_close_gives_signals_and_descriptors_back() -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    loop = Loop()
    loop.on_signal(signal.SIGHUP, pytest.fail)
    loop.on_signal(signal.SIGTERM, pytest.fail)
    loop.close()
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert signal.set_wakeup_fd(-1) == -1
    assert sorted(os.listdir("/proc/self/fd")) == before
