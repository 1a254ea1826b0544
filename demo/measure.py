"""What the demo measures, and when that is good enough: paths, phases, the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from lab import Link
from lab.traffic import Sum

# What "uses two paths" means, while there are two:
LEAST_OF_SUM = 0.70  # of the links' rates together, counting only data that arrives
LEAST_SHARE = 0.25  # of all that is carried, by each path


class Failure(Exception):
    """The demo did not show what it should; the text says what."""


class Path(NamedTuple):
    """A link of the client's, and the client's address on it."""

    name: str
    ip: str
    link: Link

    def carried(self) -> int:
        """Bytes that came out at the server's end so far, headers included."""
        return self.link.other.read().rx_bytes or 0


class Moment(NamedTuple):
    """Counters at one time: ``time`` in seconds, bytes of data received, bytes by path."""

    time: float
    data: int
    carried: list[int]


class Phase(NamedTuple):
    """What went over the network between two moments: seconds, bytes of data, bytes by path."""

    seconds: float
    data: int
    carried: list[int]

    @classmethod
    def between(cls, start: Moment, end: Moment) -> Phase:
        carried = [b - a for a, b in zip(start.carried, end.carried, strict=True)]
        return cls(end.time - start.time, end.data - start.data, carried)

    @property
    def rate(self) -> float:
        """Data that arrived, in Mbit/s."""
        return self.data * 8 / 1e6 / self.seconds

    @property
    def rates(self) -> list[float]:
        """What each path carried, in Mbit/s."""
        return [count * 8 / 1e6 / self.seconds for count in self.carried]

    def shares(self, paths: Sequence[Path]) -> str:
        """The part that each path carried, in words."""
        return ", ".join(
            f"{path.name} {count / sum(self.carried):.0%}"
            for path, count in zip(paths, self.carried, strict=True)
        )


def judge(paths: Sequence[Path], both: Phase, after: Phase, sent: Sum, received: Sum) -> str:
    """Sum up a transfer: a phase with both paths, one after the cut.

    Errors  Failure, naming the first thing that is not as it should be.
    """
    if sent != received:
        raise Failure(
            f"sent {sent.size} bytes with sha256 {sent.sha256}, "
            f"received {received.size} with {received.sha256}"
        )
    links = sum(path.link.rate or 0 for path in paths) / 1e6
    speed = f"{both.rate:.1f} of {links:.0f} Mbit/s ({both.rate / links:.0%})"
    if min(both.carried) < LEAST_SHARE * sum(both.carried):
        raise Failure(f"a path carried less than {LEAST_SHARE:.0%}: {both.shares(paths)}")
    if both.rate < LEAST_OF_SUM * links:
        raise Failure(f"both paths together reached {speed}, less than {LEAST_OF_SUM:.0%}")
    return (
        f"2 paths used ({both.shares(paths)}), {speed}, {after.rate:.1f} Mbit/s after the cut; "
        f"{received.size} bytes sent and received, same sha256"
    )
