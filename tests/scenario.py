"""Scenario files: what happens to a host, what plugins are told of it, and how commands end.

One file runs in any World, on the fake kernel (tests/test_scenarios.py) and on the real one
(tests/kernel/test_scenarios.py), and must come to the same in both.

Shape of a file: ``#`` begins a comment. A line without indent is a step (``STEPS`` says how it is
written), the indented lines below it are all that must come of it: ``= ...`` how a command ended,
anything else a hook with its arguments. Connections are called c1, c2, ... in the order in which
plugins are told of them; ports from 32768 on, which the kernel draws, are written ``*``. A first
line ``with FLAG`` adds to the notify flags; a file whose name begins with ``kernel_`` is played
under the kernel's own path manager, others under the userspace one.
"""

from __future__ import annotations

import errno
import pathlib
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol

from mptcpd.core.address import sockaddr
from mptcpd.core.owners import CONNECTION_HOOKS, LISTENER_HOOKS
from mptcpd.core.pm import PathManager
from mptcpd.core.registry import HOOKS
from mptcpd.plugin import (
    Connection,
    Endpoint,
    Interface,
    KernelError,
    NoFreeId,
    Plugin,
    SockAddr,
    Subflow,
)
from tests.whole import CONFIG, Driven

FOLDER = pathlib.Path(__file__).parent / "scenarios"
DRAWN = 32768  # the first port that a kernel draws (net.ipv4.ip_local_port_range)


class World(Protocol):
    """A host with the daemon on it, and a peer; what can happen to them.

    Tokens name connections on the host's side. Interfaces go by their names.
    """

    def link(self, name: str, *addresses: str) -> None: ...
    def address(self, what: str, name: str, address: str) -> None: ...
    def interface(self, what: str, name: str) -> None: ...
    def cable(self, what: str, name: str) -> None: ...
    def rename(self, name: str, to: str) -> None: ...
    def delete(self, name: str) -> None: ...
    def route(self, what: str, name: str) -> None: ...
    def connect(self, remote: SockAddr) -> None: ...
    def serve(self, port: int) -> None: ...
    def accept(self, local: SockAddr) -> None: ...
    def close(self, token: int) -> None: ...
    def peer_announce(self, token: int, address: SockAddr, ident: int) -> None: ...
    def peer_remove(self, token: int, ident: int) -> None: ...
    def peer_destroy(self, token: int, flow: Subflow) -> None: ...
    def peer_backup(self, token: int, flow: Subflow, backup: bool) -> None: ...
    def ifindex(self, name: str) -> int: ...

    def settle(self, loop: Driven, arrived: Callable[[], bool]) -> None:
        """Let the daemon act until all was told, and until ``arrived`` if that takes its time."""


class Step(NamedTuple):
    """A step with its line in the file, and what must come of it."""

    line: int
    words: list[str]
    expected: list[str]


def read(name: str) -> list[Step]:
    """The steps of a file."""
    steps: list[Step] = []
    for number, raw in enumerate((FOLDER / name).read_text().splitlines(), 1):
        text = raw.partition("#")[0].rstrip()
        if text.startswith(" "):
            steps[-1].expected.append(text.strip())
        elif text:
            steps.append(Step(number, text.split(), []))
    return steps


def names() -> list[str]:
    """All scenarios."""
    return sorted(file.name for file in FOLDER.glob("*.txt"))


class Told(Plugin):
    """Writes down every hook."""

    name = "told"

    def __init__(self) -> None:
        self.pm: PathManager | None = None
        self.lines: list[str] = []
        self.connections: dict[int, str] = {}

    def init(self, pm: PathManager) -> None:
        self.pm = pm

    def note(self, hook: str, *arguments: Any) -> None:
        self.lines.append(" ".join([hook, *(self.word(argument) for argument in arguments)]))

    def word(self, value: Any) -> str:
        """A value as it stands in a file."""
        if isinstance(value, Connection):
            known = self.connections
            return known.setdefault(value.token, f"c{len(known) + 1}")
        if isinstance(value, Interface):
            return value.name
        if isinstance(value, SockAddr):
            return str(value).replace(f":{value.port}", ":*") if value.port >= DRAWN else str(value)
        if isinstance(value, Subflow):
            return self._subflow(value)
        if isinstance(value, Endpoint):
            dev = "" if value.ifindex is None else f" dev {self._name(value.ifindex)}"
            flags = ",".join(value.flags) or "none"
            return f"{self.word(value.address)} id {value.id} flags {flags}{dev}"
        return str(value)

    def _subflow(self, flow: Subflow) -> str:
        words = [self.word(flow.local), "to", self.word(flow.remote)]
        words += ["ids", str(flow.local_id), str(flow.remote_id)]
        words += ["backup"] if flow.backup else []
        words += [] if flow.ifindex is None else ["dev", self._name(flow.ifindex)]
        words += [] if flow.error is None else ["error", str(flow.error)]
        return " ".join(words)

    def _name(self, ifindex: int) -> str:
        assert self.pm is not None
        return self.pm.interfaces[ifindex].name if ifindex in self.pm.interfaces else "?"

    def new_connection(self, connection: Connection, pm: PathManager) -> None:
        side = "server" if connection.server_side else "client"
        self.note("new_connection", connection, connection.local, connection.remote, side)

    def update_interface(self, interface: Interface, pm: PathManager) -> None:
        # How often flags change on the way up depends on the moment at which they are read.
        line = f"update_interface {interface.name}"
        if f"new_interface {interface.name}" not in self.lines and line not in self.lines:
            self.lines.append(line)


def _noting(hook: str) -> Callable[..., None]:
    return lambda self, *arguments: self.note(hook, *arguments[:-1])


for _hook in (*HOOKS, *CONNECTION_HOOKS, *LISTENER_HOOKS):
    if _hook not in vars(Told):
        setattr(Told, _hook, _noting(_hook))


class Play:
    """A scenario in a world: to be run by ``whole.run``, with ``told`` as its plugin."""

    def __init__(self, name: str, world: World) -> None:
        self.steps = read(name)
        self.name, self.world, self.told = name, world, Told()
        self.config = CONFIG
        if self.steps[0].words[0] == "with":
            flags = CONFIG.notify_flags | set(self.steps.pop(0).words[1:])
            self.config = CONFIG._replace(notify_flags=flags)

    def __call__(self, loop: Driven) -> None:
        """Errors: AssertionError, with line, expected and what came instead."""
        # What is there at the start belongs to no step.
        self.world.settle(loop, lambda: True)
        self.told.lines.clear()
        for step in self.steps:
            outcome = self.do(step.words)
            hooks = [line for line in step.expected if not line.startswith("= ")]
            self.world.settle(loop, partial(self._came, len(hooks)))
            came = [*outcome, *self.told.lines]
            self.told.lines.clear()
            if came != step.expected:
                lines = [f"{self.name}:{step.line}: {' '.join(step.words)}", "expected:"]
                lines += [f"    {line}" for line in step.expected]
                lines += ["came:", *(f"    {line}" for line in came)]
                raise AssertionError("\n".join(lines))

    def _came(self, count: int) -> bool:
        return len(self.told.lines) >= count

    def do(self, words: list[str]) -> list[str]:
        """Take a step; how it ended, if it was a command."""
        for length in (2, 1):
            verb, rest = " ".join(words[:length]), words[length:]
            if verb in STEPS:
                STEPS[verb](self, *rest)
                return []
            if verb in COMMANDS:
                return [f"= {self._outcome(COMMANDS[verb], rest)}"]
        raise AssertionError(f"{self.name}: no such step: {' '.join(words)}")

    def _outcome(self, command: Callable[..., Any], words: list[str]) -> str:
        try:
            value = command(self, self.pm, *words)
        except KernelError as error:
            text = f"{errno.errorcode[error.errno]} {error.words or '-'}"
            return f"{text} ({error.attribute})" if error.attribute else text
        except OSError as error:
            return f"OSError {errno.errorcode[error.errno or 0]}"
        except (ValueError, NoFreeId) as error:
            return f"{type(error).__name__} {error}"
        if isinstance(value, list):
            return "; ".join(self.told.word(one) for one in value) or "nothing"
        return "done" if value is None else self.told.word(value)

    @property
    def pm(self) -> PathManager:
        assert self.told.pm is not None
        return self.told.pm

    def token(self, name: str) -> int:
        return next(token for token, known in self.told.connections.items() if known == name)

    def connection(self, name: str) -> Connection:
        return self.pm.connections[self.token(name)]

    def flow(self, name: str, local: str, remote: str) -> Subflow:
        """The subflow between two IPs; one that is not there if there is none."""
        for flow in self.connection(name).subflows.values():
            if (str(flow.local.ip), str(flow.remote.ip)) == (local, remote):
                return flow
        return Subflow(sockaddr(f"{local}:1"), sockaddr(f"{remote}:1"))


def options(words: tuple[str, ...], play: Play) -> dict[str, Any]:
    """``id 3 remote 2 flags signal,backup dev eth1 backup quiet`` as keyword arguments."""
    found: dict[str, Any] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "id":
            found["local_id"] = int(rest.pop(0))
        elif word == "remote":
            found["remote_id"] = int(rest.pop(0))
        elif word == "flags":
            found["flags"] = [flag for flag in rest.pop(0).split(",") if flag != "none"]
        elif word == "dev":
            found["ifindex"] = play.world.ifindex(rest.pop(0))
        elif word == "backup":
            found["backup"] = True
        elif word == "quiet":
            found["listen"] = False
        else:
            raise AssertionError(f"no such option: {word}")
    return found


# What happens by itself; ``+``: one or more words.
STEPS: dict[str, Callable[..., Any]] = {
    "link": lambda p, name, *addresses: p.world.link(name, *addresses),
    "address": lambda p, what, name, text: p.world.address(what, name, text),
    "interface": lambda p, what, name: p.world.interface(what, name),
    "cable": lambda p, what, name: p.world.cable(what, name),
    "rename": lambda p, name, to: p.world.rename(name, to),
    "delete": lambda p, name: p.world.delete(name),
    "route": lambda p, what, name: p.world.route(what, name),
    "connect": lambda p, remote: p.world.connect(sockaddr(remote)),
    "serve": lambda p, port: p.world.serve(int(port)),
    "accept": lambda p, local: p.world.accept(sockaddr(local)),
    "close": lambda p, name: p.world.close(p.token(name)),
    "peer announce": lambda p, c, where, ident: p.world.peer_announce(
        p.token(c), sockaddr(where), int(ident)
    ),
    "peer remove": lambda p, c, ident: p.world.peer_remove(p.token(c), int(ident)),
    "peer destroy": lambda p, c, local, remote: p.world.peer_destroy(
        p.token(c), p.flow(c, local, remote)
    ),
    "peer backup": lambda p, c, local, remote, yes: p.world.peer_backup(
        p.token(c), p.flow(c, local, remote), yes == "yes"
    ),
}
# What a plugin asks for.
COMMANDS: dict[str, Callable[..., Any]] = {
    "announce": lambda p, pm, c, where, *o: pm.announce(p.connection(c), where, **options(o, p)),
    "remove": lambda p, pm, c, ident: pm.remove(p.connection(c), int(ident)),
    "create": lambda p, pm, c, local, remote, *o: pm.create_subflow(
        p.connection(c), local, remote, **options(o, p)
    ),
    "destroy": lambda p, pm, c, local, remote: pm.destroy_subflow(
        p.connection(c), p.flow(c, local, remote)
    ),
    "set backup": lambda p, pm, c, local, remote, yes: pm.set_backup(
        p.connection(c), p.flow(c, local, remote), yes == "yes"
    ),
    "addresses": lambda p, pm, c: pm.addresses(p.connection(c)),
    "add endpoint": lambda p, pm, where, *o: pm.add_endpoint(where, **options(o, p)),
    "remove endpoint": lambda p, pm, ident: pm.remove_endpoint(int(ident)),
    "get endpoint": lambda p, pm, ident: pm.get_endpoint(int(ident)),
    "set flags": lambda p, pm, which, flags: pm.set_endpoint_flags(
        int(which) if which.isdigit() else which, options(("flags", flags), p)["flags"]
    ),
    "endpoints": lambda p, pm: pm.endpoints(),
    "flush": lambda p, pm: pm.flush_endpoints(),
    "limits": lambda p, pm: f"subflows {pm.limits().subflows} "
    f"add_addr_accepted {pm.limits().add_addr_accepted}",
    "set limits": lambda p, pm, subflows, accepted: pm.set_limits(int(subflows), int(accepted)),
    "listen": lambda p, pm, where: pm.listeners.listen(where),
    "unlisten": lambda p, pm, where: pm.listeners.close(where),
}
