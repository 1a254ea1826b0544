"""sspi: one subflow per interface, and what servers announce, whatever comes and goes."""

from __future__ import annotations

import errno

import pytest

from mptcpd.core.connection import Connection, pack_rest
from mptcpd.core.path import path_of
from mptcpd.nl import uapi as u
from plugins import sspi
from plugins.sspi import Sspi
from tests.core.following import Daemon
from tests.fake.connections import TOKEN

BOTH = ("10.0.1.1/24 2", "10.0.2.1/24 3")


def case(*addresses: str) -> Daemon:
    daemon = Daemon(Sspi())
    daemon.have(*addresses)
    return daemon


def client(*addresses: str) -> Daemon:
    """A connection that we opened from 10.0.1.1."""
    daemon = case(*addresses)
    daemon.kernel.open()
    return daemon


def server(*addresses: str, busy: tuple[str, ...] = ()) -> Daemon:
    """A connection that a peer opened to 10.0.1.1:80."""
    daemon = case(*addresses)
    daemon.listeners.busy.update(busy)
    daemon.kernel.open(local="10.0.1.1:80", remote="10.0.9.9:5000", server=True)
    return daemon


def test_a_client_uses_each_interface_once() -> None:
    daemon = client(*BOTH, "10.0.2.9/24 3", "10.0.3.1/24 4")
    assert daemon.settle() == [
        "SUBFLOW_CREATE 10.0.2.1 id 1 to 10.0.1.2:80 id 0 dev 3",
        "SUBFLOW_CREATE 10.0.3.1 id 2 to 10.0.1.2:80 id 0 dev 4",
    ]
    daemon.kernel.peer_announces("10.0.2.2:80", 1)
    assert daemon.settle() == []


def test_a_client_tries_the_next_address_where_one_fails() -> None:
    daemon = client(*BOTH, "10.0.2.9/24 3")
    daemon.kernel.peer_announces("10.0.2.2:80", 1)
    refuses = {"10.0.1.2"}
    asked = daemon.settle(lambda ends: errno.ECONNREFUSED * (str(ends[1].ip) in refuses))
    assert asked == [
        "SUBFLOW_CREATE 10.0.2.1 id 1 to 10.0.1.2:80 id 0 dev 3",
        "SUBFLOW_CREATE 10.0.2.9 id 2 to 10.0.1.2:80 id 0 dev 3",
        "SUBFLOW_CREATE 10.0.2.1 id 1 to 10.0.2.2:80 id 1 dev 3",
    ]
    assert daemon.pairs() == ["10.0.1.1 10.0.1.2", "10.0.2.1 10.0.2.2"]


def test_what_cannot_be_started_is_passed_over() -> None:
    daemon = case(*BOTH, "10.0.2.9/24 3")
    daemon.kernel.lacks = {"10.0.2.1"}
    daemon.kernel.open()
    daemon.settle()
    assert daemon.pairs() == ["10.0.1.1 10.0.1.2", "10.0.2.9 10.0.1.2"]


def test_deny_join_id0() -> None:
    daemon = case(*BOTH)
    daemon.kernel.open(flags=u.MPTCP_PM_EV_FLAG_DENY_JOIN_ID0)
    assert daemon.settle() == []
    daemon.kernel.peer_announces("10.0.2.2:80", 1)
    assert daemon.settle() == ["SUBFLOW_CREATE 10.0.2.1 id 1 to 10.0.2.2:80 id 1 dev 3"]


def test_a_clients_addresses_come_and_go() -> None:
    daemon = client(*BOTH)
    daemon.settle()
    daemon.have("10.0.2.9/24 3")
    assert daemon.settle() == []
    daemon.lose("10.0.2.1/24 3")
    asked = [line.split()[0] for line in daemon.settle()]
    assert asked == ["REMOVE", "SUBFLOW_DESTROY", "SUBFLOW_CREATE"]  # 10.0.2.9 takes its place
    assert daemon.pairs() == ["10.0.1.1 10.0.1.2", "10.0.2.9 10.0.1.2"]
    daemon.lose("10.0.1.1/24 2")
    daemon.settle()
    assert daemon.pairs() == ["10.0.2.9 10.0.1.2"]


def test_a_server_announces_its_other_interfaces() -> None:
    daemon = server(*BOTH, "10.0.1.9/24 2", "fd00:2::1/64 3", "fe80::1/64 3", "10.0.3.1/24 4")
    assert daemon.settle() == [
        "ANNOUNCE 10.0.2.1 id 1", "ANNOUNCE fd00:2::1 id 2", "ANNOUNCE 10.0.3.1 id 3",
    ]  # fmt: skip
    held = sorted(str(address) for address in daemon.listeners.held)
    assert held == ["10.0.2.1:80", "10.0.3.1:80", "[fd00:2::1]:80"]
    daemon.kernel.close()
    daemon.settle()
    assert daemon.listeners.held == {}


def test_a_server_needs_no_socket_where_the_application_listens() -> None:
    daemon = server(*BOTH, busy=("10.0.2.1:80",))
    assert daemon.settle() == ["ANNOUNCE 10.0.2.1 id 1"]
    assert daemon.listeners.held == {}


def test_two_connections_share_a_socket() -> None:
    daemon = server(*BOTH)
    daemon.kernel.open(TOKEN + 1, "10.0.1.1:80", "10.0.9.9:5001", server=True)
    assert len(daemon.settle()) == 2
    assert list(daemon.listeners.held.values()) == [2]
    daemon.kernel.close()
    daemon.settle()
    assert list(daemon.listeners.held.values()) == [1]


def test_a_servers_addresses_come_and_go() -> None:
    daemon = server(*BOTH)
    daemon.settle()
    daemon.kernel.peer_joins("10.0.2.1:80", "10.0.8.8:6000")
    daemon.settle()
    daemon.lose("10.0.2.1/24 3")
    assert daemon.settle() == ["REMOVE id 1", "SUBFLOW_DESTROY 10.0.2.1:80 to 10.0.8.8:6000"]
    assert (daemon.listeners.held, dict(daemon.connection().announced)) == ({}, {})
    daemon.have("10.0.2.1/24 3", "10.0.2.5/24 3")
    assert daemon.settle() == ["ANNOUNCE 10.0.2.1 id 1", "ANNOUNCE 10.0.2.5 id 2"]


def test_an_address_whose_subflow_was_closed_is_still_withdrawn() -> None:
    """The kernel forgot its ID with the subflow; the peer has not."""
    daemon = server(*BOTH)
    daemon.settle()
    for port in (6000, 6001):  # the second of them is closed as one too many
        daemon.kernel.peer_joins("10.0.2.1:80", f"10.0.8.8:{port}")
    daemon.settle()
    daemon.wait(sspi.GRACE)
    assert daemon.settle() == ["SUBFLOW_DESTROY 10.0.2.1:80 to 10.0.8.8:6001"]
    daemon.lose("10.0.2.1/24 3")
    assert daemon.settle() == [
        "REMOVE id 1", "ANNOUNCE 10.0.2.1 id 1", "REMOVE id 1",
        "SUBFLOW_DESTROY 10.0.2.1:80 to 10.0.8.8:6000",
    ]  # fmt: skip
    assert daemon.listeners.held == {}


def test_a_second_subflow_on_an_interface_is_closed() -> None:
    daemon = server(*BOTH)
    daemon.settle()
    daemon.kernel.peer_joins("10.0.1.1:80", "10.0.8.8:6000")
    assert daemon.settle() == []
    daemon.wait(sspi.GRACE)
    assert daemon.settle() == ["SUBFLOW_DESTROY 10.0.1.1:80 to 10.0.8.8:6000"]
    assert daemon.pairs() == ["10.0.1.1 10.0.9.9"]


def test_a_subflow_that_takes_the_place_of_another_is_kept() -> None:
    """The peer makes the new one before it leaves the old: two daemons must not close one each."""
    daemon = server(*BOTH)
    daemon.settle()
    daemon.kernel.peer_joins("10.0.1.1:80", "10.0.8.8:6000")
    daemon.settle()
    daemon.kernel.peer_destroys(daemon.kernel.first[TOKEN])
    daemon.settle()
    daemon.wait(sspi.GRACE)
    assert daemon.settle() == []
    assert daemon.pairs() == ["10.0.1.1 10.0.8.8"]


@pytest.mark.parametrize("ended", ["subflow", "connection", "unheard"])
def test_a_second_subflow_that_has_closed_before_we_close_it(ended: str) -> None:
    daemon = server(*BOTH)
    daemon.settle()
    daemon.kernel.peer_joins("10.0.1.1:80", "10.0.8.8:6000")
    daemon.settle()
    (second,) = [ends for ends in daemon.kernel.up[TOKEN] if ends[1].port == 6000]
    if ended == "connection":
        daemon.kernel.close()
    else:
        daemon.kernel.drop(TOKEN, second)
    if ended != "unheard":
        daemon.hear()
    daemon.wait(sspi.GRACE)
    daemon.hear()
    assert daemon.registry.failures == 0


def test_of_two_subflows_found_on_an_interface_one_is_kept() -> None:
    """At the start, or after lost events: both are told before the news that one has closed."""
    daemon = client(*BOTH)
    for port in (6000, 6001):
        daemon.kernel.peer_joins(f"10.0.2.1:{port}", "10.0.1.2:80")
    daemon.kernel.events.clear()
    first, *others = [path_of(*ends) for ends in daemon.kernel.up[TOKEN]]
    found = Connection(TOKEN, first, server_side=False, deny_join_id0=False)
    daemon.table.adopt(found, True, {path: pack_rest(1, 0, False, 3) for path in others})
    assert daemon.settle() == ["SUBFLOW_DESTROY 10.0.2.1:6001 to 10.0.1.2:80"]
    assert daemon.pairs() == ["10.0.1.1 10.0.1.2", "10.0.2.1 10.0.1.2"]


def test_with_one_interface_joins_are_kept() -> None:
    daemon = server("10.0.1.1/24 2", "10.0.1.9/24 2")
    daemon.kernel.peer_joins("10.0.1.1:80", "10.0.8.8:6000")
    assert daemon.settle() == []
    assert len(daemon.pairs()) == 2


def test_each_connection_counts_for_itself() -> None:
    daemon = client(*BOTH)
    daemon.kernel.open(TOKEN + 1, "10.0.2.1:5001")
    daemon.settle()
    assert daemon.pairs() == ["10.0.1.1 10.0.1.2", "10.0.2.1 10.0.1.2"]
    assert daemon.pairs(TOKEN + 1) == ["10.0.1.1 10.0.1.2", "10.0.2.1 10.0.1.2"]
    daemon.kernel.close()
    daemon.settle()
    daemon.have("10.0.3.1/24 4")
    daemon.settle()
    assert len(daemon.pairs(TOKEN + 1)) == 3


@pytest.mark.parametrize("side", [client, server])
def test_the_kernels_own_connections_are_asked_for_once(side: object) -> None:
    daemon = case(*BOTH)
    daemon.kernel.foreign.add(TOKEN)
    daemon.kernel.open(server=side is server)
    assert len(daemon.settle()) == 1
    daemon.have("10.0.3.1/24 4")
    assert daemon.settle() == []
    assert daemon.listeners.held == {}


def test_an_address_that_two_interfaces_have() -> None:
    daemon = client(*BOTH, "10.0.2.1/32 4")
    daemon.settle()
    before = daemon.pairs()
    daemon.lose("10.0.2.1/24 3")
    assert daemon.settle() == []
    assert daemon.pairs() == before


def test_connections_within_this_host_are_declined() -> None:
    daemon = case(*BOTH)
    daemon.kernel.open(local="127.0.0.1:80", remote="127.0.0.1:5000", server=True)
    assert daemon.settle() == []
    assert daemon.connection().owner is None


def test_a_flood_of_changes_settles() -> None:
    daemon = client(*BOTH)
    daemon.settle()
    for _time in range(3):
        daemon.lose(*BOTH)
        daemon.have(*BOTH)
    daemon.settle()
    assert daemon.pairs() == ["10.0.1.1 10.0.1.2", "10.0.2.1 10.0.1.2"]
