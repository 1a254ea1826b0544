"""fullmesh: which subflows it asks for, whatever comes and goes, and in whatever order."""

from __future__ import annotations

import errno

import pytest

from mptcpd.core.config import Config, ConfigError, parse
from mptcpd.core.resync import resync
from mptcpd.nl import uapi as u
from mptcpd.nl.mptcp_event import Event
from plugins.fullmesh import Fullmesh, max_subflows
from tests.core.following import Daemon
from tests.fake.connections import TOKEN, event

BOTH = ("10.0.1.1/24 2", "10.0.2.1/24 3")


def case(*addresses: str, config: str = "") -> Daemon:
    said = parse(config, "f")
    merged = Config.merge(said._replace(notify_flags=frozenset({"existing"})), said, "/p")
    daemon = Daemon(Fullmesh(), config=merged)
    daemon.have(*addresses)
    return daemon


def test_nothing_is_asked_before_a_connection_is_established() -> None:
    daemon = case(*BOTH)
    daemon.kernel.open()
    established = daemon.kernel.events.pop()
    assert daemon.settle() == []
    daemon.kernel.events.append(established)
    assert daemon.settle() == ["SUBFLOW_CREATE 10.0.2.1 id 1 to 10.0.1.2:80 id 0 dev 3"]
    daemon.kernel.events.append(established)
    assert daemon.settle() == []


def test_an_announced_address_is_joined_from_every_address() -> None:
    daemon = case(*BOTH)
    daemon.kernel.open()
    daemon.settle()
    daemon.kernel.peer_announces("10.0.2.2:80", 7)
    daemon.kernel.peer_announces("10.0.3.2", 8)  # without a port: the connection's
    assert daemon.settle() == [
        "SUBFLOW_CREATE 10.0.1.1 id 0 to 10.0.2.2:80 id 7 dev 2",
        "SUBFLOW_CREATE 10.0.2.1 id 1 to 10.0.2.2:80 id 7 dev 3",
        "SUBFLOW_CREATE 10.0.1.1 id 0 to 10.0.3.2:80 id 8 dev 2",
        "SUBFLOW_CREATE 10.0.2.1 id 1 to 10.0.3.2:80 id 8 dev 3",
    ]


def test_deny_join_id0() -> None:
    daemon = case(*BOTH)
    daemon.kernel.open(flags=u.MPTCP_PM_EV_FLAG_DENY_JOIN_ID0)
    assert daemon.settle() == []
    daemon.kernel.peer_announces("10.0.1.2:81", 1)  # the same host by another door is allowed
    assert [line.split()[1] for line in daemon.settle()] == ["10.0.1.1", "10.0.2.1"]


def test_families_are_not_mixed() -> None:
    daemon = case("10.0.1.1/24 2", "fd00:1::1/64 2")
    daemon.kernel.open()
    assert daemon.settle() == []
    daemon.kernel.peer_announces("[fd00::2]:80", 1)
    assert daemon.settle() == ["SUBFLOW_CREATE fd00:1::1 id 1 to [fd00::2]:80 id 1 dev 2"]


def test_link_local_addresses_are_left_alone() -> None:
    daemon = case("fd00:1::1/64 2", "fe80::1/64 2", "fe80::2/64 3")
    daemon.kernel.open(local="[fd00:1::1]:5000", remote="[fd00:1::2]:80")
    assert daemon.settle() == []


@pytest.mark.parametrize(("most", "expected"), [(1, 0), (2, 1), (3, 2), (5, 3), (64, 3)])
def test_the_limit_counts_the_first_subflow(most: int, expected: int) -> None:
    daemon = case(*BOTH, config=f"[fullmesh]\nmax-subflows={most}")
    daemon.kernel.open()
    daemon.kernel.peer_announces("10.0.2.2:80", 1)
    assert len(daemon.settle()) == expected


def test_a_place_that_comes_free_is_used() -> None:
    daemon = case(*BOTH, "10.0.3.1/24 4", config="[fullmesh]\nmax-subflows=2")
    daemon.kernel.open()
    assert len(daemon.settle()) == 1
    (_first, second) = daemon.connection().subflows.values()
    daemon.kernel.events.append(
        event(
            u.MPTCP_EVENT_SUB_CLOSED, TOKEN, str(second.local), str(second.remote), backup=0,
            error=errno.ETIMEDOUT,
        )
    )  # fmt: skip
    del daemon.kernel.up[TOKEN][second.local, second.remote]
    assert daemon.settle() == ["SUBFLOW_CREATE 10.0.3.1 id 2 to 10.0.1.2:80 id 0 dev 4"]


def test_backup_interfaces_make_backups() -> None:
    daemon = case(*BOTH, config="[interface eth3]\nflags=subflow,backup")
    daemon.kernel.open()
    assert daemon.settle() == ["SUBFLOW_CREATE 10.0.2.1 id 1 to 10.0.1.2:80 id 0 backup dev 3"]
    assert [flow.backup for flow in daemon.connection().subflows.values()] == [False, True]


def test_what_was_tried_before_an_address_went_may_come_up_when_it_is_back() -> None:
    """Nobody answered yet, and the kernel goes on asking; one subflow of two stays."""
    daemon = case(*BOTH)
    daemon.kernel.open()
    daemon.hear()
    for _bounce in range(2):
        daemon.lose("10.0.2.1/24 3")
        daemon.have("10.0.2.1/24 3")
    daemon.hear()
    assert len(daemon.kernel.pending) == 3
    asked = daemon.settle()
    assert [line.split()[0] for line in asked] == ["SUBFLOW_CREATE"] * 3 + ["SUBFLOW_DESTROY"] * 2
    assert daemon.pairs() == ["10.0.1.1 10.0.1.2", "10.0.2.1 10.0.1.2"]
    daemon.lose("10.0.2.1/24 3")
    daemon.settle()
    daemon.have("10.0.2.1/24 3")
    daemon.settle()
    assert daemon.pairs() == ["10.0.1.1 10.0.1.2", "10.0.2.1 10.0.1.2"], "it is no failure"


def test_two_that_an_earlier_run_left() -> None:
    before = case(*BOTH)
    before.kernel.open()
    before.hear()
    again = Daemon(Fullmesh(), config=before.config, connections=before.kernel)
    again.have(*BOTH)
    resync(again.sockets, again.table)
    assert len(again.kernel.pending) == 2  # the new one does not know of the other
    again.settle()
    assert again.pairs() == ["10.0.1.1 10.0.1.2", "10.0.2.1 10.0.1.2"]


def test_what_fails_is_not_tried_again_until_something_is_new() -> None:
    daemon = case(*BOTH)
    daemon.kernel.open()
    daemon.settle(lambda ends: errno.ECONNREFUSED)
    daemon.have("10.0.3.1/24 4")
    assert [line.split()[1] for line in daemon.settle()] == ["10.0.3.1"]
    daemon.lose("10.0.2.1/24 3")
    daemon.settle()
    daemon.have("10.0.2.1/24 3")
    assert [line.split()[1] for line in daemon.settle()] == ["10.0.2.1"]


def test_what_failed_is_tried_again_when_the_peer_announces_it_again() -> None:
    daemon = case("10.0.1.1/24 2")
    daemon.kernel.open()
    for _time in range(2):
        daemon.kernel.peer_announces("10.0.2.2:80", 1)
        assert len(daemon.settle(lambda ends: errno.ECONNREFUSED)) == 1
        daemon.kernel.peer_removes(1)
        assert daemon.settle() == []


def test_an_address_that_goes_while_it_is_tried() -> None:
    """Nobody waits for an answer that may take minutes; when it returns, it is tried anew."""
    daemon = case(*BOTH)
    daemon.kernel.open()
    daemon.hear()
    daemon.lose("10.0.2.1/24 3")
    daemon.have("10.0.2.1/24 3")
    assert len(daemon.kernel.pending) == 2


def test_an_address_that_cannot_be_bound_stops_nothing() -> None:
    daemon = case(*BOTH, "10.0.3.1/24 4")
    daemon.kernel.lacks = {"10.0.2.1"}
    daemon.kernel.open()
    daemon.settle()
    assert daemon.pairs() == ["10.0.1.1 10.0.1.2", "10.0.3.1 10.0.1.2"]


def test_an_address_that_goes_is_left_at_once() -> None:
    """The peer is told first, then the subflow is closed."""
    daemon = case(*BOTH)
    daemon.kernel.open()
    daemon.settle()
    (_first, second) = daemon.connection().subflows.values()
    daemon.lose("10.0.2.1/24 3")
    assert daemon.settle() == ["REMOVE id 1", f"SUBFLOW_DESTROY {second.local} to 10.0.1.2:80"]
    daemon.have("10.0.2.1/24 3")
    assert len(daemon.settle()) == 1
    assert daemon.pairs() == ["10.0.1.1 10.0.1.2", "10.0.2.1 10.0.1.2"]


def test_an_address_that_is_back_before_the_news_that_its_subflow_closed() -> None:
    daemon = case(*BOTH)
    daemon.kernel.open()
    daemon.settle()
    daemon.lose("10.0.2.1/24 3")
    daemon.have("10.0.2.1/24 3")
    daemon.settle()
    assert daemon.pairs() == ["10.0.1.1 10.0.1.2", "10.0.2.1 10.0.1.2"]


def test_the_first_subflows_address_goes() -> None:
    daemon = case(*BOTH)
    daemon.kernel.open()
    daemon.settle()
    daemon.lose("10.0.1.1/24 2")
    # Closed with its address already: asked for in both forms of an IPv4 address, in vain.
    gone = "SUBFLOW_DESTROY 10.0.1.1:5000 to 10.0.1.2:80"
    assert daemon.settle() == ["REMOVE id 0", gone, gone]
    assert daemon.pairs() == ["10.0.2.1 10.0.1.2"]
    daemon.have("10.0.1.1/24 2")
    assert daemon.settle() == ["SUBFLOW_CREATE 10.0.1.1 id 0 to 10.0.1.2:80 id 0 dev 2"]


def test_the_last_subflow_is_left_only_for_another() -> None:
    daemon = case("10.0.1.1/24 2")
    daemon.kernel.open()
    daemon.settle()
    daemon.lose("10.0.1.1/24 2")
    assert daemon.settle() == []
    daemon.have("10.0.2.1/24 3")
    assert daemon.settle() == [
        "SUBFLOW_CREATE 10.0.2.1 id 1 to 10.0.1.2:80 id 0 dev 3",
        "REMOVE id 0",
        "SUBFLOW_DESTROY 10.0.1.1:5000 to 10.0.1.2:80",
        "SUBFLOW_DESTROY 10.0.1.1:5000 to 10.0.1.2:80",
    ]
    assert daemon.pairs() == ["10.0.2.1 10.0.1.2"]


def test_the_last_address_comes_back_before_another() -> None:
    daemon = case("10.0.1.1/24 2")
    daemon.kernel.open()
    daemon.settle()
    daemon.lose("10.0.1.1/24 2")
    daemon.have("10.0.1.1/24 2", "10.0.2.1/24 3")
    assert [line.split()[0] for line in daemon.settle()] == ["SUBFLOW_CREATE"]
    assert len(daemon.pairs()) == 2


def test_without_a_subflow_elsewhere_failures_are_tried_again() -> None:
    daemon = case(*BOTH)
    daemon.kernel.open()
    daemon.settle(lambda ends: errno.EHOSTUNREACH)
    daemon.lose("10.0.1.1/24 2")
    daemon.settle()
    assert daemon.pairs() == ["10.0.2.1 10.0.1.2"]


def test_an_address_that_two_interfaces_have() -> None:
    daemon = case(*BOTH, "10.0.2.1/32 4")
    daemon.kernel.open()
    daemon.settle()
    daemon.lose("10.0.2.1/24 3")
    assert daemon.settle() == []
    assert daemon.pairs() == ["10.0.1.1 10.0.1.2", "10.0.2.1 10.0.1.2"]


@pytest.mark.parametrize(
    ("local", "remote", "server"),
    [
        ("10.0.1.1:80", "10.0.1.2:5000", True),
        ("127.0.0.1:5000", "127.0.0.1:80", False),
        ("[::1]:5000", "[::1]:80", False),
        ("10.0.1.1:5000", "10.0.1.1:80", False),
    ],
)
def test_connections_that_are_declined(local: str, remote: str, server: bool) -> None:
    daemon = case(*BOTH)
    daemon.kernel.open(local=local, remote=remote, server=server)
    assert daemon.settle() == []
    assert daemon.connection().owner is None
    daemon.have("10.0.3.1/24 4")
    assert daemon.settle() == []


def test_a_connection_of_the_kernels_own_path_manager_is_asked_once() -> None:
    daemon = case(*BOTH)
    daemon.kernel.open()
    daemon.kernel.foreign.add(TOKEN)
    assert len(daemon.settle()) == 1
    daemon.have("10.0.3.1/24 4")
    daemon.kernel.peer_announces("10.0.2.2:80", 1)
    daemon.lose("10.0.1.1/24 2")
    assert daemon.settle() == []


def test_a_connection_that_closed_is_forgotten() -> None:
    daemon = case(*BOTH)
    daemon.kernel.open()
    daemon.kernel.open(TOKEN + 1, "10.0.2.1:5001")
    daemon.settle()
    daemon.kernel.close()
    daemon.settle()
    daemon.have("10.0.3.1/24 4")
    assert daemon.settle() == ["SUBFLOW_CREATE 10.0.3.1 id 3 to 10.0.1.2:80 id 0 dev 4"]
    (plugin,) = daemon.registry.plugins
    assert isinstance(plugin, Fullmesh)
    assert [known.token for known in plugin.joins.followed()] == [TOKEN + 1]


def test_a_connection_that_closes_unheard() -> None:
    """Its CLOSED is still on the way while addresses change."""
    daemon = case(*BOTH)
    daemon.kernel.open()
    daemon.settle()
    del daemon.kernel.up[TOKEN]
    daemon.lose("10.0.2.1/24 3")
    daemon.have("10.0.3.1/24 4")
    daemon.kernel.events.append(Event(u.MPTCP_EVENT_CLOSED, TOKEN))
    daemon.settle()
    assert daemon.table.by_token == {}


@pytest.mark.parametrize("text", ["0", "65", "-1", "", "eight", "8.0", "٣"])
def test_a_limit_that_is_none(text: str) -> None:
    section = parse(f"[fullmesh]\nmax-subflows={text}", "f").sections["fullmesh"]
    with pytest.raises(ConfigError, match=r"^f:2: max-subflows in \[fullmesh\]: .*1 to 64$"):
        max_subflows(section)


def test_an_unknown_key() -> None:
    section = parse("[fullmesh]\nmax=8", "f").sections["fullmesh"]
    with pytest.raises(ConfigError, match=r"f:2: max in \[fullmesh\]: unknown key; allowed: max-s"):
        max_subflows(section)
