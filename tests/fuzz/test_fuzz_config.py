"""Claim: any text parses to Settings, or to a ConfigError that names one of its lines.

And what it ends in keeps the promises that the rest of the daemon builds on: known words only,
never signal with fullmesh, plugin names that stay in their directory, sections that give back
exactly what stood in the file, comments that change nothing. And what is noted about endpoints is
read as it was written.
"""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from mptcpd.core import config, interface_sections, ownership
from mptcpd.core.address import SockAddr
from mptcpd.core.config import Config, ConfigError, Settings, parse
from mptcpd.nl.mptcp import FLAGS as FLAG_NAMES
from mptcpd.nl.mptcp import Limits
from plugins import fullmesh

FLAGS = (*config.ADDR_FLAGS, *config.NOTIFY_FLAGS)
# Lines that are nearly right reach more of the parser than characters that are anything.
KEYS = [*config.CORE_KEYS, *interface_sections.KEYS, fullmesh.KEY]
NAMES = st.sampled_from([*KEYS, "unknown", "Log", ""]) | st.text(max_size=5)
LISTS = st.lists(st.sampled_from([*FLAGS, "", " signal", "bogus", "../x", "a b"]), max_size=5)
# More digits than int() takes; digits of other scripts.
NUMBERS = ["0", "1", "255", "200ms", "1.5s", "64K", "-1", "9" * 5000, "\u0661", "\u00b2"]
OTHERS = ["yes", "no", "4", "both", "/x", "eth*,!docker0", "!temporary,10.0.0.0/8", "10.0.0.1/8"]
VALUES = (
    st.sampled_from([*config.LOG_DESTINATIONS, "a\0b", "a\u200bb"])
    | st.sampled_from(NUMBERS + OTHERS)
    | LISTS.map(",".join)
    | st.text(max_size=8)
)
GROUPS = st.sampled_from(
    ["[core]", "[ core ]", "[Core]", "[a]", "[]", "[core", "[core]]", "[interface e*]",
     "[interface]", "[interface a,b]", "[fullmesh]"]
)  # fmt: skip
SETTINGS = st.tuples(NAMES, st.sampled_from(["=", " = ", ""]), VALUES).map("".join)
COMMENTS = st.text(max_size=10).map(lambda text: "#" + text.replace("\n", ""))
LINES = st.one_of(GROUPS, SETTINGS, SETTINGS, SETTINGS, COMMENTS, st.text(max_size=10))
TEXTS = st.lists(LINES, max_size=12).flatmap(
    lambda lines: st.sampled_from(["\n", "\r\n"]).map(lambda end: end.join(lines))
)
ANY_TEXT = st.text(st.characters())  # lone surrogates among them


def check(text: str) -> None:
    try:
        said = parse(text, "f")
    except ConfigError as error:
        assert error.file == "f"
        assert error.line is not None
        assert 1 <= error.line <= text.count("\n") + 1
        assert error.text
        return
    assert said.log is None or said.log in config.LOG_DESTINATIONS
    assert said.plugin_dir != ""
    assert said.path_manager != ""
    flags = said.addr_flags or ()
    assert [flag for flag in config.ADDR_FLAGS if flag in flags] == list(flags)
    assert not {"signal", "fullmesh"} <= set(flags)
    assert (said.notify_flags or frozenset()) <= set(config.NOTIFY_FLAGS)
    assert all(name and "/" not in name for name in said.load_plugins or ())
    assert "core" not in said.sections
    for rule in said.rules:
        assert not {"signal", "fullmesh"} <= set(rule.flags or ())
        assert rule.max_addresses is None or 1 <= rule.max_addresses <= 255
        assert rule.family in ("4", "6", "both")
    for seconds in (said.hold_down_loss, said.hold_down_return, said.metrics_interval):
        assert seconds is None or 0 <= seconds <= 3600
    assert said.event_buffer is None or 4096 <= said.event_buffer <= 1 << 30
    if "fullmesh" in said.sections:
        try:
            assert 1 <= fullmesh.max_subflows(said.sections["fullmesh"]) <= fullmesh.MOST
        except ConfigError as error:
            assert error.line is not None
    lines = text.split("\n")
    for name, section in said.sections.items():
        assert section.name == name
        for key, value in section.items():
            assert all(letter.isprintable() or letter == "\t" for letter in value)
            number = section.line(key)
            assert number is not None
            before, equals, after = lines[number - 1].removeprefix("\ufeff").partition("=")
            assert (before.strip(), equals, after.strip()) == (key, "=", value)
    merged = Config.merge(Settings(), said, "/d")
    for field in ("log", "plugin_dir", "path_manager", "addr_flags", "notify_flags"):
        given_here = getattr(said, field)
        assert given_here is None or getattr(merged, field) == given_here


@example("[a]\nk=a\0b")
@example("[a]\nk=a\u200bb")
@example("[core]\naddr-flags=signal,fullmesh,backup")
@example("[core]\nload-plugins=../x")
@given(ANY_TEXT)
def test_any_text(text: str) -> None:
    check(text)


@given(TEXTS)
def test_texts_that_are_nearly_right(text: str) -> None:
    check(text)
    check(f"[core]\n{text}")


@given(st.lists(LINES, max_size=8), st.integers(0, 8), COMMENTS)
def test_a_comment_changes_nothing_but_line_numbers(
    lines: list[str], place: int, comment: str
) -> None:
    def outcome(lines: list[str]) -> object:
        try:
            said = parse("\n".join(lines), "f")
        except ConfigError as error:
            return error.text
        return said._replace(
            sections={name: dict(section) for name, section in said.sections.items()},  # type: ignore[misc]
            notes=(),
        )

    place = min(place, len(lines))
    with_comment = [*lines[:place], comment, *lines[place:]]
    # A byte order mark counts in front of everything, and nowhere else.
    if not (lines and lines[0].startswith("\ufeff")):
        assert outcome(with_comment) == outcome(lines)


@given(LISTS.map(",".join) | st.text(max_size=20))
def test_single_values(text: str) -> None:
    for read in (config.addr_flags, config.notify_flags, config.plugin_names):
        try:
            words = read(text)
        except config.BadValue as error:
            assert str(error)
        else:
            assert set(words) == {word for word in text.split(",") if word}


ENDPOINTS = st.builds(
    ownership.Endpoint,
    st.builds(
        SockAddr, st.ip_addresses(v=4) | st.ip_addresses(v=6), st.integers(0, 0xFFFF)
    ),
    st.integers(1, 255),
    st.lists(st.sampled_from(sorted(FLAG_NAMES)), unique=True).map(tuple),
    st.none() | st.integers(1, 0xFFFFFFFF),
)
LIMITS = st.none() | st.builds(Limits, st.integers(0, 8), st.integers(0, 0xFFFFFFFF))


@given(
    st.builds(ownership.Notes, LIMITS, LIMITS, st.lists(ENDPOINTS, max_size=4)),
    st.integers(0, 400),
)
def test_notes_written_and_read(notes: ownership.Notes, end: int) -> None:
    text = ownership.write(notes)
    assert ownership.read(text) == notes
    # A text that was cut is not believed, or the cut took whole lines from its end.
    found = ownership.read(text[:end])
    assert not found.endpoints or text[:end].endswith("\n")
