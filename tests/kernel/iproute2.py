"""Random lines of endpoint and limits commands, good and bad, for ``ip mptcp`` and mptcpctl alike.

    python -m tests.kernel.iproute2 SEQUENCES [SEED] [PROGRAM]

compares as many sequences, with PROGRAM instead of ``ip`` from the PATH. Each of the two works in a
namespace of its own, with the same interface and addresses; after each command its output, its
complaints and its exit status must be the same, and so must the lists at the end of a sequence.

Left out are the few things that mptcpctl does otherwise on purpose (mptcpctl(8) lists them), and
words that the ``ip`` at hand does not know.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from typing import NamedTuple

from lab import Host, Lab
from mptcpd.cli.ctl import main

ADDRESSES = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.7", "0x0a.010.3", "fd00::1", "fd00::2",
             "fe80::1", "::ffff:10.0.0.9", "127.0.0.1"]  # fmt: skip
NO_ADDRESSES = ["bogus", "", "10.0.0.1/24", "10.0.0.256", "1.2.3.4.5", "fd00::g", "1..2", "fd00:",
                "-"]  # fmt: skip
IDS = ["1", "2", "3", "4", "0x7", "010", "255", "+5", " 6"]
NO_IDS = ["256", "-1", "x", "", "1x", "08", "0x"]
PORTS = ["80", "10100", "0x50", "65535", "0"]
NO_PORTS = ["65536", "http", "-1", ""]
DEVICES = ["lo", "d0", "nope", "a/b", "abcdefghijklmnopq", ""]
FLAGS = ["signal", "subflow", "backup", "fullmesh", "nobackup", "nofullmesh"]
NUMBERS = ["0", "1", "2", "8", "0x3", "9", "99", "-1", "4294967296", "x", ""]


class Said(NamedTuple):
    status: int
    out: bytes
    err: bytes


class Difference(Exception):
    """The two did not do the same; the text says what was said to them before."""


def knows_all(program: str) -> bool:
    """Whether this ``ip`` is as new as what mptcpctl follows (iproute2 6.18)."""
    run = subprocess.run([program, "mptcp", "help"], capture_output=True, check=False)
    return b"laminar" in run.stderr


class Lines:
    """Makes command lines, without the program's name."""

    def __init__(self, seed: int, new: bool) -> None:
        self._random = random.Random(seed)
        self._new = new
        self._flags = FLAGS + ["laminar", "implicit"] * new
        self._ids = IDS + ["0"] * new

    def line(self) -> list[str]:
        pick = self._random
        kind = pick.choices(
            ["add", "change", "delete", "show", "flush", "limits", "nonsense"],
            [10, 6, 5, 5, 1, 4, 1],
        )[0]
        if kind == "limits":
            return self._limits()
        if kind == "nonsense":
            return pick.choice([["endpoint", "bogus"], ["endpoint", ""], ["limits", "x"], ["x"],
                                ["endpoint", "addx"], ["monitor", "x"]])  # fmt: skip
        options = pick.choice([[], [], ["-j"], ["-j", "-p"], ["-p"], ["-o"] * self._new])
        words = [self._short("endpoint", 2), self._short(kind, 1)]
        if kind == "flush":
            return [*options, *words, *pick.choice([[], ["x", "y"]])]
        if kind == "show":
            return [*options, *(words[:1] if pick.random() < 0.1 else words + self._show())]
        parts = {"add": ["address", "id", "dev", "port", "flag", "flag"],
                 "change": ["address", "id", "port", "flag", "flag"],
                 "delete": ["id", "address"]}[kind]  # fmt: skip
        odds = {"add": {"address": 0.95, "flag": 0.6}, "delete": {"id": 0.95, "address": 0.2},
                "change": {"flag": 0.8, "address": 0.5, "id": 0.5}}[kind]  # fmt: skip
        chosen = [part for part in parts if pick.random() < odds.get(part, 0.25)]
        pick.shuffle(chosen)
        if pick.random() < 0.1:
            chosen.append(pick.choice(["id", "port", "dev", "address", "flag"]))
        words += [word for part in chosen for word in self._part(part)]
        if pick.random() < 0.03:
            words.pop()
        return [*options, *words]

    def _show(self) -> list[str]:
        return self._random.choices([[], self._part("id"), ["bogus"]], [5, 4, 1])[0]

    def _limits(self) -> list[str]:
        pick = self._random
        words = [self._short("limits", 1)]
        if pick.random() < 0.4:
            return words + [self._short("show", 1)] * pick.randrange(2)
        words.append(self._short("set", 2))
        for name in ("subflows", "add_addr_accepted", "bogus"):
            if pick.random() < (0.05 if name == "bogus" else 0.6):
                words += [self._short(name, 1), self._often(NUMBERS[:5], NUMBERS[5:])]
        return words

    def _part(self, part: str) -> list[str]:
        if part == "address":
            return [self._often(ADDRESSES, NO_ADDRESSES)]
        if part == "flag":
            return [self._random.choice(self._flags)]
        values = {"id": (self._ids, NO_IDS), "port": (PORTS, NO_PORTS),
                  "dev": (DEVICES[:2], DEVICES[2:])}[part]  # fmt: skip
        return [self._short(part, 1), self._often(*values)]

    def _often(self, good: list[str], bad: list[str]) -> str:
        return self._random.choice(good if self._random.random() < 0.9 else bad)

    def _short(self, word: str, least: int) -> str:
        if self._random.random() < 0.7:
            return word
        return word[: self._random.randint(least, len(word))]


class Pair:
    """The two programs, each in its namespace."""

    def __init__(self, lab: Lab, program: str) -> None:
        self._program = program
        self._theirs, self._ours = lab.host("theirs"), lab.host("ours")
        addresses = ["10.0.0.1/24", "10.0.0.2/24"]
        lab.link(self._theirs, "d0", addresses, self._ours, "d0", addresses)
        self.new = knows_all(program)

    def both(self, line: list[str]) -> tuple[Said, Said]:
        options = [word for word in line if word.startswith("-") and word in ("-j", "-p", "-o")]
        rest = line[len(options) :]
        theirs = subprocess_in(self._theirs, [self._program, *options, "mptcp", *rest])
        theirs = theirs._replace(err=theirs.err.replace(b"ip mptcp help", b"mptcpctl help"))
        return theirs, _ours(self._ours, line)

    def compare(self, seed: int) -> int:
        """One sequence, from no endpoints on. Returns its length. Errors: Difference."""
        for host in (self._theirs, self._ours):
            host.mptcp.flush_addrs()
            host.mptcp.set_limits(2, 0)
        lines = Lines(seed, self.new)
        count = random.Random(seed).randint(4, 14)
        sequence = [lines.line() for _each in range(count)]
        sequence += [["endpoint"], ["-j", "endpoint", "show"], ["-j", "-p", "endpoint"], ["limits"]]
        for index, line in enumerate(sequence):
            theirs, ours = self.both(line)
            if theirs != ours:
                before = "\n".join(" ".join(map(repr, said)) for said in sequence[: index + 1])
                raise Difference(f"seed {seed}:\n{before}\nip       {theirs}\nmptcpctl {ours}")
        return len(sequence)


def subprocess_in(host: Host, words: list[str]) -> Said:
    with host:
        run = subprocess.run(words, capture_output=True, stdin=subprocess.DEVNULL, check=False)
    return Said(run.returncode, run.stdout, run.stderr)


def _ours(host: Host, line: list[str]) -> Said:
    """As subprocess_in, in a fork of this process: starting Python anew takes ten times as long."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, host:
        pid = os.fork()
        if not pid:
            status = 99
            try:
                os.dup2(out.fileno(), 1)
                os.dup2(err.fileno(), 2)
                status = main.main(line)
            finally:
                os._exit(status)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        out.seek(0)
        err.seek(0)
        return Said(code, out.read(), err.read())


def run(sequences: int, seed: int, program: str, tell: Callable[[str], object] = print) -> None:
    with Lab() as lab:
        pair = Pair(lab, program)
        count = sum(pair.compare(seed + index) for index in range(sequences))
    known = "all words" if pair.new else "what it knows"
    tell(f"{sequences} sequences, {count} commands ({known}): no difference")


if __name__ == "__main__":
    found = sys.argv[3] if len(sys.argv) > 3 else shutil.which("ip")
    if found is None:
        sys.exit("no ip in the PATH")
    run(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0, found)
