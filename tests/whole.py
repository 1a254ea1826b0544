"""The whole daemon in this process, with a test in the place of its wait for events.

``cli.daemon.serve`` builds and joins the parts as for everybody; where it would wait in the loop,
the script runs, which lets the loop turn when it wants the daemon to act. Nothing is known of the
daemon but what a plugin is told and can ask for.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterable
from typing import Any

from mptcpd.cli import daemon
from mptcpd.core.config import Config
from mptcpd.core.loop import Loop
from mptcpd.core.registry import Registry
from mptcpd.plugin import Plugin

# Nothing is kept, nothing held down: what happens is told at once.
CONFIG = Config(
    "null",
    "",
    notify_flags=frozenset({"existing", "skip_link_local", "skip_loopback"}),
    hold_down_return=0.0,
    runtime_dir="none",
    event_buffer=1 << 20,
)
_SOON = 0.1  # seconds; a timer further off does not belong to what happens now


class Driven(Loop):
    """A loop whose ``run`` runs a script, and whose time can be made to pass."""

    def __init__(self, script: Callable[[], object]) -> None:
        self._ahead = 0.0
        super().__init__(lambda: time.monotonic() + self._ahead)
        self._script = script

    def run(self) -> None:
        self._script()

    def turn(self, seconds: float = 0.0) -> None:
        """Serve for so long, at least once."""
        self.call_later(seconds, self.stop)
        super().run()

    def skip(self, seconds: float) -> None:
        """Let so much time pass at once."""
        self._ahead += seconds

    def settle(self, busy: Callable[[], bool]) -> None:
        """Serve until nothing is left to do now. ``busy``: whether something waits to be read."""
        for _round in range(1000):
            self.turn()
            wait = self._wait()
            if wait is not None and wait < _SOON:
                self.skip(wait)
            elif not busy():
                return
        raise AssertionError("it never settles")


class Lifeless:
    """In place of cli.life.Life, which would take this process's powers, and the machine's name."""

    def begin(self, *_arguments: object) -> None: ...
    def watch(self, _loop: object) -> None: ...
    def close(self) -> None: ...


def run(
    script: Callable[[Driven], object], plugins: Iterable[Plugin], config: Config = CONFIG
) -> None:
    """Run the daemon with these plugins, and the script in it. Errors: what either raises."""
    loop = Driven(lambda: script(loop))
    before: dict[int, Any] = {
        number: signal.getsignal(number)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        daemon.serve(config, loop, Registry(plugins))
    finally:
        loop.close()
        for number, handler in before.items():
            signal.signal(number, handler)
