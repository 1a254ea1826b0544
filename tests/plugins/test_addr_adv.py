"""addr_adv: endpoints and limits for the addresses that are there, whatever the kernel answers."""

from __future__ import annotations

import errno
import logging
import random
from typing import Any
from unittest.mock import Mock

import pytest

from mptcpd.core.config import Config, ConfigError, Settings, parse
from mptcpd.core.endpoints import Endpoints
from mptcpd.core.ids import AddressIds
from mptcpd.core.loop import Loop
from mptcpd.core.network import Network
from mptcpd.core.ownership import Forgetful
from mptcpd.core.pm import PathManager
from mptcpd.core.registry import Registry
from mptcpd.nl import rtnl
from mptcpd.nl import uapi as u
from mptcpd.nl.errors import KernelError
from mptcpd.nl.mptcp import Limits
from plugins import addr_adv
from plugins.addr_adv import AddrAdv, maximum, renew_on_loss
from tests.core.stubs import READY, address, link
from tests.fake.endpoints import STYLES, EndpointTable
from tests.fake_kernel import FakeKernel

NOTIFY = frozenset({"existing"})


class Case:
    """The plugin between a network that the test changes and a kernel that it looks at."""

    def __init__(
        self, kernel: EndpointTable | None = None, *flags: str, file: str = ""
    ) -> None:
        self.kernel = EndpointTable() if kernel is None else kernel
        said = Settings(addr_flags=flags or ("subflow",))
        config = Config.merge(said, parse(file, "f"), "/p")
        ids = AddressIds()
        endpoints = Endpoints(FakeKernel(self.kernel).mptcp, ids)
        endpoints.start(Forgetful())
        self.plugin = AddrAdv()
        self.plugin.name = "addr_adv"
        self.registry = Registry([self.plugin])
        self.network = Network(self.registry, NOTIFY, choice=config.choice())
        self.loop = Loop()
        unused: Any = Mock()  # what belongs to connections, which this plugin leaves alone
        self.registry.start(
            lambda plugin: PathManager(
                plugin.name,
                config=config,
                endpoints=endpoints,
                commands=unused,
                ids=ids,
                listeners=unused,
                interfaces=self.network.interfaces,
                is_lost=self.network.is_lost,
                connections={},
                loop=self.loop,
                guard=lambda what, function: self.registry.guard(plugin, what, function),
            )
        )
        self.ids = ids

    def up(self, *addresses: rtnl.Address, interfaces: tuple[int, ...] = (2,)) -> None:
        self.network.start([link(index) for index in interfaces], addresses)
        self.turn()

    def link(self, value: rtnl.Link) -> None:
        self.network.link(value)
        self.turn()

    def add(self, text: str, ifindex: int = 2) -> None:
        self.network.address(address(f"{text}/24", ifindex))
        self.turn()

    def remove(self, text: str, ifindex: int = 2) -> None:
        self.network.address(address(f"{text}/24", ifindex, gone=True))
        self.turn()

    def turn(self) -> None:
        """Let the loop do what is due."""
        self.loop.call_later(0, self.loop.stop)
        self.loop.run()

    @property
    def ips(self) -> list[str]:
        return [text.split()[0] for text in self.kernel.shown().values()]


@pytest.fixture(autouse=True)
def _info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING
    ]


def quiet(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing went wrong that somebody would have to look at."""
    assert case.registry.failures == 0
    assert warnings(caplog) == []


# The usual


def test_endpoints_for_addresses(caplog: pytest.LogCaptureFixture) -> None:
    case = Case()
    case.up(address("10.0.1.1/24"), address("10.0.2.1/24", 3), interfaces=(2, 3))
    assert case.kernel.shown() == {1: "10.0.1.1 subflow dev 2", 2: "10.0.2.1 subflow dev 3"}
    case.add("2001:db8::1")
    assert case.kernel.shown()[3] == "2001:db8::1 subflow dev 2"
    case.remove("10.0.2.1", 3)
    assert sorted(case.kernel.shown()) == [1, 3]
    assert case.ids.find("10.0.2.1") is None
    case.link(link(2, gone=True))
    assert case.kernel.shown() == {}
    quiet(case, caplog)


@pytest.mark.parametrize(
    ("flags", "shown", "accepted"),
    [
        (("subflow",), "subflow", 3),
        (("signal",), "signal", 0),
        (("subflow", "backup"), "subflow,backup", 3),
        (("subflow", "fullmesh"), "subflow,fullmesh", 3),
        (("signal", "laminar"), "signal,laminar", 0),
    ],
)
def test_flags(flags: tuple[str, ...], shown: str, accepted: int) -> None:
    case = Case(None, *flags)
    case.up(address())
    assert case.kernel.shown() == {1: f"10.0.1.1 {shown} dev 2"}
    assert case.kernel.current == Limits(accepted, 3)


def test_limits_grow_and_shrink_with_the_addresses() -> None:
    case = Case()
    assert case.kernel.current == Limits(2, 2)
    case.up(*(address(f"10.0.{number}.1/24") for number in range(3)))
    assert case.kernel.current == Limits(5, 5)
    # Limits before the endpoint: it is tried at once on every connection.
    assert case.kernel.commands[-2:] == ["limits 5 5", "add 10.0.2.1 id 3"]
    case.remove("10.0.0.1")
    assert case.kernel.current == Limits(4, 4)
    case.link(link(gone=True))
    assert case.kernel.current == Limits(2, 2)


def test_limits_stay_above_what_was_found() -> None:
    kernel = EndpointTable()
    kernel.current = Limits(add_addr_accepted=1, subflows=4)
    case = Case(kernel, "signal")
    assert kernel.current == Limits(1, 4)
    assert kernel.commands == []
    case.up(*(address(f"10.0.{number}.1/24") for number in range(3)))
    assert kernel.current == Limits(1, 5)
    case.link(link(gone=True))
    assert kernel.current == Limits(1, 4)


# Limits that the kernel refuses


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("most", [3, 8, 64])
def test_the_greatest_limit_is_what_the_kernel_says_it_is(
    style: str, most: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Linux before 6.15 says "limit greater than maximum" and no number."""
    case = Case(EndpointTable(room=255, most=most, style=style))
    case.up(*(address(f"10.0.{number}.1/24") for number in range(10)))
    reached = min(12, most)
    assert case.kernel.current == Limits(reached, reached)
    assert len(case.ips) == 10
    refused = [c for c in case.kernel.commands if c == f"limits {most + 1} {most + 1}"]
    assert len(refused) == (most < 12)  # asked once, then known
    for number in range(9):
        case.remove(f"10.0.{number}.1")
    assert case.kernel.current == Limits(3, 3)
    quiet(case, caplog)


def test_found_limits_at_the_maximum() -> None:
    kernel = EndpointTable(room=255)
    kernel.current = Limits(8, 8)
    case = Case(kernel)
    case.up(*(address(f"10.0.{number}.1/24") for number in range(10)))
    assert kernel.current == Limits(8, 8)
    assert len(case.ips) == 10


def test_a_refused_limit_does_not_keep_addresses_from_being_used(
    caplog: pytest.LogCaptureFixture,
) -> None:
    case = Case()
    case.up()
    case.kernel.fails = [KernelError("MPTCP_PM_CMD_SET_LIMITS", errno.ENOMEM)]
    case.add("10.0.1.1")
    assert case.ips == ["10.0.1.1"]
    assert case.registry.failures == 1
    assert "SET_LIMITS" in caplog.text
    case.add("10.0.1.2")
    assert case.kernel.current == Limits(4, 4)


def test_no_right_to_set_limits(caplog: pytest.LogCaptureFixture) -> None:
    kernel = EndpointTable()
    kernel.fails = [KernelError("MPTCP_PM_CMD_SET_LIMITS", errno.EPERM)]
    case = Case(kernel)
    assert case.registry.names == []
    assert 'Plugin "addr_adv" failed to initialize' in caplog.text


@pytest.mark.parametrize(
    ("words", "number"),
    [
        ("limit greater than maximum (8)", 8),
        ("limit greater than maximum (64)", 64),
        ("limit greater than maximum", None),
        ("limit greater than maximum ()", None),
        ("limit greater than maximum (x)", None),
        ("limit greater than maximum (-3)", None),
        ("", None),
    ],
)
def test_reading_the_maximum(words: str, number: int | None) -> None:
    assert maximum(words) == number


# More addresses than the kernel has room for


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("room", [1, 8])
def test_more_addresses_than_room(
    style: str, room: int, caplog: pytest.LogCaptureFixture
) -> None:
    case = Case(EndpointTable(room=room, style=style))
    case.up(*(address(f"10.0.{number}.1/24") for number in range(room + 3)))
    assert case.ips == [f"10.0.{number}.1" for number in range(room)]
    (warning,) = warnings(caplog)
    assert f"10.0.{room}.1 is not used for now: the kernel has room for {room} end" in warning
    case.remove("10.0.0.1")
    assert sorted(case.ips) == sorted(f"10.0.{number}.1" for number in range(1, room + 1))
    case.remove(f"10.0.{room + 1}.1")  # it was waiting
    case.remove("10.0.1.1" if room > 1 else f"10.0.{room}.1")
    assert f"10.0.{room + 2}.1" in case.ips
    assert len(case.ips) == room
    assert len(warnings(caplog)) == 1
    assert case.registry.failures == 0


def test_waiting_addresses_take_no_ids() -> None:
    case = Case(EndpointTable(room=1))
    case.up(*(address(f"10.0.{number}.1/24") for number in range(4)))
    assert [case.ids.find(f"10.0.{number}.1") for number in range(4)] == [1, None, None, None]


def test_a_new_interface_comes_before_the_second_address_of_another() -> None:
    case = Case(EndpointTable(room=2))
    case.up(address("10.0.1.1/24"), address("10.0.1.2/24"), interfaces=(2, 3))
    assert case.ips == ["10.0.1.1", "10.0.1.2"]
    case.add("10.0.3.1", 3)
    assert sorted(case.ips) == ["10.0.1.1", "10.0.3.1"]
    case.remove("10.0.3.1", 3)
    assert sorted(case.ips) == ["10.0.1.1", "10.0.1.2"]


def test_room_that_somebody_else_takes_away(caplog: pytest.LogCaptureFixture) -> None:
    """Between our giving up an endpoint and adding another one, a stranger adds his."""
    case = Case(EndpointTable(room=2))
    case.up(address("10.0.1.1/24"), address("10.0.1.2/24"), interfaces=(2, 3))
    delete = case.kernel.del_addr

    def steal(endpoint: Any) -> None:
        delete(endpoint)
        case.kernel.have("10.9.9.9", endpoint.id)

    case.kernel.del_addr = steal  # type: ignore[method-assign]
    case.add("10.0.3.1", 3)
    assert sorted(case.ips) == ["10.0.1.1", "10.9.9.9"]
    assert case.registry.failures == 0


def test_who_gave_way_in_vain_gets_its_endpoint_back() -> None:
    case = Case(EndpointTable(room=2))
    case.up(address("10.0.1.1/24"), address("10.0.1.2/24"), interfaces=(2, 3))
    delete = case.kernel.del_addr

    def then_fail(endpoint: Any) -> None:
        delete(endpoint)
        case.kernel.fails = [KernelError("MPTCP_PM_CMD_ADD_ADDR", errno.ENOMEM)]

    case.kernel.del_addr = then_fail  # type: ignore[method-assign]
    case.add("10.0.3.1", 3)
    assert sorted(case.ips) == ["10.0.1.1", "10.0.1.2"]


def test_all_ids_are_taken(caplog: pytest.LogCaptureFixture) -> None:
    case = Case()
    for number in range(255):
        case.ids.get(f"10.8.0.{number}")
    case.up(address("10.0.1.1/24"), address("10.0.1.2/24"))
    assert case.ips == []
    (warning,) = warnings(caplog)
    assert "all 255 address IDs are taken" in warning
    case.ids.remove("10.8.0.7")
    case.add("10.0.1.3")
    assert case.kernel.shown() == {8: "10.0.1.1 subflow dev 2"}


# Endpoints that are there, made by others


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("ident", [1, 2, 200])
@pytest.mark.parametrize("known", [True, False], ids=["since the start", "of late"])
def test_somebody_elses_endpoint_is_left_alone(
    style: str, ident: int, known: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """One warning, and the other addresses are used as ever."""
    kernel = EndpointTable(style=style)
    if known:
        kernel.have("10.0.1.1", ident, "signal")
    case = Case(kernel)
    kernel.have("10.0.1.1", ident, "signal")
    case.up(address("10.0.1.1/24"), address("10.0.1.2/24"))
    case.add("10.0.1.3")
    assert kernel.shown()[ident] == "10.0.1.1 signal"
    assert sorted(case.ips) == ["10.0.1.1", "10.0.1.2", "10.0.1.3"]
    assert warnings(caplog) == ["Somebody else's endpoint for 10.0.1.1 is left as it is."]
    case.link(link(gone=True))
    assert kernel.shown() == {ident: "10.0.1.1 signal"}
    assert case.registry.failures == 0
    case.link(link())
    case.add("10.0.1.1")
    assert len(warnings(caplog)) == 2  # the address is a new one


def test_somebody_elses_endpoint_goes() -> None:
    """At the next change its address gets ours."""
    kernel = EndpointTable()
    kernel.have("10.0.1.1", 1, "signal")
    case = Case(kernel)
    case.up(address("10.0.1.1/24"))
    del kernel.endpoints[1]
    case.add("10.0.1.2")
    assert kernel.shown() == {1: "10.0.1.1 subflow dev 2", 2: "10.0.1.2 subflow dev 2"}


@pytest.mark.parametrize("ip", ["10.0.1.1", "192.0.2.1"])
def test_somebody_elses_endpoint_goes_and_nothing_else_happens(
    ip: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It was that of an address, or took the last room: the address that waits is tried again."""
    monkeypatch.setattr(addr_adv, "AGAIN", 0.0)
    kernel = EndpointTable(room=2)
    kernel.have(ip, 1, "signal")
    case = Case(kernel)
    case.up(address("10.0.1.2/24"), address("10.0.1.1/24"))
    for _time in range(3):
        case.turn()
    assert sorted(case.ips) == sorted([ip, "10.0.1.2"])
    assert len(warnings(caplog)) == 1
    del kernel.endpoints[1]
    case.turn()
    assert sorted(case.ips) == ["10.0.1.1", "10.0.1.2"]
    kernel.commands.clear()
    for _time in range(3):
        case.turn()
    assert kernel.commands == []  # nobody waits any more


def test_a_full_kernel_with_somebody_elses_endpoint_does_not_churn(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A full kernel does not say that the address is there: nobody may be driven out for it."""
    kernel = EndpointTable(room=3)
    kernel.have("10.0.1.1", 200, "signal")
    case = Case(kernel)
    case.up(
        address("10.0.1.1/24"), address("10.0.2.1/24", 3), address("10.0.2.2/24", 3),
        interfaces=(2, 3),
    )  # fmt: skip
    assert sorted(case.ips) == ["10.0.1.1", "10.0.2.1", "10.0.2.2"]
    kernel.commands.clear()
    for _ in range(3):
        case.link(link(3, READY, "renamed"))
        case.link(link(3, READY, "back"))
    case.add("10.0.2.3", 3)
    assert not [command for command in kernel.commands if command.startswith("delete")]
    assert case.registry.failures == 0


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("ident", [1, 2, 200])
def test_an_implicit_endpoint_becomes_ours(
    style: str, ident: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The kernel makes one when a peer joins to an address without; a server has them."""
    kernel = EndpointTable(style=style)
    kernel.have("10.0.1.1", ident, "implicit")
    case = Case(kernel, "signal")
    case.up(address("10.0.1.1/24"), address("10.0.1.2/24"))
    assert kernel.shown()[ident] == "10.0.1.1 signal dev 2"
    assert sorted(case.ips) == ["10.0.1.1", "10.0.1.2"]
    case.remove("10.0.1.1")
    assert case.ips == ["10.0.1.2"]
    quiet(case, caplog)


def test_an_id_that_was_given_to_another_is_not_deleted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An administrator flushed all endpoints and added his own: his stay."""
    case = Case()
    case.up(address("10.0.1.1/24"), address("10.0.1.2/24"))
    case.kernel.endpoints.clear()
    case.kernel.have("10.9.9.9", 1, "signal")
    case.remove("10.0.1.1")
    case.remove("10.0.1.2")
    assert case.kernel.shown() == {1: "10.9.9.9 signal"}
    assert "The endpoint of 10.0.1.1 (ID 1) was gone already." in caplog.text
    assert "The endpoint of 10.0.1.2 (ID 2) was gone already." in caplog.text
    assert case.registry.failures == 0


def test_an_interface_with_very_many_addresses_goes() -> None:
    """Those that wait do not step in for each that is lost, only to be lost next."""
    case = Case()
    case.up(*(address(f"10.{number // 250}.{number % 250}.1/24") for number in range(500)))
    assert len(case.ips) == 8
    case.kernel.commands.clear()
    case.link(link(gone=True))
    assert [command.split()[0] for command in case.kernel.commands] == 8 * ["delete"] + ["limits"]
    assert case.kernel.current == Limits(2, 2)


# One IP on several interfaces


def test_one_ip_on_two_interfaces(caplog: pytest.LogCaptureFixture) -> None:
    case = Case()
    case.up(address(ifindex=2), address(ifindex=3), interfaces=(2, 3))
    assert case.kernel.shown() == {1: "10.0.1.1 subflow dev 2"}
    case.link(link(2, gone=True))
    assert case.kernel.shown() == {1: "10.0.1.1 subflow dev 3"}
    case.link(link(3, gone=True))
    assert case.kernel.shown() == {}
    assert case.ids.find("10.0.1.1") is None
    quiet(case, caplog)


def test_one_ip_on_very_many_interfaces() -> None:
    """Unnumbered interfaces (ppp, containers) share one: no command for each at every event."""
    case = Case()
    interfaces = tuple(range(2, 202))
    case.up(*(address(ifindex=index) for index in interfaces), interfaces=interfaces)
    assert case.kernel.shown() == {1: "10.0.1.1 subflow dev 2"}
    assert len([c for c in case.kernel.commands if c.startswith("add")]) == 1


# Odd answers


def test_a_refusal_of_one_address_does_not_stop_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    case = Case()
    case.up()
    add = case.kernel.add_addr

    def picky(endpoint: Any) -> None:
        if endpoint.ip == address("10.0.1.1").ip:
            raise KernelError("MPTCP_PM_CMD_ADD_ADDR", errno.ENOMEM)
        add(endpoint)

    case.kernel.add_addr = picky  # type: ignore[method-assign]
    for number in (1, 2, 3):
        case.add(f"10.0.1.{number}")
    assert case.ips == ["10.0.1.2", "10.0.1.3"]
    (warning,) = warnings(caplog)
    assert warning.startswith("10.0.1.1 is not used: MPTCP_PM_CMD_ADD_ADDR: ")
    case.kernel.add_addr = add  # type: ignore[method-assign]
    case.add("10.0.1.4")
    assert "10.0.1.1" in case.ips


def test_a_removal_that_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    case = Case(EndpointTable(room=1))
    case.up(address("10.0.1.1/24"))
    case.kernel.fails = [KernelError("MPTCP_PM_CMD_DEL_ADDR", errno.EPERM)]
    case.remove("10.0.1.1")
    assert case.registry.failures == 1
    assert "delete_local_address failed" in caplog.text
    assert case.plugin.places == {}
    case.add("10.0.1.2")
    assert case.registry.failures == 1


def test_an_address_that_it_was_never_told_of(caplog: pytest.LogCaptureFixture) -> None:
    case = Case()
    case.up(address())
    case.plugin.places.clear()
    case.remove("10.0.1.1")
    assert "No address ID associated with 10.0.1.1." in caplog.text
    assert case.registry.failures == 0


# All of it


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("style", STYLES)
def test_a_storm(style: str, seed: int, caplog: pytest.LogCaptureFixture) -> None:
    """200 addresses come and go in any order while an interface flaps."""
    dice = random.Random(seed)
    case = Case(EndpointTable(style=style))
    interfaces = (2, 3, 4)
    case.up(interfaces=interfaces)
    places = [(f"10.0.{number}.1", dice.choice(interfaces)) for number in range(200)]
    present: set[tuple[str, int]] = set()
    down: set[int] = set()
    for step in range(600):
        text, index = place = dice.choice(places)
        if dice.random() < 0.02:
            flapping = dice.choice(interfaces)
            down ^= {flapping}
            case.link(link(flapping, 0 if flapping in down else READY))
        elif place in present:
            present.remove(place)
            case.remove(text, index)
        else:
            present.add(place)
            case.add(text, index)
        usable = {text for text, index in present if index not in down}
        assert len(case.ips) == min(8, len(usable)), step
        assert set(case.ips) <= usable
        wanted = min(8, 2 + len(usable))
        assert case.kernel.current == Limits(wanted, wanted)
    assert len(warnings(caplog)) == 1
    assert case.registry.failures == 0


# renew-on-loss

RENEW = "[addr_adv]\nrenew-on-loss=yes"
THREE = [address("10.0.1.1/24", 2), address("10.0.2.1/24", 3), address("10.0.3.1/24", 4)]


def added(case: Case) -> list[str]:
    """The addresses that were added, in order, since the last time."""
    words = [line.split() for line in case.kernel.commands]
    case.kernel.commands.clear()
    return [word[1] for word in words if word[0] == "add"]


@pytest.mark.parametrize(
    ("file", "again"), [("", []), (RENEW, ["10.0.2.1", "10.0.3.1"])], ids=["no", "yes"]
)
def test_a_lost_interface_renews_the_others(
    file: str, again: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    case = Case(file=file)
    case.up(*THREE, interfaces=(2, 3, 4))
    shown = case.kernel.shown()
    added(case)
    case.link(link(2, u.IFF_UP))
    assert added(case) == again
    assert case.kernel.shown() == {ident: text for ident, text in shown.items() if ident != 1}
    quiet(case, caplog)


def test_two_interfaces_lost_at_once_renew_the_others_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """And not before both are left: each command takes the kernel 10 ms."""
    case = Case(file=RENEW)
    case.up(*THREE, interfaces=(2, 3, 4))
    case.kernel.commands.clear()
    with case.network.batch():
        case.network.link(link(2, u.IFF_UP))
        case.network.link(link(3, u.IFF_UP))
    case.turn()
    changes = [line.split()[:2] for line in case.kernel.commands if line.split()[0] != "limits"]
    assert [words[0] for words in changes] == ["delete"] * 3 + ["add"]
    assert changes[-1] == ["add", "10.0.3.1"]
    quiet(case, caplog)


def test_an_address_that_goes_renews_nothing(caplog: pytest.LogCaptureFixture) -> None:
    case = Case(file=RENEW)
    case.up(*THREE, address("10.0.1.2/24", 2), interfaces=(2, 3, 4))
    added(case)
    case.remove("10.0.1.2")
    assert added(case) == []
    quiet(case, caplog)


def test_only_what_makes_subflows_is_renewed(caplog: pytest.LogCaptureFixture) -> None:
    case = Case(None, "signal", file=RENEW)
    case.up(*THREE, interfaces=(2, 3, 4))
    added(case)
    case.link(link(2, u.IFF_UP))
    assert added(case) == []
    quiet(case, caplog)


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("[addr_adv]\nrenew-on-loss=1", r'f:2: .*"1" is neither yes nor no'),
        ("[addr_adv]\nrenew=yes", r"f:2: .*unknown key; allowed: renew-on-loss"),
    ],
)
def test_a_wrong_setting(file: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        renew_on_loss(Config.merge(Settings(), parse(file, "f"), "/p").section("addr_adv"))
