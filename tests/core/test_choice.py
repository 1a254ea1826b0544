"""Which interfaces and addresses are used, seen for themselves, and in which words."""

from __future__ import annotations

import pytest

from mptcpd.core.choice import (
    CLASSES,
    Choice,
    InterfaceRule,
    Pattern,
    address_patterns,
    interface_patterns,
)
from mptcpd.nl import uapi as u
from tests.core.stubs import READY, address, link

NOTIFY = frozenset({"existing", "skip_link_local", "skip_loopback"})


def allowed(choice: Choice, name: str) -> bool:
    return choice.interface(link(name=name)).used


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (READY, "up and running"),
        (u.IFF_UP, "no carrier"),
        (u.IFF_RUNNING, "down"),
        (READY | u.IFF_LOOPBACK, "loopback"),
    ],
)
def test_state_of_an_interface(flags: int, why: str) -> None:
    verdict = Choice().interface(link(flags=flags))
    assert verdict == (flags == READY, why)


@pytest.mark.parametrize(
    ("patterns", "used", "unused"),
    [
        ("", "eth0 docker0 wwan0", ""),
        ("eth*", "eth0 eth1.5 eth", "wwan0 xeth0"),
        ("eth*,wwan0,!docker*", "eth0 wwan0", "docker0 wwan1 veth1"),
        ("!docker*", "eth0 wwan1", "docker0 docker"),
        ("!docker*,!veth*", "eth0 wwan1", "docker0 veth3"),
        ("!eth1,eth*", "eth0 eth2", "eth1 wlan0"),
        ("eth*,!eth1", "eth0 eth1", "wlan0"),  # the first match counts
        ("eth[0-2],wlan?", "eth0 eth2 wlan7", "eth3 wlan wlan10"),
        ("ETH*", "", "eth0"),
    ],
)
def test_patterns_for_interfaces(patterns: str, used: str, unused: str) -> None:
    choice = Choice(interfaces=interface_patterns(patterns))
    assert [name for name in used.split() if not allowed(choice, name)] == []
    assert [name for name in unused.split() if allowed(choice, name)] == []


def test_why_an_interface_is_not_used() -> None:
    choice = Choice(
        interfaces=interface_patterns("!docker*,*0"),
        rules=(InterfaceRule("wwan?", enabled=False),),
    )
    for name, why in (
        ("docker0", "interfaces=!docker*"),
        ("eth1", "interfaces= does not name it"),
        ("wwan0", "enabled=no in [interface wwan?]"),
    ):
        assert choice.interface(link(name=name)) == (False, why)


RULES = (
    InterfaceRule("wwan0", flags=("signal",)),
    InterfaceRule("wwan*", flags=(), family="4", max_addresses=2),
    InterfaceRule("eth*"),
)


def test_the_first_section_that_matches_counts() -> None:
    choice = Choice(rules=RULES, flags=("subflow",))
    assert choice.flags("wwan0") == ("signal",)
    assert choice.flags("wwan1") == ()  # an empty list is a list
    assert choice.flags("eth0") == choice.flags("lo") == ("subflow",)
    assert choice.rule("wwan0").family == "both"
    assert choice.rule("lo") == InterfaceRule("*")


def test_how_many_addresses_of_an_interface() -> None:
    choice = Choice(rules=RULES)
    assert [choice.within("wwan1", count).used for count in range(4)] == [True, True, False, False]
    assert choice.within("wwan1", 2).why == "max-addresses=2 in [interface wwan*]"
    assert choice.within("wwan0", 1000).used


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (0, "usable"),
        (u.IFA_F_PERMANENT | u.IFA_F_SECONDARY | u.IFA_F_NOPREFIXROUTE, "usable"),
        (u.IFA_F_TENTATIVE, "tentative: duplicate address detection runs"),
        (u.IFA_F_TENTATIVE | u.IFA_F_DADFAILED, "duplicate address (dadfailed)"),
        (u.IFA_F_DADFAILED, "duplicate address (dadfailed)"),
        (u.IFA_F_DEPRECATED, "deprecated"),
        (u.IFA_F_TENTATIVE | u.IFA_F_OPTIMISTIC, "usable"),  # RFC 4429
        (u.IFA_F_OPTIMISTIC, "usable"),
        (u.IFA_F_OPTIMISTIC | u.IFA_F_DEPRECATED, "deprecated"),
    ],
)
def test_state_of_an_address(flags: int, why: str) -> None:
    assert Choice().address("eth0", address("fd00::1/64", flags=flags)) == (why == "usable", why)


def test_scopes_and_notify_flags() -> None:
    for scope, flag, why in (
        (u.RT_SCOPE_LINK, "skip_link_local", "link-local (notify-flags=skip_link_local)"),
        (u.RT_SCOPE_HOST, "skip_loopback", "host scope (notify-flags=skip_loopback)"),
    ):
        one = address(scope=scope)
        assert Choice(NOTIFY).address("eth0", one) == (False, why)
        assert Choice(NOTIFY - {flag}).address("eth0", one).used


CLASS_MEMBERS = {
    "link-local": ("fe80::1", "febf::1", "169.254.0.1", "169.254.255.254"),
    "unique-local": ("fc00::1", "fdff::1"),
    "private": ("10.0.0.1", "172.16.0.1", "172.31.255.1", "192.168.0.1"),
    "ipv4": ("10.0.0.1", "8.8.8.8", "169.254.0.1"),
    "ipv6": ("fe80::1", "fd00::1", "2001:db8::1"),
    "10.0.0.0/8": ("10.0.0.1", "10.255.0.1"),
    "2001:db8::/32": ("2001:db8::1",),
    "192.0.2.7": ("192.0.2.7",),
}
NON_MEMBERS = {
    "link-local": ("fec0::1", "169.253.0.1", "10.0.0.1"),
    "unique-local": ("fe80::1", "2001:db8::1", "10.0.0.1"),
    "private": ("172.32.0.1", "11.0.0.1", "192.169.0.1", "fd00::1"),
    "ipv4": ("::1", "::fffe:0:1"),
    "ipv6": ("10.0.0.1",),
    "10.0.0.0/8": ("11.0.0.1", "::a00:1", "2001:db8::1"),
    "2001:db8::/32": ("2001:db9::1", "32.1.13.184"),
    "192.0.2.7": ("192.0.2.8",),
}


@pytest.mark.parametrize("name", CLASS_MEMBERS)
def test_classes_and_prefixes(name: str) -> None:
    denied = Choice(addresses=address_patterns(f"!{name}"))
    wanted = Choice(addresses=address_patterns(name))
    for members, member in ((CLASS_MEMBERS[name], True), (NON_MEMBERS[name], False)):
        for text in members:
            one = address(f"{text}/32")
            assert denied.address("eth0", one).used == (not member), text
            assert wanted.address("eth0", one).used == member, text


def test_temporary_is_a_flag_and_of_ipv6_alone() -> None:
    """Its bit means "secondary" for IPv4."""
    choice = Choice(addresses=address_patterns("!temporary"))
    assert choice.address("eth0", address(flags=u.IFA_F_SECONDARY)).used
    assert choice.address("eth0", address("fd00::1/64")).used
    verdict = choice.address("eth0", address("fd00::1/64", flags=u.IFA_F_TEMPORARY))
    assert verdict == (False, "addresses=!temporary")


def test_the_first_address_pattern_counts() -> None:
    choice = Choice(addresses=address_patterns("!10.1.0.0/16,10.0.0.0/8,!ipv4"))
    assert not choice.address("eth0", address("10.1.0.1/24")).used
    assert choice.address("eth0", address("10.2.0.1/24")).used
    why = choice.address("eth0", address("192.0.2.1/24"))
    assert why == (False, "addresses=!ipv4")
    assert choice.address("eth0", address("fd00::1/64")) == (False, "addresses= does not name it")


@pytest.mark.parametrize(("family", "four", "six"), [("4", 1, 0), ("6", 0, 1), ("both", 1, 1)])
def test_family_of_a_section(family: str, four: int, six: int) -> None:
    choice = Choice(rules=(InterfaceRule("eth*", family=family),))
    for text, expected in (("10.0.0.1/24", four), ("fd00::1/64", six)):
        verdict = choice.address("eth0", address(text))
        assert verdict.used == bool(expected)
        assert expected or verdict.why == f"family={family} in [interface eth*]"
        assert choice.address("wlan0", address(text)).used


# Lists as people write them


def test_reading_lists() -> None:
    assert interface_patterns("eth*,,!docker*,") == (
        Pattern("eth*", True), Pattern("docker*", False),
    )  # fmt: skip
    assert interface_patterns("") == address_patterns("") == ()
    assert address_patterns("!temporary,10.0.0.0/8,192.0.2.1,2001:DB8::/32") == (
        Pattern("temporary", False), Pattern("10.0.0.0/8", True), Pattern("192.0.2.1/32", True),
        Pattern("2001:db8::/32", True),
    )  # fmt: skip
    assert [str(pattern) for pattern in address_patterns("!temporary,ipv4")] == [
        "!temporary", "ipv4",
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["!", "eth0, wlan0", " eth0", "a b", "eth/0"])
def test_patterns_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="is no pattern for interface names; allowed: names with"):
        interface_patterns(text)


@pytest.mark.parametrize("text", ["!", "linklocal", "10.0.0.1/8", "10.0.0.0/33", "eth0", "::/129"])
def test_classes_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="neither a class of addresses") as caught:
        address_patterns(text)
    assert all(name in str(caught.value) for name in CLASSES)
