"""Claim: whatever the words, a command line ends in Options or in a UsageError.

And options said twice, or with ``--`` at the end, mean the same; and whatever the table, scanning
yields only its options, and help and usage show all of them in lines of at most 78 columns.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mptcpd.cli import argp, mptcpize_options, options
from mptcpd.cli.argp import BadLine, Option, UsageError
from mptcpd.cli.options import Options

NAMES = [option.name for option in options.TABLE]
ARGUMENTS = st.sampled_from(
    ["", "journal", "null", "signal", "signal,fullmesh", "existing,", "a,b", ",", "/x", "-d", "--"]
)
PREFIXES = st.builds(lambda name, size: name[:size], st.sampled_from(NAMES), st.integers(0, 12))
WORDS = st.one_of(
    PREFIXES.map(lambda name: f"--{name}"),
    st.builds(lambda name, value: f"--{name}={value}", PREFIXES, ARGUMENTS),
    st.text("dl?Vx-=", max_size=4).map(lambda text: f"-{text}"),
    ARGUMENTS,
    st.text(st.characters(), max_size=8),
)


@given(st.lists(WORDS, max_size=8))
def test_any_words(line: list[str]) -> None:
    try:
        found = options.parse(line)
    except UsageError as error:
        assert error.text
        assert str(error).startswith(f"{error.program}: {error.text}\nTry `{error.program} --help'")
        return
    assert isinstance(found, Options)
    if found.show is None:
        if "--" not in line:  # what follows it would be no option
            assert options.parse([*line, "--"]) == found
            assert options.parse([*line, *line]) == found  # the last one wins
        assert not {"signal", "fullmesh"} <= set(found.settings.addr_flags or ())
    else:
        found.show.encode()


MPTCPIZE = st.one_of(
    st.sampled_from(
        [
            *mptcpize_options.COMMANDS, "--HANG", "--HANG=" + "9" * 5000, "--HANG=\u00b2", "-d",
            "--preload=", "--preload=a", "--print", "--root=/", "--program-name=a/b",
        ]
    ),
    WORDS,
)  # fmt: skip


@given(st.lists(MPTCPIZE, max_size=6))
def test_any_words_to_mptcpize(line: list[str]) -> None:
    try:
        said = mptcpize_options.parse(line)
    except UsageError as error:
        assert error.text
        return
    assert 0 <= said.hang < 10**9
    assert said.show is None or said.show.encode()
    names = {option.name for table, *_ in mptcpize_options.COMMANDS.values() for option in table}
    assert said.options.keys() <= names


TABLES = st.lists(
    st.builds(
        Option,
        name=st.text("ab-", min_size=1, max_size=12),
        short=st.sampled_from(["", "a", "b", "c"]),
        argument=st.sampled_from(["", "", "A", "FILE"]),
        help=st.lists(st.text("a", min_size=1, max_size=40), min_size=1).map(" ".join),
        optional=st.booleans(),
    ),
    max_size=6,
    unique_by=(lambda option: option.name, lambda option: option.short or option.name),
)


@given(TABLES, st.lists(st.text("ab-=c", max_size=6), max_size=6))
def test_any_table(table: list[Option], line: list[str]) -> None:
    try:
        pairs = list(argp.scan(line, table))
    except BadLine:
        pairs = []
    assert all(option is None or option in table for option, _ in pairs)
    assert all(option is None or option.argument or not word for option, word in pairs)
    for text in (argp.help_text("p", table, "P.", "T.", "<b>"), argp.usage_text("p", table)):
        for option in table:
            assert option.spelled() in text
        assert all(len(row) <= 78 for row in text.split("\n"))
