"""Configuration texts and what they say; wrong ones, and where they are said to be wrong."""

from __future__ import annotations

import pathlib

import pytest

from mptcpd.core import config, config_values
from mptcpd.core.choice import InterfaceRule
from mptcpd.core.config import BadValue, Config, ConfigError, Section, Settings, parse

SHIPPED = pathlib.Path(__file__).parents[2] / "etc" / "mptcpd.conf"


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("[core]\nlog=journal", "log", "journal"),
        ("[core]\nlog=null\n", "log", "null"),
        ("[core]\nplugin-dir=/a b/c", "plugin_dir", "/a b/c"),
        ("[core]\nplugin-dir=/a#b", "plugin_dir", "/a#b"),
        ("[core]\nplugin-dir=/a=b", "plugin_dir", "/a=b"),
        ("[core]\nplugin-dir=/a\\sb\\", "plugin_dir", "/a\\sb\\"),
        ("[core]\npath-manager=sspi", "path_manager", "sspi"),
        ("[core]\naddr-flags=subflow", "addr_flags", ("subflow",)),
        ("[core]\naddr-flags=backup,signal,backup", "addr_flags", ("signal", "backup")),
        ("[core]\naddr-flags=laminar,fullmesh,", "addr_flags", ("fullmesh", "laminar")),
        ("[core]\naddr-flags=", "addr_flags", ()),
        (
            "[core]\nnotify-flags=check_route,existing",
            "notify_flags",
            frozenset({"existing", "check_route"}),
        ),
        ("[core]\nnotify-flags=", "notify_flags", frozenset()),
        ("[core]\nload-plugins=b,a", "load_plugins", ("b", "a")),
        ("[core]\nload-plugins=b,,a,", "load_plugins", ("b", "a")),
        ("[core]\nload-plugins=,", "load_plugins", ()),
        ("[core]\nload-plugins=", "load_plugins", ()),
        ("[core]\npm=userspace", "pm", "userspace"),
        ("[core]\npm=kernel", "pm", "kernel"),
        ("[core]\npm=keep", "pm", "keep"),
        # the form of a line
        ("  [core]  \n\t log =  syslog \t", "log", "syslog"),
        ("[ core ]\nlog=syslog", "log", "syslog"),
        ("[core]\r\nlog=syslog\r\n", "log", "syslog"),
        ("\ufeff[core]\nlog=syslog", "log", "syslog"),
        ("# a\n  # log=null \x00\n\n[core]\n#log=null\nlog=syslog", "log", "syslog"),
        # ELL: the first value stays, also where a group is opened again
        ("[core]\nlog=syslog\nlog=null", "log", "syslog"),
        ("[core]\nlog=syslog\n[a]\nlog=x\n[core]\nlog=null", "log", "syslog"),
        ("[a]\nx=y\n[core]\nlog=syslog", "log", "syslog"),
        # not said is None, and not the same as an empty list
        ("", "addr_flags", None),
        ("[core]\n", "load_plugins", None),
        ("[a]\naddr-flags=signal", "addr_flags", None),
    ],
)
def test_values(text: str, field: str, value: object) -> None:
    assert getattr(parse(text, "f"), field) == value


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("[core]\n\nlgo=stderr", 3, 'unknown key "lgo" in [core]; allowed: log, plugin-dir'),
        ("[core]\nLog=stderr", 2, 'unknown key "Log"'),
        ("[core]\nlog=stder", 2, 'unknown log destination "stder"; allowed: stderr, syslog'),
        ("[core]\nlog=", 2, 'unknown log destination ""'),
        ("[core]\nlog=null # quiet", 2, "a comment needs a line of its own"),
        ("[core]\npm=bpf", 2, 'unknown path manager "bpf"; allowed: kernel, userspace, keep'),
        ("[core]\nplugin-dir=", 2, "plugin-dir: a value is missing"),
        ("[core]\npath-manager = ", 2, "path-manager: a value is missing"),
        ("[core]\naddr-flags=subflow,bogus,signal", 2, 'unknown address flag "bogus"; allowed: si'),
        ("[core]\naddr-flags=implicit", 2, 'unknown address flag "implicit"'),
        ("[core]\naddr-flags=Signal", 2, 'unknown address flag "Signal"'),
        ("[core]\naddr-flags=subflow, signal", 2, '" signal" (no blanks between the words)'),
        ("[core]\naddr-flags=subflow,,signal", 2, 'unknown address flag ""'),
        ("[core]\naddr-flags=,", 2, 'unknown address flag ""'),
        ("[core]\naddr-flags=signal,fullmesh", 2, "the kernel refuses an endpoint that has both"),
        ("[core]\nnotify-flags=signal", 2, 'unknown notification flag "signal"; allowed: existing'),
        ("[core]\nload-plugins=../evil", 2, '"../evil" is not a plugin name'),
        ("[core]\nload-plugins=a, b", 2, '" b" is not a plugin name'),
        ("log=null\n[core]", 1, '"log" stands before any [group]'),
        ("[core]\nlog", 2, "allowed are [group], key=value, and comments"),
        ("[core]\n=null", 2, "allowed are"),
        ("[core]\n; log=null", 2, 'unknown key "; log"'),
        ("; comment\n[core]", 1, "allowed are"),
        ("[core", 1, "a group is a line of its own"),
        ("[core] log=null", 1, "a group is a line of its own"),
        ("[core] # it", 1, "a group is a line of its own"),
        ("[]", 1, "a group is a line of its own"),
        ("[[core]]", 1, "a group is a line of its own"),
        ("[Core]\nlog=null", 1, "[Core] is not [core]"),
        ("[core]\nplugin-dir=/a\x00b", 2, "cannot be seen: '\\x00'"),
        ("[core]\nplugin-dir=/a\u00a0b", 2, "cannot be seen: '\\xa0'"),
        ("[core]\nplugin-dir=/a\rlog=null", 2, "cannot be seen: '\\r'"),
        ("[core]\nplugin-dir=/a\u2028log=null", 2, "cannot be seen: '\\u2028'"),
        ("[a]\nx=\udc80", 2, "cannot be seen: '\\udc80'"),
    ],
)
def test_errors(text: str, line: int, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, "/etc/f.conf")
    assert (caught.value.file, caught.value.line) == ("/etc/f.conf", line)
    assert words in caught.value.text
    assert str(caught.value) == f"/etc/f.conf:{line}: {caught.value.text}"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ConfigError("f", 3, "no"), "f:3: no"),
        (ConfigError("f", None, "no"), "f: no"),
        (ConfigError("", None, "no"), "no"),
    ],
)
def test_error_text(error: ConfigError, text: str) -> None:
    assert str(error) == text


def test_a_second_value_is_noted() -> None:
    text = "[core]\nlog=null\n[a]\nx=1\nx=2\n[core]\n\nlog=stderr\n"
    said = parse(text, "f")
    assert said.notes == (
        'f:5: "x" was given in line 4, which counts',
        'f:8: "log" was given in line 2, which counts',
    )
    assert Config.merge(Settings(), said, "/d").notes == said.notes


def test_plugin_sections() -> None:
    said = parse("[core]\nlog=null\n[a]\nx = 1\n\ny=a,b\n[empty]\n[a]\nz=\n", "f")
    merged = Config.merge(Settings(), said, "/d")
    assert set(merged.sections) == {"a", "empty"}
    section = merged.section("a")
    assert dict(section) == {"x": "1", "y": "a,b", "z": ""}
    assert [section.line(key) for key in ("x", "y", "z", "w")] == [4, 6, 9, None]
    assert section.get("w", "9") == "9"
    assert str(section.error("y", "one word")) == "f:6: y in [a]: one word"
    assert str(section.error("w", "is missing")) == "f: w in [a]: is missing"


@pytest.mark.parametrize("name", ["empty", "absent", "core"])
def test_a_section_without_settings_is_an_empty_mapping(name: str) -> None:
    merged = Config.merge(Settings(), parse("[core]\nlog=null\n[empty]", "f"), "/d")
    assert dict(merged.section(name)) == {}
    assert str(merged.section(name).error("k", "is missing")) == f"f: k in [{name}]: is missing"


def test_sections_cannot_be_changed() -> None:
    said = parse("[a]\nx=1", "f")
    with pytest.raises(TypeError):
        said.sections["b"] = Section("b")  # type: ignore[index]
    with pytest.raises(TypeError):
        said.sections["a"]["x"] = "2"  # type: ignore[index]


def test_defaults() -> None:
    merged = Config.merge(Settings(), parse("", "f"), "/plugins")
    assert merged == Config(
        log="stderr",
        plugin_dir="/plugins",
        path_manager=None,
        addr_flags=("subflow",),
        notify_flags=frozenset({"existing", "skip_link_local", "skip_loopback"}),
        load_plugins=None,
        debug=False,
        file="f",
    )


LINE = Settings("journal", "/line", "line", ("signal",), frozenset({"existing"}), ("a",))._replace(
    debug=True
)
FILE = Settings("null", "/file", "file", ("backup",), frozenset({"check_route"}), ("b",))._replace(
    debug=False
)
MERGED = (
    "log",
    "plugin_dir",
    "path_manager",
    "addr_flags",
    "notify_flags",
    "load_plugins",
    "debug",
)


@pytest.mark.parametrize("field", MERGED)
def test_command_line_then_file_then_default(field: str) -> None:
    default = Config.merge(Settings(), Settings(), "/default")
    only_line = Settings()._replace(**{field: getattr(LINE, field)})
    assert getattr(Config.merge(LINE, FILE, "/default"), field) == getattr(LINE, field)
    assert getattr(Config.merge(Settings(), FILE, "/default"), field) == getattr(FILE, field)
    assert Config.merge(only_line, Settings(), "/default") == default._replace(
        **{field: getattr(LINE, field)}
    )


@pytest.mark.parametrize(
    ("field", "none"), [("addr_flags", ()), ("notify_flags", frozenset()), ("load_plugins", ())]
)
def test_an_empty_list_was_given(field: str, none: object) -> None:
    empty = Settings()._replace(**{field: none})  # type: ignore[arg-type]
    assert getattr(Config.merge(empty, FILE, "/d"), field) == none
    assert getattr(Config.merge(Settings(), empty, "/d"), field) == none
    assert getattr(Config.merge(LINE, empty, "/d"), field) == getattr(LINE, field)


def test_readers_of_single_values_say_no_place() -> None:
    with pytest.raises(BadValue, match="^unknown address flag"):
        config.addr_flags("x")


def test_shipped_file_says_nothing() -> None:
    said = parse(SHIPPED.read_text(), "f")
    assert said == Settings(file="f")


def test_shipped_file_explains_every_key_and_shows_the_defaults() -> None:
    """With every "#[group]" and "#key=value" made one."""
    lines = []
    for line in SHIPPED.read_text().splitlines():
        bare = line.removeprefix("#")
        setting = "=" in bare and not bare.startswith(" ")
        lines.append(bare if setting or bare.startswith("[") else line)
    text = "\n".join(lines)
    said = parse(text, "f")
    assert (said.log, said.addr_flags, said.notify_flags) == (
        config.DEFAULT_LOG,
        config.DEFAULT_ADDR_FLAGS,
        config.DEFAULT_NOTIFY_FLAGS,
    )
    fields = [key.replace("-", "_") for key in config.CORE_KEYS]
    assert all(getattr(said, field) is not None for field in fields)
    assert said.rules == (InterfaceRule("wwan*", True, ("subflow", "backup"), 1, "both"),)
    assert (said.hold_down_loss, said.hold_down_return, said.cleanup) == (0.0, 0.2, False)
    assert (said.pm, dict(said.sections["fullmesh"])) == ("keep", {"max-subflows": "8"})
    words = (*config.LOG_DESTINATIONS, *config.ADDR_FLAGS, *config.NOTIFY_FLAGS)
    for word in (*words, *config_values.PATH_MANAGERS):
        assert f"#   {word} " in text
