"""What both plugins that create subflows have in common, whichever of them it is."""

from __future__ import annotations

import pytest

from plugins.fullmesh import Fullmesh
from plugins.sspi import Sspi
from tests.core.following import Daemon
from tests.core.stubs import link
from tests.fake.connections import TOKEN

FIRST, SECOND = "10.0.1.1/24 2", "10.0.2.1/24 3"


@pytest.fixture(params=[Fullmesh, Sspi])
def daemon(request: pytest.FixtureRequest) -> Daemon:
    return Daemon(request.param())


def test_the_last_subflow_stays_when_all_addresses_go_at_once(daemon: Daemon) -> None:
    """No event that the first of them has closed comes between the two."""
    daemon.have(FIRST, SECOND)
    daemon.kernel.open()
    daemon.settle()
    daemon.lose(FIRST, SECOND)
    daemon.settle()
    assert daemon.pairs() == ["10.0.2.1 10.0.1.2"]
    daemon.have(FIRST)
    daemon.settle()
    assert daemon.pairs() == ["10.0.1.1 10.0.1.2"]


def test_the_last_subflow_stays_when_an_interface_with_all_addresses_goes() -> None:
    daemon = Daemon(Fullmesh())
    daemon.have(FIRST, "10.0.1.7/24 2")
    daemon.kernel.open()
    daemon.settle()
    assert len(daemon.pairs()) == 2
    daemon.network.link(link(2, 0))
    daemon.settle()
    assert len(daemon.pairs()) == 1


def test_a_subflow_that_could_not_be_left_still_counts(daemon: Daemon) -> None:
    daemon.have(FIRST, SECOND)
    daemon.kernel.open()
    daemon.settle()
    daemon.kernel.foreign.add(TOKEN)  # every command is refused
    daemon.lose(FIRST)
    daemon.kernel.foreign.clear()
    daemon.lose(SECOND)
    daemon.settle()
    assert daemon.pairs() == ["10.0.1.1 10.0.1.2"]
