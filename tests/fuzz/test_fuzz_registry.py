"""Claim: plugins are called in their order and each for what is its own, whatever others do.

Plugin files are loaded, some twice, some under a name that is taken, some that are not there; one
is preferred; hooks are called, timers fire; plugins are unloaded, replaced and loaded again while
connections are theirs, which are then offered anew; all are ended. Any plugin may raise at any
moment, call sys.exit(), be refused by the kernel, run out of memory, or block for minutes; one
whose init fails is left out. The model is lists of names.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mptcpd.core import loader
from mptcpd.core.address import sockaddr
from mptcpd.core.owners import CONNECTION_HOOKS, LISTENER_HOOKS, Owners
from mptcpd.core.registry import HOOKS, Registry
from mptcpd.plugin import Plugin
from tests.fuzz import actors
from tests.fuzz.actors import KINDS
from tests.whole import Driven

FILES = ["alpha", "beta", "gamma", "delta"]
SPEC = st.tuples(
    st.sampled_from(FILES),  # the file
    st.sampled_from(["", "", *FILES[:2]]),  # the name that it claims; none: that of its file
    st.integers(-1, 1),  # its priority
    st.sampled_from(["Actor", "Actor", "Actor", "Watcher", "Ear"]),
)
HAPPENS = st.sampled_from(["", "", "", "declines", "blocks", *actors.TROUBLES])
MOODS = st.fixed_dictionaries(dict.fromkeys(FILES, HAPPENS))
ALONE = [hook for hook in CONNECTION_HOOKS if hook != "new_connection"]


class Connection:
    """What owners know of one."""

    def __init__(self) -> None:
        self.owner: Any = None
        self.expected = ""  # the name of its owner


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.mkdtemp()
        self.calls: list[tuple[str, str]] = []
        self.moods: dict[str, str] = {}
        self.failures = 0
        self.loop = Driven(lambda: None)
        self.connections: list[Any] = []
        self.timers: list[str] = []
        self.running = True
        self.rewritten = 0
        actors.ACT.append(self.act)

    def act(self, plugin: Plugin, hook: str) -> str:
        self.calls.append((plugin.name, hook))
        said = self.moods.get(plugin.name, "")
        if hook == "init":
            self.set_timer(plugin)  # which is not to fire for one that then fails
        if said == "blocks":
            self.loop.skip(60.0)
        self.failures += said in actors.TROUBLES
        return said

    def teardown(self) -> None:
        actors.ACT.pop()
        self.loop.close()
        shutil.rmtree(self.folder)

    @initialize(
        specs=st.lists(SPEC, min_size=1, max_size=4, unique_by=lambda spec: spec[0]),
        names=st.none() | st.lists(st.sampled_from([*FILES, "missing"]), max_size=6),
        moods=MOODS,
        preferred=st.sampled_from([*FILES, "nobody"]),
    )
    def load(
        self, specs: list[tuple[str, str, int, str]], names: list[str] | None,
        moods: dict[str, str], preferred: str,
    ) -> None:  # fmt: skip
        for file, name, priority, kind in specs:
            path = os.path.join(self.folder, f"{file}.py")
            with open(path, "w") as stream:
                stream.write(
                    f"from tests.fuzz.actors import {kind}\n\n\n"
                    f"class It({kind}):\n    name, priority = {name!r}, {priority}\n"
                )
            os.chmod(path, 0o644)
        os.chmod(self.folder, 0o755)
        plugins = loader.load(self.folder, names, {os.geteuid()})
        # The model: each file once, in order; the first that has a name keeps it.
        by_file = {spec[0]: spec for spec in specs}
        order = sorted(by_file) if names is None else list(dict.fromkeys(names))
        loaded: dict[str, tuple[int, str]] = {}
        self.files: dict[str, str] = {}  # of what was loaded once, by name
        for file in order:
            if file in by_file:
                _file, name, priority, kind = by_file[file]
                loaded.setdefault(name or file, (priority, kind))
                self.files.setdefault(name or file, file)
        assert [plugin.name for plugin in plugins] == list(loaded)
        self.names = sorted(loaded, key=lambda name: loaded[name][0])
        self.kinds = {name: kind for name, (_priority, kind) in loaded.items()}
        self.priorities = {name: priority for name, (priority, _kind) in loaded.items()}
        self.registry = Registry(plugins)
        assert self.registry.prefer(preferred) == (preferred in self.names)
        if preferred in self.names:
            self.names.remove(preferred)
            self.names.insert(0, preferred)
        assert self.registry.names == self.names
        self.moods = moods
        pm: Any = self
        self.registry.start(lambda plugin: pm)
        assert self.calls == [(name, "init") for name in self.names]
        # One whose init fails is left out; "declines" means nothing there.
        self.names = [name for name in self.names if moods[name] not in actors.TROUBLES]
        self.timers = list(self.names)
        self.owners = Owners(self.registry)
        self.owners.start()
        self.by_name = {plugin.name: plugin for plugin in self.registry.plugins}
        self.stale: set[str] = set()  # running, while their files have changed

    def expect(self, *calls: tuple[str, str]) -> None:
        found, self.calls = self.calls, []
        assert found == list(calls)

    def having(self, hook: str) -> list[str]:
        """The plugins that are called for a hook, in their order."""
        if not self.running:
            return []
        return [name for name in self.names if hook in KINDS[self.kinds[name]]]

    @rule(hook=st.sampled_from(HOOKS), moods=MOODS)
    def network_hook(self, hook: str, moods: dict[str, str]) -> None:
        self.calls.clear()
        self.moods = moods
        arguments = (None, None) if "address" in hook else (None,)
        getattr(self.registry, hook)(*arguments)
        self.expect(*((name, hook) for name in self.having(hook)))

    @precondition(lambda self: self.running)
    @rule(hook=st.sampled_from(list(LISTENER_HOOKS)), moods=MOODS)
    def listener_hook(self, hook: str, moods: dict[str, str]) -> None:
        self.calls.clear()
        self.moods = moods
        getattr(self.owners, hook)(sockaddr("10.0.0.1:80"))
        self.expect(*((name, hook) for name in self.having(hook)))

    @precondition(lambda self: self.running)
    @rule(moods=MOODS)
    def new_connection(self, moods: dict[str, str]) -> None:
        self.moods = moods
        self.offer(Connection(), "")

    def offer(self, connection: Any, first: str) -> None:
        """Offered to one after the other, until one takes it; who fails has not."""
        self.calls.clear()
        asked = []
        connection.expected = ""
        for name in sorted(self.having("new_connection"), key=lambda name: name != first):
            asked.append((name, "new_connection"))
            if self.moods[name] != "declines" and self.moods[name] not in actors.TROUBLES:
                connection.expected = name
                break
        if first:
            with self.owners.asking_first(first):
                self.owners.new_connection(connection)
        else:
            self.owners.new_connection(connection)
        self.expect(*asked)
        owner = connection.owner
        assert (owner.plugin.name if owner else "") == connection.expected
        if connection not in self.connections:
            self.connections.append(connection)

    def _forget_timers(self) -> None:
        """As a PathManager, which is told to; but here the registry's guard is on trial."""

    @precondition(lambda self: self.running)
    @rule(wanted=st.sets(st.sampled_from(FILES)), new=st.sets(st.sampled_from(FILES)), moods=MOODS)
    def reloads(self, wanted: set[str], new: set[str], moods: dict[str, str]) -> None:
        """Others are wanted, some files are ``new``; if an ``init`` fails nothing changes."""
        self.calls.clear()
        self.moods = moods
        self.rewritten += 1
        names = [name for name in self.files if name in wanted]
        for name in new.intersection(names):
            with open(os.path.join(self.folder, f"{self.files[name]}.py"), "a") as stream:
                stream.write(f"# {self.rewritten}\n")
        files = [self.files[name] for name in names]
        running = self.registry.plugins
        plugins = loader.load(self.folder, files, {os.geteuid()}, running)
        line = Registry(plugins).plugins
        names.sort(key=self.priorities.__getitem__)
        assert [plugin.name for plugin in line] == names
        fresh = [plugin for plugin in line if plugin not in running]
        gone = [plugin for plugin in running if plugin not in line]
        kept = [name for name in self.names if name in names and name not in self.stale | new]
        assert [plugin.name for plugin in running if plugin in line] == kept
        self.stale |= new.intersection(names)
        pm: Any = self
        admitted: list[Plugin] = []
        expected = []
        for plugin in fresh:
            expected.append((plugin.name, "init"))
            refused = self.registry.admit(plugin, pm)
            assert (refused is not None) == (moods[plugin.name] in actors.TROUBLES)
            if refused is not None:
                for other in reversed(admitted):
                    self.registry.dismiss(other)
                self.expect(*expected, *((other.name, "exit") for other in reversed(admitted)))
                return
            admitted.append(plugin)
        self.registry.change(line)
        self.owners.start()
        for plugin in reversed(gone):
            self.registry.dismiss(plugin)
        self.expect(*expected, *((plugin.name, "exit") for plugin in reversed(gone)))
        self.stale -= set(names)
        left = {plugin.name for plugin in gone}
        self.names = names
        self.by_name = {plugin.name: plugin for plugin in line}
        self.timers = [name for name in self.timers if name not in left]
        self.timers += [plugin.name for plugin in fresh]
        expected_orphans = [
            (connection, connection.expected)
            for connection in self.connections
            if connection.expected in left or (fresh and not connection.expected)
        ]
        orphans = self.owners.orphans(self.connections, bool(fresh))
        assert orphans == expected_orphans
        for connection, name in orphans:
            self.offer(connection, name)

    @precondition(lambda self: self.running)
    @rule(decliner=st.sampled_from(FILES), new=st.sets(st.sampled_from(FILES)))
    def one_by_one(self, decliner: str, new: set[str]) -> None:
        """The usual course of a reload, upon which chance comes rarely: nobody is in trouble."""
        self.moods = dict.fromkeys(FILES, "")
        for moods in (self.moods, {**self.moods, decliner: "declines"}):
            self.reloads(set(FILES), set(), self.moods)
            self.new_connection(moods)
            self.reloads(set(FILES), new, moods)
            self.new_connection(self.moods)
        self.reloads(set(FILES) - {decliner}, new, self.moods)

    @precondition(lambda self: self.running and self.connections)
    @rule(pick=st.integers(0, 1000), hook=st.sampled_from(ALONE), moods=MOODS)
    def connection_hook(self, pick: int, hook: str, moods: dict[str, str]) -> None:
        self.calls.clear()
        self.moods = moods
        connection = self.connections[pick % len(self.connections)]
        arguments: dict[str, tuple[Any, ...]] = {
            "new_address": (1, None), "address_removed": (1,), "new_subflow": (None,),
            "subflow_closed": (None,), "subflow_priority": (None,),
        }  # fmt: skip
        getattr(self.owners, hook)(connection, *arguments.get(hook, ()))
        self.expect(*([(connection.expected, hook)] if connection.expected else []))

    @precondition(lambda self: self.running and self.names)
    @rule(pick=st.integers(0, 1000), seconds=st.sampled_from([0.0, 1.0, 90.0]))
    def sets_a_timer(self, pick: int, seconds: float) -> None:
        plugin: Any = self.by_name[self.names[pick % len(self.names)]]
        self.set_timer(plugin, seconds)
        self.timers.append(plugin.name)

    def set_timer(self, plugin: Any, seconds: float = 0.0) -> None:
        guarded = self.registry.guard(plugin, "call_later", lambda: plugin.act("timer"))
        self.loop.call_later(seconds, guarded)

    @rule(moods=MOODS)
    def time_passes(self, moods: dict[str, str]) -> None:
        """All timers fire, once, however long somebody blocks meanwhile."""
        self.calls.clear()
        self.moods = moods
        for _round in range(3):
            self.loop.skip(100.0)
            self.loop.turn()
        expected = [(name, "timer") for name in self.timers] if self.running else []
        assert sorted(self.calls) == sorted(expected)
        self.timers.clear()

    @precondition(lambda self: self.running)
    @rule(moods=MOODS, really=st.sampled_from([False, False, False, True]))
    def stops(self, moods: dict[str, str], really: bool) -> None:
        if not really:
            return
        self.calls.clear()
        self.moods = moods
        self.registry.stop()
        self.expect(*((name, "exit") for name in reversed(self.names)))
        self.running = False

    @invariant()
    def every_failure_is_counted(self) -> None:
        if hasattr(self, "registry"):
            assert self.registry.failures == self.failures

    @invariant()
    def every_connection_has_its_owner(self) -> None:
        if hasattr(self, "owners"):
            owned = self.owners.owned(self.connections)
            mine = [connection.expected for connection in self.connections]
            assert {name: count for name, count in owned.items() if count} == {
                name: mine.count(name) for name in mine if name
            }
            some = [name for name in self.names if KINDS[self.kinds[name]] != HOOKS]
            assert list(owned) == some
            assert [owner.plugin.name for owner in self.owners.in_order()] == [
                name for name in some if "new_connection" in KINDS[self.kinds[name]]
            ]


TestRegistry = Machine.TestCase
TestRegistry.settings = settings(stateful_step_count=30)
