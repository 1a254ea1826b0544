"""A few seconds of what ``make soak`` does for minutes, and what that would notice."""

from __future__ import annotations

from bench.soak import Sample, Soak, growth
from lab import Lab
from tests.kernel.watch import use_userspace_pm


def test_a_day_in_the_life(lab: Lab) -> None:
    """Links, connections, reloads and clients; after each round all is as at first."""
    use_userspace_pm(lab.host("probe"))  # skips where there is none
    with Soak(seed=1) as soak:
        samples = [soak.round() for _round in range(4)]
        assert {sample.descriptors for sample in samples[1:]} == {samples[1].descriptors}
        # After so few rounds memory still grows; a leak of what a round does would be more.
        assert max(sample.resident for sample in samples[1:]) - samples[0].resident < 4096
        assert soak.unexplained() == []
        soak.daemon.stop()
        assert soak.daemon.process.returncode == 0


def test_growth() -> None:
    samples = [Sample(kib, 10) for kib in (100, 200, 300, 310, 305, 300, 320, 290)]
    assert growth(samples) == 290 - 300
    assert growth(samples + [Sample(900, 10)] * 4) == 592
