"""Which endpoints are ours: what is noted, what of it is believed, and in which order."""

from __future__ import annotations

import logging
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mptcpd.core.address import SockAddr
from mptcpd.core.endpoints import Endpoints
from mptcpd.core.ids import AddressIds
from mptcpd.core.ownership import Endpoint, Forgetful, Notes, Ownership, read, write
from mptcpd.nl import mptcp
from mptcpd.nl.errors import KernelError
from mptcpd.nl.mptcp import FLAGS, Limits
from tests.fake.endpoints import EndpointTable
from tests.fake_kernel import FakeKernel


class Memory:
    """A store in memory; it outlives the daemon."""

    def __init__(self, text: str = "") -> None:
        self.text = text
        self.saves = 0

    def load(self) -> str:
        return self.text

    def save(self, text: str) -> None:
        self.text = text
        self.saves += 1


def endpoint(text: str, ident: int, flags: str = "subflow", ifindex: int | None = 2) -> Endpoint:
    names = tuple(name for name in flags.split(",") if name)
    return Endpoint(SockAddr(ip_address(text)), ident, names, ifindex)


class Case:
    """A kernel and a memory, and one start of the daemon after the other."""

    def __init__(self) -> None:
        self.kernel = EndpointTable()
        self.memory = Memory()
        self.start()

    def start(self) -> Endpoints:
        self.endpoints = Endpoints(FakeKernel(self.kernel).mptcp, AddressIds())
        self.endpoints.start(self.memory)
        self.kernel.commands.clear()
        return self.endpoints

    @property
    def noted(self) -> list[int]:
        return [one.id for one in read(self.memory.text).endpoints]


@pytest.fixture
def case() -> Case:
    return Case()


# The text


IPS = st.ip_addresses().map(
    lambda ip: ip if ip.version == 4 else ip_address(int(ip) & ~(0xFFFF << 32))
)
ENDPOINTS = st.builds(
    Endpoint,
    st.builds(SockAddr, IPS, st.integers(0, 0xFFFF)),
    st.integers(1, 255),
    st.sets(st.sampled_from(list(FLAGS))).map(
        lambda names: tuple(name for name in FLAGS if name in names)
    ),
    st.none() | st.integers(1, 1 << 31),
)
LIMITS = st.none() | st.builds(Limits, st.integers(0, 255), st.integers(0, 255))
NOTES = st.builds(Notes, LIMITS, LIMITS, st.lists(ENDPOINTS, max_size=4))


@given(NOTES)
def test_what_is_written_is_read(notes: Notes) -> None:
    assert read(write(notes)) == notes


def test_how_it_looks() -> None:
    notes = Notes(
        Limits(0, 2), Limits(4, 4),
        [endpoint("10.0.1.1", 1), endpoint("fd00::1", 2, "", None),
         Endpoint(SockAddr(ip_address("10.0.2.1"), 80), 3, ("signal", "backup"), 7)],
    )  # fmt: skip
    assert write(notes) == (
        "mptcpd 1\n"
        "found 0 2\n"
        "set 4 4\n"
        "endpoint 10.0.1.1 0 1 2 subflow\n"
        "endpoint fd00::1 0 2 0 -\n"
        "endpoint 10.0.2.1 80 3 7 signal,backup\n"
    )


GOOD = "mptcpd 1\nfound 0 2\nset 3 3\nendpoint 10.0.1.1 0 1 2 subflow\n"
BAD = [
    GOOD[:-1],
    GOOD.replace("mptcpd 1", "mptcpd 2"),
    GOOD.replace("found 0 2", "found 0"),
    GOOD.replace("found 0 2", "found 0 2 3"),
    GOOD.replace("found 0 2", "found -1 2"),
    GOOD.replace("found 0 2", "found 0 99999999999"),
    GOOD.replace("endpoint", "endpoints"),
    GOOD.replace(" subflow", ""),
    GOOD.replace("subflow", "subflow,fast"),
    GOOD.replace("10.0.1.1", "10.0.1"),
    GOOD.replace("10.0.1.1", "10.0.1.1:80"),
    GOOD.replace(" 0 1 2", " 0 0 2"),
    GOOD.replace(" 0 1 2", " 0 256 2"),
    GOOD.replace(" 0 1 2", " 65536 1 2"),
    GOOD.replace(" 0 1 2", " 0 \u0661 2"),
    GOOD.replace(" 0 1 2", "  0 1 2"),
    GOOD + "\n",
    GOOD + "\0\n",
    "\n" + GOOD,
    "{}",
]


@pytest.mark.parametrize("text", BAD)
def test_damage_is_said_and_nothing_of_it_believed(
    text: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert read(GOOD) == Notes(Limits(0, 2), Limits(3, 3), [endpoint("10.0.1.1", 1)])
    assert caplog.text == ""
    assert read(text) == Notes()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "is damaged and not used" in record.getMessage()


def test_nothing_noted_is_nothing_to_complain_of(caplog: pytest.LogCaptureFixture) -> None:
    assert read("") == Notes()
    assert caplog.text == ""


@given(st.text(st.characters(codec="utf-8")) | st.builds(GOOD.replace, st.text(), st.text()))
def test_any_text(text: str) -> None:
    read(text)
    read("mptcpd 1\n" + text)


# What is ours


def test_noted_before_the_kernel_is_asked_and_struck_out_after(case: Case) -> None:
    noted: list[list[int]] = []

    class Looking(EndpointTable):
        def add_addr(self, endpoint: mptcp.Address) -> None:
            noted.append(case.noted)
            super().add_addr(endpoint)

        def del_addr(self, endpoint: mptcp.Address) -> None:
            noted.append(case.noted)
            super().del_addr(endpoint)

    case.kernel = Looking()
    case.start()
    case.endpoints.add_endpoint("10.0.1.1")
    case.endpoints.remove_endpoint(1)
    assert noted == [[1], [1]]
    assert case.noted == []


def test_what_was_refused_is_not_ours(case: Case) -> None:
    case.kernel.have("10.0.1.1", 4)
    with pytest.raises(KernelError):
        case.endpoints.add_endpoint("10.0.1.1")
    assert case.noted == []
    case.start()
    assert case.endpoints.drop_inherited() == []
    assert case.kernel.shown() == {4: "10.0.1.1"}


def test_a_refusal_leaves_an_older_one_of_the_same_id_ours(case: Case) -> None:
    case.endpoints.add_endpoint("10.0.1.1", local_id=5)
    with pytest.raises(KernelError):
        case.endpoints.add_endpoint("10.0.1.2", local_id=5)
    assert [one.address.ip for one in read(case.memory.text).endpoints] == [ip_address("10.0.1.1")]


@pytest.mark.parametrize(
    "there",
    [
        endpoint("10.0.1.2", 1),  # another address under its ID
        endpoint("10.0.1.1", 2),  # its address under another ID
        endpoint("10.0.1.1", 1, ifindex=3),  # on another interface
        endpoint("10.0.1.1", 1, ifindex=None),
    ],
)
def test_only_what_is_as_it_was_noted_is_inherited(case: Case, there: Endpoint) -> None:
    case.endpoints.add_endpoint("10.0.1.1", flags="subflow", ifindex=2)
    case.kernel.endpoints.clear()
    case.kernel.have(str(there.address.ip), there.id, "subflow", there.ifindex)
    before = case.kernel.shown()
    case.start()
    assert case.endpoints.ownership.owned == {}
    assert case.endpoints.drop_inherited() == []
    assert case.kernel.shown() == before


def test_what_nobody_claims_is_dropped(case: Case) -> None:
    case.endpoints.add_endpoint("10.0.1.1")
    case.endpoints.add_endpoint("10.0.1.2")
    case.kernel.have("10.9.9.9", 7)
    endpoints = case.start()
    assert endpoints.add_endpoint("10.0.1.2").id == 2
    assert [one.id for one in endpoints.drop_inherited()] == [1]
    assert case.kernel.shown() == {2: "10.0.1.2", 7: "10.9.9.9"}
    assert case.kernel.commands == ["delete id 1"]
    assert endpoints.drop_inherited() == []
    assert case.noted == [2]
    assert endpoints.add_endpoint("10.0.1.3").id == 1  # and its ID is free


TAKE_OVER = [
    ("subflow", "subflow", []),
    ("subflow", "subflow,backup", ["flags 6 id 1"]),
    ("subflow,backup", "subflow", ["flags 2 id 1"]),
    ("subflow", "subflow,fullmesh", ["flags 10 id 1"]),
    ("subflow", "signal", ["delete id 1", "add 10.0.1.1 id 1"]),
    ("signal,backup", "subflow,backup", ["delete id 1", "add 10.0.1.1 id 1"]),
    ("", "laminar", ["delete id 1", "add 10.0.1.1 id 1"]),
]


@pytest.mark.parametrize(("before", "after", "commands"), TAKE_OVER)
def test_taking_over_with_the_least_disturbance(
    case: Case, before: str, after: str, commands: list[str]
) -> None:
    split = [tuple(name for name in text.split(",") if name) for text in (before, after)]
    case.endpoints.add_endpoint("10.0.1.1", flags=split[0], ifindex=2)
    endpoints = case.start()
    assert endpoints.add_endpoint("10.0.1.1", flags=split[1], ifindex=2).id == 1
    assert case.kernel.commands == commands
    assert case.kernel.shown() == {1: f"10.0.1.1 {after} dev 2"}
    assert endpoints.drop_inherited() == []
    assert read(case.memory.text).endpoints == [endpoint("10.0.1.1", 1, after)]


def test_taking_over_on_another_interface(case: Case) -> None:
    case.endpoints.add_endpoint("10.0.1.1", ifindex=2)
    case.start().add_endpoint("10.0.1.1", ifindex=3)
    assert case.kernel.commands == ["delete id 1", "add 10.0.1.1 id 1"]
    assert case.kernel.shown() == {1: "10.0.1.1  dev 3"}
    assert case.noted == [1]


def test_flushed_by_us(case: Case) -> None:
    case.endpoints.add_endpoint("10.0.1.1")
    case.endpoints.flush_endpoints()
    assert case.noted == []


def test_gone_behind_our_back(case: Case) -> None:
    case.endpoints.add_endpoint("10.0.1.1")
    case.kernel.endpoints.clear()
    with pytest.raises(KernelError, match="address not found"):
        case.endpoints.remove_endpoint(1)
    assert case.noted == []


# Limits


def test_limits_found_over_restarts(case: Case) -> None:
    case.kernel.current = Limits(1, 3)
    case.start()
    case.endpoints.set_limits(5, 5)
    assert case.endpoints.found_limits() == Limits(1, 3)
    case.start()
    assert case.endpoints.found_limits() == Limits(1, 3)
    case.kernel.current = Limits(0, 7)  # somebody else's, between two starts
    case.start()
    assert case.endpoints.found_limits() == Limits(0, 7)
    case.endpoints.set_limits(subflows=8)
    assert case.endpoints.found_limits() == Limits(0, 7)
    case.kernel.current = Limits(6, 6)  # and while we run
    assert case.endpoints.found_limits() == Limits(6, 6)
    case.start()
    assert case.endpoints.found_limits() == Limits(6, 6)


def test_refused_limits_are_not_ours(case: Case) -> None:
    with pytest.raises(KernelError):
        case.endpoints.set_limits(100, 100)
    case.endpoints.set_limits(3, 3)
    assert case.endpoints.found_limits() == Limits(0, 2)


def test_cleaning_up(case: Case) -> None:
    case.kernel.have("10.9.9.9", 7)
    case.kernel.current = Limits(1, 3)
    case.start()
    for number in (1, 2, 3):
        case.endpoints.add_endpoint(f"10.0.1.{number}")
    case.endpoints.set_limits(5, 5)
    del case.kernel.endpoints[2]  # by somebody else
    case.start()
    case.endpoints.clean_up()
    assert case.kernel.shown() == {7: "10.9.9.9"}
    assert case.kernel.current == Limits(1, 3)
    assert case.memory.text == ""


def test_cleaning_up_what_was_never_changed(case: Case) -> None:
    case.endpoints.clean_up()
    assert case.kernel.commands == []
    assert case.memory.text == ""


def test_no_more_is_written_than_there_is_news(case: Case) -> None:
    case.endpoints.add_endpoint("10.0.1.1")
    case.endpoints.set_limits(3, 3)
    saves = case.memory.saves
    case.endpoints.set_limits(3, 3)
    assert case.endpoints.found_limits() == Limits(0, 2)
    case.endpoints.ownership.strike(99)
    assert case.memory.saves == saves


def test_forgetful() -> None:
    store = Forgetful()
    store.save("x")
    assert store.load() == ""
    ownership = Ownership(store, [endpoint("10.0.1.1", 1)], Limits(1, 2))
    assert (ownership.owned, ownership.found) == ({}, Limits(1, 2))
