"""The filter: each word by itself, and all about one and the same end."""

from __future__ import annotations

import pytest

from mptcpd.cli.ctl import grammar, table, values
from mptcpd.cli.ctl.connection_filter import STATES, Filter, wanted
from mptcpd.cli.ctl.ends import Interfaces
from mptcpd.nl import diag
from tests.cli.ctl.made import connection, path, subflow
from tests.cli.ctl.test_ends import Routes

# 10.0.1.1 is on eth0 (2), 10.0.2.1 on no interface.
ONE = connection(
    0xABC, subflow(1), subflow(2, at=path("10.0.2.1", "10.9.9.9", 5000)), at=path(port=40001)
)


def admits(want: Filter, pm: str | None = "kernel") -> bool:
    interfaces = Interfaces(Routes())
    interfaces.refresh()
    return want.admits(ONE, interfaces, lambda socket: pm)


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("", True),
        ("token 00000abc", True),
        ("token 0xabd", False),
        ("local 10.0.1.0/24", True),
        ("local 10.0.2.0/24", True),  # of the second subflow
        ("local 10.0.3.0/24", False),
        ("remote 10.9.0.0/16", True),
        ("local 10.0.1.0/24 remote 10.9.0.0/16", False),  # no end has both
        ("local 10.0.2.1:5000 remote 10.9.9.9:443", True),
        ("local *:5001", False),
        ("state established", True),
        ("state est", True),
        ("state close-wait", False),
        ("pm kernel", True),
        ("pm userspace", False),
    ],
)
def test_words(line: str, meant: bool) -> None:
    command = next(one for one in table.OBJECTS if one.name == "connection").commands[0]
    assert admits(wanted(grammar.read(command, line.split()), None)) is meant


def test_interface() -> None:
    assert admits(Filter(dev=2))
    assert not admits(Filter(dev=1))
    assert not admits(Filter(dev=2, remote=values.prefix("10.9.9.9")))


def test_family() -> None:
    assert admits(Filter(family=4))
    assert not admits(Filter(family=6))


def test_unknown_path_manager_is_neither() -> None:
    assert not admits(Filter(pm="kernel"), None)
    assert not admits(Filter(pm="userspace"), None)


def test_states() -> None:
    assert set(values.STATES) == set(STATES.values())
    assert wanted({}, None).states == diag.CONNECTED
    assert wanted({"state": "syn-sent"}, None).states == 1 << diag.TCP_SYN_SENT
