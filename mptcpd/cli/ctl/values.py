"""Reads the values that follow words: numbers, addresses, interfaces, tokens.

Knows what people may type; must not know which command wanted it. Where iproute2 reads the same
kind of value, every text means here what it means there.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from typing import Any, NamedTuple

from mptcpd.cli.ctl.errors import no_address, wrong

_IFNAMSIZ = 16  # linux/if.h; with the zero at its end
_NUMBER = re.compile(r"[ \t\n\v\f\r]*([+-]?)(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)", re.ASCII)
_ULONG_MAX = (1 << 64) - 1
# The states of a connection, as ss(8) calls them; what ``top`` sorts by.
STATES = (
    "established", "syn-sent", "syn-recv", "fin-wait-1", "fin-wait-2", "closed", "close-wait",
    "last-ack", "closing",
)  # fmt: skip
SORTS = ("rate", "rtt", "retrans", "token")
# What iproute2 takes for addresses without a single byte; no endpoint has one.
_NO_ADDRESS = ("any", "all", "default")


class Prefix(NamedTuple):
    """An address prefix, and the port behind it: ``10.0.0.0/8:80``, ``[2001:db8::]/32``.

    ip of 4 or 16 bytes in network order, length in bits, port None for any
    """

    ip: bytes
    length: int
    port: int | None


def read(kind: str, text: str, why: str = "") -> Any:
    """The value that ``text`` stands for.

    kind    a key of KINDS
    why     what to say of a bad one, instead of the kind's own words
    Errors  Failure, naming ``text``.
    """
    reader, reason = KINDS[kind]
    try:
        return reader(text)
    except ValueError as error:
        raise wrong(text, why or str(error) or reason) from None


def strtoul(text: str) -> tuple[int, int]:
    """A number and where it ends, as strtoul(3) with base 0: decimal, 0x or octal.

    A minus sign turns it round at 2^64, as in C. Errors: ValueError: none there, or too large.
    """
    found = _NUMBER.match(text)
    if found is None:
        raise ValueError
    sign, digits = found.groups()
    octal = digits[0] == "0" and digits[1:2] not in ("x", "X")
    number = int(digits, 8) if octal else int(digits, 0)
    if number > _ULONG_MAX:
        raise ValueError
    return (-number & _ULONG_MAX if sign == "-" else number), found.end()


def number(text: str, most: int) -> int:
    """A whole number up to ``most``, as iproute2's get_unsigned. Errors: ValueError."""
    value, end = strtoul(text)
    if end != len(text) or value > most:
        raise ValueError
    return value


def address(text: str) -> bytes:
    """An IP address, 4 or 16 bytes in network order. Errors: Failure.

    As iproute2's get_addr: each part of an IPv4 address may be octal or hexadecimal, and those left
    out at its end are 0: ``10.7`` is 10.7.0.0.
    """
    if text in _NO_ADDRESS:
        raise no_address(text)
    try:
        return socket.inet_pton(socket.AF_INET6, text) if ":" in text else _ipv4(text)
    except (OSError, ValueError):
        raise no_address(text) from None


def _ipv4(text: str) -> bytes:
    parts, start = [], 0
    while True:
        part, end = strtoul(text[start:])
        start += end
        parts.append(part)
        if start == len(text):
            return bytes(parts).ljust(4, b"\0")  # ValueError for a part above 255
        if len(parts) == 4 or text[start] != ".":
            raise ValueError
        start += 1


def interface(text: str) -> int:
    """The ifindex of an interface, by its name or its other names. Errors: ValueError."""
    encoded = text.encode("utf-8", "surrogateescape")
    if not 0 < len(encoded) < _IFNAMSIZ or re.search(rb"[/\s]", encoded):
        raise ValueError("invalid interface name\n")
    try:
        return socket.if_nametoindex(text)
    except OSError:
        raise ValueError("device does not exist\n") from None


def token(text: str) -> int:
    """Decimal, ``0x...``, or 8 hexadecimal digits as they are printed. Errors: ValueError.

    8 digits are read as they are printed, even if they could be decimal.
    """
    if re.fullmatch(r"[0-9a-fA-F]{8}", text, re.ASCII):
        return int(text, 16)
    if re.fullmatch(r"0[xX][0-9a-fA-F]{1,8}", text, re.ASCII):
        return int(text, 16)
    if re.fullmatch(r"[0-9]{1,10}", text, re.ASCII) and int(text) < 1 << 32:
        return int(text)
    raise ValueError


def prefix(text: str) -> Prefix:
    """``ADDRESS[/LENGTH][:PORT]``, an IPv6 address with a port in brackets. Errors: ValueError.

    A bare ``:PORT`` or ``*:PORT`` is any address: length 0.
    """
    form = r"(?:\[([^\]]*)\](?:/(\d+))?(?::(\d+))?|([^/\[\]]*:[^/\[\]]*:[^/\[\]]*)(?:/(\d+))?" \
           r"|([^:/]*)(?:/(\d+))?(?::(\d+))?)"
    found = re.fullmatch(form, text, re.ASCII)
    if found is None or not text:
        raise ValueError
    bracket, bracket_length, bracket_port, bare, bare_length, four, length, port = found.groups()
    port = port or bracket_port
    if port is not None and int(port) > 0xFFFF:
        raise ValueError
    ip_text = bracket or bare or four
    if ip_text in ("", "*"):
        if length is not None or port is None:
            raise ValueError
        return Prefix(bytes(4), 0, int(port))
    try:
        ip = socket.inet_pton(socket.AF_INET6 if ":" in ip_text else socket.AF_INET, ip_text)
    except OSError:
        raise ValueError from None
    bits = bracket_length or bare_length or length
    if bits is not None and int(bits) > 8 * len(ip):
        raise ValueError
    length_bits = 8 * len(ip) if bits is None else int(bits)
    return Prefix(ip, length_bits, None if port is None else int(port))


def seconds(text: str) -> float:
    """A time of at least a millisecond. Errors: ValueError."""
    if not re.fullmatch(r"[0-9]*\.?[0-9]+|[0-9]+\.", text, re.ASCII):
        raise ValueError
    value = float(text)
    if not 0.001 <= value <= 1e6:
        raise ValueError
    return value


def events(text: str) -> list[int]:
    """MPTCP_EVENT_* by the names that ``monitor`` prints, with commas. Errors: ValueError."""
    from mptcpd.cli.ctl.event_text import NAMES

    kinds = {name: kind for kind, name in NAMES.items()}
    words = text.upper().split(",")
    if not kinds.keys() >= {*words}:
        raise ValueError(f"events are {', '.join(kinds)}")
    return [kinds[word] for word in words]


def kinds(text: str) -> list[str]:
    """What a daemon can tell of, by names with commas. Errors: ValueError."""
    known = ("connections", "network", "commands", "log")
    words = text.split(",")
    if not {*words} <= {*known}:
        raise ValueError(f"kinds are {', '.join(known)}")
    return words


def _text(text: str) -> str:
    if not text:
        raise ValueError
    return text


def one_of(words: tuple[str, ...], what: str) -> Callable[[str], str]:
    """A reader for a word out of few, which may be shortened; for KINDS."""

    def reader(text: str) -> str:
        for word in words:
            if text and word.startswith(text):
                return word
        raise ValueError(f"expected {what}: {', '.join(words)}")

    return reader


# Kind: its reader, and what is said of a text that the reader refuses without words of its own.
# The line breaks are iproute2's: some of its messages end in two.
KINDS: dict[str, tuple[Callable[[str], Any], str]] = {
    "id": (lambda text: number(text, 0xFF), "invalid ID\n"),
    "port": (lambda text: number(text, 0xFFFF), "expected port"),
    "u32": (lambda text: number(text, 0xFFFFFFFF), "invalid number"),
    "count": (lambda text: number(text, 1_000_000_000), "expected a number"),
    "address": (address, ""),
    "interface": (interface, ""),
    "token": (token, "a token is a number, 0x and hexadecimal digits, or 8 hexadecimal digits"),
    "events": (events, ""),
    "prefix": (prefix, "expected ADDRESS[/LENGTH][:PORT]; IPv6 with a port as [ADDRESS]:PORT"),
    "seconds": (seconds, "expected a number of seconds"),
    "pm": (one_of(("kernel", "userspace"), "one of"), ""),
    "level": (one_of(("debug", "info", "warning", "error"), "one of"), ""),
    "kinds": (kinds, ""),
    "shell": (one_of(("bash", "zsh"), "one of"), ""),
    "text": (_text, "it is empty"),
    "file": (_text, "it is empty"),
    "state": (one_of(STATES, "a state"), ""),
    "sort": (one_of(SORTS, "an order"), ""),
}
