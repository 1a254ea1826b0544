"""Which interfaces and addresses are used, and why: the configuration's rules.

Knows patterns, address classes and interface sections; must not know what was told to whom, nor
where links and addresses come from. Every verdict carries its reason in words, which is what
``--check-config`` prints.

Lists are read from left to right and the first match wins: ``eth*,wwan0,!docker*``. What no pattern
matches is used, unless the list allows something: a list with any pattern without ``!`` is a list
of what may be used.
"""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import NamedTuple, TypeAlias

from mptcpd.core.address import IP, from_packed
from mptcpd.nl import rtnl
from mptcpd.nl import uapi as u

Network: TypeAlias = IPv4Network | IPv6Network

# Names for classes of addresses, beside prefixes. ``temporary`` is a flag, not a prefix (RFC 8981).
CLASSES: dict[str, tuple[Network, ...]] = {
    "link-local": (IPv6Network("fe80::/10"), IPv4Network("169.254.0.0/16")),  # RFC 4291, RFC 3927
    "unique-local": (IPv6Network("fc00::/7"),),  # RFC 4193
    "private": tuple(map(IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"))),
    "temporary": (),
    "ipv4": (IPv4Network("0.0.0.0/0"),),
    "ipv6": (IPv6Network("::/0"),),
}
FAMILIES = ("4", "6", "both")


class Pattern(NamedTuple):
    """One word of a list: what it matches, and whether that is allowed."""

    text: str
    allow: bool

    def __str__(self) -> str:
        return self.text if self.allow else f"!{self.text}"


class InterfaceRule(NamedTuple):
    """What an ``[interface PATTERN]`` section says; None: it says nothing of this."""

    pattern: str
    enabled: bool = True
    flags: tuple[str, ...] | None = None
    max_addresses: int | None = None
    family: str = "both"


class Verdict(NamedTuple):
    """Whether something is used, and why."""

    used: bool
    why: str


class Choice:
    """The rules of one configuration.

    notify      the notify flags (``skip_link_local``, ``skip_loopback``)
    interfaces  patterns for names (shell-style), addresses: for addresses (classes and prefixes)
    rules       the ``[interface ...]`` sections in their order
    flags       the address flags where no section says others
    """

    def __init__(
        self,
        notify: frozenset[str] = frozenset(),
        interfaces: tuple[Pattern, ...] = (),
        addresses: tuple[Pattern, ...] = (),
        rules: tuple[InterfaceRule, ...] = (),
        flags: tuple[str, ...] = (),
    ) -> None:
        self._notify = notify
        self._interfaces = interfaces
        self._addresses = addresses
        self._rules = rules
        self._flags = flags

    def rule(self, name: str) -> InterfaceRule:
        """The first section that matches an interface's name; one that says nothing if none."""
        for rule in self._rules:
            if fnmatchcase(name, rule.pattern):
                return rule
        return InterfaceRule("*")

    def flags(self, name: str) -> tuple[str, ...]:
        """The address flags for an interface."""
        flags = self.rule(name).flags
        return self._flags if flags is None else flags

    def interface(self, link: rtnl.Link) -> Verdict:
        """Whether an interface is used at all."""
        if link.flags & u.IFF_LOOPBACK:
            return Verdict(False, "loopback")
        if not link.flags & u.IFF_UP:
            return Verdict(False, "down")
        if not link.flags & u.IFF_RUNNING:
            return Verdict(False, "no carrier")
        for pattern in self._interfaces:
            if fnmatchcase(link.name, pattern.text):
                if not pattern.allow:
                    return Verdict(False, f"interfaces={pattern}")
                break
        else:
            if any(pattern.allow for pattern in self._interfaces):
                return Verdict(False, "interfaces= does not name it")
        rule = self.rule(link.name)
        if not rule.enabled:
            return Verdict(False, f"enabled=no in [interface {rule.pattern}]")
        return Verdict(True, "up and running")

    def address(self, name: str, address: rtnl.Address) -> Verdict:
        """Whether an address of an interface may be used, seen for itself."""
        if address.scope == u.RT_SCOPE_LINK and "skip_link_local" in self._notify:
            return Verdict(False, "link-local (notify-flags=skip_link_local)")
        if address.scope == u.RT_SCOPE_HOST and "skip_loopback" in self._notify:
            return Verdict(False, "host scope (notify-flags=skip_loopback)")
        for flag, why in _UNUSABLE:
            if address.flags & flag and not (
                flag == u.IFA_F_TENTATIVE and address.flags & u.IFA_F_OPTIMISTIC
            ):
                return Verdict(False, why)
        rule = self.rule(name)
        if rule.family != "both" and (len(address.ip) == 4) != (rule.family == "4"):
            return Verdict(False, f"family={rule.family} in [interface {rule.pattern}]")
        ip = from_packed(address.ip).ip
        for pattern in self._addresses:
            if _matches(pattern.text, ip, address):
                if not pattern.allow:
                    return Verdict(False, f"addresses={pattern}")
                break
        else:
            if any(pattern.allow for pattern in self._addresses):
                return Verdict(False, "addresses= does not name it")
        return Verdict(True, "usable")

    def within(self, name: str, count: int) -> Verdict:
        """Whether an interface that uses ``count`` addresses may use one more."""
        rule = self.rule(name)
        if rule.max_addresses is not None and count >= rule.max_addresses:
            return Verdict(
                False, f"max-addresses={rule.max_addresses} in [interface {rule.pattern}]"
            )
        return Verdict(True, "usable")


# A tentative address waits for duplicate address detection (RFC 4862), unless it is optimistic
# (RFC 4429); a deprecated one must not start anything new.
_UNUSABLE = (
    (u.IFA_F_DADFAILED, "duplicate address (dadfailed)"),
    (u.IFA_F_DEPRECATED, "deprecated"),
    (u.IFA_F_TENTATIVE, "tentative: duplicate address detection runs"),
)


def _matches(text: str, ip: IP, address: rtnl.Address) -> bool:
    if text == "temporary":
        return len(address.ip) == 16 and bool(address.flags & u.IFA_F_TEMPORARY)
    networks = CLASSES[text] if text in CLASSES else (ip_network(text),)
    return any(ip.version == network.version and ip in network for network in networks)


def interface_patterns(text: str) -> tuple[Pattern, ...]:
    """``eth*,wwan0,!docker*`` to patterns. Errors: ValueError, saying what is allowed."""
    return tuple(_pattern(word, _name) for word in text.split(",") if word)


def address_patterns(text: str) -> tuple[Pattern, ...]:
    """``!temporary,!192.168.0.0/16`` to patterns. Errors: ValueError, saying what is allowed."""
    return tuple(_pattern(word, _class) for word in text.split(",") if word)


def _pattern(word: str, check: Callable[[str], str]) -> Pattern:
    text = word.removeprefix("!")
    return Pattern(check(text), allow=text == word)


def _name(text: str) -> str:
    # An interface name has up to 15 bytes, no blank and no slash (net/core/dev.c: dev_valid_name).
    if not text or text != text.strip() or "/" in text or " " in text:
        raise ValueError(
            f'"{text}" is no pattern for interface names; allowed: names with * ? [...], '
            "with a ! before those that are not to be used, separated by commas without blanks"
        )
    return text


def _class(text: str) -> str:
    if text in CLASSES:
        return text
    try:
        return str(ip_network(text))
    except ValueError as error:
        raise ValueError(
            f'"{text}" is neither a class of addresses ({", ".join(CLASSES)}) nor a prefix '
            f"(10.0.0.0/8): {error}"
        ) from None
