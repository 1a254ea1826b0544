"""Plugins for test_fuzz_registry: they do what the test says, whichever hook is called."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

from mptcpd.core.owners import CONNECTION_HOOKS, LISTENER_HOOKS
from mptcpd.core.registry import HOOKS
from mptcpd.plugin import KernelError, Plugin

# The last is called with plugin and hook; what it says happens: nothing, or one of TROUBLES.
ACT: list[Callable[[Plugin, str], str]] = []
TROUBLES: dict[str, Callable[[], BaseException]] = {
    "raises": lambda: RuntimeError("on purpose"),
    "is refused": lambda: KernelError("MPTCP_PM_CMD_ANNOUNCE", errno.EINVAL, "invalid token"),
    "exits": lambda: SystemExit(0),
    "overflows": lambda: RecursionError("on purpose"),
    "has no memory": lambda: MemoryError(),
}


class Actor(Plugin):
    """A plugin with every hook."""

    def act(self, hook: str) -> bool | None:
        said = ACT[-1](self, hook)
        if said in TROUBLES:
            raise TROUBLES[said]()
        return False if said == "declines" else None

    def init(self, pm: Any) -> None:
        self.act("init")

    def exit(self, pm: Any) -> None:
        self.act("exit")


class Watcher(Actor):
    """One that has hooks for the network alone."""


class Ear(Actor):
    """One that has hooks for listeners alone."""


def _acting(hook: str) -> Callable[..., bool | None]:
    return lambda self, *arguments: self.act(hook)


KINDS = {
    "Actor": (*HOOKS, *CONNECTION_HOOKS, *LISTENER_HOOKS),
    "Watcher": HOOKS,
    "Ear": tuple(LISTENER_HOOKS),
}
for _kind, _hooks in KINDS.items():
    for _hook in _hooks:
        setattr(globals()[_kind], _hook, _acting(_hook))
# What a kind has no hooks for is as in Plugin, though it is a kind of Actor.
for _kind in ("Watcher", "Ear"):
    for _hook in set(KINDS["Actor"]) - set(KINDS[_kind]):
        setattr(globals()[_kind], _hook, getattr(Plugin, _hook))
