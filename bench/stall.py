"""What an application sees of a pulled cable: how long it gets nothing, with and without a daemon.

    python -m bench.stall [RUNS] [NAME...]      RUNS of each way, 10 by default; NAME: a part of
                                                "WAY, DIRECTION" below; without any, all of them

A client with two links of 20 Mbit/s to a server sends (or receives) as fast as it can; after three
seconds, when the rates have settled, the cable of the link that carries the first subflow is
pulled. The stall is the longest time between two pieces of data that the receiving application
gets, from the cut until two seconds later. The ways take turns, so that whatever else the machine
does meets all of them. Needs root only for what ``lab`` needs it for. Prints numbers, judges
nothing.

For the daemons also: the time from the kernel's notification about the lost carrier to the removal
of the subflow (its event, which the kernel sends while it carries the request out), as one process
sees both. And for ours, when the cable is plugged in again a second after the cut: the time from
the notification until the link carries data again; the second is within the time in which a link
counts as bouncing, so ``hold-down-return`` (200 ms by default) is part of it.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pathlib
import select
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import NamedTuple

from lab import Host, Lab, Missing, traffic, wait_until
from lab.network import Link, add_default_route
from lab.process import Call
from mptcpd.nl import messages, mptcp, mptcp_event, rtnl, rtnl_change
from mptcpd.nl import uapi as u
from mptcpd.nl.sock import EventSocket

RATE = 20_000_000  # bit/s of each link
SETTLE = 3.0  # seconds before the cut
LOOK = 2.0  # seconds after it
BOUNCE = 1.0  # seconds until the cable is plugged in again, where it is
AGAIN = 65536  # bytes over a link after which it counts as carrying data
_CHUNK = 65536
_ROOT = pathlib.Path(__file__).resolve().parents[1]
_C_DAEMON = "/usr/libexec/mptcpd"


class Way(NamedTuple):
    """Who looks after the client's paths. ``userspace``: connections are managed by a plugin."""

    name: str
    start: Callable[[Host, pathlib.Path], None]
    userspace: bool = False


class Run(NamedTuple):
    """Times in ms. ``removal``: from notification to removal; ``back``: to data over the link."""

    stall: float
    removal: float | None
    back: float | None


def by_hand(client: Host, _folder: pathlib.Path) -> None:
    """The endpoints, and nobody to look after them."""
    client.mptcp.set_limits(subflows=4, add_addr_accepted=4)
    for index in (1, 2):
        ip = ip_address(f"10.0.{index}.1").packed
        flags = mptcp.FLAGS["subflow"]
        client.mptcp.add_addr(
            mptcp.Address(ip, 0, index, flags, client.ifindex(f"eth{index - 1}"))
        )


def ours(core: str) -> Callable[[Host, pathlib.Path], None]:
    def start(client: Host, folder: pathlib.Path) -> None:
        file = folder / "mptcpd.conf"
        file.write_text(f"[core]\n{core}\n")
        file.chmod(0o644)
        command = [sys.executable, "-m", "mptcpd.cli.daemon", f"--config={file}"]
        _daemon(client, [*command, "--runtime-dir=none", "--log=null"])

    return start


def c_daemon(client: Host, _folder: pathlib.Path) -> None:
    notify = "--notify-flags=existing,skip_link_local,skip_loopback"
    _daemon(client, [_C_DAEMON, "--addr-flags=subflow", notify])


def _daemon(client: Host, command: list[str]) -> None:
    client.popen(command, cwd=_ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


WAYS = (
    Way("no daemon", by_hand),
    Way("addr_adv", ours("load-plugins=addr_adv")),
    Way("addr_adv renews", ours("load-plugins=addr_adv\n[addr_adv]\nrenew-on-loss=yes")),
    Way("fullmesh", ours("load-plugins=fullmesh\npm=userspace"), userspace=True),
    Way("C daemon", c_daemon),
)


class Watch:
    """Notifications about links and events of MPTCP on a host, with the time at which they came."""

    def __init__(self, host: Host) -> None:
        with host:
            self._links = EventSocket(u.NETLINK_ROUTE, (u.RTNLGRP_LINK,))
            self._events = EventSocket(u.NETLINK_GENERIC, (host.mptcp.events_group,))

    def close(self) -> None:
        self._links.close()
        self._events.close()

    def carrier(self, ifindex: int, running: bool, seconds: float) -> float | None:
        """When an interface was said to have, or to have lost, its carrier; None: not in time."""
        for moment, link, _event in self._seen(seconds):
            if link is None or link.ifindex != ifindex:
                continue
            if bool(link.flags & u.IFF_RUNNING) == running:
                return moment
        return None

    def removal(self, seconds: float) -> float | None:
        """When a subflow was closed; None: none was, in time."""
        for moment, _link, event in self._seen(seconds):
            if event is not None and event.kind == u.MPTCP_EVENT_SUB_CLOSED:
                return moment
        return None

    def _seen(
        self, seconds: float
    ) -> Iterator[tuple[float, rtnl.Link | None, mptcp_event.Event | None]]:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            ready, _, _ = select.select([self._links, self._events], [], [], left)
            moment = time.monotonic()
            for sock in ready:
                for datagram in sock.receive():
                    for message in messages.split(datagram):
                        if sock is self._events:
                            yield moment, None, mptcp_event.parse(message.payload)
                        else:
                            link = rtnl.parse(message.type, message.payload)
                            yield moment, link if isinstance(link, rtnl.Link) else None, None


def measure(way: Way, *, upload: bool, plug: bool = False) -> Run:
    """One run, on hosts of its own."""
    with Lab() as lab, tempfile.TemporaryDirectory() as folder:
        client, server = lab.host("client"), lab.host("server")
        # So that the two ends of a link have different numbers: only then the kernel tells of a
        # veth's carrier at once (net/core/link_watch.c: linkwatch_urgent_event).
        for number in range(3):
            server.change(
                rtnl_change.add_veth(f"x{number}", server.fd, f"y{number}", server.fd)
            )
        links = [_link(lab, client, server, index) for index in (1, 2)]
        server.mptcp.set_limits(subflows=4)
        if way.userspace:
            client.set_sysctl("net.mptcp.pm_type", 1)
        way.start(client, pathlib.Path(folder))
        if not way.userspace:
            wait_until(lambda: len(client.mptcp.dump_addrs()) == 2, f"endpoints by {way.name}")
        else:
            wait_until(lambda: _subscribed(client), f"{way.name} listens")
        return _transfer(client, server, links, upload, plug)


def _link(lab: Lab, client: Host, server: Host, index: int) -> Link:
    name, net = f"eth{index - 1}", f"10.0.{index}"
    link = lab.link(client, name, f"{net}.1/24", server, name, f"{net}.2/24", rate=RATE)
    add_default_route(link.one, f"{net}.2", metric=100 * index)
    return link


def _subscribed(host: Host) -> bool:
    """Whether a process other than this one listens to the events of mptcp_pm there."""
    with host, open("/proc/thread-self/net/netlink") as stream:
        next(stream)
        rows = [line.split() for line in stream]
    return any(row[1] == "16" and int(row[3], 16) and int(row[2]) != os.getpid() for row in rows)


def _transfer(client: Host, server: Host, links: list[Link], upload: bool, plug: bool) -> Run:
    connection = traffic.open_connection(client, server, "10.0.1.2")
    wait_until(lambda: traffic.info(connection.client).subflows == 1, "a second subflow")
    seconds = SETTLE + LOOK + (BOUNCE + 1 if plug else 0)
    receiver = (server if upload else client).call(
        _receive, connection.server if upload else connection.client, seconds
    )
    sender = (client if upload else server).call(
        _send, connection.client if upload else connection.server
    )
    connection.close()
    time.sleep(SETTLE)
    with contextlib.closing(Watch(client)) as watch:
        cut = time.monotonic()
        links[0].other.down()
        said = watch.carrier(links[0].one.ifindex, False, LOOK)
        removed = watch.removal(cut + LOOK / 2 - time.monotonic())
        back = _back(watch, links[0], cut) if plug else None
    times = receiver.result(seconds + 10)
    _stop(sender)
    window = [t for t in times if t < cut + (BOUNCE if plug else LOOK)]
    gaps = [b - a for a, b in itertools.pairwise(window) if b > cut]
    if not gaps or said is None:
        raise TimeoutError("the transfer ended with the cut, or no carrier was lost")
    return Run(
        1000 * max(gaps), None if removed is None else 1000 * (removed - said), back
    )


def _back(watch: Watch, link: Link, cut: float) -> float | None:
    """Plug the cable in; the time in ms from the notification to data over the link."""
    time.sleep(max(0.0, cut + BOUNCE - time.monotonic()))
    before = _carried(link)
    link.other.up()
    said = watch.carrier(link.one.ifindex, True, LOOK)
    if said is None:
        return None
    with contextlib.suppress(TimeoutError):
        wait_until(
            lambda: _carried(link) > before + AGAIN,
            "data over the link",
            LOOK,
        )
        return 1000 * (time.monotonic() - said)
    return None


def _carried(link: Link) -> int:
    """Bytes that went over a link so far, in both directions."""
    seen = link.other.read()
    return (seen.rx_bytes or 0) + (seen.tx_bytes or 0)


def _send(sock: socket.socket) -> None:
    sock.settimeout(None)
    piece = bytes(_CHUNK)
    while True:
        sock.sendall(piece)


def _receive(sock: socket.socket, seconds: float) -> list[float]:
    """When data came, for so many seconds."""
    sock.settimeout(0.2)
    clock, times = time.monotonic, []
    end = clock() + seconds
    while clock() < end:
        try:
            if not sock.recv(_CHUNK):
                break
        except TimeoutError:
            continue
        times.append(clock())
    return times


def _stop(call: Call) -> None:
    call.stop()


def main(argv: list[str]) -> int:
    """Returns the exit status."""
    runs = int(argv.pop(0)) if argv and argv[0].isdigit() else 10
    ways = [way for way in WAYS if way is not WAYS[-1] or os.path.exists(_C_DAEMON)]
    with open("/proc/sys/net/ipv4/tcp_congestion_control") as stream:
        print(f"{runs} runs of each, taking turns; TCP congestion control {stream.read().strip()}")
    try:
        for upload in (True, False):
            direction = "client sends" if upload else "client receives"
            chosen = [way for way in ways if _asked(argv, f"{way.name}, {direction}")]
            found = {way.name: [] for way in chosen}  # type: dict[str, list[Run]]
            for _run in range(runs):
                for way in chosen:
                    found[way.name].append(measure(way, upload=upload))
            for name, results in found.items():
                _print(f"{name}, {direction}", "stall", [run.stall for run in results])
                _print("", "removal", [run.removal for run in results])
        for way in ways:
            if way.name in ("addr_adv", "fullmesh") and _asked(argv, f"{way.name}, back"):
                results = [measure(way, upload=True, plug=True) for _run in range(runs)]
                _print(f"{way.name}, back", "data", [run.back for run in results])
    except Missing as reason:
        print(reason)
        return 1
    return 0


def _asked(names: list[str], what: str) -> bool:
    return not names or any(name in what for name in names)


def _print(head: str, what: str, values: list[float] | list[float | None]) -> None:
    known = sorted(value for value in values if value is not None)
    if not known:
        return
    lost = f"; {len(values) - len(known)} times never" if len(known) < len(values) else ""
    print(
        f"{head:28} {what:8} median {statistics.median(known):6.1f} ms, "
        f"{known[0]:.1f} to {known[-1]:.1f}{lost}",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
