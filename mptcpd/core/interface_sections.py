"""``[interface PATTERN]`` groups of the configuration, as rules.

Knows the keys of such a group and what each may hold; must not know how rules are applied
(``choice``), nor files.

    [interface wwan*]
    flags = subflow,backup
    enabled = yes
    max-addresses = 1
    family = both
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mptcpd.core.choice import FAMILIES, InterfaceRule, interface_patterns
from mptcpd.core.config_values import BadValue, Section, addr_flags, yes_or_no

_PREFIX = "interface "


def _family(text: str) -> str:
    if text not in FAMILIES:
        raise BadValue(f'unknown family "{text}"; allowed: {", ".join(FAMILIES)}')
    return text


def _count(text: str) -> int:
    # int() refuses thousands of digits in words of its own.
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= 255):
        raise BadValue(f'"{text}" is no number of addresses; allowed: 1 to 255')
    return int(text)


KEYS: Mapping[str, Callable[[str], Any]] = {
    "enabled": yes_or_no,
    "flags": addr_flags,
    "max-addresses": _count,
    "family": _family,
}


def is_rule(name: str) -> bool:
    """Whether a group's name makes it a rule for interfaces."""
    return name.startswith(_PREFIX) or name == _PREFIX.strip()


def rules(sections: Iterable[Section]) -> tuple[InterfaceRule, ...]:
    """The rules in the order of the file. Errors: ConfigError with file and line."""
    return tuple(_rule(section) for section in sections if is_rule(section.name))


def _rule(section: Section) -> InterfaceRule:
    pattern = section.name.removeprefix(_PREFIX).strip()
    try:
        found = interface_patterns(pattern)
    except ValueError as error:
        raise section.wrong(str(error)) from None
    if section.name == _PREFIX.strip() or len(found) != 1 or not found[0].allow:
        raise section.wrong("one pattern for interface names is expected: [interface wwan*]")
    said: dict[str, Any] = {}
    for key, value in section.items():
        if key not in KEYS:
            raise section.error(key, f"unknown key; allowed: {', '.join(KEYS)}")
        try:
            said[key.replace("-", "_")] = KEYS[key](value)
        except BadValue as error:
            raise section.error(key, str(error)) from None
    return InterfaceRule(pattern, **said)
