"""mptcpize enable and disable: finds a service's unit files, writes or removes one drop-in file.

Knows    where systemd looks for unit files, on this system or below a root directory.
Not      their syntax (core.unit). Files of others are read, never changed.
Source   systemd.unit(5), "Unit File Load Path".
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import NamedTuple

from mptcpd.cli import argp
from mptcpd.cli.mptcpize_options import Said
from mptcpd.core import unit
from mptcpd.core.unit import UnitError

__all__ = ["UnitError", "change"]

_ADMINISTRATOR = "etc/systemd/system"
# What comes first counts more.
_DIRECTORIES = (
    *(_ADMINISTRATOR, "run/systemd/system", "run/systemd/generator"),
    *("usr/local/lib/systemd/system", "usr/lib/systemd/system", "lib/systemd/system"),
    "run/systemd/generator.late",
)
# The first that systemd reads after all others that set ExecStart=: it goes by the names of the
# files, and "systemctl edit" calls its own override.conf.
_DROP_INS = ("mptcpize.conf", "zz-mptcpize.conf")


class Unit(NamedTuple):
    """A service's files.

    name     as systemd calls it: "nginx.service", "getty@tty1.service", "getty@.service"
    file     the unit file itself, as people would name it
    parts    all files that make it, the drop-in files of others among them, in order
    ours     the files that may be ours, the usual one first
    """

    name: str
    file: str
    parts: tuple[str, ...]
    ours: tuple[str, ...]


def change(said: Said) -> int:
    """Carry out ``enable`` or ``disable``. Errors: UnitError, OSError."""
    root = said.options.get("root", "/")
    if not os.path.isdir(root):
        raise UnitError(f"{root} is not a directory")
    try:
        found = find(said.words[0], root)
    except UnitError:
        left = _left_behind(said.words[0], root) if said.command == "disable" else None
        if left is None:
            raise
        found = left
    if not _is_inside(os.path.dirname(found.ours[0]), root):
        raise UnitError(f"{found.ours[0]} leads out of {root}")
    if said.command == "disable":
        if not remove(found):
            print(f"mptcp is not enabled on unit {found.file}")
            return 0
    else:
        settings, drop_in = unit.settings(map(_read, found.parts)), place(found)
        launcher = said.options.get("launcher") or _own_path()
        text = unit.drop_in(found.name, found.file, settings, launcher)
        for caution in unit.cautions(settings):
            print(f"mptcpize: {caution}", file=sys.stderr)
        if "print" in said.options:
            return argp.show(text.rstrip("\n"))
        write(found, drop_in, text)
    if os.path.realpath(root) == "/" and _systemd_runs():
        _systemctl("daemon-reload")
    print(f"mptcp successfully {said.command}d on unit {found.file}")
    return 0


def find(name: str, root: str = "/") -> Unit:
    """The service of this name, or of this file. Errors: UnitError."""
    if "/" in name:
        return _of_file(name, root)
    name = _service(name)
    if os.path.realpath(root) == "/" and _systemd_runs():
        parts = _told_by_systemctl(name)
    else:
        parts = list(_searched(name, root))
    if not parts:
        raise UnitError(f"there is no unit file for {name}")
    file = parts[0]
    actual = os.path.basename(file)
    # An alias has drop-in files under its own name, too, but disabling must find ours under both.
    if actual.endswith(".service") and "@" not in actual:
        name = actual
    return _unit(name, file, parts, os.path.join(root, _ADMINISTRATOR))


def _left_behind(name: str, root: str) -> Unit | None:
    """A service whose own file is gone, or masked, while a drop-in file of ours is still there."""
    if "/" in name:
        return None
    name = _service(name)
    found = _unit(name, name, [], os.path.join(root, _ADMINISTRATOR))
    return found if any(os.path.exists(file) for file in found.ours) else None


def _service(name: str) -> str:
    stem, dot, kind = name.rpartition(".")
    if dot and kind == "service" and stem:
        return name
    if dot and kind in ("socket", "target", "timer", "mount", "path", "slice", "scope", "device"):
        raise UnitError(f"{name} is no service")
    return f"{name}.service"


def _of_file(name: str, root: str) -> Unit:
    """A unit file given as such; below ``root`` if one is given."""
    file = os.path.join(root, name.lstrip("/")) if os.path.realpath(root) != "/" else name
    if not file.endswith(".service"):
        raise UnitError(f"{name} is no service")
    if not os.path.isfile(file):
        raise UnitError(f"{file} is not a file")
    directory, base = os.path.split(os.path.abspath(file))
    for known in _DIRECTORIES:
        if directory.endswith(f"/{known}"):
            # A file of a system: administrators' files have a place of their own there.
            root = directory[: -len(known)]
            parts = [file, *_drop_ins(base, root)]
            return _unit(base, file, parts, os.path.join(root, _ADMINISTRATOR))
    beside = sorted(os.listdir(f"{file}.d")) if os.path.isdir(f"{file}.d") else []
    parts = [file, *(f"{file}.d/{entry}" for entry in beside if entry.endswith(".conf"))]
    return _unit(base, file, parts, directory)


def _unit(name: str, file: str, parts: list[str], directory: str) -> Unit:
    ours = tuple(os.path.join(directory, f"{name}.d", entry) for entry in _DROP_INS)
    others = tuple(part for part in parts if os.path.basename(part) not in _DROP_INS)
    return Unit(name, file, others, ours)


def _searched(name: str, root: str) -> Iterator[str]:
    """The files of a unit, found as systemd would."""
    for candidate in (name, _template(name)):
        for directory in _directories(root) if candidate else ():
            file = _followed(os.path.join(directory, candidate), root)
            if file is None:
                continue
            if file == os.devnull or os.path.getsize(file) == 0:
                raise UnitError(f"{name} is masked")
            yield file
            yield from _drop_ins(name, root, os.path.basename(file))
            return


def _directories(root: str) -> Iterator[str]:
    for directory in _DIRECTORIES:
        if _is_inside(file := os.path.join(root, directory), root):
            yield file


def _is_inside(directory: str, root: str) -> bool:
    """Whether it is, or would be, a directory of that system: its links may lead to our own."""
    top, actual = os.path.realpath(root), os.path.realpath(directory)
    return os.path.commonpath([top, actual]) == top


def _template(name: str) -> str:
    """``getty@.service`` for ``getty@tty1.service``, empty for what is no instance."""
    stem, at, instance = name.removesuffix(".service").partition("@")
    return f"{stem}@.service" if at and instance else ""


def _followed(file: str, root: str) -> str | None:
    """The file that a link leads to, a link being meant inside ``root``; None if there is none."""
    for _hop in range(8):
        if not os.path.islink(file):
            return file if os.path.isfile(file) else None
        target = os.readlink(file)
        if target == os.devnull:
            return target
        if target.startswith("/"):
            file = os.path.join(root, target.lstrip("/"))
        else:
            file = os.path.join(os.path.dirname(file), target)
    return None


def _drop_ins(name: str, root: str, actual: str = "") -> list[str]:
    """All drop-in files for a unit in the order of their names, which is that in which they count.

    actual  the name of the file that ``name`` is an alias of
    """
    prefix, names = name.removesuffix(".service"), [name, actual, _template(name)]
    while "-" in prefix:
        prefix = prefix.rpartition("-")[0]
        names.append(f"{prefix}-.service")
    found: dict[str, str] = {}
    for owner in filter(None, [*names, "service"]):
        for directory in _directories(root):
            folder = os.path.join(directory, f"{owner}.d")
            if not (os.path.isdir(folder) and _is_inside(folder, root)):
                continue
            for entry in os.listdir(folder):
                if entry.endswith(".conf") and entry not in found:
                    found[entry] = os.path.join(folder, entry)
    followed = (_followed(found[entry], root) for entry in sorted(found))
    return [file for file in followed if file is not None and file != os.devnull]


def place(found: Unit) -> str:
    """Which of the files that may be ours is read late enough to count. Errors: UnitError."""
    setting = [part for part in found.parts[1:] if "ExecStart" in unit.settings([_read(part)])]
    last = max(setting, key=os.path.basename, default="")
    for file in found.ours:
        if os.path.basename(file) > os.path.basename(last):
            return file
    raise UnitError(f"{last} sets ExecStart=, and is read after {file}: rename it")


def write(found: Unit, drop_in: str, text: str) -> None:
    """Put our drop-in file in its place, whole or not at all; there is no other one then."""
    if os.path.exists(drop_in) and not _is_ours(drop_in):
        raise UnitError(f"{drop_in} was not written by mptcpize: move it away first")
    os.makedirs(os.path.dirname(drop_in), exist_ok=True)
    new = f"{drop_in}.new"  # systemd reads *.conf only
    try:
        with open(new, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
        os.chmod(new, 0o644)
        os.replace(new, drop_in)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(new)
        raise
    for other in found.ours:
        if other != drop_in and os.path.exists(other) and _is_ours(other):
            os.unlink(other)


def remove(found: Unit) -> bool:
    """Remove our drop-in file, and its folder if nothing else is in it. False: there is none."""
    present = [file for file in found.ours if os.path.exists(file)]
    ours = [file for file in present if _is_ours(file)]
    if present and not ours:
        raise UnitError(f"{present[0]} was not written by mptcpize: it stays")
    for file in ours:
        os.unlink(file)
    with contextlib.suppress(OSError):
        os.rmdir(os.path.dirname(found.ours[0]))
    return bool(ours)


def _read(file: str) -> str:
    with open(file, encoding="utf-8", errors="surrogateescape") as stream:
        return stream.read()


def _is_ours(file: str) -> bool:
    return _read(file).startswith(unit.MARK)


def _own_path() -> str:
    """How systemd is to call us: the file that was started as mptcpize."""
    file = os.path.abspath(sys.argv[0])
    if os.path.basename(file) != "mptcpize" or not os.access(file, os.X_OK):
        raise UnitError("say with --launcher=FILE where mptcpize is installed")
    return file


def _systemd_runs() -> bool:
    return os.path.isdir("/run/systemd/system")  # sd_booted(3)


def _systemctl(*words: str) -> str:
    import subprocess  # nothing else here needs it

    run = subprocess.run(
        ["systemctl", *words], stdout=subprocess.PIPE, text=True, errors="surrogateescape"
    )
    if run.returncode:
        raise UnitError(f"systemctl {' '.join(words)} failed")
    return run.stdout


def _told_by_systemctl(name: str) -> list[str]:
    """The files that ``systemctl cat`` shows, each below a comment with its name."""
    lines = _systemctl("cat", "--no-pager", "--", name).splitlines()
    named = [line[2:] for line in lines if line.startswith("# /")]
    # A comment of somebody else's may look the same.
    parts = [file for file in named if file.endswith(".service") and os.path.isfile(file)][:1]
    parts += [file for file in named if _is_drop_in(file) and os.path.isfile(file)]
    return parts


def _is_drop_in(file: str) -> bool:
    return file.endswith(".conf") and os.path.dirname(file).endswith("service.d")
