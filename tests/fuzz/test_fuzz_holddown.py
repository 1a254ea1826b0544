"""Claim: what bounces is believed late, everything else at once, and in the end what is there.

Keys come, go and return while time passes, in any rhythm; a loss is believed when it has lasted for
``loss``, a return soon after a loss when it has lasted for ``back``. The model keeps for each key
since when it is as it is, and when it was lost last. Timers fire when they are due, no sooner.
"""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from mptcpd.core.holddown import SOON, HoldDown

KEYS = "ab"
GROUP = 7
EARLY = 1e-5  # seconds; more than a timer may be early by rounding


class Machine(RuleBasedStateMachine):
    @initialize(times=st.sampled_from([(0.1, 0.5), (0.1, 0.5), (0.3, 0.2), (0.0, 0.2), (0.3, 0.0)]))
    def start(self, times: tuple[float, float]) -> None:
        self.loss, self.back = loss, back = times
        self.now = 1000.0
        self.due: list[float] = []  # timers
        self.hold = HoldDown[str](loss, back, lambda: self.now, self.later)
        self.believed: list[str] = []
        # The model.
        self.present: dict[str, float] = {}  # key -> since when
        self.absent: dict[str, float] = {}
        self.trusted: set[str] = set()
        self.lost: dict[str, float] = {}

    def later(self, seconds: float, group: int) -> None:
        assert group == GROUP and seconds > 0
        self.due.append(self.now + seconds)

    def settle(self) -> None:
        self.believed = self.hold.settle(GROUP, self.believed, sorted(self.present))
        for key, since in self.present.items():
            bounces = key in self.lost and self.now - self.lost[key] <= SOON * self.back
            if not bounces or self.now - since >= self.back - EARLY:
                self.trusted.add(key)
        for key, since in self.absent.items():
            if key in self.trusted and self.now - since >= self.loss - EARLY:
                self.trusted.discard(key)
                if self.back:
                    self.lost[key] = self.now
        assert set(self.believed) == self.trusted
        assert len(self.believed) == len(self.trusted)

    @rule(key=st.sampled_from(KEYS))
    def comes_or_goes(self, key: str) -> None:
        if key in self.present:
            del self.present[key]
            self.absent[key] = self.now
            if key not in self.trusted and self.back:
                self.lost[key] = self.now  # it went before it was believed to be back
        else:
            self.absent.pop(key, None)
            self.present[key] = self.now
        self.settle()

    @rule(seconds=st.sampled_from([0.01, 0.15, 0.2, 0.9, 1.5]))
    def time_passes(self, seconds: float) -> None:
        end = self.now + seconds
        while self.due and min(self.due) <= end:
            self.now = min(self.due)
            self.due.remove(self.now)
            self.settle()
        self.now = end
        # Nothing waits longer than it has to: there was a timer for it.
        for key in self.present.keys() - self.trusted:
            assert self.now - self.present[key] <= self.back + EARLY
        for key in self.trusted - self.present.keys():
            assert self.now - self.absent[key] <= self.loss + EARLY

    @rule()
    def nothing_changes_for_as_long_as_it_takes(self) -> None:
        self.time_passes(max(self.loss, self.back) + 2 * EARLY)
        assert set(self.believed) == set(self.present)
        assert self.due == []

    @rule()
    def heard_once_more(self) -> None:
        """A notification that changes nothing."""
        self.settle()

    @invariant()
    def few_timers(self) -> None:
        if hasattr(self, "hold"):
            assert len(self.due) <= len(KEYS) + 1


TestHoldDown = Machine.TestCase
