"""Reloads while connections come and go as fast as they can: what is lost, and what it costs.

    .venv/bin/python -m bench.reload [SECONDS]

Knows the plugin below, which counts and tells at its end; must not know how a reload works. Every
tenth reload replaces the plugin, the others find everything as it was. Prints numbers.
"""

from __future__ import annotations

import re
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path

from bench.load import EVENTS, TOKENS, Churn, Held
from bench.measures import RATE
from bench.watched import Daemon, in_kernel, stopped
from lab import Lab, wait_until
from mptcpd.cli.control_client import ControlClient

SECONDS = 10.0
EVERY = 0.1  # seconds
HELD = 50  # connections that are there all the time
PLUGIN = '''
from mptcpd.plugin import Plugin


class Told(Plugin):
    def init(self, pm):
        self.opened = self.were_established = self.closed = 0

    def exit(self, pm):
        pm.log.info("told: %d %d %d", self.opened, self.were_established, self.closed)

    def new_connection(self, connection, pm):
        self.opened += 1

    def connection_established(self, connection, pm):
        self.were_established += 1

    def connection_closed(self, connection, pm):
        self.closed += 1

# 0
'''


def main(seconds: float) -> int:
    """Returns the exit status: 1 if something was lost."""
    with Lab() as lab, tempfile.TemporaryDirectory() as name:
        host, folder = lab.host("bench"), Path(name)
        plugins = folder / "plugins"
        plugins.mkdir()
        (plugins / "told.py").write_text(PLUGIN)
        held = Held(host, HELD)
        daemon = Daemon(
            host, folder, "told", runtime=folder / "run",
            arguments=[f"--plugin-dir={plugins}"],
        )  # fmt: skip
        with stopped(daemon):
            wait_until(daemon.adopted, "it has adopted what is there", 20.0)
            before = daemon.cpu()
            load = Churn(host, seconds=seconds, rate=RATE)
            took: list[float] = []
            replaced = 0
            while load.running:
                if len(took) % 10 == 9:
                    replaced += 1
                    fresh = plugins / "told.new"
                    fresh.write_text(f"{PLUGIN}# {replaced}\n")
                    fresh.rename(plugins / "told.py")
                took.append(1000 * _reload(daemon))
                time.sleep(EVERY)
            done = load.result()
            wait_until(lambda: len(in_kernel(host)) == TOKENS * HELD, "the load is over", 20.0)
            wait_until(daemon.sleeps, "it has read all", 20.0)
            used, drops = daemon.cpu() - before, daemon.drops()
            with ControlClient(str(folder / "run" / "control.sock"), 10) as client:
                counters = client.ask("counters")
                table = client.ask("status")["connections"]
        counts = {each["event"]: each["value"] for each in counters["mptcpd_events_total"]}
        told = [
            tuple(map(int, match))
            for match in re.findall(r"told: (\d+) (\d+) (\d+)", daemon.log.read_text())
        ]
        held.close()
        ends = TOKENS * done.connections
        print(f"{done.connections} connections in {done.seconds:.1f} s ({done.rate:.0f}/s), "
              f"{EVENTS * done.rate:.0f} events/s")  # fmt: skip
        print(f"reloads: {len(took)}, {replaced} of them with another plugin; from the signal to "
              f"the line in the log {statistics.median(took):.1f} ms at the median, "
              f"{max(took):.1f} at most")  # fmt: skip
        print(f"events taken: created {counts['created']}, established {counts['established']}, "
              f"closed {counts['closed']} of {ends} each; dropped by the kernel: {drops}; "
              f"overruns {_sum(counters['mptcpd_overruns_total'])}")  # fmt: skip
        # Each plugin is told of what its predecessor leaves, and only the last one of the rest.
        opened = sum(opened - (start if index else 0) for index, (opened, _, _, start) in
                     enumerate(_with_start(told)))  # fmt: skip
        closed = sum(closed for _opened, _established, closed in told)
        print(f"told to the plugins, handed over ones once: opened {opened}, closed {closed}, of "
              f"{ends} and {TOKENS * HELD} held; in the table {table}")  # fmt: skip
        print(f"CPU {used.user:.2f} s user, {used.system:.2f} s system; "
              f"{counters['process_resident_memory_bytes'] >> 10} KiB resident")  # fmt: skip
        lost = (
            drops
            or min(counts["created"], counts["established"], counts["closed"]) < ends
            or (opened, closed, table) != (ends + TOKENS * HELD, ends, TOKENS * HELD)
        )
        print("SOMETHING WAS LOST" if lost else "nothing was lost")
    return 1 if lost else 0


def _reload(daemon: Daemon) -> float:
    """Have it reload; seconds until it said so."""
    said = daemon.log.read_text().count("Reloaded.")
    began = time.monotonic()
    daemon.process.send_signal(signal.SIGHUP)
    wait_until(lambda: daemon.log.read_text().count("Reloaded.") > said, "a reload", 10.0)
    return time.monotonic() - began


def _with_start(told: list[tuple[int, ...]]) -> list[tuple[int, int, int, int]]:
    """Each plugin's counts, and how many connections its predecessor left to it."""
    found = []
    left = 0
    for opened, established, closed in told:
        found.append((opened, established, closed, left))
        left = opened - closed
    return found


def _sum(samples: list[dict[str, int]]) -> int:
    return sum(each["value"] for each in samples)


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS))
