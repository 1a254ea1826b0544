"""The filter for events: run by a small machine of our own; the kernel runs it in tests/kernel."""

from __future__ import annotations

import pytest

from mptcpd.nl import bpf, genl, messages


def run(program: list[bpf.Instruction], message: bytes) -> int:
    """What a classic BPF program returns: how many bytes of the message pass."""
    accumulator = place = 0
    for _step in range(len(program)):
        code, jump_true, jump_false, constant = program[place]
        place += 1
        if code == 0x30:  # BPF_LD | BPF_B | BPF_ABS
            if constant >= len(message):
                return 0  # as the kernel does with a load beyond the end
            accumulator = message[constant]
        elif code == 0x15:  # BPF_JMP | BPF_JEQ | BPF_K
            place += jump_true if accumulator == constant else jump_false
        elif code == 0x06:  # BPF_RET | BPF_K
            return constant
        else:
            raise AssertionError(f"code {code:#x}")
    raise AssertionError("no end")


@pytest.mark.parametrize(
    "wanted", [[], [1], [3, 1], [1, 2, 3, 6, 7, 10, 11, 13, 15, 16], range(250), [0], [255]]
)
def test_commands(wanted: list[int]) -> None:
    program = bpf.commands(wanted)
    for command in range(256):
        message = messages.build(28, 0, 0, 0, genl.header(command))
        assert run(program, message) == (0xFFFFFFFF if command in wanted else 0)
    assert run(program, b"short") == 0
    assert all(0 <= t <= 255 and 0 <= f <= 255 for _code, t, f, _k in program)


def test_too_many() -> None:
    with pytest.raises(ValueError, match="251 commands"):
        bpf.commands(range(251))
