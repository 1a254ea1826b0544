"""Claim: whatever happens to links, addresses, routes and rules, when it is quiet the kernel's

endpoints are those of the model. A few operations for each configuration; ``model_long`` does more,
and ``model_run`` repeats a run that failed, by the numbers that the failure shows.
"""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

import pytest

from tests.kernel import model_run
from tests.kernel.model import SETTINGS, Operation, World, bursts

OPERATIONS = 80


@pytest.mark.usefixtures("namespaces")
@pytest.mark.parametrize("name", SETTINGS)
def test_endpoints_are_those_of_the_model(name: str) -> None:
    said = model_run.report(name, 7, OPERATIONS, small=False)
    assert said is None, said


@pytest.mark.usefixtures("namespaces")
@pytest.mark.parametrize("name", SETTINGS)
def test_also_when_notifications_are_lost(name: str) -> None:
    said = model_run.report(name, 8, OPERATIONS, small=True)
    assert said is None, said


@pytest.mark.usefixtures("namespaces")
def test_the_small_buffer_loses_notifications(tmp_path: pathlib.Path) -> None:
    sequence = bursts(9, 40, SETTINGS["routes"])
    overruns = model_run.run(SETTINGS["routes"], sequence, tmp_path, small=True)
    assert overruns >= len(sequence) // 2


# The model itself


def flat(sequence: Sequence[Sequence[Operation]]) -> list[Operation]:
    return [operation for burst in sequence for operation in burst]


@pytest.mark.parametrize("name", SETTINGS)
def test_a_seed_says_it_all(name: str) -> None:
    settings = SETTINGS[name]
    first, again = bursts(3, 500, settings), bursts(3, 500, settings)
    assert first == again != bursts(4, 500, settings)
    operations = flat(first)
    assert len(operations) == 500
    world = World(settings)
    assert all(world.apply(operation) for operation in operations)
    kinds = {operation.what for operation in operations}
    assert {"up", "down", "pull", "plug", "delete", "create", "rename", "move", "add"} <= kinds
    assert ("rule" in kinds) == settings.routes


@pytest.mark.parametrize("name", SETTINGS)
def test_the_model_has_something_to_say(name: str) -> None:
    """Many operations change which endpoints there should be, and often there are some."""
    world = World(SETTINGS[name])
    states = []
    for operation in flat(bursts(5, 500, SETTINGS[name])):
        world.apply(operation)
        states.append(tuple(tuple(world.candidates(slot)) for slot in world.links))
    assert sum(any(state) for state in states) > 250
    assert len(set(states)) > 60


def test_any_part_of_a_sequence_is_one() -> None:
    operations = flat(bursts(6, 300, SETTINGS["routes"]))
    for step in (2, 3, 7):
        world = World(SETTINGS["routes"])
        for operation in operations[::step]:
            world.apply(operation)


def test_what_follows_from_routes() -> None:
    world = World(SETTINGS["routes"])

    def follows(*operations: Operation) -> list[str]:
        assert all(world.apply(operation) for operation in operations)
        return world.candidates(0)

    ready = [Operation("create", 0, "eth0"), Operation("up"), Operation("add", 0, "10.0.0.1")]
    assert follows(*ready, Operation("add", 0, "fd00::1")) == []
    assert follows(Operation("route", 0, "4 254")) == ["10.0.0.1"]
    assert follows(Operation("route", 0, "6 254")) == ["10.0.0.1", "fd00::1"]
    assert follows(Operation("nowhere", 0, "4 254 150")) == ["10.0.0.1", "fd00::1"]
    assert follows(Operation("nowhere", 0, "4 254 50")) == ["fd00::1"]
    assert follows(Operation("rule", 0, "10.0.0.1 102")) == ["fd00::1"]
    assert follows(Operation("route", 0, "4 102")) == ["10.0.0.1", "fd00::1"]
    assert follows(Operation("pull")) == []
    assert follows(Operation("plug")) == ["10.0.0.1", "fd00::1"]
    assert follows(Operation("rename", 0, "docker0")) == []
    assert follows(Operation("rename", 0, "wwan0")) == ["10.0.0.1", "fd00::1"]
    assert follows(Operation("deprecate", 0, "10.0.0.1")) == ["fd00::1"]
    assert follows(Operation("down"), Operation("up")) == []
    assert world.links[0].addresses == {"10.0.0.1": False}


def test_a_failing_run_is_made_shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here a run fails if it has a certain two operations, in this order."""
    needed = [Operation("up", 2), Operation("pull", 1)]

    def failure(_settings: object, sequence: model_run.Bursts, **_options: object) -> str | None:
        found = [operation for operation in flat(sequence) if operation in needed]
        return "after burst 1 (...)" if found[:2] == needed else None

    monkeypatch.setattr(model_run, "failure", failure)
    sequence = [[Operation("add", 1, str(number)), Operation("up", 3)] for number in range(40)]
    sequence[11].append(needed[0])
    sequence[30].append(needed[1])
    shorter, words = model_run.shrunk(SETTINGS["routes"], sequence, small=False)
    assert flat(shorter) == needed
    assert words == "after burst 1 (...)"
