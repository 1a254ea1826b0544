"""Hold-down: what is believed when something bounces, and when it is looked at again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mptcpd.core.holddown import SOON, HoldDown


class Case:
    """A group with keys that come and go, on a clock that the test moves.

    believed  what was believed last, kept up to date by the calls that the hold-down asks for
    """

    def __init__(self, loss: float = 0.0, back: float = 0.2) -> None:
        self.now = 100.0
        self.asked: list[float] = []
        self.believed: list[str] = []
        self.seen: list[str] = []
        self.hold = HoldDown[str](loss, back, lambda: self.now, self._later)

    def _later(self, seconds: float, group: int) -> None:
        assert group == 7
        assert seconds > 0
        self.asked.append(self.now + seconds)

    def see(self, *keys: str) -> list[str]:
        self.seen = list(keys)
        self.believed = self.hold.settle(7, self.believed, self.seen)
        return self.believed

    def wait(self, seconds: float) -> list[str]:
        """Let time pass, with the looks that were asked for."""
        end = self.now + seconds
        while due := [at for at in self.asked if at <= end + 1e-9]:
            self.now = max(self.now, min(due))
            self.asked.remove(min(due))
            self.see(*self.seen)
        self.now = end
        return self.believed


def test_what_appears_for_the_first_time_is_believed_at_once() -> None:
    case = Case(1.0, 1.0)
    assert case.see("a", "b") == ["a", "b"]
    assert case.asked == []


def test_a_loss_is_believed_at_once_by_default_and_a_return_later() -> None:
    case = Case()
    case.see("a", "b")
    assert case.see("b") == ["b"]
    case.wait(0.05)
    assert case.see("a", "b") == ["b"]
    assert case.wait(0.19) == ["b"]
    assert case.wait(0.02) == ["a", "b"]
    assert case.asked == []


def test_a_return_long_after_the_loss_is_no_bouncing() -> None:
    case = Case()
    case.see("a")
    case.see()
    case.wait(SOON * 0.2 + 0.01)
    assert case.see("a") == ["a"]


def test_bouncing_again_while_waiting_begins_anew() -> None:
    case = Case()
    case.see("a")
    case.see()
    for _ in range(30):
        case.see("a")
        case.wait(0.15)
        assert case.believed == []
        case.see()
        case.wait(0.15)
    case.see("a")
    assert case.wait(0.19) == []
    assert case.wait(0.02) == ["a"]


def test_a_loss_that_is_short_is_not_believed_if_so_wanted() -> None:
    case = Case(loss=0.5, back=0.0)
    case.see("a")
    for _ in range(10):
        assert case.see() == ["a"]
        case.wait(0.4)
        assert case.see("a") == ["a"]
        case.wait(0.4)
    assert case.see() == ["a"]
    assert case.wait(0.49) == ["a"]
    assert case.wait(0.02) == []
    assert case.see("a") == ["a"]  # and a return is, with 0


def test_no_hold_down_at_all() -> None:
    case = Case(0.0, 0.0)
    for keys in (["a"], [], ["a", "b"], ["b"], []):
        assert case.see(*keys) == keys
    assert case.asked == []


def test_order_of_what_is_seen_and_then_of_what_is_not_yet_lost() -> None:
    case = Case(loss=1.0)
    case.see("a", "b", "c")
    assert case.see("d", "c") == ["d", "c", "a", "b"]


def test_groups_do_not_know_of_each_other() -> None:
    asked: list[tuple[float, int]] = []
    hold = HoldDown[str](0.0, 1.0, lambda: 0.0, lambda *call: asked.append(call))
    assert hold.settle(1, ["a"], []) == []
    assert hold.settle(2, [], ["a"]) == ["a"]
    assert hold.settle(1, [], ["a"]) == []
    assert asked == [(1.0, 1)]


def test_a_link_that_changes_all_the_time_leaves_one_timer() -> None:
    case = Case(loss=1.0)
    case.see("a")
    for number in range(1000):
        case.see(*(["b"] if number % 2 else []))
        case.now += 0.0005
    assert len(case.asked) == 1
    case.wait(2.0)
    assert case.asked == []
    assert "a" not in case.believed


def test_a_group_that_is_no_more() -> None:
    case = Case()
    case.see("a")
    case.see()
    case.see("a")
    assert len(case.asked) == 1
    case.hold.forget(7)
    case.asked.clear()
    case.see("a")  # another one with its number, soon after
    assert len(case.asked) == 1
    assert case.wait(0.3) == ["a"]


def test_not_everything_that_was_ever_lost_is_remembered() -> None:
    case = Case()
    for number in range(3000):
        case.see(f"key {number}")
        case.see()
        case.now += 0.1
    assert len(case.hold._lost) <= 300


STEPS = st.lists(
    st.tuples(
        st.sets(st.sampled_from("abc")), st.sampled_from([0.0, 0.01, 0.1, 0.19, 0.2, 0.5, 3.0])
    ),
    max_size=30,
)


@given(STEPS, st.sampled_from([0.0, 0.1, 0.3]), st.sampled_from([0.0, 0.2, 0.3]))
def test_it_ends_with_what_is_there(
    steps: list[tuple[set[str], float]], loss: float, back: float
) -> None:
    """Claim: once nothing changes for as long as the hold-down, what is seen is believed;

    nothing is believed that was not there within the time that a loss must last.
    """
    case = Case(loss, back)
    last_seen: dict[str, float] = {}
    for keys, seconds in steps:
        last_seen.update(dict.fromkeys(case.seen, case.now))
        case.see(*sorted(keys))
        last_seen.update(dict.fromkeys(keys, case.now))
        case.wait(seconds)
        last_seen.update(dict.fromkeys(case.seen, case.now))
        assert all(case.now - last_seen[key] <= loss + 1e-6 for key in case.believed)
        assert len(case.asked) <= 4
    assert sorted(case.wait(max(loss, back) + 0.001)) == sorted(case.seen)
    assert case.asked == [] or case.wait(10) == case.believed


@pytest.mark.parametrize("early", [0.0, 1e-9, 5e-7])
def test_a_timer_that_is_early_by_rounding(early: float) -> None:
    case = Case()
    case.now = 123456.789
    case.see("a")
    case.see()
    case.see("a")
    case.now = case.asked.pop() - early
    assert case.see("a") == ["a"]
