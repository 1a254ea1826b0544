"""The scenarios on the fake kernel; on the real one: tests/kernel/test_scenarios.py."""

from __future__ import annotations

import pytest

from tests import scenario, whole
from tests.fake.world import FakeWorld
from tests.fake_kernel import plugged


@pytest.mark.parametrize("name", scenario.names())
def test_scenario(name: str) -> None:
    world = FakeWorld()
    world.userspace = not name.startswith("kernel_")
    play = scenario.Play(name, world)
    with plugged(world.kernel):
        whole.run(play, [play.told], play.config)
