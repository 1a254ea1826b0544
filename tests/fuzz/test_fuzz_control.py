"""Claim: whatever bytes a client sends, the control socket answers each line with a reply or a
refusal with a reason, and nothing it answers is longer than a line or anything but JSON.
"""

from __future__ import annotations

import json

from hypothesis import example, given
from hypothesis import strategies as st

from mptcpd.cli.control_protocol import COMMANDS, MOST, Refusal, parse, refusal

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
names = sorted({name for command in COMMANDS.values() for name in command.arguments})
words = ["10.0.1.2", "[::1]:443", "03c910ff", "client", "debug", "json", ["log"], 7, True]
near = st.fixed_dictionaries(
    {"command": st.sampled_from(sorted(COMMANDS)) | values},
    optional={name: st.sampled_from(words) | values for name in [*names, "id", "version", "x"]},
)


def judged(line: bytes) -> None:
    try:
        request = parse(line)
    except Refusal as error:
        said = refusal(error)
        assert said.endswith(b"\n") and said.count(b"\n") == 1 and len(said) < 2000
        assert json.loads(said)["error"]["kind"] == error.kind
    else:
        assert request.command in COMMANDS
        assert request.id is None or type(request.id) in (str, int)
        assert request.arguments.keys() <= COMMANDS[request.command].arguments.keys()


@given(st.binary(max_size=400))
@example(b"[" * MOST)
@example(b'{"command":"' + b"x" * 16000 + b'"}')
@example(b'{"command":"status","id":true}')
@example(b'{"command":"\\ud800"}')
@example(b'{"command":"status","id":"\\ud800"}')
def test_any_bytes(line: bytes) -> None:
    judged(line)


@given(near)
def test_nearly_right_requests(request: dict[str, object]) -> None:
    judged(json.dumps(request).encode())


@given(near, st.integers(0, 200), st.binary(max_size=3))
def test_damaged_requests(request: dict[str, object], at: int, junk: bytes) -> None:
    line = json.dumps(request).encode()
    judged(line[:at] + junk + line[at + len(junk) :])
