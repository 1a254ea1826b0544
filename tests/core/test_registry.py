"""Plugins in their order; what one of them raises stops there."""

from __future__ import annotations

import logging
from typing import Any, cast

import pytest

from mptcpd.core.config_values import ConfigError
from mptcpd.core.network import Interface
from mptcpd.core.pm import PathManager
from mptcpd.core.registry import BURST, HOOKS, INTERVAL, Registry
from mptcpd.plugin import PRIORITY_DEFAULT, PRIORITY_HIGH, PRIORITY_LOW, Plugin, SockAddr
from tests.core.stubs import link

ETH2 = Interface(link())
CALLS: list[str] = []


class Noting(Plugin):
    """Notes what it is called for."""

    def __init__(self, name: str, priority: int = PRIORITY_DEFAULT, fails: str = "") -> None:
        self.name = name
        self.priority = priority
        self.fails = fails
        self.pm: object = None

    def note(self, hook: str, pm: PathManager) -> None:
        assert self.pm in (None, pm)
        self.pm = pm
        CALLS.append(f"{self.name} {hook}")
        if hook == self.fails:
            raise LookupError(f"{hook} on purpose")
        if f"exit from {hook}" == self.fails:
            raise SystemExit(3)

    def init(self, pm: PathManager) -> None:
        self.note("init", pm)

    def exit(self, pm: PathManager) -> None:
        self.note("exit", pm)

    def new_interface(self, interface: Interface, pm: PathManager) -> None:
        assert interface is ETH2
        self.note("new_interface", pm)


class Quiet(Plugin):
    """Overrides nothing."""

    name = "quiet"


@pytest.fixture(autouse=True)
def _no_calls() -> None:
    CALLS.clear()


def taken() -> list[str]:
    calls = CALLS[:]
    CALLS.clear()
    return calls


def started(*plugins: Plugin) -> Registry:
    registry = Registry(plugins)
    registry.start(lambda plugin: cast(PathManager, ("pm of", plugin.name)))
    return registry


def test_the_order_is_that_of_priorities_then_of_loading() -> None:
    registry = started(
        Noting("a"), Noting("last", PRIORITY_LOW), Noting("b"), Noting("first", PRIORITY_HIGH)
    )
    assert registry.names == ["first", "a", "b", "last"]
    assert taken() == ["first init", "a init", "b init", "last init"]
    registry.new_interface(ETH2)
    assert taken() == [f"{name} new_interface" for name in registry.names]
    registry.stop()
    assert taken() == ["last exit", "b exit", "a exit", "first exit"]


def test_each_has_a_path_manager_of_its_own() -> None:
    one, two = Noting("one"), Noting("two")
    registry = started(one, two)
    registry.new_interface(ETH2)
    assert (one.pm, two.pm) == (("pm of", "one"), ("pm of", "two"))
    assert registry.started() == [(one, one.pm), (two, two.pm)]


def test_the_preferred_one_is_asked_first() -> None:
    registry = started(Noting("a", PRIORITY_HIGH), Noting("b"), Noting("c"))
    taken()
    assert registry.prefer("c")
    assert registry.names == ["c", "a", "b"]
    registry.new_interface(ETH2)
    assert taken() == ["c new_interface", "a new_interface", "b new_interface"]
    registry.stop()
    assert taken() == ["b exit", "a exit", "c exit"]


@pytest.mark.parametrize("name", ["", "d", "A", "a "])
def test_preferring_one_that_is_not_there(name: str) -> None:
    registry = started(Noting("a"))
    assert not registry.prefer(name)
    assert registry.names == ["a"]


def test_only_overridden_hooks_are_called(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_arguments: object) -> None:
        pytest.fail("the empty hook of Plugin was called")

    quiet = Quiet()
    registry = started(Noting("a"), quiet)
    for hook in HOOKS:
        monkeypatch.setattr(Plugin, hook, never)
    address = cast(SockAddr, None)
    registry.new_interface(ETH2)
    registry.update_interface(ETH2)
    registry.delete_interface(ETH2)
    registry.new_local_address(ETH2, address)
    registry.delete_local_address(ETH2, address)
    assert taken() == ["a init", "a new_interface"]
    assert registry.overridden(quiet, ["new_interface", "new_connection"]) == {}


def test_a_hook_that_an_instance_replaces_does_not_count() -> None:
    """The class says which hooks there are: the same answer at every start."""
    quiet = Quiet()
    quiet.new_interface = lambda *_: pytest.fail()  # type: ignore[method-assign]
    started(quiet).new_interface(ETH2)


def test_every_hook_reaches_its_method() -> None:
    class All(Plugin):
        name = "all"

    def method(hook: str) -> Any:
        def called(self: Plugin, *arguments: object) -> None:
            CALLS.append(f"{hook} {len(arguments)}")

        return called

    for hook in HOOKS:
        setattr(All, hook, method(hook))
    registry = started(All())
    address = cast(SockAddr, None)
    registry.new_interface(ETH2)
    registry.update_interface(ETH2)
    registry.delete_interface(ETH2)
    registry.new_local_address(ETH2, address)
    registry.delete_local_address(ETH2, address)
    assert taken() == [
        "new_interface 2", "update_interface 2", "delete_interface 2",
        "new_local_address 3", "delete_local_address 3",
    ]  # fmt: skip


@pytest.mark.parametrize("fails", ["new_interface", "exit from new_interface"])
def test_a_hook_that_raises(fails: str, caplog: pytest.LogCaptureFixture) -> None:
    registry = started(Noting("a"), Noting("broken", fails=fails), Noting("c"))
    taken()
    with caplog.at_level(logging.ERROR):
        registry.new_interface(ETH2)
        registry.new_interface(ETH2)
    assert taken() == 2 * ["a new_interface", "broken new_interface", "c new_interface"]
    assert registry.failures == len(caplog.records) == 2
    assert caplog.records[0].getMessage() == 'Plugin "broken": new_interface failed'
    assert caplog.records[0].exc_info is not None
    assert "LookupError: new_interface on purpose" in caplog.text or "SystemExit: 3" in caplog.text


def test_a_hook_that_raises_all_the_time_fills_no_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    registry = started(Noting("a", fails="new_interface"))
    now = 100.0
    monkeypatch.setattr(registry, "_clock", lambda: now)
    for _time in range(BURST + 7):
        registry.new_interface(ETH2)
    registry.guard(registry.plugins[0], "a timer", [].pop)()  # has a count of its own
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        *BURST * ['Plugin "a": new_interface failed'],
        'Plugin "a": new_interface fails again and again; not logged each time',
        'Plugin "a": a timer failed',
    ]
    assert registry.failures == BURST + 8
    caplog.clear()
    now += INTERVAL
    registry.new_interface(ETH2)
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        'Plugin "a": new_interface failed 7 more times', 'Plugin "a": new_interface failed'
    ]  # fmt: skip
    now += INTERVAL
    caplog.clear()
    registry.new_interface(ETH2)
    assert len(caplog.records) == 1


def test_a_mistake_in_a_plugins_section(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever wrote it is told where it is, and needs no traceback."""

    class Choosy(Noting):
        def init(self, pm: PathManager) -> None:
            raise ConfigError("mptcpd.conf", 7, "unknown key")

    assert started(Choosy("choosy"), Noting("b")).names == ["b"]
    assert [(record.getMessage(), record.exc_info) for record in caplog.records] == [
        ('Plugin "choosy": mptcpd.conf:7: unknown key', None),
        ('Plugin "choosy" failed to initialize', None),
    ]


@pytest.mark.parametrize("fails", ["init", "exit from init"])
def test_an_init_that_raises(fails: str, caplog: pytest.LogCaptureFixture) -> None:
    registry = started(Noting("a"), Noting("broken", fails=fails), Noting("c"))
    assert taken() == ["a init", "broken init", "c init"]
    assert 'Plugin "broken": init failed' in caplog.text
    assert 'Plugin "broken" failed to initialize' in caplog.text
    assert registry.names == ["a", "c"]
    assert not registry.prefer("broken")
    registry.new_interface(ETH2)
    registry.stop()
    assert taken() == ["a new_interface", "c new_interface", "c exit", "a exit"]


def test_an_exit_that_raises(caplog: pytest.LogCaptureFixture) -> None:
    registry = started(Noting("a"), Noting("broken", fails="exit"), Noting("c"))
    taken()
    registry.stop()
    assert taken() == ["c exit", "broken exit", "a exit"]
    assert 'Plugin "broken": exit failed' in caplog.text


def test_plugins_that_compare_by_value_and_have_no_hash() -> None:
    """As dataclasses do."""

    class Equal(Noting):
        __hash__ = None  # type: ignore[assignment]

        def __eq__(self, other: object) -> bool:
            return True

    registry = started(Equal("a"), Equal("broken", fails="init"), Equal("c"))
    assert registry.names == ["a", "c"]
    assert registry.prefer("c")
    taken()
    registry.new_interface(ETH2)
    registry.stop()
    assert taken() == ["c new_interface", "a new_interface", "a exit", "c exit"]


def test_no_hook_after_the_exit() -> None:
    registry = started(Noting("a"))
    registry.stop()
    taken()
    registry.new_interface(ETH2)
    assert taken() == []


def test_what_the_loop_calls_for_a_plugin_is_guarded(caplog: pytest.LogCaptureFixture) -> None:
    plugin = Noting("a")
    registry = started(plugin)
    got: list[tuple[int, ...]] = []

    def broken(*arguments: int) -> None:
        got.append(arguments)
        raise LookupError("on purpose")

    guarded = registry.guard(plugin, "call_later", broken)
    guarded(1, 2)
    assert got == [(1, 2)]
    assert 'Plugin "a": call_later failed' in caplog.text
    assert registry.failures == 1


def test_the_loop_calls_nothing_for_a_plugin_that_was_left_out() -> None:
    """It set a deadline in its init, and then failed."""
    broken, fine = Noting("broken", fails="init"), Noting("fine")
    registry = Registry([broken, fine])
    later: list[Any] = []

    def pm(plugin: Plugin) -> PathManager:
        later.append(registry.guard(plugin, "call_later", lambda: CALLS.append(plugin.name)))
        return cast(PathManager, object())

    registry.start(pm)
    taken()
    for function in later:
        function()
    assert taken() == ["fine"]
    registry.stop()
    taken()
    for function in later:
        function()
    assert taken() == []
