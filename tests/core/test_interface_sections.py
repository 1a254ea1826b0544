"""[interface PATTERN] groups of the configuration: what they may say, and what is wrong where."""

from __future__ import annotations

import pytest

from mptcpd.core.choice import InterfaceRule
from mptcpd.core.config import ConfigError, parse

GOOD = [
    ("", InterfaceRule("wwan*")),
    ("flags=subflow,backup", InterfaceRule("wwan*", flags=("subflow", "backup"))),
    ("flags=", InterfaceRule("wwan*", flags=())),
    ("enabled=no", InterfaceRule("wwan*", enabled=False)),
    ("enabled = yes", InterfaceRule("wwan*")),
    ("max-addresses=1", InterfaceRule("wwan*", max_addresses=1)),
    ("max-addresses=255", InterfaceRule("wwan*", max_addresses=255)),
    ("family=6", InterfaceRule("wwan*", family="6")),
    ("family=both", InterfaceRule("wwan*")),
]


@pytest.mark.parametrize(("line", "rule"), GOOD, ids=[line for line, _ in GOOD])
def test_one_key(line: str, rule: InterfaceRule) -> None:
    assert parse(f"[interface wwan*]\n{line}", "f").rules == (rule,)


def test_order_and_other_groups() -> None:
    said = parse(
        "[interface b*]\nfamily=4\n[plugin]\nkey=1\n[interface   a?]\n[core]\nlog=null\n"
        "[interface b*]\nmax-addresses=3\nfamily=6",
        "f",
    )
    assert said.rules == (
        InterfaceRule("b*", family="4", max_addresses=3),  # one group, given in two pieces
        InterfaceRule("a?"),
    )
    assert list(said.sections) == ["plugin"]  # the rules are no plugin's
    assert said.log == "null"


BAD = [
    ("[interface x]\ncolour=red", 2, "unknown key; allowed: enabled, flags, max-addresses, family"),
    ("[interface x]\n\nflags=subflow,fast", 3, 'unknown address flag "fast"'),
    ("[interface x]\nflags=signal,fullmesh", 2, "exclude each other"),
    ("[interface x]\nflags=subflow,signal,fullmesh", 2, "exclude each other"),
    ("[interface x]\nenabled=maybe", 2, '"maybe" is neither yes nor no'),
    ("[interface x]\nmax-addresses=0", 2, '"0" is no number of addresses; allowed: 1 to 255'),
    ("[interface x]\nmax-addresses=256", 2, "allowed: 1 to 255"),
    ("[interface x]\nmax-addresses=-1", 2, "allowed: 1 to 255"),
    ("[interface x]\nmax-addresses=", 2, "allowed: 1 to 255"),
    ("[interface x]\nmax-addresses=²", 2, "allowed: 1 to 255"),
    (f"[interface x]\nmax-addresses={'1' * 5000}", 2, "allowed: 1 to 255"),
    ("[interface x]\nfamily=5", 2, 'unknown family "5"; allowed: 4, 6, both'),
    ("[interface]\nfamily=4", 1, "one pattern for interface names is expected"),
    ("[interface a,b]\nfamily=4", 1, "one pattern for interface names is expected"),
    ("[interface !a]\nfamily=4", 1, "one pattern for interface names is expected"),
    ("[interface a b]\nfamily=4", 1, "is no pattern for interface names"),
    ("[interface a/b]\nfamily=4", 1, "is no pattern for interface names"),
]


@pytest.mark.parametrize(("text", "line", "words"), BAD, ids=[text[:60] for text, _, _ in BAD])
def test_what_is_wrong(text: str, line: int, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, "f")
    assert (caught.value.file, caught.value.line) == ("f", line)
    assert words in str(caught.value)


def test_an_empty_group_with_a_bad_name_is_found_by_its_line() -> None:
    with pytest.raises(ConfigError, match="one pattern") as caught:
        parse("[x]\n[interface a,b]\n[interface a,b]", "f")
    assert caught.value.line == 2
