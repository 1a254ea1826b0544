"""The commands of a userspace path manager, carried out by this kernel on real connections."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import NamedTuple

import pytest

from lab import traffic
from mptcpd.nl import uapi as u
from mptcpd.nl.client import MptcpClient
from mptcpd.nl.mptcp import Address
from tests.kernel.conftest import TwoHosts
from tests.kernel.refusals import refused
from tests.kernel.watch import EventWatch, use_userspace_pm

PORT = 8080
ADDR = "MPTCP_PM_ATTR_ADDR"
SIGNAL, SUBFLOW, BACKUP, FULLMESH = (
    u.MPTCP_PM_ADDR_FLAG_SIGNAL, u.MPTCP_PM_ADDR_FLAG_SUBFLOW, u.MPTCP_PM_ADDR_FLAG_BACKUP,
    u.MPTCP_PM_ADDR_FLAG_FULLMESH,
)  # fmt: skip


def ip(text: str) -> bytes:
    return ip_address(text).packed


class Scene(NamedTuple):
    """A connection over the first link that is for a userspace path manager on both hosts.

    The server listens on the second link as well, so that joins find somebody there.
    """

    hosts: TwoHosts
    client: MptcpClient
    server: MptcpClient
    at_client: EventWatch
    at_server: EventWatch
    connection: traffic.Connection
    token: int
    theirs: int


@pytest.fixture(params=["ipv4", "ipv6"])
def family(request: pytest.FixtureRequest, two_hosts: TwoHosts) -> str:
    if request.param == "ipv6" and not two_hosts.client.has_ipv6:
        pytest.skip("this kernel has no IPv6")
    return str(request.param)


FORMS = {"ipv4": "10.0.{}.{}", "ipv6": "fd00:{}::{}"}


def near(family: str, link: int = 2) -> bytes:
    return ip(FORMS[family].format(link, 1))


def far(family: str, link: int = 2) -> bytes:
    return ip(FORMS[family].format(link, 2))


@pytest.fixture
def scene(two_hosts: TwoHosts, family: str) -> Iterator[Scene]:
    for host in (two_hosts.client, two_hosts.server):
        use_userspace_pm(host)
    watches = EventWatch(two_hosts.client), EventWatch(two_hosts.server)
    form = FORMS[family]
    with traffic.listen(two_hosts.server, form.format(2, 2), PORT):
        connection = traffic.open_connection(
            two_hosts.client, two_hosts.server, form.format(1, 2), PORT
        )
        for watch in watches:
            watch.find(u.MPTCP_EVENT_ESTABLISHED)
        yield Scene(
            two_hosts, two_hosts.client.mptcp, two_hosts.server.mptcp, *watches, connection,
            connection.token, traffic.info(connection.server).token,
        )  # fmt: skip
        connection.close()
    for watch in watches:
        watch.close()


def test_announce_and_remove(scene: Scene, family: str) -> None:
    announced = Address(far(family), 0, 3, SIGNAL)
    scene.server.announce(scene.theirs, announced)
    event = scene.at_client.next()
    assert (event.name, event.remote_id, event.remote_ip) == (
        "MPTCP_EVENT_ANNOUNCED", 3, far(family),
    )  # fmt: skip
    scene.server.announce(scene.theirs, announced)  # again is no error, and announces again
    assert scene.at_client.next() == event
    scene.server.remove(scene.theirs, 3)
    event = scene.at_client.next()
    assert (event.name, event.remote_id) == ("MPTCP_EVENT_REMOVED", 3)


def test_create_flags_and_destroy(scene: Scene, family: str) -> None:
    local, remote = Address(near(family), 0, 7), Address(far(family), PORT)
    scene.client.subflow_create(scene.token, local, remote)
    joined = scene.at_client.next()
    assert (joined.name, joined.local_id, joined.backup) == ("MPTCP_EVENT_SUB_ESTABLISHED", 7, 0)
    assert traffic.info(scene.connection.client).subflows == 1
    scene.at_server.find(u.MPTCP_EVENT_SUB_ESTABLISHED)
    for flags in (BACKUP, 0):
        scene.client.set_flags(Address(near(family), flags=flags), remote, scene.token)
        event = scene.at_server.next()
        assert (event.name, event.backup) == ("MPTCP_EVENT_SUB_PRIORITY", int(flags == BACKUP))
    end = Address(near(family), joined.local_port or 0)
    scene.client.subflow_destroy(scene.token, end, remote)
    assert scene.at_client.next().name == "MPTCP_EVENT_SUB_CLOSED"
    assert traffic.info(scene.connection.client).subflows == 0
    scene.connection.exchange()


def test_remove_closes_the_subflows_of_an_address(scene: Scene, family: str) -> None:
    scene.client.subflow_create(
        scene.token, Address(near(family), id=7), Address(far(family), PORT)
    )
    scene.at_server.find(u.MPTCP_EVENT_SUB_ESTABLISHED)
    scene.client.remove(scene.token, 0)  # the first subflow's address: the second one carries on
    event = scene.at_server.next()
    assert (event.name, event.remote_id) == ("MPTCP_EVENT_REMOVED", 0)
    assert scene.at_server.next().name == "MPTCP_EVENT_SUB_CLOSED"
    scene.connection.exchange()


def test_addresses_of_a_connection(scene: Scene, family: str) -> None:
    """GET_ADDR with a token, one and all (Linux 6.9)."""
    scene.client.announce(scene.token, Address(near(family), 0, 7, SIGNAL))
    (found,) = scene.client.dump_addrs(scene.token)
    assert (found.ip, found.id) == (near(family), 7)
    assert scene.client.get_addr(7, scene.token) == found
    assert scene.client.dump_addrs() == []  # the kernel's own endpoints are others
    refused(lambda: scene.client.get_addr(9, scene.token), errno.EINVAL, "not found", ADDR)


def user_refusals(s: Scene, f: str) -> list[tuple[Callable[[], object], int, str, str | None]]:
    """What is asked of a userspace connection, and the answer: errno, words, attribute."""
    c, token, here, there = s.client, s.token, Address(near(f), id=7), Address(far(f), PORT)
    other = "ipv6" if f == "ipv4" else "ipv4"
    return [
        (lambda: c.announce(token, Address(near(f), 0, 0, SIGNAL)), errno.EINVAL, "id", ADDR),
        (lambda: c.announce(token, Address(near(f), 0, None, SIGNAL)), errno.EINVAL, "id", ADDR),
        (lambda: c.announce(token, here), errno.EINVAL, "flags", ADDR),
        (lambda: c.announce(token, Address(None, 0, 7, SIGNAL)), errno.EINVAL, "family", ADDR),
        (lambda: c.remove(token, 99), errno.EINVAL, "not found", "MPTCP_PM_ATTR_LOC_ID"),
        (lambda: c.subflow_create(token, here._replace(flags=SIGNAL), there), errno.EINVAL,
         "flags", ADDR),
        (lambda: c.subflow_create(token, here, Address(far(other), PORT)), errno.EINVAL,
         "families", None),
        (lambda: c.subflow_create(token, Address(far(f, 9), id=8), there), errno.EADDRNOTAVAIL,
         "connect error: -99", None),
        (lambda: c.subflow_create(token, here, Address(None, PORT)), errno.EINVAL, "family",
         "MPTCP_PM_ATTR_ADDR_REMOTE"),
        (lambda: c.subflow_destroy(token, here, there), errno.EINVAL, "local port", ADDR),
        (lambda: c.subflow_destroy(token, Address(near(f), 1), Address(far(f))), errno.EINVAL,
         "remote port", "MPTCP_PM_ATTR_ADDR_REMOTE"),
        (lambda: c.subflow_destroy(token, Address(near(f), 1), there), errno.ESRCH, "not found",
         None),
        (lambda: c.set_flags(Address(near(f), flags=BACKUP), there, token), errno.EINVAL,
         "not found", None),
    ]  # fmt: skip


def test_refusals_of_the_userspace_path_manager(scene: Scene, family: str) -> None:
    for call, number, words, attribute in user_refusals(scene, family):
        refused(call, number, words, attribute)
    # An address that has an ID keeps it.
    scene.client.announce(scene.token, Address(near(family), 0, 7, SIGNAL))
    refused(
        lambda: scene.client.announce(scene.token, Address(near(family), 0, 8, SIGNAL)),
        errno.EINVAL, "did not match", ADDR,
    )  # fmt: skip


def with_token(client: MptcpClient, token: int, f: str) -> list[Callable[[], object]]:
    """Every command that names a connection; GET_ADDR of all its addresses, not of one.

    Asked for one, Linux 6.18 says "address not found" also where there is no such connection.
    """
    here, there = Address(near(f), 1, 7, SIGNAL), Address(far(f), PORT)
    return [
        lambda: client.announce(token, here),
        lambda: client.remove(token, 7),
        lambda: client.subflow_create(token, here._replace(flags=None), there),
        lambda: client.subflow_destroy(token, here, there),
        lambda: client.set_flags(here, there, token),
        lambda: client.dump_addrs(token),
    ]


def test_a_token_that_names_nothing(scene: Scene, family: str) -> None:
    unknown = next(t for t in range(1, 9) if t not in (scene.token, scene.theirs))
    for call in with_token(scene.client, unknown, family):
        refused(call, errno.EINVAL, "token", "MPTCP_PM_ATTR_TOKEN")


def test_a_connection_of_the_kernel_s_path_manager(two_hosts: TwoHosts) -> None:
    connection = traffic.open_connection(two_hosts.client, two_hosts.server, "10.0.1.2", PORT)
    for call in with_token(two_hosts.client.mptcp, connection.token, "ipv4"):
        refused(call, errno.EINVAL, "userspace PM not selected", "MPTCP_PM_ATTR_TOKEN")
    connection.close()
