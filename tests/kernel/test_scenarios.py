"""The scenarios on the real kernel: what keeps the fake one honest (tests/test_scenarios.py)."""

from __future__ import annotations

import pytest

from lab import Lab
from tests import scenario, whole
from tests.kernel.real_world import RealWorld
from tests.kernel.watch import use_userspace_pm


@pytest.mark.parametrize("name", scenario.names())
def test_scenario(name: str, lab: Lab, latest: None) -> None:
    world = RealWorld(lab)
    if not name.startswith("kernel_"):
        for host in (world.host, world.peer):
            use_userspace_pm(host)
    play = scenario.Play(name, world)
    world.told = play.told
    try:
        with world.host:
            whole.run(play, [play.told], play.config)
    finally:
        world.end()
