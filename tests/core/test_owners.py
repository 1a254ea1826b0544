"""Which plugin is told of which connection, and what the kernel is asked to tell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mptcpd.core.address import SockAddr, sockaddr
from mptcpd.core.connections import Connection, Subflow
from mptcpd.core.owners import (
    CONNECTION_EVENTS,
    CONNECTION_HOOKS,
    LISTENER_HOOKS,
    Owners,
)
from mptcpd.core.registry import HOOKS, Registry
from mptcpd.nl import mptcp_event
from mptcpd.nl import uapi as u
from mptcpd.plugin import Plugin

PATH = bytes([10, 0, 1, 1, 0, 1, 10, 0, 1, 2, 0, 2])
LISTENERS = frozenset(LISTENER_HOOKS.values())


def connection(token: int = 1) -> Connection:
    return Connection(token, PATH, False, False)


def plugin(name: str, priority: int = 0, **hooks: Callable[..., Any]) -> Plugin:
    """A plugin with these hooks, as functions of what they are told (without the PathManager)."""

    def method(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda self, *told: function(*told[:-1])

    members: dict[str, Any] = {hook: method(function) for hook, function in hooks.items()}
    made: Plugin = type(name, (Plugin,), {**members, "name": name, "priority": priority})()
    return made


def owners_of(*plugins: Plugin) -> tuple[Owners, Registry]:
    registry = Registry(plugins)
    registry.start(lambda plugin: plugin.name)  # type: ignore[arg-type, return-value]
    owners = Owners(registry)
    owners.start()
    return owners, registry


def test_every_hook_has_one_place() -> None:
    """Each of Plugin's hooks is called either from here or from the registry."""
    known = {*CONNECTION_HOOKS, *LISTENER_HOOKS, *HOOKS}
    every = {name for name, value in vars(Plugin).items() if callable(value)}
    every -= {"init", "exit", "explain"}
    assert known == every
    assert len(known) == len(CONNECTION_HOOKS) + len(LISTENER_HOOKS) + len(HOOKS)
    assert mptcp_event.OF_CONNECTIONS == CONNECTION_EVENTS
    assert mptcp_event.REQUIRED.keys() == CONNECTION_EVENTS | LISTENERS


def nothing(*_told: object) -> None: ...


@pytest.mark.parametrize(
    ("hooks", "expected"),
    [
        ((), frozenset()),
        (("new_interface", "new_local_address", "init", "exit"), frozenset()),
        (("listener_closed",), frozenset({u.MPTCP_EVENT_LISTENER_CLOSED})),
        (("listener_created", "listener_closed"), LISTENERS),
        (("connection_closed",), CONNECTION_EVENTS),
        (("subflow_priority", "listener_created"),
         CONNECTION_EVENTS | {u.MPTCP_EVENT_LISTENER_CREATED}),
    ],
)  # fmt: skip
def test_only_events_that_somebody_needs(hooks: tuple[str, ...], expected: frozenset[int]) -> None:
    """One hook of connections needs the whole table, which needs all of their events."""
    needed: dict[str, Any] = dict.fromkeys(hooks, nothing)
    owners, _registry = owners_of(plugin("empty"), plugin("one", **needed))
    assert owners.events() == expected


def told(owners: Owners, it: Connection) -> None:
    """Call every hook of connections once, new_connection first."""
    subflow = Subflow(it.local, it.remote)
    owners.new_connection(it)
    owners.connection_established(it)
    owners.new_address(it, 7, sockaddr("10.0.2.2:80"))
    owners.address_removed(it, 7)
    owners.new_subflow(it, subflow)
    owners.subflow_closed(it, subflow)
    owners.subflow_priority(it, subflow)
    owners.connection_closed(it)


def noting(log: list[tuple[Any, ...]], name: str, answer: object = None) -> dict[str, Any]:
    """Every hook of connections, each noting who was told what."""

    def note(hook: str) -> Callable[..., object]:
        def noted(*arguments: object) -> object:
            log.append((name, hook, *arguments))
            return answer if hook == "new_connection" else None

        return noted

    return {hook: note(hook) for hook in CONNECTION_HOOKS}


def test_the_first_by_priority_gets_everything() -> None:
    log: list[tuple[Any, ...]] = []
    low = plugin("low", 19, **noting(log, "low"))
    high = plugin("high", -20, **noting(log, "high"))
    owners, _registry = owners_of(low, high)
    it = connection()
    told(owners, it)
    assert [entry[:2] for entry in log] == [
        ("high", hook)
        for hook in (
            "new_connection", "connection_established", "new_address", "address_removed",
            "new_subflow", "subflow_closed", "subflow_priority", "connection_closed",
        )
    ]  # fmt: skip
    assert log[2][2:] == (it, 7, sockaddr("10.0.2.2:80"))
    assert it.owner.plugin is high


@pytest.mark.parametrize("answer", [None, True, 0, "", []])
def test_only_false_declines(answer: object) -> None:
    """Also not 0, which a plugin may return by accident."""
    log: list[tuple[Any, ...]] = []
    owners, _registry = owners_of(
        plugin("one", 0, **noting(log, "one", answer)), plugin("two", 1, **noting(log, "two"))
    )
    told(owners, connection())
    assert {name for name, *_rest in log} == {"one"}


def test_declined_by_one() -> None:
    log: list[tuple[Any, ...]] = []
    owners, _registry = owners_of(
        plugin("one", 0, **noting(log, "one", False)), plugin("two", 1, **noting(log, "two"))
    )
    told(owners, connection())
    assert [entry[:2] for entry in log[:3]] == [
        ("one", "new_connection"), ("two", "new_connection"), ("two", "connection_established"),
    ]  # fmt: skip
    assert [name for name, *_rest in log].count("one") == 1


def test_declined_by_all() -> None:
    log: list[tuple[Any, ...]] = []
    names = ("one", "two")
    owners, _registry = owners_of(*(plugin(name, **noting(log, name, False)) for name in names))
    it = connection()
    told(owners, it)
    assert len(log) == 2
    assert it.owner is None


def test_a_plugin_without_new_connection_takes_what_it_is_offered() -> None:
    log: list[str] = []
    one = plugin("one", 0, connection_closed=lambda it: log.append("one"))
    two = plugin("two", 1, connection_closed=lambda it: log.append("two"))
    owners, _registry = owners_of(one, two)
    told(owners, connection())
    assert log == ["one"]


def test_a_plugin_with_no_hook_for_connections_gets_none() -> None:
    log: list[str] = []
    one = plugin("one", 0, listener_created=nothing, new_interface=nothing)
    two = plugin("two", 1, connection_closed=lambda it: log.append("two"))
    owners, _registry = owners_of(one, two)
    told(owners, connection())
    assert log == ["two"]


@pytest.mark.parametrize("error", [RuntimeError("broken"), SystemExit(0), MemoryError()])
def test_a_plugin_that_raises(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    """In new_connection it has not taken the connection; later it keeps it."""
    log: list[tuple[Any, ...]] = []

    def broken(*_told: object) -> None:
        raise error

    first = plugin("first", -1, new_connection=broken, connection_closed=broken)
    second = plugin("second", 0, **{**noting(log, "second"), "connection_established": broken})
    owners, registry = owners_of(first, second)
    told(owners, connection())
    assert [hook for _name, hook, *_rest in log] == [
        "new_connection", "new_address", "address_removed", "new_subflow", "subflow_closed",
        "subflow_priority", "connection_closed",
    ]  # fmt: skip
    assert registry.failures == 2
    assert 'Plugin "first": new_connection failed' in caplog.text
    assert 'Plugin "second": connection_established failed' in caplog.text


def test_commands_may_be_sent_from_new_connection() -> None:
    """There the connection has its owner already, and has none again if that declines."""
    seen: list[object] = []

    def look(it: Connection) -> bool:
        seen.append(it.owner.plugin.name)
        return False

    owners, _registry = owners_of(plugin("one", new_connection=look))
    it = connection()
    owners.new_connection(it)
    assert (seen, it.owner) == (["one"], None)


def test_listeners_belong_to_nobody() -> None:
    log: list[tuple[str, SockAddr]] = []

    def broken(address: SockAddr) -> None:
        raise RuntimeError

    one = plugin("one", 0, listener_created=broken, listener_closed=broken)
    two = plugin(
        "two", 1,
        listener_created=lambda address: log.append(("created", address)),
        listener_closed=lambda address: log.append(("closed", address)),
    )  # fmt: skip
    owners, registry = owners_of(one, two)
    where = sockaddr("10.0.1.1:80")
    owners.listener_created(where)
    owners.listener_closed(where)
    assert log == [("created", where), ("closed", where)]
    assert registry.failures == 2


def test_a_plugin_that_failed_to_start_is_never_told() -> None:
    log: list[tuple[Any, ...]] = []

    def refuse(*_told: object) -> None:
        raise RuntimeError("no")

    owners, _registry = owners_of(
        plugin("one", 0, **noting(log, "one"), init=refuse), plugin("two", 1, **noting(log, "two"))
    )
    told(owners, connection())
    assert {name for name, *_rest in log} == {"two"}
