"""What both plugins that create subflows have in common, whichever of them it is."""

from __future__ import annotations

import pytest

from mptcpd.core import joins
from mptcpd.core.connections import Connection
from plugins.fullmesh import Fullmesh
from plugins.sspi import Sspi
from tests.core.following import Daemon
from tests.core.stubs import address, link
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


def test_a_path_that_was_lost_before_we_came(daemon: Daemon) -> None:
    """The connection is found later, and its address was never told: its interface is down."""
    daemon.have(SECOND)
    daemon.network.link(link(2, 0))
    daemon.network.address(address("10.0.1.1/24", 2))
    daemon.kernel.open()
    daemon.settle()
    assert daemon.pairs() == ["10.0.2.1 10.0.1.2"]


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


def test_addresses_that_come_and_go_for_months(daemon: Daemon) -> None:
    """IPv6 alone makes a temporary one a day: no ID is kept for one that is gone."""
    daemon.have(FIRST)
    daemon.kernel.open()
    for number in range(300):
        passing = f"10.1.{number // 250}.{number % 250 + 1}/24 3"
        daemon.have(passing)
        assert len(daemon.settle()) == 1
        daemon.lose(passing)
        daemon.settle()
        daemon.wait(joins.RELEASE)
    daemon.have(SECOND)
    daemon.settle()
    assert daemon.pairs() == ["10.0.1.1 10.0.1.2", "10.0.2.1 10.0.1.2"]


def test_an_id_is_not_given_to_another_address_at_once(daemon: Daemon) -> None:
    """The peer may hear that the old address is gone after the new one has joined."""
    daemon.have(FIRST, SECOND)
    daemon.kernel.open()
    daemon.settle()
    daemon.lose(SECOND)
    daemon.have("10.0.2.9/24 3")
    assert "SUBFLOW_CREATE 10.0.2.9 id 2 to 10.0.1.2:80 id 0 dev 3" in daemon.settle()
    daemon.have("10.0.2.1/24 3")
    daemon.wait(joins.RELEASE)
    assert daemon.ids.find("10.0.2.1") == 1  # it is back


@pytest.mark.parametrize("server", [False, True])
def test_more_addresses_than_ids(daemon: Daemon, server: bool) -> None:
    """Those that have one are used; no hook fails for the others."""
    for number in range(1, 256):
        daemon.ids.get(f"10.9.9.{number}")
    daemon.have(FIRST, SECOND)
    daemon.kernel.open(server=server)
    assert daemon.settle() == []
    daemon.ids.remove("10.9.9.7")
    daemon.have("10.0.3.1/24 4")
    daemon.settle()


def test_many_connections_take_turns_with_everything_else(daemon: Daemon) -> None:
    """A few at a time, so that events are read in between; and a path that is back is not left."""
    daemon.have(FIRST, SECOND)
    tokens = range(TOKEN, TOKEN + 3 * joins.TURN)
    for token in tokens:
        daemon.kernel.open(token, f"10.0.1.1:{token}")
    daemon.settle()

    def moved() -> int:
        daemon.settle()
        flows = [daemon.pairs(token) for token in tokens if token in daemon.kernel.up]
        return flows.count(["10.0.2.1 10.0.1.2"])

    daemon.lose(FIRST)
    assert moved() == joins.TURN
    daemon.kernel.close(tokens[-1])
    daemon.wait(0)
    assert moved() == 2 * joins.TURN
    daemon.have(FIRST)
    for _turn in range(4):
        daemon.wait(0)
    assert moved() == 0
    daemon.lose(FIRST)
    for _turn in range(4):
        daemon.wait(0)
    assert moved() == len(tokens) - 1


def test_one_that_fails_stops_no_other(daemon: Daemon) -> None:
    (plugin,) = daemon.registry.plugins
    assert isinstance(plugin, Fullmesh | Sspi)
    for token in range(TOKEN, TOKEN + 2 * joins.TURN):
        daemon.kernel.open(token, f"10.0.1.1:{token}")
    daemon.settle()
    seen = []

    def act(connection: Connection) -> None:
        seen.append(connection.token)
        if len(seen) in (1, joins.TURN, joins.TURN + 1):
            raise RuntimeError("a fault")

    with pytest.raises(RuntimeError):
        plugin.joins.each(act)
    for _turn in range(4):
        daemon.wait(0)
    assert seen == list(range(TOKEN, TOKEN + 2 * joins.TURN))


def test_a_path_that_returns_is_tried_again_and_counted_so(daemon: Daemon) -> None:
    daemon.have(FIRST, SECOND)
    daemon.kernel.open()
    daemon.settle()
    assert daemon.commands.started == {"first": 1, "retry": 0, "renewal": 0}
    daemon.lose(SECOND)
    daemon.settle()
    daemon.have(SECOND)
    daemon.settle()
    assert len(daemon.pairs()) == 2
    assert daemon.commands.started == {"first": 1, "retry": 1, "renewal": 0}
