"""Claim: whatever bytes a client sends, the control socket answers each line with a reply or a
refusal with a reason, and nothing it answers is longer than a line or anything but JSON. In which
pieces the bytes come makes no difference.
"""

from __future__ import annotations

import contextlib
import json
import socket
import tempfile
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from mptcpd.cli.control_protocol import COMMANDS, MOST, Refusal, parse, refusal
from tests.cli.test_control_server import Served

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


lines = st.lists(
    st.one_of(st.binary(max_size=60), near.map(lambda said: json.dumps(said).encode())).map(
        lambda line: line.replace(b"\n", b"")
    ),
    max_size=6,
)


@given(lines, st.binary(max_size=3), st.lists(st.integers(1, 90), max_size=12))
@example([b"x" * (MOST - 1), b""], b"", [MOST - 1])
@example([b"x"] * 60, b"x", [])
@example([b'{"command":"connections"}', b'{"command":"subscribe"}', b"x"], b"", [7])
def test_lines_in_pieces(some: list[bytes], rest: bytes, sizes: list[int]) -> None:
    """What follows the last line feed is not carried out."""
    left = b"".join(line + b"\n" for line in some)
    asked = len(some) + rest.count(b"\n")
    left += rest
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.closing(Served(Path(folder))) as served,
    ):
        client = served.connect()
        for size in [*sizes, len(left)]:
            client.sendall(left[:size])
            left = left[size:]
            served.turn(1)
        client.shutdown(socket.SHUT_WR)
        client.setblocking(False)
        answers = b""
        for _round in range(500):  # one who subscribed stays for ever
            there = served.left()
            served.turn(1)
            with contextlib.suppress(BlockingIOError):
                answers += client.recv(1 << 20)
            if not there:
                break
        else:
            assert any(each.stream for each in served.server.clients.values())
        assert served.asked[: len(some)] == some
        assert len(served.asked) == asked
        # Some answers have several lines; each ends in one that promises no more.
        last = [line for line in answers.splitlines() if not json.loads(line).get("more")]
        assert len(last) == asked
