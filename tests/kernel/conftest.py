"""Hosts for the tests on the real kernel, in namespaces that the test process makes for itself.

Where that cannot be, the tests are skipped, and the summary says why.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import NamedTuple

import pytest

from lab import Host, Lab, Link, Missing
from lab.network import add_default_route
from mptcpd.nl.errors import KernelError
from mptcpd.nl.mptcp import Address


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        with open(f"/proc/{pid}/stat") as stream:
            return stream.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


class TwoHosts(NamedTuple):
    """A client and a server joined by two links.

    first   eth0 to eth0: 10.0.1.1/24 and fd00:1::1/64 to 10.0.1.2 and fd00:1::2
    second  eth1 to eth1: 10.0.2.1/24 and fd00:2::1/64 to 10.0.2.2 and fd00:2::2

    The client has a default route over each link (metric 100 and 200), as a machine with two
    uplinks has; the server has none. Each ``.one`` of a link is the client's end.
    """

    lab: Lab
    client: Host
    server: Host
    first: Link
    second: Link


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None, object, object]:
    return (yield from _skipping())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, object, object]:
    return (yield from _skipping())


def _skipping() -> Generator[None, object, object]:
    try:
        return (yield)
    except Missing as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="session")
def namespaces() -> None:
    """The right to make network namespaces, and MPTCP; or a skip that says what is missing."""
    Lab().close()


@pytest.fixture
def lab(namespaces: None) -> Iterator[Lab]:
    """An empty network; what is put into it is gone after the test."""
    with Lab() as network:
        yield network


@pytest.fixture
def latest(lab: Lab) -> None:
    """Skips where the kernel words its refusals otherwise, as all did before Linux 6.18."""
    pm = lab.host("probe").mptcp
    try:
        for _twice in range(2):
            pm.add_addr(Address(bytes([10, 0, 0, 1])))
    except KernelError as error:
        if error.errno != error.reason:
            pytest.skip("this kernel refuses in other words than Linux 6.18, which the fake is of")


@pytest.fixture
def lone_host(lab: Lab) -> Host:
    """A host with nothing but lo, which is up."""
    return lab.host("lone")


@pytest.fixture
def two_hosts(lab: Lab) -> TwoHosts:
    return build_two_hosts(lab)


def build_two_hosts(lab: Lab, rate: int | None = None) -> TwoHosts:
    """As the fixture; ``rate`` in bit/s limits each link."""
    client, server = lab.host("client"), lab.host("server")
    links = []
    for index in (1, 2):
        ours, theirs = [f"10.0.{index}.1/24"], [f"10.0.{index}.2/24"]
        if client.has_ipv6:
            ours.append(f"fd00:{index}::1/64")
            theirs.append(f"fd00:{index}::2/64")
        name = f"eth{index - 1}"
        link = lab.link(client, name, ours, server, name, theirs, rate=rate)
        for address in theirs:
            add_default_route(link.one, address.partition("/")[0], metric=100 * index)
        links.append(link)
    return TwoHosts(lab, client, server, *links)
