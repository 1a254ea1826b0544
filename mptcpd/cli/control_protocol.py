"""The language of the control socket: one JSON object a line, requests in, replies out.

Knows what a request looks like and how a reply is written; must not know sockets, nor what any
command does. docs/control.md describes it for people; COMMANDS is the one table of it.

    {"command": "status", "id": 7}
    {"version": 1, "id": 7, "ok": true, "result": {...}}
    {"version": 1, "id": 7, "ok": false, "error": {"kind": "unknown-command", "text": "..."}}

Imported when the first client comes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from mptcpd.core.address import sockaddr
from mptcpd.nl.errors import KernelError

VERSION = 1
MOST = 16384  # bytes of a request, with its line feed
LEVELS = ("debug", "info", "warning", "error")
KINDS = ("connections", "network", "commands", "log")  # of what a subscriber is told


class Refusal(Exception):
    """A request that is not carried out.

    kind  one of: not-json, bad-request, version, unknown-command, bad-argument, too-long,
          not-found, refused, denied, too-many, internal
    more  further members of the error, for programs
    """

    def __init__(self, kind: str, text: str, **more: object) -> None:
        super().__init__(text)
        self.kind = kind
        self.more = more


class Request(NamedTuple):
    """What a client asks for; ``id`` comes back with every reply."""

    id: str | int | None
    command: str
    arguments: Mapping[str, Any]


class Argument(NamedTuple):
    """How an argument is read, what is allowed in words, and whether it must be given."""

    read: Callable[[Any], Any]
    allowed: str
    required: bool = False


class Command(NamedTuple):
    """A command: its arguments, and a line about it."""

    arguments: Mapping[str, Argument]
    about: str


def _token(value: Any) -> int:
    text = value.lower().removeprefix("0x")
    if not 1 <= len(text) <= 8 or not set(text) <= set("0123456789abcdef"):
        raise ValueError(value)
    return int(text, 16)


def _one_of(*words: str) -> Argument:
    def read(value: Any) -> Any:
        if not isinstance(value, str) or value not in words:
            raise ValueError(value)
        return value

    return Argument(read, ", ".join(words))


def _kinds(value: Any) -> frozenset[str]:
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise ValueError(value)
    if not value or not set(value) <= set(KINDS):
        raise ValueError(value)
    return frozenset(value)


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(value)
    return value


def _number(least: int, most: int) -> Argument:
    def read(value: Any) -> int:
        if type(value) is not int or not least <= value <= most:
            raise ValueError(value)
        return value

    return Argument(read, f"a number from {least} to {most}")


def _needed(argument: Argument) -> Argument:
    return argument._replace(required=True)


_TOKEN = Argument(_token, "a token as 8 hexadecimal digits, in quotes")
_ADDRESS = Argument(
    lambda value: sockaddr(value if isinstance(value, str) else ""),
    '"10.0.1.2", "10.0.1.2:443" or "[2001:db8::1]:443"',
)
_FLAG = Argument(_truth, "true or false")
_FLOW = {"token": _needed(_TOKEN), "local": _needed(_ADDRESS), "remote": _needed(_ADDRESS)}

COMMANDS: Mapping[str, Command] = {
    "status": Command({}, "what runs, since when, and how many of everything there are"),
    "connections": Command({"token": _TOKEN}, "the connections that the plugins follow"),
    "interfaces": Command({}, "interfaces and addresses, and why each is used or not"),
    "endpoints": Command({}, "the endpoints of the kernel's path manager, and its limits"),
    "plugins": Command({}, "the plugins in their order"),
    "counters": Command({"format": _one_of("json", "openmetrics")}, "what was counted"),
    "reload": Command({}, "read configuration and plugins again and apply the difference"),
    "log": Command({"level": _one_of(*LEVELS)}, "tell or set what is logged"),
    "subscribe": Command(
        {"kinds": Argument(_kinds, f"a list of {', '.join(KINDS)}")}, "a stream of what happens"
    ),
    "explain": Command(
        {
            "role": _needed(_one_of("client", "server")),
            "local": _needed(_ADDRESS),
            "remote": _needed(_ADDRESS),
        },
        "what would become of a connection, and why",
    ),
    "announce": Command(
        {
            "token": _needed(_TOKEN),
            "address": _needed(_ADDRESS),
            "local_id": _number(1, 255),
            "listen": _FLAG,
        },
        "announce an address to the peer",
    ),
    "remove": Command(
        {"token": _needed(_TOKEN), "local_id": _needed(_number(0, 255))},
        "withdraw an announced address",
    ),
    "create-subflow": Command(
        {
            **_FLOW,
            "local_id": _number(0, 255),
            "remote_id": _number(0, 255),
            "backup": _FLAG,
            "ifindex": _number(1, 0x7FFFFFFF),
        },
        "ask for a subflow",
    ),
    "destroy-subflow": Command(_FLOW, "close a subflow"),
    "set-backup": Command(
        {**_FLOW, "backup": _needed(_FLAG)}, "make a subflow a backup, or one like any other"
    ),
}


def parse(line: bytes) -> Request:
    """A request from a line, without its line feed. Errors: Refusal, whatever the bytes."""
    said = _decode(line)
    ident = said.get("id")
    if not (ident is None or type(ident) in (str, int)):
        raise Refusal("bad-request", "id is to be a string or a number")
    try:
        return _request(ident, said)
    except Refusal as refusal:
        refusal.more["id"] = ident  # for the reply, not for the error
        raise


def _decode(line: bytes) -> dict[str, Any]:
    import json

    try:
        said = json.loads(line.decode(), parse_constant=_no_number)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError, too
        raise Refusal("not-json", f"{type(error).__name__}: {error}"[:200]) from None
    if not isinstance(said, dict):
        raise Refusal("bad-request", 'a request is an object: {"command": "status"}')
    return said


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no JSON")


def _request(ident: str | int | None, said: dict[str, Any]) -> Request:
    if said.get("version", VERSION) != VERSION:
        raise Refusal(
            "version", f"this daemon speaks version {VERSION} of the protocol", speaks=VERSION
        )
    name = said.get("command")
    if not isinstance(name, str) or name not in COMMANDS:
        known = ", ".join(COMMANDS)
        raise Refusal("unknown-command", f"command {_shown(name)} is not one of {known}")
    wanted = COMMANDS[name].arguments
    arguments: dict[str, Any] = {}
    for key, value in said.items():
        if key in ("id", "version", "command"):
            continue
        if key not in wanted:
            known = ", ".join(wanted) or "none"
            raise Refusal("bad-argument", f"{name} has no argument {_shown(key)}; it has: {known}")
        try:
            arguments[key] = wanted[key].read(value)
        except (ValueError, AttributeError, TypeError):
            raise Refusal(
                "bad-argument", f"{key} {_shown(value)}: expected {wanted[key].allowed}"
            ) from None
    for key, argument in wanted.items():
        if argument.required and key not in arguments:
            raise Refusal("bad-argument", f"{name} needs {key}: {argument.allowed}")
    return Request(ident, name, arguments)


def _shown(value: object) -> str:
    """A value of the client's, for a message to it: short, whatever it is."""
    import json

    try:
        text = json.dumps(value)
    except (ValueError, RecursionError):
        return "(too deep)"
    return text if len(text) <= 60 else text[:57] + "..."


def reply(ident: str | int | None, result: object, *, more: bool = False) -> bytes:
    """A line with a result; ``more``: further lines of the same answer follow."""
    said: dict[str, object] = {"version": VERSION, "id": ident, "ok": True, "result": result}
    if more:
        said["more"] = True
    return line(said)


def refusal(error: Exception, ident: str | int | None = None) -> bytes:
    """A line that says why a request was not carried out."""
    if isinstance(error, KernelError):
        found: dict[str, object] = {
            "kind": "refused", "text": str(error), "command": error.command,
            "errno": error.errno, "words": error.words,
        }  # fmt: skip
    elif isinstance(error, Refusal):
        more = dict(error.more)
        ident = more.pop("id", ident)  # type: ignore[assignment]
        found = {"kind": error.kind, "text": str(error), **more}
    else:
        found = {"kind": "refused", "text": str(error) or type(error).__name__}
    return line({"version": VERSION, "id": ident, "ok": False, "error": found})


def line(value: object) -> bytes:
    """A value as a line. Only ASCII: nothing a terminal could mistake for something else."""
    import json

    return json.dumps(value, separators=(",", ":")).encode() + b"\n"
