"""Holds the layout to its rules, by reading the imports of every module as the compiler would.

    cli -> plugins -> core -> nl -> standard library, cffi

An import may point right or stay in its layer. ``mptcpd/plugin.py`` counts as core. The other rules
stand in the table ``RULES``; each takes a module and yields what is wrong with it, so that the last
tests here can show each one a violation made for it.
"""

from __future__ import annotations

import ast
import pathlib
import re
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

TOP = pathlib.Path(__file__).resolve().parent.parent
LAYERS = ("nl", "core", "plugins", "cli")  # an import goes to the same index or a lower one
MAX_LINES = 400
# The build step's two ends: the script that declares and what cffi writes from it.
BUILD, GENERATED = "mptcpd.nl._attrs_build", "mptcpd.nl._attrs_abi"
# nl turns bytes into values; these few have a side effect or an outside world.
WORLD = {"socket", "select", "selectors", "os", "time", "logging"}
MAY_TOUCH_WORLD = {"mptcpd.nl.sock", "mptcpd.nl.namespaces", "mptcpd.nl.processes"}
PURE = {"os.strerror"}  # a table look-up, wherever it lives
# Loading plugins is the one way that core has to the disk.
MAY_OPEN = {"mptcpd.core.loader", "mptcpd.nl.namespaces", "mptcpd.nl.processes"}
OUTSIDE = {"sys.argv", "os.environ", "os.environb", "os.getenv", "argparse", "getopt", "optparse"}
OPENERS = {"open", "io.open", "os.open", "pathlib", "fileinput", "codecs.open"}
# Each costs start-up time and memory that the daemon has no need to spend; imported inside the
# function that wants one, it costs only who calls that.
HEAVY = {
    *("argparse", "asyncio", "configparser", "dataclasses", "enum", "inspect", "json", "pathlib"),
    *("subprocess", "threading"),
}
NAMELESS = {"utils", "util", "helpers", "helper", "common", "base", "misc"}


class Module(NamedTuple):
    """A source file as the rules see it."""

    name: str  # dotted, as imported: "mptcpd.nl.attrs", "plugins.addr_adv"
    package: bool  # whether it is a package's __init__.py
    text: str

    @property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.name)


Rule = Callable[[Module], Iterator[str]]


def layer(name: str) -> int | None:
    """The index of the layer that ``name`` belongs to; None for what is in no layer."""
    parts = name.split(".")
    if parts[0] == "plugins":
        return LAYERS.index("plugins")
    if parts[:2] == ["mptcpd", "plugin"]:
        return LAYERS.index("core")
    if parts[0] == "mptcpd" and len(parts) > 1 and parts[1] in LAYERS:
        return LAYERS.index(parts[1])
    return None


def imports(module: Module, body: list[ast.stmt] | None = None) -> Iterator[tuple[int, str]]:
    """Line and dotted name of all that ``module`` imports; "a.b" for ``from a import b``.

    ``body``: only these statements, not what they contain; None: the whole module.
    """
    for node in ast.walk(module.tree) if body is None else body:
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ""
            if node.level:  # a relative import; one dot is the package that the module is in
                parts = module.name.split(".")
                kept = len(parts) - node.level + module.package
                source = ".".join(parts[:kept] + ([source] if source else []))
            yield from ((node.lineno, f"{source}.{alias.name}") for alias in node.names)


def uses(module: Module) -> Iterator[tuple[int, str]]:
    """Line and dotted name of all that ``module`` imports, calls or reads by its full name.

    A name bound by ``import x as y`` is followed, so ``import os as o; o.environ`` is no way round.
    """
    aliases: dict[str, str] = {}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            aliases.update({alias.asname: alias.name for alias in node.names if alias.asname})
    yield from imports(module)
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield node.lineno, f"{aliases.get(node.value.id, node.value.id)}.{node.attr}"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield node.lineno, node.func.id


def within(name: str, names: set[str]) -> bool:
    """Whether ``name`` is one of ``names`` or lies inside one."""
    parts = name.split(".")
    return any(".".join(parts[:count]) in names for count in range(1, len(parts) + 1))


def imports_point_right(module: Module) -> Iterator[str]:
    own = layer(module.name)
    for line, name in imports(module):
        other = layer(name)
        if own is not None and other is not None and other > own:
            yield f"line {line}: {LAYERS[own]} imports {name}, which is {LAYERS[other]}"


def only_standard_library_and_cffi(module: Module) -> Iterator[str]:
    allowed = {*sys.stdlib_module_names, "mptcpd", "plugins"}
    if module.name in (BUILD, GENERATED) or module.name.startswith("mptcpd.nl."):
        allowed |= {"cffi", "_cffi_backend"}
    for line, name in imports(module):
        if name.split(".")[0] not in allowed:
            yield f"line {line}: imports {name}"


def nl_is_bytes(module: Module) -> Iterator[str]:
    if layer(module.name) == LAYERS.index("nl") and module.name not in {*MAY_TOUCH_WORLD, BUILD}:
        for line, name in imports(module):
            if within(name, WORLD) and name not in PURE:
                yield f"line {line}: imports {name}; only {', '.join(sorted(MAY_TOUCH_WORLD))} may"


def world_comes_in_through_constructors(module: Module) -> Iterator[str]:
    own = layer(module.name)
    if own is None or own == LAYERS.index("cli") or module.name == BUILD:
        return
    forbidden = OUTSIDE if module.name in MAY_OPEN else OUTSIDE | OPENERS
    for line, name in uses(module):
        if within(name, forbidden):
            yield f"line {line}: uses {name}; what is outside is read in cli"


def starts_light(module: Module) -> Iterator[str]:
    for line, name in imports(module, module.tree.body):
        if within(name, HEAVY) and module.name != BUILD:
            yield f"line {line}: imports {name} at start"


def short_enough(module: Module) -> Iterator[str]:
    lines = module.text.count("\n")
    if lines > MAX_LINES:
        yield f"{lines} lines, {MAX_LINES} at most: split it"


def says_what_it_is(module: Module) -> Iterator[str]:
    if NAMELESS & set(re.split(r"[._]", module.name)):
        yield "named after no thing in particular"
    if not ast.get_docstring(module.tree) and module.name != GENERATED:
        yield "no docstring"


RULES: tuple[Rule, ...] = (
    imports_point_right,
    only_standard_library_and_cffi,
    nl_is_bytes,
    world_comes_in_through_constructors,
    starts_light,
    short_enough,
    says_what_it_is,
)


def modules() -> Iterator[Module]:
    for file in sorted([*TOP.glob("mptcpd/**/*.py"), *TOP.glob("plugins/**/*.py")]):
        parts = file.relative_to(TOP).with_suffix("").parts
        package = parts[-1] == "__init__"
        yield Module(".".join(parts[: -1 if package else None]), package, file.read_text("utf-8"))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_rule(rule: Rule) -> None:
    broken = [f"{module.name}: {wrong}" for module in modules() for wrong in rule(module)]
    assert not broken, "\n" + "\n".join(broken)


def test_every_folder_is_a_package() -> None:
    """A folder without __init__.py would be left out of the wheel, and of the rules' names."""
    folders = {file.parent for file in TOP.glob("mptcpd/**/*.py")}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").exists()] == []
    assert {folder.name for folder in folders} >= {"mptcpd", "nl", "core", "cli"}


DOC = '"""A docstring."""\n'


@pytest.mark.parametrize(
    ("rule", "name", "text"),
    [
        (imports_point_right, "mptcpd.nl.x", "import mptcpd.core.loop"),
        (imports_point_right, "mptcpd.nl.x", "from mptcpd import plugin"),
        (imports_point_right, "mptcpd.nl.x", "from mptcpd.plugin import Plugin"),
        (imports_point_right, "mptcpd.nl.x", "from ..core import loop"),
        (imports_point_right, "mptcpd.core.x", "def f():\n    from mptcpd.cli import log"),
        (imports_point_right, "mptcpd.core.x", "import plugins.addr_adv"),
        (imports_point_right, "mptcpd.plugin", "from mptcpd.cli.text import words"),
        (imports_point_right, "plugins.x", "from mptcpd.cli import log"),
        (only_standard_library_and_cffi, "mptcpd.core.x", "import requests"),
        (only_standard_library_and_cffi, "mptcpd.core.x", "from cffi import FFI"),
        (nl_is_bytes, "mptcpd.nl.x", "import socket"),
        (nl_is_bytes, "mptcpd.nl.x", "from os import read"),
        (nl_is_bytes, "mptcpd.nl.x", "import os.path as p"),
        (nl_is_bytes, "mptcpd.nl.x", "def f():\n    import logging"),
        (world_comes_in_through_constructors, "mptcpd.core.x", "import os\nos.environ['A']"),
        (world_comes_in_through_constructors, "mptcpd.core.x", "import os as o\no.getenv('A')"),
        (world_comes_in_through_constructors, "mptcpd.core.x", "from sys import argv"),
        (world_comes_in_through_constructors, "mptcpd.core.x", "open('/etc/passwd')"),
        (world_comes_in_through_constructors, "mptcpd.core.loader", "import sys\nsys.argv[1]"),
        (world_comes_in_through_constructors, "mptcpd.plugin", "import argparse"),
        (world_comes_in_through_constructors, "plugins.x", "from pathlib import Path"),
        (starts_light, "mptcpd.cli.x", "import dataclasses"),
        (starts_light, "mptcpd.cli.x", "from json import dumps"),
        (short_enough, "mptcpd.cli.x", "\n" * (MAX_LINES + 1)),
        (says_what_it_is, "mptcpd.core.utils", DOC),
        (says_what_it_is, "mptcpd.core.net_helpers", DOC),
        (says_what_it_is, "mptcpd.core.x", "import os"),
    ],
)
def test_rule_finds(rule: Rule, name: str, text: str) -> None:
    assert len(list(rule(Module(name, False, text)))) == 1


@pytest.mark.parametrize(
    ("name", "package", "text"),
    [
        ("mptcpd.cli.x", False, "import os\nfrom mptcpd.core import loop\nos.environ, open('a')"),
        ("mptcpd.core.x", False, "from mptcpd.nl import attrs\nfrom . import loop\nimport os.path"),
        ("mptcpd.core.x", False, "def f():\n    import json\n    self.open(1)"),
        ("mptcpd.core.loader", False, "open('plugin')"),
        ("mptcpd.core", True, "from . import loop\nfrom ..nl import attrs"),
        ("mptcpd.nl.sock", False, "import socket, select, os, time, logging"),
        ("mptcpd.nl.x", False, "from os import strerror\nfrom cffi import FFI"),
        ("plugins.x", False, "from mptcpd.plugin import Plugin"),
        ("mptcpd.cli.base64_text", False, "\n" * (MAX_LINES - 1)),
    ],
)
def test_rules_allow(name: str, package: bool, text: str) -> None:
    module = Module(name, package, DOC + text)
    assert [wrong for rule in RULES for wrong in rule(module)] == []
