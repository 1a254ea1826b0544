"""PathManager: everything that plugins are promised is there, and shows but does not give away."""

from __future__ import annotations

import inspect
import logging
from typing import Any
from unittest.mock import Mock

import pytest

from mptcpd.core.commands import ConnectionCommands
from mptcpd.core.config import Config, Settings
from mptcpd.core.endpoints import Endpoints
from mptcpd.core.ids import AddressIds
from mptcpd.core.loop import Loop
from mptcpd.core.network import Interface
from mptcpd.core.pm import PathManager
from mptcpd.core.registry import Registry
from mptcpd.plugin import Plugin
from tests.core.stubs import link
from tests.fake.endpoints import EndpointTable
from tests.fake_kernel import FakeKernel


class Hello(Plugin):
    name = "hello"


class Case:
    """One plugin's view."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.interfaces = {2: Interface(link())}
        self.connections: dict[int, Any] = {}
        self.kernel = EndpointTable()
        self.ids = AddressIds()
        self.plugin = Hello()
        self.registry = Registry([self.plugin])
        self.config = Config.merge(Settings(), Settings(), "/p")
        self.pms: list[PathManager] = []
        self.registry.start(self.make)
        self.pm = self.pms[0]

    def make(self, plugin: Plugin) -> PathManager:
        self.pms.append(
            PathManager(
                plugin.name,
                config=self.config,
                endpoints=Endpoints(FakeKernel(self.kernel).mptcp, self.ids),
                commands=ConnectionCommands(Mock(), self.ids, Mock(), Mock()),
                ids=self.ids,
                listeners=Mock(),
                interfaces=self.interfaces,
                is_lost=lambda ip: False,
                connections=self.connections,
                loop=self.loop,
                guard=lambda what, function: self.registry.guard(plugin, what, function),
            )
        )
        return self.pms[-1]


@pytest.fixture
def case() -> Any:
    case = Case()
    yield case
    case.loop.close()


PROMISED = {
    "announce": ("connection", "address", "local_id", "listen"),
    "remove": ("connection", "local_id"),
    "create_subflow": (
        "connection", "local", "remote", "local_id", "remote_id", "backup", "ifindex",
    ),
    "destroy_subflow": ("connection", "subflow"),
    "set_backup": ("connection", "subflow", "backup"),
    "add_endpoint": ("address", "local_id", "flags", "ifindex"),
    "remove_endpoint": ("local_id",),
    "get_endpoint": ("local_id",),
    "endpoints": (),
    "flush_endpoints": (),
    "set_endpoint_flags": ("address_or_id", "flags"),
    "limits": (),
    "set_limits": ("subflows", "add_addr_accepted"),
    "call_later": ("seconds", "function", "args"),
}  # fmt: skip


@pytest.mark.parametrize("name", PROMISED)
def test_a_promised_command(case: Case, name: str) -> None:
    """Plugins are written against these names; more arguments may follow, with defaults."""
    parameters = inspect.signature(getattr(case.pm, name)).parameters
    assert tuple(parameters)[: len(PROMISED[name])] == PROMISED[name]
    for extra in list(parameters.values())[len(PROMISED[name]) :]:
        assert extra.default is not inspect.Parameter.empty


def test_what_it_shows(case: Case) -> None:
    assert case.pm.config is case.config
    assert case.pm.config.section("hello") == {}
    assert case.pm.log.name == "mptcpd.plugin.hello"
    assert case.pm.ids is case.ids
    assert dict(case.pm.interfaces) == case.interfaces
    case.interfaces[3] = Interface(link(3))
    assert list(case.pm.interfaces) == [2, 3]  # a live view
    assert dict(case.pm.connections) == {}
    assert case.pm.listeners is not None


@pytest.mark.parametrize("name", ["interfaces", "connections"])
def test_what_it_shows_is_not_to_be_changed(case: Case, name: str) -> None:
    with pytest.raises(TypeError):
        getattr(case.pm, name)[1] = None
    with pytest.raises(AttributeError):
        getattr(case.pm, name).clear()


def test_commands_reach_the_kernel(case: Case) -> None:
    endpoint = case.pm.add_endpoint("10.0.1.1", flags=["subflow"])
    assert case.pm.endpoints() == [endpoint]
    case.pm.set_limits(subflows=3)
    assert case.pm.limits().subflows == 3


def test_a_call_later_and_one_that_raises(
    case: Case, caplog: pytest.LogCaptureFixture
) -> None:
    called: list[int] = []

    def broken() -> None:
        raise LookupError("on purpose")

    case.pm.call_later(0, broken)
    case.pm.call_later(0, called.append, 1)
    cancelled = case.pm.call_later(0, called.append, 2)
    cancelled.cancel()
    case.pm.call_later(0.001, case.loop.stop)
    with caplog.at_level(logging.ERROR):
        case.loop.run()
    assert called == [1]
    assert caplog.records[0].getMessage() == 'Plugin "hello": call_later failed'
    assert case.registry.failures == 1


def test_nothing_is_called_for_a_plugin_that_is_gone(case: Case) -> None:
    """And deadlines far off do not keep it, its module and its PathManager in memory."""
    called: list[int] = []
    timers = [case.pm.call_later(seconds, called.append, 1) for seconds in (0, 0, 3600)]
    for _more in range(1000):  # over at once; they are not kept either
        case.pm.call_later(0, int)
    case.pm.call_later(0, case.loop.stop)
    case.loop.run()
    assert called == [1, 1]
    assert [timer.pending for timer in timers] == [False, False, True]
    case.pm.call_later(3600, int)
    assert len(case.pm._timers) <= 1100
    case.pm._forget_timers()
    assert [timer.pending for timer in timers] == [False, False, False]
