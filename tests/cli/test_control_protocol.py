"""Requests as they come, good and bad; replies as they go out."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest

from mptcpd.cli.control_protocol import (
    COMMANDS,
    KINDS,
    MOST,
    Refusal,
    Request,
    line,
    parse,
    refusal,
    reply,
)
from mptcpd.core.address import sockaddr
from mptcpd.nl.errors import KernelError

PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "control.md"


@pytest.mark.parametrize(
    ("text", "request_"),
    [
        ('{"command":"status"}', Request(None, "status", {})),
        (' {"command": "status", "id": 7, "version": 1} ', Request(7, "status", {})),
        ('{"command":"status","id":"x"}\r', Request("x", "status", {})),
        ('{"command":"connections","token":"03c910ff"}',
         Request(None, "connections", {"token": 0x03C910FF})),
        ('{"command":"connections","token":"0xFF"}', Request(None, "connections", {"token": 255})),
        ('{"command":"subscribe","kinds":["log","network"]}',
         Request(None, "subscribe", {"kinds": frozenset({"log", "network"})})),
        ('{"command":"create-subflow","token":"1","local":"10.0.1.1","remote":"[::1]:80","backup":true}',
         Request(None, "create-subflow", {"token": 1, "local": sockaddr("10.0.1.1"),
                                          "remote": sockaddr("[::1]:80"), "backup": True})),
    ],
)  # fmt: skip
def test_good_requests(text: str, request_: Request) -> None:
    assert parse(text.encode()) == request_


@pytest.mark.parametrize(
    ("text", "kind", "says"),
    [
        (b"", "not-json", ""),
        (b"status", "not-json", ""),
        (b'{"command":"status"', "not-json", ""),
        (b"\xff\xfe{}", "not-json", "UnicodeDecodeError"),
        (b'{"command":NaN}', "not-json", "NaN is no JSON"),
        (b'{"id":-Infinity}', "not-json", ""),
        (b"[" * MOST, "not-json", "RecursionError"),
        (b'{"a":' * (MOST // 5), "not-json", ""),
        (b"9" * MOST, "not-json", ""),
        (b"7", "bad-request", "a request is an object"),
        (b"[]", "bad-request", ""),
        (b"null", "bad-request", ""),
        (b"{}", "unknown-command", "null is not one of status, connections"),
        (b'{"command":"stat"}', "unknown-command", '"stat"'),
        (b'{"command":["status"]}', "unknown-command", ""),
        (b'{"command":"status","version":2}', "version", "speaks version 1"),
        (b'{"command":"status","version":"1"}', "version", ""),
        (b'{"command":"status","id":[1]}', "bad-request", "id is to be"),
        (b'{"command":"status","id":true}', "bad-request", ""),
        (b'{"command":"status","token":"1"}', "bad-argument", 'no argument "token"; it has: none'),
        (b'{"command":"connections","token":1}', "bad-argument", "8 hexadecimal digits"),
        (b'{"command":"connections","token":"123456789"}', "bad-argument", ""),
        (b'{"command":"connections","token":"-1"}', "bad-argument", ""),
        (b'{"command":"connections","token":"1_0"}', "bad-argument", ""),
        (b'{"command":"log","level":"loud"}', "bad-argument", "debug, info, warning, error"),
        (b'{"command":"log","level":[]}', "bad-argument", ""),
        (b'{"command":"subscribe","kinds":[]}', "bad-argument", "connections, network"),
        (b'{"command":"subscribe","kinds":[{}]}', "bad-argument", ""),
        (b'{"command":"remove","token":"1"}', "bad-argument", "remove needs local_id"),
        (b'{"command":"remove","token":"1","local_id":256}', "bad-argument", "from 0 to 255"),
        (b'{"command":"remove","token":"1","local_id":true}', "bad-argument", ""),
        (b'{"command":"remove","token":"1","local_id":1.0}', "bad-argument", ""),
        (b'{"command":"announce","token":"1","address":"host"}', "bad-argument", "10.0.1.2:443"),
        (b'{"command":"announce","token":"1","address":7}', "bad-argument", ""),
        (b'{"command":"announce","token":"1","address":"1.2.3.4:%s"}' % (b"9" * 9000),
         "bad-argument", ""),
    ],
)  # fmt: skip
def test_bad_requests(text: bytes, kind: str, says: str) -> None:
    with pytest.raises(Refusal) as error:
        parse(text)
    assert error.value.kind == kind
    assert says in str(error.value)
    assert len(str(error.value)) < 500  # whatever the client sent
    assert json.loads(refusal(error.value))["ok"] is False


def test_the_id_comes_back_with_a_refusal() -> None:
    with pytest.raises(Refusal) as error:
        parse(b'{"command":"nope","id":"x"}')
    said = json.loads(refusal(error.value))
    assert said["id"] == "x"
    assert said["error"].keys() == {"kind", "text"}


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (KernelError("MPTCP_PM_CMD_REMOVE", 22, "address not found"),
         {"kind": "refused", "command": "MPTCP_PM_CMD_REMOVE", "errno": 22,
          "words": "address not found"}),
        (OSError(98, "in use"), {"kind": "refused", "text": "[Errno 98] in use"}),
        (ValueError(), {"kind": "refused", "text": "ValueError"}),
        (Refusal("version", "t", speaks=1), {"kind": "version", "text": "t", "speaks": 1}),
    ],
)  # fmt: skip
def test_refusals_as_they_go_out(error: Exception, found: dict[str, Any]) -> None:
    said = json.loads(refusal(error, 5))
    assert (said["version"], said["id"], said["ok"]) == (1, 5, False)
    assert found.items() <= said["error"].items()


def test_replies() -> None:
    assert json.loads(reply(1, {"a": 1})) == {
        "version": 1, "id": 1, "ok": True, "result": {"a": 1},
    }  # fmt: skip
    assert json.loads(reply(None, [], more=True))["more"] is True
    # Nothing that a terminal would act on, and no line feed but the last.
    assert line({"name": "eth\x1b[31m\u2028\n"}) == b'{"name":"eth\\u001b[31m\\u2028\\n"}\n'


def test_the_page_describes_every_command() -> None:
    page = PAGE.read_text()
    for name, command in COMMANDS.items():
        assert f"### {name}\n" in page
        section = page.split(f"### {name}\n")[1].split("\n### ")[0]
        for argument in command.arguments:
            assert f"`{argument}`" in section, (name, argument)
    for kind in KINDS:
        assert f"`{kind}`" in page
