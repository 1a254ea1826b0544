"""One connection over two paths, on this machine's kernel: see it and check it.

    make demo     or, where Python has cffi,     python demo/two_paths.py [MEGABYTES]

As root or as an ordinary user. Builds two hosts in private network namespaces, starts the daemon on
one of them, moves data over one MPTCP connection, cuts a link in the middle. Nothing is left
afterwards, however it ends. The last line begins with ``demo: PASS`` (exit status 0) or
``demo: FAIL`` (1).
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from typing import Any, NoReturn

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)
try:
    from demo.measure import Failure, Moment, Path, Phase, judge
    from demo.screen import Screen
    from lab import ChildFailed, Host, Lab, Missing, traffic, wait_until
    from lab.network import add_default_route
    from mptcpd.nl.errors import NetlinkError
    from mptcpd.nl.uapi import MPTCP_PM_ADDR_FLAG_SUBFLOW
except ModuleNotFoundError as error:
    print(f"demo: FAIL: {error}; 'make demo' sets up what this needs")
    sys.exit(1)

RATE = 20_000_000  # bit/s of each link, in each direction
MEGABYTES = 32
CUT_AT = 0.55  # the part of the data that has arrived when the link is cut
TIMEOUT = 25.0  # seconds for everything
TICK = 0.1  # seconds between two looks at the counters
SERVER = "10.0.1.2"
OPTIONS = ["--path-manager=addr_adv", "--addr-flags=subflow", "--plugin-dir=plugins"]
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main(argv: list[str], screen: Screen) -> int:
    """Returns the exit status."""
    for number in SIGNALS:
        signal.signal(number, _interrupt)
    try:
        megabytes = int(argv[0]) if argv else MEGABYTES
        with Lab() as lab:
            summary = show(screen, lab, megabytes * 1_000_000)
    except KeyboardInterrupt:
        screen.verdict(False, "interrupted")
        return 1
    except (
        Failure, Missing, ChildFailed, NetlinkError, TimeoutError, OSError, ValueError,
        subprocess.TimeoutExpired,
    ) as error:  # fmt: skip
        screen.verdict(False, str(error))
        return 1
    screen.verdict(True, summary)
    return 0


def show(screen: Screen, lab: Lab, size: int) -> str:
    """The whole story. Returns the summary. Errors: Failure, or whatever stopped it."""
    ends = time.monotonic() + TIMEOUT
    screen.title("mptcpd: one connection, two paths")
    screen.line(f"""
  Two hosts in network namespaces of their own, joined by two links of {RATE // 10**6} Mbit/s:

            .-- eth0 10.0.1.1 ------- 10.0.1.2 eth0 --.
    client -+                                         +- server
            '-- eth1 10.0.2.1 ------- 10.0.2.2 eth1 --'
""")
    client, server = lab.host("client"), lab.host("server")
    paths = [join(lab, client, server, index) for index in (1, 2)]
    server.mptcp.set_limits(subflows=2)

    log = os.memfd_create("mptcpd.log")
    try:
        daemon = start_daemon(screen, client, paths, log)
        connection = traffic.open_connection(client, server, SERVER)
        screen.line(f"  One MPTCP connection to {SERVER}, token {connection.token:08x}.")
        wait_until(lambda: traffic.info(connection.client).subflows == 1, "no second subflow")
        screen.line("  The kernel has added a second subflow to it, over the other link.")
        transfer = traffic.Transfer(client, server, connection, size)
        both, after = watch(screen, client, paths, transfer, ends)
        sent, received = transfer.result(max(1.0, ends - time.monotonic()))
        screen.line()
        for word, side in (("sent", sent), ("received", received)):
            screen.line(f"  {word:8} {side.size} bytes, sha256 {side.sha256[:32]}...")
        screen.line()
        daemon.terminate()
        if daemon.wait(5):
            raise Failure(f"mptcpd ended with status {daemon.returncode}")
        return judge(paths, both, after, sent, received)
    except (Failure, TimeoutError):
        # Whatever went wrong, what the daemon said about it is the first thing to look at.
        text = os.pread(log, 1 << 16, 0).decode(errors="replace")
        screen.line("\n".join(f"  mptcpd said: {line}" for line in text.splitlines()))
        raise
    finally:
        os.close(log)


def join(lab: Lab, client: Host, server: Host, index: int) -> Path:
    """Link number ``index``: eth0 or eth1 at both ends, and a default route over it."""
    name, net = f"eth{index - 1}", f"10.0.{index}"
    link = lab.link(client, name, f"{net}.1/24", server, name, f"{net}.2/24", rate=RATE)
    add_default_route(link.one, f"{net}.2", metric=100 * index)
    return Path(name, f"{net}.1", link)


def start_daemon(
    screen: Screen, client: Host, paths: list[Path], log: int
) -> subprocess.Popen[Any]:
    """Start mptcpd on the client and wait for what it tells the kernel."""
    if client.mptcp.dump_addrs():
        raise Failure("the client's kernel has endpoints although no daemon has run")
    screen.line(f"  On the client: mptcpd {' '.join(OPTIONS)}")
    begin = time.monotonic()
    # The shipped configuration changes nothing; the one in /etc may.
    command = [sys.executable, "-m", "mptcpd.cli.daemon", *OPTIONS]
    command += ["--log=stderr", "--config=etc/mptcpd.conf", "--runtime-dir=none"]
    daemon = client.popen(command, cwd=ROOT, stdout=log, stderr=log)
    wanted = [path.ip for path in paths]
    wait_until(
        lambda: endpoints(client) == wanted or daemon.poll() is not None,
        f"mptcpd has told the kernel no endpoints {', '.join(wanted)}",
    )
    if daemon.returncode is not None:
        raise Failure(f"mptcpd ended at once with status {daemon.returncode}")
    took = (time.monotonic() - begin) * 1000
    screen.line(f"  {took:.0f} ms later the client's kernel has the endpoints {', '.join(wanted)}.")
    return daemon


def endpoints(client: Host) -> list[str]:
    """The addresses that the kernel may make subflows from, asked through netlink."""
    return sorted(
        socket.inet_ntoa(endpoint.ip)
        for endpoint in client.mptcp.dump_addrs()
        if endpoint.ip is not None
        and len(endpoint.ip) == 4
        and (endpoint.flags or 0) & MPTCP_PM_ADDR_FLAG_SUBFLOW
    )


def watch(
    screen: Screen, client: Host, paths: list[Path], transfer: traffic.Transfer, ends: float
) -> tuple[Phase, Phase]:
    """Show a transfer and cut the first link in the middle of it: what went before, what after."""

    def now() -> Moment:
        return Moment(time.monotonic(), transfer.received, [path.carried() for path in paths])

    screen.line(f"  {transfer.size // 10**6} MB go over it. What the links carry, in Mbit/s:\n")
    screen.heads([f"{path.name} {path.ip}" for path in paths])
    lost = paths[0]
    start = second = now()
    cut: Moment | None = None
    withdrawn = False
    rows = 1
    while transfer.running:
        time.sleep(TICK)
        moment = now()
        seconds = moment.time - start.time
        if moment.time > ends:
            raise Failure(f"only {moment.data} bytes have arrived within {TIMEOUT:.0f} s")
        rates: list[float | None] = [*Phase.between(second, moment).rates]
        if cut is not None:
            rates[0] = None
        whole = seconds >= rows
        screen.row(seconds, rates, moment.data / transfer.size, last=whole)
        if whole:
            rows, second = rows + 1, moment
        if cut is None and moment.data >= CUT_AT * transfer.size:
            cut = moment
            lost.link.other.down()
            shares = Phase.between(start, cut).shares(paths)
            screen.event(seconds, f"{lost.name} is cut: no carrier. Until now: {shares}")
        if cut is not None and not withdrawn and lost.ip not in endpoints(client):
            withdrawn = True
            screen.event(seconds, f"mptcpd has taken the endpoint {lost.ip} back")
    end = now()
    if cut is None:
        raise Failure("the transfer ended before the link was cut")
    if not withdrawn:
        raise Failure(f"mptcpd left the endpoint {lost.ip} in the kernel though its link is cut")
    return Phase.between(start, cut), Phase.between(cut, end)


def _interrupt(_number: int, _frame: object) -> NoReturn:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # once is enough; the rest is taking down
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], Screen(RATE / 1e6)))
