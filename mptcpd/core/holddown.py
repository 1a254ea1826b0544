"""Hold-down: a bouncing link does not churn.

Knows when something was lost and when it came back; must not know what it is. Something that
returns soon after it was lost is believed only after it has stayed for a while; optionally
something that is lost, too. What appears for the first time is believed at once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)

# A return within so many times the hold-down after the loss counts as bouncing.
SOON = 10
_EARLY = 1e-6  # seconds; what a timer may seem to come too early by rounding


class HoldDown(Generic[Key]):
    """Decides which changes of a group (the addresses of an interface) are believed.

    loss, back  seconds that a loss or a return must last; 0 means at once
    clock       seconds that never go back
    later       (seconds, group): settle this group again then
    """

    def __init__(
        self,
        loss: float,
        back: float,
        clock: Callable[[], float],
        later: Callable[[float, int], object],
    ) -> None:
        self._loss = loss
        self._back = back
        self._clock = clock
        self._later = later
        # When a key was lost, and since when one waits to be believed, by group.
        self._lost: dict[tuple[int, Key], float] = {}
        self._waiting: dict[int, dict[Key, float]] = {}
        self._asked: dict[int, float] = {}  # when a group will be settled again

    def settle(self, group: int, believed: Collection[Key], seen: Collection[Key]) -> list[Key]:
        """What is to be believed now: of ``believed`` until now, and ``seen`` now.

        Those that are seen keep their order; those that are gone but not yet believed to be follow.
        """
        now = self._clock()
        before = self._waiting.pop(group, {})
        waiting: dict[Key, float] = {}
        result: list[Key] = []
        due: list[float] = []

        def ripe(key: Key, seconds: float) -> bool:
            since = before.get(key, now)
            if since + seconds <= now + _EARLY:
                return True
            waiting[key] = since
            due.append(since + seconds - now)
            return False

        for key in seen:
            if key in believed or not self._bounces(group, key, now) or ripe(key, self._back):
                result.append(key)
        for key in believed:
            if key in seen:
                continue
            if ripe(key, self._loss):
                self._note_loss(group, key, now)
            else:
                result.append(key)
        for key in before:
            # It came back and went again before anybody believed it: the wait begins anew.
            if key not in seen and key not in believed:
                self._note_loss(group, key, now)
        if waiting:
            self._waiting[group] = waiting
            # A link that changes all the time must not leave a timer behind at every change.
            if not now + _EARLY < self._asked.get(group, now) <= now + min(due) + _EARLY:
                self._asked[group] = now + min(due)
                self._later(min(due), group)
        return result

    def forget(self, group: int) -> None:
        """The group is no more, and with it what was to be believed of it later."""
        self._waiting.pop(group, None)
        self._asked.pop(group, None)

    def _bounces(self, group: int, key: Key, now: float) -> bool:
        lost = self._lost.get((group, key))
        return lost is not None and now - lost <= SOON * self._back

    def _note_loss(self, group: int, key: Key, now: float) -> None:
        if not self._back:
            return
        self._lost[group, key] = now
        if len(self._lost) > 256:  # names and addresses come without end: forget the old ones
            oldest = now - SOON * self._back
            self._lost = {lost: at for lost, at in self._lost.items() if at >= oldest}
