"""Endpoints: which ID goes with which address, and what the kernel's refusals leave behind."""

from __future__ import annotations

import errno
from ipaddress import ip_address

import pytest

from mptcpd.core.address import SockAddr, sockaddr
from mptcpd.core.endpoints import Endpoints, flag_bits, flag_names
from mptcpd.core.ids import MAX_ID, AddressIds, NoFreeId
from mptcpd.core.ownership import Endpoint, Forgetful
from mptcpd.nl.errors import KernelError
from mptcpd.nl.mptcp import FLAGS, Limits
from tests.fake.endpoints import STYLES, EndpointTable
from tests.fake_kernel import FakeKernel


class Case:
    """A kernel, the IDs, and the endpoints as a plugin sees them."""

    def __init__(self, kernel: EndpointTable | None = None) -> None:
        self.kernel = EndpointTable() if kernel is None else kernel
        self.ids = AddressIds()
        self.endpoints = Endpoints(FakeKernel(self.kernel).mptcp, self.ids)
        self.endpoints.start(Forgetful())


@pytest.fixture
def case() -> Case:
    return Case()


def refused(case: Case, address: str, **more: object) -> KernelError:
    with pytest.raises(KernelError) as error:
        case.endpoints.add_endpoint(address, **more)  # type: ignore[arg-type]
    return error.value


# Adding


def test_added_with_the_id_of_its_address(case: Case) -> None:
    assert case.ids.get("10.0.0.9") == 1
    got = case.endpoints.add_endpoint("10.0.0.1", flags=["backup", "subflow"], ifindex=3)
    assert got == Endpoint(sockaddr("10.0.0.1"), 2, ("subflow", "backup"), 3)
    assert case.kernel.shown() == {2: "10.0.0.1 subflow,backup dev 3"}
    assert case.endpoints.get_endpoint(2) == got
    assert case.endpoints.endpoints() == [got]
    assert case.ids.get("10.0.0.1") == 2


def test_added_with_an_id_of_the_plugins_choice(case: Case) -> None:
    got = case.endpoints.add_endpoint("2001:db8::1", local_id=200, flags="signal")
    assert got == Endpoint(sockaddr("2001:db8::1"), 200, ("signal",), None)
    assert case.kernel.commands == ["add 2001:db8::1 id 200"]
    assert refused(case, "10.0.0.1", local_id=200).reason == errno.EBUSY


def test_a_port_makes_it_signal(case: Case) -> None:
    got = case.endpoints.add_endpoint("10.0.0.1:443")
    assert got.flags == ("signal",)
    assert case.kernel.endpoints[1].port == 443


@pytest.mark.parametrize("ident", [0, -1, 256])
def test_an_id_that_is_none(case: Case, ident: int) -> None:
    for call in (
        lambda: case.endpoints.add_endpoint("10.0.0.1", local_id=ident),
        lambda: case.endpoints.remove_endpoint(ident),
        lambda: case.endpoints.get_endpoint(ident),
        lambda: case.endpoints.set_endpoint_flags(ident, ()),
    ):
        with pytest.raises(ValueError, match=f"address ID {ident} is not within 1 to 255"):
            call()
    assert case.kernel.commands == []


def test_a_flag_that_is_none(case: Case) -> None:
    with pytest.raises(ValueError, match="unknown address flag 'sub'; allowed: signal, subflow"):
        case.endpoints.add_endpoint("10.0.0.1", flags=["sub"])
    assert case.ids.find("10.0.0.1") is None


def test_no_id_is_left(case: Case) -> None:
    for number in range(MAX_ID):
        case.ids.get(ip_address(number + 1))
    with pytest.raises(NoFreeId):
        case.endpoints.add_endpoint("10.0.0.1")
    assert case.kernel.commands == []


# Refusals


@pytest.mark.parametrize("style", ["6.18", "6.6"])
def test_full(style: str) -> None:
    """errno says ERANGE on Linux 6.18 and EINVAL before, with -34 in the words."""
    case = Case(EndpointTable(room=2, style=style))
    for number in (1, 2):
        case.endpoints.add_endpoint(f"10.0.0.{number}")
    error = refused(case, "10.0.0.3")
    assert error.reason == errno.ERANGE
    assert error.errno == (errno.ERANGE if style == "6.18" else errno.EINVAL)
    assert error.words == "too many addresses or duplicate one: -34"
    assert case.ids.find("10.0.0.3") is None
    case.endpoints.remove_endpoint(1)
    case.ids.remove("10.0.0.1")
    assert case.endpoints.add_endpoint("10.0.0.3").id == 1


@pytest.mark.parametrize("style", STYLES)
def test_any_refusal_frees_a_new_id(style: str) -> None:
    case = Case(EndpointTable(room=0, style=style))
    refused(case, "10.0.0.1")
    refused(case, "10.0.0.2", flags=["signal", "fullmesh"])
    case.kernel.fails = [KernelError("MPTCP_PM_CMD_ADD_ADDR", errno.EPERM)]
    refused(case, "10.0.0.3")
    assert [case.ids.find(f"10.0.0.{number}") for number in (1, 2, 3)] == [None] * 3


def test_a_refusal_leaves_an_older_id() -> None:
    case = Case(EndpointTable(room=0))
    assert case.ids.get("10.0.0.1") == 1
    refused(case, "10.0.0.1")
    assert case.ids.find("10.0.0.1") == 1


@pytest.mark.parametrize("style", ["6.18", "6.6"])
def test_an_id_that_a_stranger_has_taken(style: str) -> None:
    case = Case(EndpointTable(style=style))
    case.kernel.have("10.9.9.1", 1)
    case.kernel.have("10.9.9.2", 2)
    got = case.endpoints.add_endpoint("10.0.0.1", flags=["subflow"])
    assert got.id == 3 == case.ids.get("10.0.0.1")
    assert case.kernel.commands == ["add 10.0.0.1 id 1", "add 10.0.0.1 id 3"]


def test_strangers_in_the_places_of_ours() -> None:
    """Somebody flushed the endpoints and added others, under IDs that we take for our own."""
    case = Case()
    for number in (1, 2, 3):
        case.endpoints.add_endpoint(f"10.0.0.{number}")
    case.kernel.endpoints.clear()
    for ident in (1, 2, 3, 4):
        case.kernel.have(f"10.9.9.{ident}", ident)
    assert case.endpoints.add_endpoint("10.0.0.4").id == 5


@pytest.mark.parametrize("style", ["6.18", "6.6"])
@pytest.mark.parametrize("known", [True, False], ids=["since the start", "of late"])
@pytest.mark.parametrize("ident", [1, 7])
def test_an_address_that_is_there_already(style: str, known: bool, ident: int) -> None:
    """Whatever ID it has there, the answer is "exists", not "this ID is taken"."""
    kernel = EndpointTable(style=style)
    if known:
        kernel.have("10.0.0.1", ident, "signal")
    case = Case(kernel)
    kernel.have("10.0.0.1", ident, "signal")
    error = refused(case, "10.0.0.1", flags=["subflow"])
    assert error.reason == errno.EEXIST
    assert kernel.shown() == {ident: "10.0.0.1 signal"}
    assert case.ids.find("10.0.0.1") is None


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("ident", [1, 7])
@pytest.mark.parametrize("known", [True, False], ids=["since the start", "of late"])
def test_an_implicit_endpoint_is_replaced(style: str, ident: int, known: bool) -> None:
    """The kernel made it for a join; it gives way only to one that names no ID."""
    kernel = EndpointTable(style=style)
    if known:
        kernel.have("10.0.0.1", ident, "implicit")
    case = Case(kernel)
    kernel.have("10.0.0.1", ident, "implicit")
    got = case.endpoints.add_endpoint("10.0.0.1", flags=["signal"], ifindex=3)
    assert got == Endpoint(sockaddr("10.0.0.1"), ident, ("signal",), 3)
    assert kernel.shown() == {ident: "10.0.0.1 signal dev 3"}
    assert case.ids.get("10.0.0.1") == ident


def test_one_ip_with_two_ports(case: Case) -> None:
    """Two endpoints, so two IDs; the second is the plugin's to choose."""
    case.endpoints.add_endpoint("10.0.0.1:1000")
    case.endpoints.add_endpoint("10.0.0.1:2000", local_id=9)
    assert [str(endpoint.address) for endpoint in case.endpoints.endpoints()] == [
        "10.0.0.1:1000", "10.0.0.1:2000",
    ]  # fmt: skip
    assert case.ids.get("10.0.0.1") == 1


# The rest


def test_ids_of_endpoints_that_are_there_at_the_start() -> None:
    kernel = EndpointTable()
    kernel.have("10.0.0.2", 1)
    kernel.have("10.0.0.1", 4)
    case = Case(kernel)
    assert case.endpoints.add_endpoint("10.0.0.3").id == 2
    assert kernel.commands == ["add 10.0.0.3 id 2"]
    assert case.ids.get("10.0.0.1") == 4


def test_removing(case: Case) -> None:
    case.endpoints.add_endpoint("10.0.0.1")
    case.endpoints.remove_endpoint(1)
    assert case.kernel.endpoints == {}
    for call in (case.endpoints.remove_endpoint, case.endpoints.get_endpoint):
        with pytest.raises(KernelError, match="address not found"):
            call(1)
    case.endpoints.add_endpoint("10.0.0.1")
    case.kernel.have("10.9.9.9", 8)
    case.endpoints.flush_endpoints()
    assert case.endpoints.endpoints() == []


def test_changing_flags(case: Case) -> None:
    case.endpoints.add_endpoint("10.0.0.1", flags=["subflow"])
    case.endpoints.set_endpoint_flags(1, ["backup"])
    assert case.kernel.shown() == {1: "10.0.0.1 subflow,backup"}
    case.endpoints.set_endpoint_flags("10.0.0.1", [])
    assert case.kernel.shown() == {1: "10.0.0.1 subflow"}
    case.endpoints.set_endpoint_flags(ip_address("10.0.0.1"), "fullmesh")
    assert case.kernel.shown() == {1: "10.0.0.1 subflow,fullmesh"}
    # A port makes it signal, and does not matter where the endpoint has none.
    case.endpoints.set_endpoint_flags(SockAddr(ip_address("10.0.0.1"), 80), [])
    assert case.kernel.commands[-1] == "flags 1 id None"
    assert case.kernel.shown() == {1: "10.0.0.1 subflow"}
    with pytest.raises(KernelError, match="address not found"):
        case.endpoints.set_endpoint_flags("10.0.0.9", [])


def test_limits(case: Case) -> None:
    assert case.endpoints.limits() == case.endpoints.found_limits() == Limits(0, 2)
    case.endpoints.set_limits(subflows=5)
    assert case.endpoints.limits() == Limits(0, 5)
    case.endpoints.set_limits(add_addr_accepted=4)
    assert case.endpoints.limits() == Limits(4, 5)
    assert case.endpoints.found_limits() == Limits(0, 2)
    with pytest.raises(KernelError, match=r"limit greater than maximum \(8\)"):
        case.endpoints.set_limits(9, 9)
    with pytest.raises(ValueError, match="no limit"):
        case.endpoints.set_limits()


def test_flags_by_name_and_bit() -> None:
    assert flag_bits(("signal", "backup")) == 1 | 4
    assert flag_bits("laminar") == 32
    assert flag_bits(17) == 17
    assert flag_bits(()) == 0
    assert flag_names(1 | 4 | 32 | 1 << 20) == ("signal", "backup", "laminar")
    assert flag_bits(FLAGS) == sum(FLAGS.values())
