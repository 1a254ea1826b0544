"""Writes what is made from the option tables: parts of manual pages, and shell completion.

    python tools/pages.py          ("make pages")

A table is the only place where a program's options are described; parser and --help read it at run
time, and what cannot do so is written here, to be committed. ``tests/test_pages.py`` compares.
"""

from __future__ import annotations

import importlib
import pathlib
import re
import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import NamedTuple

TOP = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOP))

from mptcpd.cli import get_debug  # noqa: E402
from mptcpd.cli.argp import Option  # noqa: E402
from mptcpd.cli.ctl import completion  # noqa: E402


class Program(NamedTuple):
    """A program, its manual page, and where its options are described.

    module    has the table of options, as TABLE
    word      what may stand besides options, if anything
    """

    section: int
    module: str
    word: str = ""

    def options(self) -> Sequence[Option]:
        found: Sequence[Option] = importlib.import_module(self.module).TABLE
        return found


# mptcpize and mptcpctl have commands: their pages, and what is completed of mptcpize, are written
# by hand and held to their tables by tests.
PROGRAMS = {
    "mptcpd": Program(8, "mptcpd.cli.options"),
    "mptcp-get-debug": Program(8, "mptcpd.cli.get_debug", get_debug.ARGUMENT),
}
_MARK = '.\\" {} made from {}.py by "make pages"'


def shown(table: Iterable[Option]) -> list[Option]:
    """The options that are not hidden."""
    return [option for option in table if option.help]


# Manual pages


def roff(text: str) -> str:
    """Plain words for roff: a hyphen that is typed must be one that can be copied."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^([.'])", r"\\&\1", text, flags=re.M)


def synopsis(program: str, table: Sequence[Option], word: str = "") -> str:
    lines = [f".SY {roff(program)}"]
    bare = "".join(option.short for option in shown(table) if not option.argument)
    if bare:
        lines.append(f".OP \\-{bare}")
    lines += [f".OP \\-{o.short} {o.argument}" for o in shown(table) if o.short and o.argument]
    for option in shown(table):
        name = roff(f"--{option.name}")
        argument = f"= \\fI{option.argument}\\fR]" if option.argument else " ]"
        lines.append(f".RB [ {name}{argument}")
    if word:
        lines.append(f".RI [ {word} ]")
    return "\n".join([*lines, ".YS"])


def entries(table: Sequence[Option]) -> str:
    """A paragraph for each option, in the table's order."""
    lines = []
    for option in shown(table):
        name = roff(f"--{option.name}")
        short = ""
        if option.short:
            short = f"\\-{option.short}"
            short += f"\\~ \\fI{option.argument}\\fR ,\\~ " if option.argument else " ,\\~ "
        long = f"{name}= \\fI{option.argument}\\fR" if option.argument else name
        text = f"{roff(option.help)}."
        if option.argument:
            text = re.sub(rf"\b{option.argument}\b", rf"\\fI{option.argument}\\fR", text)
        lines += [".TP", f".BR {short}{long}"]
        lines += textwrap.wrap(text, 79, break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines)


def page(text: str, name: str, program: Program) -> str:
    """The page with what stands between its marks made anew. Errors: ValueError without marks."""
    source, table = program.module.replace(".", "/"), program.options()
    above = synopsis(name, table, program.word)
    for what, made in (("Synopsis", above), ("Options", entries(table))):
        begin, end = _MARK.format(what, source), f'.\\" {what} end'
        head, mark, rest = text.partition(begin + "\n")
        _old, end_mark, tail = rest.partition(end + "\n")
        if not mark or not end_mark:
            raise ValueError(f"man page of {name}: no lines {begin!r} and {end!r}")
        text = f"{head}{mark}{made}\n{end_mark}{tail}"
    return text


# Shells


def _names(table: Sequence[Option]) -> str:
    return " ".join(f"--{o.name}{'=' if o.argument else ''}" for o in shown(table))


def bash(program: str, table: Sequence[Option], word: str = "") -> str:
    """A completion for bash; needs nothing but bash."""
    name = "_" + program.replace("-", "_")
    cases = []
    for option in shown(table):
        if not option.argument:
            continue
        spelled = f"--{option.name}" + (f" | -{option.short}" if option.short else "")
        if option.argument in ("FILE", "DIR"):
            what = "f" if option.argument == "FILE" else "d"
            made = f'compopt -o filenames; mapfile -t COMPREPLY < <(compgen -{what} -- "$word")'
        elif option.list and option.words:
            made = (
                "[[ $word != *,* ]] || list=${word%,*},; compopt -o nospace; "
                f"mapfile -t COMPREPLY < <(compgen -W '{' '.join(option.words)}' "
                '-P "$list" -- "${word##*,}")'
            )
        else:
            words = " ".join(option.words)
            made = f"mapfile -t COMPREPLY < <(compgen -W '{words}' -- \"$word\")"
        cases.append(f"        {spelled}) {made}; return ;;")
    lines = "\n".join(cases)
    files = ""
    if word == "FILE":
        files = """
    if [[ $word != -* ]]; then
        compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$word"); return
    fi"""
    return f"""\
# bash completion for {program}, made from its table of options by "make pages"

{name}() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} option=${{COMP_WORDS[COMP_CWORD - 1]}} list=
    COMPREPLY=()
    # bash takes "=" for a word of its own.
    if [[ $word == = ]]; then
        word=
    elif [[ $option == = ]]; then
        option=${{COMP_WORDS[COMP_CWORD - 2]}}
    fi
    case $option in
{lines}
    esac{files}
    mapfile -t COMPREPLY < <(compgen -W '{_names(table)}' -- "$word")
    [[ ${{COMPREPLY[0]-}} != *= ]] || compopt -o nospace
}}
complete -F {name} {program}
"""


def zsh(program: str, table: Sequence[Option], word: str = "") -> str:
    """A completion for zsh, for its function path."""
    lines = []
    for option in shown(table):
        text = re.split("[,;:]", option.help)[0].replace("[", "\\[").replace("]", "\\]")
        text = text.replace("'", "'\\''")
        equals = "=" if option.argument else ""
        what = ""
        if option.argument:
            if option.list and option.words:
                action = f"_values -s , {option.argument} {' '.join(option.words)}"
            elif option.words:
                action = f"({' '.join(option.words)})"
            else:
                action = {"FILE": "_files", "DIR": "_files -/"}.get(option.argument, " ")
            what = f":{option.argument}:{action}"
        if option.short:
            plus = "+" if option.argument else ""
            both = f"{{-{option.short}{plus},--{option.name}{equals}}}"
            lines.append(f"    '(-{option.short} --{option.name})'{both}'[{text}]{what}'")
        else:
            lines.append(f"    '--{option.name}{equals}[{text}]{what}'")
    if word == "FILE":
        lines.append("    ':FILE:_files'")
    rows = " \\\n".join(lines)
    return f"""\
#compdef {program}
# zsh completion for {program}, made from its table of options by "make pages"

_arguments -s -S \\
{rows}
"""


def made() -> dict[pathlib.Path, str]:
    """Every file that is made, whole, as it should be."""
    files = {}
    for name, program in PROGRAMS.items():
        table = program.options()
        manual = TOP / "man" / f"{name}.{program.section}"
        files[manual] = page(manual.read_text(), name, program)
        files[TOP / "completion" / name] = bash(name, table, program.word)
        files[TOP / "completion" / f"_{name}"] = zsh(name, table, program.word)
    # Its words are no options: it makes its own scripts, which "mptcpctl completion" prints, too.
    files[TOP / "completion/mptcpctl"] = completion.script("bash")
    files[TOP / "completion/_mptcpctl"] = completion.script("zsh")
    return files


def main() -> None:
    for file, text in made().items():
        file.parent.mkdir(exist_ok=True)
        if not file.exists() or file.read_text() != text:
            file.write_text(text)
            print(f"wrote {file.relative_to(TOP)}")


if __name__ == "__main__":
    main()
