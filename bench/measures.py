"""What is measured. Each function prints its numbers; none judges them."""

from __future__ import annotations

import contextlib
import socket
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from bench import machine
from bench.load import EVENTS, TOKENS, Churn, Held
from bench.trace import Trace
from bench.watched import CDaemon, Daemon, Table, in_kernel, stopped
from lab import Host, Lab, traffic, wait_until
from mptcpd.nl import uapi as u
from mptcpd.nl.mptcp import Address

RATE = 20_000.0  # connections a second
SECONDS = 10.0
HELD = 75_200
TWO_SUBFLOWS = 2_000  # tokens among them whose connection has two
RESTARTS = 20
LOAD = 2_000.0  # connections a second during restarts
CONNECTIONS = 3_000  # for the time to a subflow


@contextlib.contextmanager
def fresh() -> Iterator[tuple[Host, Path]]:
    """A host of its own and a folder, after the machine has become quiet."""
    others = machine.wait_for_quiet()
    if others > 0.03:
        print(f"  (other processes take {100 * others:.0f} % of this machine)")
    with Lab() as lab, tempfile.TemporaryDirectory() as folder:
        yield lab.host("bench"), Path(folder)


def _median(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} (from {min(values):.2f} to {max(values):.2f})"


def rate(runs: int) -> None:
    """Connections opened and closed: what an event costs, and whether all of them are seen."""
    print(f"{RATE:.0f} connections a second wanted, {SECONDS:g} s, no-op hooks:")
    costs = []
    for _run in range(runs):
        with fresh() as (host, folder):
            daemon = Daemon(host, folder, "idle")
            with stopped(daemon):
                wait_until(daemon.sleeps, "mptcpd is ready")
                others, before = machine.Others(), daemon.cpu()
                done = Churn(host, seconds=SECONDS, rate=RATE).result()
                wait_until(daemon.sleeps, "mptcpd has read all")
                used, drops = daemon.cpu() - before, daemon.drops()
                events = EVENTS * done.connections
                costs.append(1e6 * (used.user + used.system) / events)
                print(
                    f"  {done.rate:.0f}/s made, {events / done.seconds:.0f} events/s; "
                    f"user {1e6 * used.user / events:.2f} us, "
                    f"system {1e6 * used.system / events:.2f} us an event; "
                    f"{drops} dropped; {daemon.memory().peak} KiB at most; "
                    f"others {100 * others.share():.1f} %"
                )
    print(f"  CPU an event: {_median(costs)} us")
    print("the same with a plugin that counts:")
    for _run in range(runs):
        with fresh() as (host, folder):
            daemon = Daemon(host, folder)
            with stopped(daemon):
                daemon.report()
                done = Churn(host, seconds=SECONDS, rate=RATE).result()
                seen = _when_equal(daemon)
                print(
                    f"  {done.connections} connections made, {TOKENS * done.connections} ends; "
                    f"opened {seen.opened}, established {seen.established}, "
                    f"closed {seen.closed}; in the table {seen.table}; {daemon.drops()} dropped"
                )


class Seen(NamedTuple):
    """What the plugin saw, and the size of the table."""

    opened: int
    established: int
    closed: int
    table: int


def _when_equal(daemon: Daemon) -> Seen:
    """What it reports as soon as its table equals what sock_diag says. Errors: TimeoutError."""

    def look() -> Seen | None:
        report = daemon.report()
        if report.table != in_kernel(daemon.host):
            return None
        return Seen(*report[:3], len(report.table))

    seen = wait_until(look, "the table equals the kernel's", 20.0)
    assert seen is not None
    return seen


@contextlib.contextmanager
def many(host: Host) -> Iterator[None]:
    """``HELD`` tokens, some of their connections with a second subflow."""
    limits = host.mptcp.get_limits()
    host.mptcp.set_limits(subflows=2)
    host.mptcp.add_addr(
        Address(socket.inet_aton("127.4.0.1"), flags=u.MPTCP_PM_ADDR_FLAG_SUBFLOW)
    )
    two = Held(host, TWO_SUBFLOWS // TOKENS)
    wait_until(
        lambda: sum(len(paths) == 2 for paths in in_kernel(host).values()) >= 0.9 * TWO_SUBFLOWS,
        "second subflows",
        20.0,
    )
    host.mptcp.set_limits(subflows=0)
    held = Held(host, (HELD - TWO_SUBFLOWS) // TOKENS, first=100)
    try:
        yield
    finally:
        held.close()
        two.close()
        host.mptcp.flush_addrs()
        host.mptcp.set_limits(subflows=limits.subflows)


def hold(runs: int) -> None:
    """Many connections held open: adoption, memory, and the same after SIGKILL under load."""
    print(f"{HELD} tokens held open, {TWO_SUBFLOWS} of them with a second subflow:")
    with fresh() as (host, folder), many(host):
        truth = in_kernel(host)
        subflows = sum(map(len, truth.values()))
        print(f"  in the kernel: {len(truth)} connections, {subflows} subflows")
        for _run in range(runs):
            machine.wait_for_quiet()
            _adopt(host, folder, lambda table: table == truth)
        print(f"SIGKILL and start, {RESTARTS} times, while {LOAD:.0f} connections a second come:")
        load = Churn(host, seconds=600.0, rate=LOAD)
        # While others come and go only those that are held can be compared.
        seconds = [
            _adopt(host, folder, lambda table: truth.items() <= table.items())
            for _restart in range(RESTARTS)
        ]
        load.stop()
        print(f"  seconds until adopted: {_median(seconds)}")
        daemon = Daemon(host, folder)
        with stopped(daemon):
            _when_equal(daemon)
        print("  the load has ended: the table equals what sock_diag says")


def _adopt(host: Host, folder: Path, right: Callable[[Table], bool]) -> float:
    """Start it, print what adoption took, kill it. Returns the seconds from exec."""
    (folder / "log").write_text("")
    began = time.monotonic()
    daemon = Daemon(host, folder)
    try:
        wait_until(daemon.adopted, "mptcpd has adopted the connections", 20.0)
        seconds = time.monotonic() - began
        time.sleep(0.3)
        used, memory = daemon.cpu(), daemon.memory()
        fine = right(daemon.report().table)
        print(
            f"  adopted {seconds:.2f} s after exec (CPU {used.scheduled:.2f} s); "
            f"{memory.resident} KiB resident, {memory.peak} at most; "
            f"table {'right' if fine else 'WRONG'}"
        )
    finally:
        daemon.process.kill()
        daemon.process.wait()
    return seconds


def latency(runs: int) -> None:
    """From ESTABLISHED to the request for a subflow.

    The client notes the time right before the send that makes the kernel call it established; the
    plugin notes it when its hook is called and when SUBFLOW_CREATE is handed to the kernel. So both
    are more than the true time, by what it takes to send a byte over loopback and back. Where the
    kernel keeps a record (``bench.trace``) it says when it woke the daemon with the event
    (net/mptcp/pm_netlink.c: mptcp_event puts it into the queue) and when the request came.

    One connection after the other: the next as soon as the second subflow is there, or after a rest
    of 5 ms, in which the caches get cold.
    """
    print(f"from before ESTABLISHED to SUBFLOW_CREATE, {CONNECTIONS} connections:")
    for _run in range(runs):
        for rest in (0.0, 0.005):
            with fresh() as (host, folder):
                host.set_sysctl("net.mptcp.pm_type", 1)
                daemon = Daemon(host, folder, "join")
                wait_until(daemon.sleeps, "mptcpd is ready")
                trace = Trace(daemon.pid)
                with trace.recording() if Trace.possible() else contextlib.nullcontext():
                    sent = host.call(_one_by_one, CONNECTIONS, rest).result(120)
                daemon.stop()
                called: list[float] = []
                requested: list[float] = []
                for line in daemon.times.read_text().splitlines():
                    token, *times = map(int, line.split())
                    if token in sent:
                        called.append((times[0] - sent[token]) / 1000)
                        requested.append((times[1] - sent[token]) / 1000)
                print(f"  {'rest of 5 ms' if rest else 'in a row'}:")
                found = {"hook called": called, "request sent": requested}
                if Trace.possible():
                    found["woken to sent"] = trace.delays()
                for what, values in found.items():
                    quantiles = statistics.quantiles(values, n=100)
                    print(
                        f"    {what:13} median {statistics.median(values):.0f} us, "
                        f"90 % {quantiles[89]:.0f} us, 99 % {quantiles[98]:.0f} us ({len(values)})"
                    )


def _one_by_one(connections: int, rest: float) -> dict[int, int]:
    """Token -> CLOCK_MONOTONIC in ns when the connection was about to be established."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, u.IPPROTO_MPTCP)
    listener.bind(("127.0.0.1", 5000))
    listener.listen()
    sent = {}
    for _connection in range(connections):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM, u.IPPROTO_MPTCP) as client:
            client.connect(("127.0.0.1", 5000))
            server, _peer = listener.accept()
            token = traffic.info(client).token
            time.sleep(rest)
            sent[token] = time.monotonic_ns()
            client.send(b"x")
            ends = time.monotonic() + 0.05
            while not traffic.info(client).subflows and time.monotonic() < ends:
                time.sleep(0.0001)  # as a program that waits for an answer does
            server.recv(1)
        server.close()
    return sent


def overruns(runs: int) -> None:
    """A receive buffer of 8 KB, so that the kernel drops events all the time."""
    print("receive buffer 8 KB, as many connections as the machine makes:")
    for _run in range(runs):
        with fresh() as (host, folder):
            daemon = Daemon(host, folder, core="event-buffer=8192")
            held = Held(host, 1000)
            with stopped(daemon):
                daemon.report()
                done = Churn(host, seconds=5.0).result()
                ended = time.monotonic()
                seen = _when_equal(daemon)
                print(
                    f"  {done.connections} connections made, {daemon.drops()} events dropped; "
                    f"the table was right {time.monotonic() - ended:.2f} s after the end; "
                    f"opened {seen.opened}, closed {seen.closed}, in the table {seen.table}"
                )
            held.close()


def asleep(runs: int) -> None:
    """addr_adv alone: no event may wake the daemon."""
    print("addr_adv alone, connections opened and closed:")
    for _run in range(runs):
        with fresh() as (host, folder):
            daemon = Daemon(host, folder, "addr_adv")
            with stopped(daemon):
                wait_until(daemon.sleeps, "mptcpd is ready")
                woken = machine.woken(daemon.pid)
                done = Churn(host, seconds=2.0).result()
                print(
                    f"  {done.connections} connections made, "
                    f"woken {machine.woken(daemon.pid) - woken} times"
                )


def beside_c(runs: int) -> None:
    """The same load for the C daemon and for ours, in turn."""
    if not CDaemon.installed():
        print("the C daemon is not installed (Debian: mptcpd)")
        return
    print(f"the same load beside the C daemon, {RATE:.0f} connections a second wanted, 5 s:")
    for _run in range(runs):
        for name in ("C", "ours"):
            with fresh() as (host, folder):
                daemon: Daemon | CDaemon = CDaemon(host) if name == "C" else Daemon(host, folder)
                with stopped(daemon):
                    time.sleep(1.0)
                    before = machine.cpu(daemon.pid)
                    done = Churn(host, seconds=5.0, rate=RATE).result()
                    time.sleep(1.0)
                    used, events = machine.cpu(daemon.pid) - before, EVENTS * done.connections
                    drops, memory = daemon.drops(), machine.memory(daemon.pid)
                    print(
                        f"  {name:5} {done.rate:.0f}/s made, {events} events, {drops} dropped "
                        f"({100 * drops / events:.0f} %); CPU {used.user:.2f} s user, "
                        f"{used.system:.2f} s system; {memory.peak} KiB at most"
                    )


MEASURES: dict[str, Callable[[int], None]] = {
    "rate": rate,
    "hold": hold,
    "latency": latency,
    "overruns": overruns,
    "asleep": asleep,
    "c": beside_c,
}
