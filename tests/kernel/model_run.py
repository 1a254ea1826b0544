"""Runs a sequence of operations on a real host with the daemon, and compares with the model.

    python -m tests.kernel.model_run SETTINGS SEED OPERATIONS [small]     one run, as in the tests
    python -m tests.kernel.model_run SETTINGS "BURSTS" [small]            what a report has shown

``small``: the daemon's receive buffer has 8 KB, and it is stopped during bursts; before every other
one its buffer is filled up, so that it loses notifications. A run that fails is made shorter, for a
minute: operations are left out as long as it still fails. Exit status 1 if it failed.
"""

from __future__ import annotations

import ast
import contextlib
import io
import pathlib
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from ipaddress import ip_address

from lab import Host, Lab, wait_until
from mptcpd.nl import rtnl, rtnl_change
from mptcpd.nl import uapi as u
from mptcpd.nl.mptcp import AF_INET, AF_INET6
from mptcpd.nl.rtnl_change import Change
from tests.kernel.model import SETTINGS, Operation, Settings, World, bursts, route_of, rule_of
from tests.kernel.started import Shown, endpoints, foreign, limits
from tests.kernel.uplinks import Following

PATIENCE = 3.0  # seconds that the kernel's endpoints may differ from the model's after a burst
SHRINKING = 60.0  # seconds
MOST = 8  # the greatest limit of Linux 6.18, and its room for endpoints
Bursts = Sequence[Sequence[Operation]]


class Mismatch(Exception):
    """The endpoints are not those of the model; the text says which and after what."""


class Stage:
    """A host, the far ends of its cables, and another namespace to move interfaces to."""

    def __init__(self, lab: Lab, settings: Settings) -> None:
        self.host, self.far, self.elsewhere = (
            lab.host(name) for name in ("host", "far", "elsewhere")
        )
        self.world = World(settings)
        self._count = 0
        # The far ends' numbers begin with others (``uplinks`` says why).
        for number in range(100, 106):
            spare = rtnl_change.add_veth(f"x{number}", self.far.fd, f"y{number}", self.far.fd)
            self.far.change(spare)
        for number, ip in enumerate(settings.foreign):
            foreign(self.host, ip, 200 + number, "signal")

    def do(self, operation: Operation) -> None:
        """Do it in the model, and if it makes sense there, for real."""
        link = self.world.links.get(operation.slot)
        where = self.elsewhere if link is not None and link.away else self.host
        index = 0
        if link is not None:
            index = where.ifindex(link.name)
        if self.world.apply(operation):
            getattr(self, operation.what)(operation, where, index)

    def noise(self) -> None:
        """Notifications that mean nothing, more than a small buffer holds."""
        lo = self.host.ifindex("lo")
        for number in range(20):
            self.host.change(_address(lo, f"127.6.0.{number}"))
            ip = bytes((127, 6, 0, number))
            self.host.change(rtnl_change.delete_address(lo, ip, 32))

    def create(self, operation: Operation, _where: Host, _index: int) -> None:
        name, far = operation.detail, f"far{operation.slot}"
        self.host.change(rtnl_change.add_veth(name, self.host.fd, far, self.far.fd))
        self.far.change(rtnl_change.set_link(self.far.ifindex(far), up=True))

    def delete(self, _operation: Operation, where: Host, index: int) -> None:
        where.change(rtnl_change.delete_link(index))

    def up(self, _operation: Operation, where: Host, index: int) -> None:
        where.change(rtnl_change.set_link(index, up=True))

    def down(self, _operation: Operation, where: Host, index: int) -> None:
        where.change(rtnl_change.set_link(index, up=False))

    def pull(self, operation: Operation, _where: Host, _index: int) -> None:
        self._far(operation.slot, up=False)

    def plug(self, operation: Operation, _where: Host, _index: int) -> None:
        self._far(operation.slot, up=True)

    def _far(self, slot: int, up: bool) -> None:
        self.far.change(rtnl_change.set_link(self.far.ifindex(f"far{slot}"), up=up))

    def rename(self, operation: Operation, where: Host, index: int) -> None:
        where.change(rtnl_change.set_link(index, name=operation.detail))

    def move(self, _operation: Operation, where: Host, index: int) -> None:
        where.change(rtnl_change.set_link(index, netns=self.elsewhere.fd))

    def back(self, _operation: Operation, where: Host, index: int) -> None:
        where.change(rtnl_change.set_link(index, netns=self.host.fd))

    def add(self, operation: Operation, where: Host, index: int) -> None:
        where.change(_address(index, operation.detail))

    def remove(self, operation: Operation, where: Host, index: int) -> None:
        ip = ip_address(operation.detail).packed
        where.change(rtnl_change.delete_address(index, ip, 8 * len(ip)))

    def deprecate(self, operation: Operation, where: Host, index: int) -> None:
        where.change(_address(index, operation.detail, preferred=0, valid=100_000))

    def renew(self, operation: Operation, where: Host, index: int) -> None:
        where.change(_address(index, operation.detail))

    def route(self, operation: Operation, where: Host, index: int) -> None:
        family, table, _slot, metric = route_of(operation)
        where.change(rtnl_change.add_route(_AF[family], oif=index, table=table, metric=metric))

    def unroute(self, operation: Operation, where: Host, index: int) -> None:
        family, table, _slot, metric = route_of(operation)
        where.change(rtnl_change.delete_route(_AF[family], oif=index, table=table, metric=metric))

    def nowhere(self, operation: Operation, _where: Host, _index: int) -> None:
        family, table, _slot, metric = route_of(operation)
        self.host.change(
            rtnl_change.add_route(_AF[family], table=table, metric=metric, kind=u.RTN_UNREACHABLE)
        )

    def no_nowhere(self, operation: Operation, _where: Host, _index: int) -> None:
        family, table, _slot, metric = route_of(operation)
        self.host.change(rtnl_change.delete_route(_AF[family], table=table, metric=metric))

    def rule(self, operation: Operation, _where: Host, _index: int) -> None:
        ip, table = rule_of(operation)
        source = ip_address(ip).packed
        self.host.change(
            rtnl_change.add_rule(
                AF_INET if len(source) == 4 else AF_INET6, table, source, 8 * len(source), table
            )
        )

    def unrule(self, operation: Operation, _where: Host, _index: int) -> None:
        ip, table = rule_of(operation)
        source = ip_address(ip).packed
        family = AF_INET if len(source) == 4 else AF_INET6
        self.host.change(
            rtnl_change.delete_rule(family, table, source, 8 * len(source), table)
        )

    def as_in_the_model(self) -> bool:
        """Whether every link is in the state that the model has: a carrier takes its time."""
        running = {
            link.name: bool(link.flags & u.IFF_RUNNING)
            for link in self.host.network.links()
            if link.name != "lo"
        }
        return running == {
            link.name: link.running for link in self.world.links.values() if not link.away
        }


_AF = {4: AF_INET, 6: AF_INET6}


def _address(
    index: int, text: str, preferred: int = rtnl.FOREVER, valid: int = rtnl.FOREVER
) -> Change:
    ip = ip_address(text).packed
    # NOPREFIXROUTE: the model has no routes to neighbours.
    flags = u.IFA_F_NODAD | u.IFA_F_NOPREFIXROUTE
    return rtnl_change.add_address(
        index, ip, 8 * len(ip), flags=flags, preferred=preferred, valid=valid
    )


def complaints(stage: Stage) -> list[str]:
    """In what the kernel's endpoints and limits differ from the model's; empty: in nothing."""
    world, settings = stage.world, stage.world.settings
    found = endpoints(stage.host)
    theirs = {ip: found.pop(ip, None) for ip in settings.foreign}
    said = [
        f"{ip}, an endpoint of others: {shown}"
        for number, (ip, shown) in enumerate(theirs.items())
        if shown != Shown(200 + number, "signal", None)
    ]
    by_slot: dict[int, list[str]] = {slot: [] for slot in world.links}
    numbers = {
        stage.host.ifindex(link.name): slot
        for slot, link in world.links.items()
        if not link.away
    }
    for ip, shown in found.items():
        slot = numbers.get(shown.ifindex or 0)
        if slot is None or ip not in world.candidates(slot):
            said.append(f"{ip} on ifindex {shown.ifindex} should have no endpoint")
            continue
        by_slot[slot].append(ip)
        flags = ",".join(settings.flags_of(world.links[slot].name) or ())
        if shown.flags != flags:
            said.append(f"{ip} has flags {shown.flags} instead of {flags}")
    said += _missing(stage, found, by_slot)
    told = sum(
        min(len(world.candidates(slot)), settings.most_of(link.name))
        for slot, link in world.links.items()
    )
    wanted = min(MOST, 2 + told)
    if limits(stage.host) != (wanted, wanted):
        said.append(f"limits {limits(stage.host)} instead of {(wanted, wanted)}")
    return said


def _missing(
    stage: Stage, found: dict[str, Shown], by_slot: dict[int, list[str]]
) -> list[str]:
    """Which endpoints lack, or are too many, by the rules for scarce room."""
    world, settings = stage.world, stage.world.settings
    said = []
    room = MOST - len(settings.foreign)
    ranks: list[tuple[int, bool]] = []
    shared = False
    for slot, link in world.links.items():
        candidates = world.candidates(slot)
        most = min(len(candidates), settings.most_of(link.name))
        backup = "backup" in (settings.flags_of(link.name) or ())
        ranks += [(nth, backup) for nth in range(most)]
        if len(by_slot[slot]) > most:
            said.append(f"slot {slot} has {by_slot[slot]}, {most} at most")
        # An IP on two interfaces has one endpoint, on either.
        if sum(ip in found for ip in candidates) < most:
            shared = True
            lacking = [ip for ip in candidates if ip not in found]
            said.append(f"slot {slot}: {', '.join(lacking)} should have an endpoint")
    if not shared or len(ranks) <= room:
        return said
    # There are too many for the kernel: what counts is how many each slot has.
    said = []
    ranks.sort()
    last = ranks[room - 1]
    for slot, link in world.links.items():
        backup = "backup" in (settings.flags_of(link.name) or ())
        most = min(len(world.candidates(slot)), settings.most_of(link.name))
        ours = [(nth, backup) for nth in range(most)]
        sure = sum(rank < last for rank in ours)
        perhaps = sum(rank <= last for rank in ours)
        if not sure <= len(by_slot[slot]) <= perhaps:
            said.append(f"slot {slot} has {by_slot[slot]}, not {sure} to {perhaps} of them")
    if len(found) != room:
        said.append(f"{len(found)} endpoints of {room} that there is room for")
    return said


def run(
    settings: Settings,
    sequence: Bursts,
    folder: pathlib.Path,
    *,
    small: bool,
    patience: float = PATIENCE,
) -> int:
    """Do it all; the number of overruns that the daemon had. Errors: Mismatch."""
    with Lab() as lab:
        stage = Stage(lab, settings)
        core = "\n".join(line.strip() for line in settings.core.splitlines())
        with Following(stage.host, folder, core, small_buffer=small) as daemon:
            for number, burst in enumerate(sequence):
                if small:
                    daemon.freeze()
                    if number % 2:
                        stage.noise()  # fills the buffer: all of this burst is lost
                for operation in burst:
                    stage.do(operation)
                if small:
                    daemon.thaw()
                try:
                    wait_until(stage.as_in_the_model, "links as in the model", PATIENCE)
                    _settled(stage, daemon, patience)
                except (TimeoutError, Mismatch) as error:
                    raise Mismatch(
                        f"after burst {number} ({', '.join(map(str, burst))}): {error}"
                    ) from error
            if daemon.stop():
                raise Mismatch("the daemon ended in error")
            if "Traceback" in daemon.said:
                raise Mismatch(f"the daemon said:\n{daemon.said[daemon.said.index('Traceback'):]}")
            return daemon.times("reading links and addresses anew")


def _settled(stage: Stage, daemon: Following, patience: float) -> None:
    """Wait until the daemon has caught up and the endpoints are right."""
    deadline = time.monotonic() + patience
    daemon.caught_up()
    while said := complaints(stage):
        if time.monotonic() > deadline:
            raise Mismatch("; ".join(said))
        daemon.caught_up()


def shrunk(settings: Settings, sequence: Bursts, *, small: bool) -> tuple[Bursts, str]:
    """A part of the sequence that still fails, as small as can be found in time, and how it does.

    Longer and shorter stretches are left out, one after the other, down to single operations.
    """
    flat = [(number, operation) for number, burst in enumerate(sequence) for operation in burst]
    words = ""
    deadline = time.monotonic() + SHRINKING
    size = max(1, len(flat) // 2)
    while True:
        start, before = 0, len(flat)
        while start < len(flat):
            if time.monotonic() > deadline:
                return grouped(flat), words
            attempt = flat[:start] + flat[start + size :]
            said = failure(settings, grouped(attempt), small=small, patience=0.7)
            if said is None:
                start += size
            else:
                flat, words = attempt, said
        if size == 1 and len(flat) == before:
            return grouped(flat), words
        size = max(1, size // 2)


def grouped(flat: Sequence[tuple[int, Operation]]) -> list[list[Operation]]:
    found: dict[int, list[Operation]] = {}
    for number, operation in flat:
        found.setdefault(number, []).append(operation)
    return list(found.values())


def failure(
    settings: Settings, sequence: Bursts, *, small: bool, patience: float = PATIENCE
) -> str | None:
    """How a run fails; None if it does not."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        try:
            run(settings, sequence, pathlib.Path(folder), small=small, patience=patience)
        except Mismatch as error:
            return str(error)
    return None


def report(name: str, seed: int, count: int, *, small: bool) -> str | None:
    """Run it; if it fails: how, the shortest sequence found that does, and how to repeat both."""
    settings = SETTINGS[name]
    sequence = bursts(seed, count, settings)
    said = failure(settings, sequence, small=small)
    if said is None:
        return None
    failing = re.match(r"after burst (\d+) ", said)
    if failing is not None:
        sequence = sequence[: int(failing[1]) + 1]
    command = "python -m tests.kernel.model_run"
    tail = " small" if small else ""
    shorter, words = shrunk(settings, sequence, small=small)
    plain = [[tuple(operation) for operation in burst] for burst in shorter]
    return (
        f"{said}\nTo repeat it:  {command} {name} {seed} {count}{tail}\n"
        f"Shorter, where {words or 'it fails alike'}:\n  {command} {name} \"{plain}\"{tail}"
    )


def main(argv: Sequence[str]) -> int:
    words = list(argv)
    small = bool(words) and words[-1] == "small"
    if small:
        words.pop()
    began = time.monotonic()
    if len(words) == 2:
        literal = ast.literal_eval(words[1])
        sequence = [[Operation(*operation) for operation in burst] for burst in literal]
        said = failure(SETTINGS[words[0]], sequence, small=small)
    elif len(words) == 3:
        said = report(words[0], int(words[1]), int(words[2]), small=small)
    else:
        print(__doc__, file=sys.stderr)
        return 64
    print(f"{'fine' if said is None else said}\n({time.monotonic() - began:.1f} s)")
    return int(said is not None)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
