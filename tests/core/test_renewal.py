"""Which subflows new ones replace, when, and what happens if that does not work out."""

from __future__ import annotations

import errno

import pytest

from mptcpd.core import renewal
from mptcpd.core.config import Config
from mptcpd.core.resync import resync
from mptcpd.nl import uapi as u
from mptcpd.nl.errors import KernelError
from plugins.fullmesh import Fullmesh
from plugins.sspi import Sspi
from tests.core.following import Daemon
from tests.core.stubs import address, link
from tests.fake.connections import TOKEN

MIB = 1 << 20
SECOND = "SUBFLOW_CREATE 10.0.2.1 id 1 to 10.0.1.2:80 id 0 dev 3"


class Case(Daemon):
    """A client's connection from 10.0.1.1 with a second subflow from 10.0.2.1 at interface 3."""

    def __init__(self, plugin: Fullmesh | Sspi) -> None:
        super().__init__(plugin, config=Config("null", "", notify_flags=frozenset({"existing"})))
        self.joins = plugin.joins
        self.have("10.0.1.1/24 2", "10.0.2.1/24 3")
        self.kernel.open()
        assert self.settle() == [SECOND]

    @property
    def ports(self) -> set[int]:
        """The local ports of the subflows that the kernel has."""
        return {local.port for local, _remote in self.kernel.up[TOKEN]}

    def renewed(self, refuse: int = 0) -> list[str]:
        """The commands about the second subflow, once everything has settled."""
        asked = self.settle(lambda ends: refuse)
        return [line.split()[0] for line in asked if " 10.0.2.1" in line]


@pytest.fixture(params=[Fullmesh, Sspi])
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param())


def test_a_busy_connection_gets_new_subflows_and_loses_the_old(case: Case) -> None:
    case.kernel.waiting[TOKEN] = MIB
    before = case.ports
    case.lose("10.0.1.1/24 2")
    assert case.renewed() == ["SUBFLOW_CREATE", "SUBFLOW_DESTROY"]
    assert case.pairs() == ["10.0.2.1 10.0.1.2"]
    assert not case.ports & before
    assert case.commands.started == {"first": 1, "retry": 0, "renewal": 1}
    # And again, since nothing is remembered of the first time.
    case.have("10.0.1.1/24 2")
    case.settle()
    case.lose("10.0.1.1/24 2")
    assert case.renewed() == ["SUBFLOW_CREATE", "SUBFLOW_DESTROY"]
    assert case.pairs() == ["10.0.2.1 10.0.1.2"]


@pytest.mark.parametrize("kind", [Fullmesh, Sspi])
def test_a_path_that_was_lost_while_nobody_looked(kind: type[Fullmesh] | type[Sspi]) -> None:
    """The first subflow is gone by then: what is renewed is there, and told of after the start."""
    case = Case(kind())
    case.kernel.waiting[TOKEN] = MIB
    for text in ("10.0.1.1/24 2", "10.0.2.1/24 3"):
        case.lose(text)
        case.settle()
        case.have(text)
        case.settle()
    assert case.pairs() == ["10.0.1.1 10.0.1.2", "10.0.2.1 10.0.1.2"]
    before = case.ports
    again = Daemon(kind(), config=case.config, connections=case.kernel)
    again.network.link(link(2, u.IFF_UP))
    again.network.address(address("10.0.1.1/24", 2))
    again.have("10.0.2.1/24 3")
    resync(again.sockets, again.table)
    commands = [line.split()[0] for line in again.settle() if " 10.0.2.1" in line]
    assert commands == ["SUBFLOW_CREATE", "SUBFLOW_DESTROY"]  # in this order
    assert again.pairs() == ["10.0.2.1 10.0.1.2"]
    assert not case.ports & before


def test_a_path_that_is_lost_after_that_is_withdrawn_from_the_peer(case: Case) -> None:
    """Though the kernel has forgotten its ID with the subflow that was replaced."""
    case.kernel.waiting[TOKEN] = MIB
    case.lose("10.0.1.1/24 2")
    case.settle()
    case.have("10.0.1.1/24 2")
    case.settle()
    case.kernel.waiting.clear()
    case.lose("10.0.2.1/24 3")
    asked = [" ".join(line.split()[:4]) for line in case.settle()]
    assert asked[:3] == ["REMOVE id 1", "ANNOUNCE 10.0.2.1 id 1", "REMOVE id 1"]
    assert case.pairs() == ["10.0.1.1 10.0.1.2"]


def test_so_does_one_that_receives(case: Case) -> None:
    case.kernel.heard[TOKEN] = MIB, 3
    before = case.ports
    case.lose("10.0.1.1/24 2")
    case.settle()
    assert not case.ports & before


def test_a_connection_at_rest_keeps_what_it_has(case: Case) -> None:
    before = case.ports
    case.lose("10.0.1.1/24 2")
    assert case.renewed() == []
    assert case.ports < before


def test_an_address_that_a_connection_does_not_use_is_no_loss(case: Case) -> None:
    """A temporary one of IPv6 goes every day, in the middle of whatever is being sent."""
    case.have("fd00:2::1/64 3")
    case.settle()
    case.kernel.waiting[TOKEN] = MIB
    case.lose("fd00:2::1/64 3")
    assert case.settle() == []


def test_a_backup_is_replaced_by_a_backup(case: Case) -> None:
    case.kernel.waiting[TOKEN] = MIB
    (old,) = [flow for flow in case.connection().subflows.values() if flow.local_id]
    case.commands.set_backup(case.connection(), old, True)
    case.lose("10.0.1.1/24 2")
    assert any(line.endswith("backup dev 3") for line in case.settle())


def test_the_old_one_stays_if_the_peer_refuses(case: Case) -> None:
    case.kernel.waiting[TOKEN] = MIB
    before = case.ports
    case.lose("10.0.1.1/24 2")
    assert case.renewed(refuse=111) == ["SUBFLOW_CREATE"]
    assert case.ports < before
    assert case.settle() == []  # it is not tried again
    case.have("10.0.1.1/24 2")
    case.settle()
    assert len(case.pairs()) == 2


def test_the_old_one_stays_if_the_kernel_refuses(case: Case) -> None:
    case.kernel.waiting[TOKEN] = MIB
    case.kernel.lacks.add("10.0.2.1")
    before = case.ports
    case.lose("10.0.1.1/24 2")
    case.settle()
    assert case.ports < before


def test_what_comes_too_late_is_closed_again(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renewal, "IN_TIME", -1.0)
    case.kernel.waiting[TOKEN] = MIB
    before = case.ports
    case.lose("10.0.1.1/24 2")
    assert case.renewed() == ["SUBFLOW_CREATE", "SUBFLOW_DESTROY"]
    assert case.ports < before
    assert case.pairs() == ["10.0.2.1 10.0.1.2"]


def test_if_the_old_one_closes_first_the_new_one_is_like_any_other(case: Case) -> None:
    case.kernel.waiting[TOKEN] = MIB
    case.lose("10.0.1.1/24 2")
    case.hear()
    (old,) = case.kernel.up[TOKEN]
    case.kernel.drop(TOKEN, old, 104)
    case.hear()
    case.settle()
    assert case.pairs() == ["10.0.2.1 10.0.1.2"]


def test_a_connection_that_ends_meanwhile(case: Case) -> None:
    case.kernel.waiting[TOKEN] = MIB
    case.lose("10.0.1.1/24 2")
    case.kernel.close()
    assert case.renewed() == ["SUBFLOW_CREATE"]
    assert case.joins.followed() == []


def test_a_peer_that_denies_joins_to_its_initial_address(case: Case) -> None:
    case.kernel.close()
    case.kernel.open(flags=u.MPTCP_PM_EV_FLAG_DENY_JOIN_ID0)
    case.kernel.peer_announces("10.0.9.9:80", 5)
    case.settle()
    case.kernel.waiting[TOKEN] = MIB
    case.lose("10.0.2.1/24 3")
    assert not [line for line in case.settle() if "CREATE" in line and "10.0.1.2" in line]


def test_where_it_is_not_known_whether_a_connection_is_busy(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then nothing is renewed, and every connection is still moved to another path."""

    def refuse(token: int) -> None:
        raise KernelError("SOCK_DIAG_BY_FAMILY", errno.ENOMEM)

    case.kernel.open(TOKEN + 1, "10.0.1.1:5001")
    case.settle()
    monkeypatch.setattr(case.sockets, "connection", refuse)
    case.lose("10.0.1.1/24 2")
    assert case.renewed() == []
    assert case.pairs() == case.pairs(TOKEN + 1) == ["10.0.2.1 10.0.1.2"]


def test_those_that_come_to_nothing_leave_room_for_others(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel tries for two minutes to reach a peer that does not answer."""
    monkeypatch.setattr(renewal, "MOST", 1)
    monkeypatch.setattr(renewal, "IN_TIME", -1.0)
    case.kernel.waiting.update({TOKEN: MIB, TOKEN + 1: MIB})
    case.kernel.open(TOKEN + 1, "10.0.1.1:5001")
    case.settle()
    case.lose("10.0.1.1/24 2")
    assert len(case.kernel.pending) == 2


def test_only_so_many_at_once(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renewal, "MOST", 0)
    case.kernel.waiting[TOKEN] = MIB
    case.lose("10.0.1.1/24 2")
    assert case.renewed() == []


def test_a_server_leaves_it_to_its_peer() -> None:
    plugin = Sspi()
    daemon = Daemon(plugin)
    daemon.have("10.0.1.1/24 2", "10.0.2.1/24 3")
    daemon.kernel.open(local="10.0.1.1:80", remote="10.0.9.9:5000", server=True)
    daemon.settle()
    daemon.kernel.peer_joins("10.0.2.1:80", "10.0.8.8:5001")
    daemon.settle()
    daemon.kernel.waiting[TOKEN] = MIB
    daemon.lose("10.0.1.1/24 2")
    assert not any("SUBFLOW_CREATE" in line for line in daemon.settle())
