"""Every parser that reads bytes of somebody else, in one table: what fuzzes one fuzzes all of them.

A new parser is one line in ``PARSERS``: how to call it with bytes, the errors that it may end in,
and a few whole inputs to begin with. It is then covered by the claims of ``test_fuzz_nl.py`` (any
bytes end in a value or in one of those errors; nothing looks into the buffer afterwards), of
``test_fuzz_linear.py`` (time and memory), and by the hunt.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from mptcpd.cli import control_protocol
from mptcpd.core import config, ownership, unit
from mptcpd.core.address import sockaddr
from mptcpd.core.config import ConfigError
from mptcpd.core.unit import UnitError
from mptcpd.nl import (
    attrs,
    diag,
    diag_sockets,
    genl,
    info,
    messages,
    mptcp,
    mptcp_event,
    netlink_diag,
    rtnl,
    rtnl_rule,
    syscalls,
)
from mptcpd.nl import uapi as u
from mptcpd.nl._attrs import Layouts
from mptcpd.nl.errors import DecodeError
from tests.captures import record

EVENTS = [data for recording in record.load("events") for data in recording.messages.values()]
REPLIES = [data for recording in record.load("replies") for data in recording.messages.values()]
PAYLOADS = [data[messages.HEADER :] for data in EVENTS + REPLIES]


class Parser(NamedTuple):
    """A parser, the errors that it may end in, and inputs that it takes.

    least  bytes that it cannot do without: less, but not nothing, is no value but None
    text   whether what it makes is of text: then a value may hold more than the input
    """

    call: Callable[[Any], Any]
    errors: tuple[type[Exception], ...] = (DecodeError,)
    seeds: list[bytes] = PAYLOADS
    least: int = 0
    text: bool = False


def _route(kind: int) -> Callable[[Any], Any]:
    return lambda data: rtnl.parse(kind, data)


def _text(parser: Callable[[str], Any]) -> Callable[[Any], Any]:
    return lambda data: parser(bytes(data).decode("utf-8", "surrogateescape"))


CONFIGURATION = b"""\xef\xbb\xbf# all keys
[core]
log=journal
plugin-dir = /usr/lib/mptcpd
path-manager=addr_adv
addr-flags=subflow,backup
notify-flags=existing,skip_link_local,skip_loopback,check_route
load-plugins=addr_adv,sspi
[fullmesh]
key = a = b
"""

SERVICE = b"""\
[Unit]
Description=A server; # no comment
[Service]
ExecStart=
ExecStart=-/usr/sbin/server --name="a \\"b\\"" \\
# a comment in between
    --port 80
Environment=GODEBUG=x
"""
COMMANDS = [
    b"-@/usr/sbin/server name --port 80 'a b' ; /bin/true",
    b"+/opt/a\\ b/x \"quoted \\\" item\" %i $FOO",
]
ELF = [
    b"\x7fELF" + bytes([bits, order]) + bytes(12) + machine + bytes(44)
    for bits, order, machine in ((2, 1, b"\x3e\0"), (2, 2, b"\0\x16"), (1, 2, b"\0\x08"))
]  # x86-64, s390x, mips
LINES = [
    b'{"command":"announce","token":"03c910ff","address":"10.0.1.2:443","local_id":3,"id":7}',
    b'{"version":1,"command":"subscribe","kinds":["connections","log"],"id":"a"}',
]
NOTES = b"""\
mptcpd 1
found 2 8
set 0 8
endpoint 10.0.1.1 0 1 2 subflow,backup
endpoint fd00::1 443 255 0 -
"""

PARSERS: dict[str, Parser] = {
    "attrs.split": Parser(attrs.split),
    "attrs.parse": Parser(attrs.parse),
    "messages.split": Parser(lambda data: list(messages.split(data)), seeds=EVENTS + REPLIES),
    "messages.parse_error": Parser(lambda data: messages.parse_error(data, 0), least=20),
    "messages.parse_error TLVs": Parser(
        lambda data: messages.parse_error(data, u.NLM_F_ACK_TLVS), least=20
    ),
    "messages.parse_error capped": Parser(
        lambda data: messages.parse_error(data, u.NLM_F_ACK_TLVS | u.NLM_F_CAPPED), least=20
    ),
    "messages.parse_done": Parser(lambda data: messages.parse_done(data, 0), least=4),
    "messages.parse_done TLVs": Parser(
        lambda data: messages.parse_done(data, u.NLM_F_ACK_TLVS), least=4
    ),
    "genl.command": Parser(genl.command, least=4),
    "genl.parse_family": Parser(genl.parse_family, least=20),
    "mptcp.parse_limits": Parser(mptcp.parse_limits, least=20),
    "mptcp.parse_address": Parser(mptcp.parse_address, least=32),
    "mptcp_event.parse": Parser(mptcp_event.parse, least=4),
    "mptcp_event.parse_plain": Parser(mptcp_event.parse_plain, least=4),
    "mptcp_event.unknown": Parser(mptcp_event.unknown),
    **{
        f"rtnl.parse {name}": Parser(_route(getattr(u, name)), least=least)
        for name, least in (
            ("RTM_NEWLINK", 24), ("RTM_DELLINK", 24), ("RTM_NEWADDR", 16), ("RTM_DELADDR", 16),
            ("RTM_NEWROUTE", 12), ("RTM_DELROUTE", 12), ("RTM_NEWRULE", 1000),
        )
    },
    "diag.parse_connection": Parser(diag.parse_connection, least=92),
    "diag.parse_subflow": Parser(diag.parse_subflow, least=72),
    "diag_sockets.parse_mptcp": Parser(diag_sockets.parse_mptcp, least=92),
    "diag_sockets.parse_tcp": Parser(diag_sockets.parse_tcp, least=72),
    "netlink_diag.parse": Parser(netlink_diag.parse, least=28),
    "rtnl_rule.parse": Parser(rtnl_rule.parse, least=12),
    "info.mptcp_info": Parser(info.mptcp_info),
    "info.tcp_info": Parser(info.tcp_info),
    "config.parse": Parser(
        _text(lambda text: config.parse(text, "f")), (ConfigError,), [CONFIGURATION], text=True
    ),
    # What is damaged is not believed; that is no error.
    "ownership.read": Parser(_text(ownership.read), (), [NOTES], text=True),
    "address.sockaddr": Parser(
        _text(sockaddr), (ValueError,), [b"10.0.1.2:443", b"[2001:db8::1]:443"], text=True
    ),
    "unit.settings": Parser(_text(lambda text: unit.settings([text])), (), [SERVICE], text=True),
    "unit.commands": Parser(
        _text(lambda text: list(unit.commands(text))), (), COMMANDS, text=True
    ),
    "unit.under": Parser(
        _text(lambda text: unit.under(text, "/usr/bin/mptcpize")), (UnitError,), COMMANDS, text=True
    ),
    "control_protocol.parse": Parser(
        lambda data: control_protocol.parse(bytes(data)), (control_protocol.Refusal,), LINES,
        text=True,
    ),
    "syscalls.of_program": Parser(syscalls.of_program, (), ELF),
}  # fmt: skip


def forget() -> None:
    """Make the compiled parsers forget what shapes they have learnt."""
    for module, name in (
        (mptcp, "_LIMITS"), (mptcp_event, "_LAYOUTS"), (mptcp_event, "_OPENED_LAYOUTS")
    ):  # fmt: skip
        layouts = getattr(module, name)
        setattr(module, name, Layouts(layouts._fields, layouts._width))
    diag._INFO_AT.clear()
    diag._ULP_AT.clear()
    diag_sockets._MPTCP.clear()
    diag_sockets._TCP.clear()


def _second() -> float:
    """A second of CPU, or as much more as this machine is slower than others: emulated, 20."""
    start = time.process_time()
    for _count in range(300_000):
        pass
    return 100 * (time.process_time() - start)


SECOND = _second()


@contextlib.contextmanager
def bounded(size: int) -> Iterator[None]:
    """What is done with ``size`` bytes must end: there is CPU for a thousand times what it takes.

    A loop is then a failure like any other, with its input.
    """

    def loops(_number: int, _frame: object) -> None:
        raise AssertionError(f"it loops over {size} bytes")

    before = signal.signal(signal.SIGVTALRM, loops)
    # Again and again: raised inside of a callback (of the garbage collector's) it would be ignored.
    signal.setitimer(signal.ITIMER_VIRTUAL, SECOND * (1 + size / 4096), SECOND / 4)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def outcome(parser: Parser, data: bytes | bytearray) -> Any:
    """The value, or the error's words. Any other error goes through: it is a finding."""
    try:
        with bounded(len(data)):
            return parser.call(data)
    except parser.errors as error:
        assert str(error)
        return f"{_REFUSED}{type(error).__name__}: {error}"


def check(name: str, data: bytes) -> None:
    """The claims about one parser and one input. Errors: AssertionError, and what is a finding."""
    check_one(PARSERS[name], data)


def check_one(parser: Parser, data: bytes) -> None:
    """As ``check``, for a parser that is in no table."""
    value = outcome(parser, data)
    buffer = bytearray(data)
    again = outcome(parser, buffer)
    buffer[:] = bytes(len(buffer))
    buffer.clear()  # BufferError if the result still looked into it
    assert repr(again) == repr(value)
    if 0 < len(data) < parser.least:
        assert value is None or refused(value)
    if not parser.text:
        # Each byte is given out at most once, but for an address in an event and its attribute.
        assert held(value) <= len(data)


def held(value: Any) -> int:
    """Bytes in a result, all of which must be immutable."""
    if isinstance(value, bytes):
        return len(value)
    assert not isinstance(value, (bytearray, memoryview))
    if isinstance(value, dict):
        return sum(map(held, value.values())) + sum(map(held, value))
    if isinstance(value, (tuple, list)):
        for field, inside in zip(getattr(value, "_fields", ()), value, strict=False):
            assert field not in IPS or inside is None or len(inside) in (4, 16), field
            assert field != "errno" or 0 <= inside <= 4095  # include/linux/err.h: MAX_ERRNO
        return sum(map(held, value))
    assert value is None or isinstance(value, (int, str))
    assert not isinstance(value, str) or "\0" not in value
    return 0


# Fields of values that hold an IP address, of all that parsers return.
IPS = {"ip", "peer", "local_ip", "remote_ip", "dst", "src", "gateway", "prefsrc"}
_REFUSED = "refused: "


def refused(value: Any) -> bool:
    """Whether ``outcome`` was an error."""
    return isinstance(value, str) and value.startswith(_REFUSED)


def takes(name: str, messages_: list[bytes]) -> list[bytes]:
    """Those of some whole messages of which the parser makes a value."""
    found = []
    for message in messages_:
        try:
            value = outcome(PARSERS[name], message[messages.HEADER :])
        except Exception:  # for the tests to find, which now have nothing else to try
            return [message]
        if value is not None and value != [] and not refused(value):
            found.append(message)
    return found


def name_of_test(name: str) -> str:
    """The test of ``test_fuzz_nl.py`` that holds a parser to the claims."""
    return "test_any_bytes_" + "".join(c if c.isalnum() else "_" for c in name)
