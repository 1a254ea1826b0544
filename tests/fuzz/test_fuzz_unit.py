"""Claims: whatever stands in a unit file, enabling it makes a drop-in file that says the same
commands behind the launcher, or says why not; and a filter decides as its rules do.
"""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from mptcpd.core import unit
from mptcpd.core.unit import UnitError
from mptcpd.nl import seccomp, syscalls
from mptcpd.nl.seccomp import Argument, Rule
from mptcpd.nl.syscalls import ABIS
from tests.nl import test_seccomp

L = "/usr/bin/mptcpize"
PIECES = st.sampled_from(
    ["/bin/x", "-", "@", ":", "+", "!", " ", ";", " ; ", '"', "'", "\\", "%i", "$A", "a", "=", "#",
     "ExecStart=", "[Service]\n", "[Unit]\n", "\n", "\\\n", "é", "\t", "mptcpize"]
)  # fmt: skip
TEXTS = st.lists(PIECES, max_size=24).map("".join)


@example("ExecStart=@-/bin/x a b", "")
@example("", "[Service]\nExecStart=/bin/x ; !/bin/y \"a b\"\n")
@given(TEXTS, TEXTS)
def test_any_unit_file(one: str, other: str) -> None:
    found = unit.settings([f"[Service]\n{one}", other])
    values = found.get("ExecStart", [])
    commands = [command for value in values for command in unit.commands(value)]
    try:
        text = unit.drop_in("x.service", "/x", found, L)
    except UnitError:
        return
    lines = text.splitlines()
    assert lines[2:4] == ["[Service]", "ExecStart="]
    made = unit.settings([text])["ExecStart"]
    assert len(made) == len(commands) == len(lines) - 4
    for line, command in zip(made, commands, strict=True):
        before, launcher, rest = line.partition(f"{L} run ")
        assert launcher and not before.strip("-:+!|")
        assert set(before) == set(command[: len(command) - len(command.lstrip("-@:+!|"))]) - {"@"}
        # No word is lost: only "@" moves one.
        left = rest.replace("--argv0", "", 1) if "@" in command else rest
        assert sorted(left.split()) == sorted(command.lstrip("-@:+!|").split())


NUMBERS = st.sampled_from([0, 1, 2, 5, 6, 10, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
RULES = st.lists(
    st.builds(
        Rule,
        call=st.sampled_from(["socket", "ptrace", "mount", "umount"]),
        action=st.integers(1, 5),
        tests=st.lists(
            st.builds(
                Argument,
                place=st.integers(0, 5),
                values=st.lists(NUMBERS, min_size=1, max_size=4).map(tuple),
                ignore=NUMBERS,
            ),
            max_size=3,
        ).map(tuple),
    ),
    max_size=6,
)


@given(st.sampled_from(ABIS), RULES, st.lists(NUMBERS, min_size=6, max_size=6), st.data())
def test_any_filter(
    abi: syscalls.Abi, rules: list[Rule], args: list[int], data: st.DataObject
) -> None:
    program = seccomp.program(syscalls.siblings(abi), rules, default=0, foreign=99)
    numbers = syscalls.numbers(abi)
    call = data.draw(st.sampled_from(["socket", "ptrace", "mount", "umount", "seccomp"]))
    if call not in numbers:
        return

    def fits(rule: Rule) -> bool:
        return rule.call == call and all(
            args[test.place] & ~test.ignore & 0xFFFFFFFF in test.values for test in rule.tests
        )

    wanted = next((rule.action for rule in rules if fits(rule)), 0)
    upper = data.draw(st.lists(NUMBERS, min_size=6, max_size=6))
    words = [low | high << 32 for low, high in zip(args, upper, strict=True)]
    assert test_seccomp.run(program, abi, numbers[call], *words) == wanted
