"""Plugin files: each that cannot be used is refused by name, and the others load."""

from __future__ import annotations

import logging
import os
import pathlib
import sys
from collections.abc import Iterator

import pytest

from mptcpd.core import loader
from mptcpd.core.loader import LoadError, load
from mptcpd.plugin import Plugin

GOOD = """
from mptcpd.plugin import Plugin

class Good(Plugin):
    pass
"""


def ours() -> frozenset[int]:
    """Not a constant: after a kernel test this process may be in another user namespace."""
    return frozenset({os.geteuid()})


class Folder:
    """A plugin directory with ``good.py`` in it."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        path.mkdir(mode=0o755)
        path.chmod(0o755)
        self.write("good")

    def write(self, name: str, text: str | bytes = GOOD, mode: int = 0o644) -> pathlib.Path:
        file = self.path / f"{name}.py"
        file.write_bytes(text.encode() if isinstance(text, str) else text)
        file.chmod(mode)
        return file

    def load(self, *names: str, owners: frozenset[int] | None = None) -> list[str]:
        found = load(str(self.path), names or None, owners or ours())
        return [plugin.name for plugin in found]


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> Iterator[Folder]:
    before = set(sys.modules)
    yield Folder(tmp_path / "plugins")
    for name in set(sys.modules) - before:
        if name.startswith("mptcpd_plugin_"):
            del sys.modules[name]


@pytest.fixture
def refusals(caplog: pytest.LogCaptureFixture) -> list[str]:
    caplog.set_level(logging.WARNING)

    class Messages(list[str]):
        def __iter__(self) -> Iterator[str]:
            return iter([record.getMessage() for record in caplog.records])

        def __len__(self) -> int:
            return len(caplog.records)

    return Messages()


# What is loaded


def test_all_that_are_there_in_the_order_of_their_names(folder: Folder) -> None:
    folder.write("zebra")
    folder.write("ape")
    assert folder.load() == ["ape", "good", "zebra"]


def test_what_is_no_plugin_file_is_passed_over(
    folder: Folder, tmp_path: pathlib.Path, refusals: list[str]
) -> None:
    (folder.path / "notes.txt").write_text("no plugin")
    (folder.path / "old.py~").write_text("no plugin")
    (folder.path / "folder.py").mkdir()
    elsewhere = tmp_path / "elsewhere.py"
    elsewhere.write_text(GOOD)
    (folder.path / "linked.py").symlink_to(elsewhere)
    (folder.path / "dangling.py").symlink_to(tmp_path / "nothing.py")
    os.mkfifo(folder.path / "pipe.py", 0o644)
    assert folder.load() == ["good"]
    assert list(refusals) == []


def test_named_ones_in_the_given_order_each_once(
    folder: Folder, refusals: list[str]
) -> None:
    folder.write("other")
    folder.write("unwanted")
    assert folder.load("other", "good", "other") == ["other", "good"]
    assert list(refusals) == []


def test_a_named_link_is_followed(folder: Folder, tmp_path: pathlib.Path) -> None:
    """As dlopen does in the C daemon; what is checked is the file that is read."""
    elsewhere = tmp_path / "elsewhere.py"
    elsewhere.write_text(GOOD)
    elsewhere.chmod(0o644)
    (folder.path / "linked.py").symlink_to(elsewhere)
    assert folder.load("linked") == ["linked"]
    elsewhere.chmod(0o666)
    with pytest.raises(LoadError, match="not world writable"):
        folder.load("linked", "good")


def test_none_are_wanted(folder: Folder) -> None:
    assert load(str(folder.path), (), ours()) == []


def test_an_empty_directory(tmp_path: pathlib.Path) -> None:
    assert load(str(tmp_path), None, ours()) == []


def test_the_name_is_the_files_unless_the_class_says_another(folder: Folder) -> None:
    folder.write("file", GOOD + "    name = 'inside'\n")
    assert folder.load() == ["inside", "good"]


# How a class is found


def test_an_imported_plugin_class_does_not_count(folder: Folder) -> None:
    folder.write("importing", GOOD + "from plugins.addr_adv import AddrAdv\n")
    assert folder.load("importing") == ["importing"]


def test_a_class_under_two_names_is_one(folder: Folder) -> None:
    folder.write("alias", GOOD + "Default = Good\n")
    assert folder.load("alias") == ["alias"]


def test_aliases_of_types_are_no_classes(folder: Folder) -> None:
    """Until Python 3.11 list[int] passes for an instance of type, and issubclass() refuses it."""
    folder.write("typing", GOOD + "Pair = tuple[int, int]\nMaybe = int | None\n")
    assert folder.load("typing") == ["typing"]


def test_what_looks_like_an_alias_is_not_asked(
    folder: Folder, refusals: list[str]
) -> None:
    text = "class Alias:\n    __class__ = property(lambda self: type)\nalias = Alias()\n"
    folder.write("fake", GOOD + text)
    assert folder.load("fake") == ["fake"]


def test_a_class_may_hold_dataclasses(folder: Folder) -> None:
    """They look their module up in sys.modules."""
    folder.write(
        "data",
        "from __future__ import annotations\nimport dataclasses\n"
        + GOOD
        + "\n@dataclasses.dataclass\nclass Data:\n    x: int\n    y: dataclasses.KW_ONLY\n",
    )
    assert folder.load("data") == ["data"]


# What is refused


BROKEN: list[tuple[str, str | bytes, str]] = [
    ("a syntax error", "class Good(\n", "SyntaxError"),
    ("no UTF-8", b"name = '\xff\xfe'\n", "SyntaxError"),
    ("a NUL", b"x = 1\0\n", "null bytes"),
    ("nothing in it", "", "exactly one subclass of Plugin is expected, found: none"),
    ("no Plugin", "class Good: pass\n", "found: none"),
    ("only Plugin itself", "from mptcpd.plugin import Plugin\n", "found: none"),
    ("two classes", GOOD + "class Other(Plugin): pass\n", "found: Good, Other"),
    ("a base and its child", GOOD + "class Child(Good): pass\n", "found: Good, Child"),
    ("an import that fails", "import nothing_of_that_name\n", "ModuleNotFoundError"),
    ("raises", "raise LookupError('on purpose')\n", "LookupError: on purpose"),
    ("a script that exits", "import sys\nsys.exit(0)\n", "SystemExit: 0"),
    ("an __init__ that raises", GOOD + "    def __init__(self): 1 / 0\n", "ZeroDivisionError"),
    ("an __init__ that exits", GOOD + "    def __init__(self): raise SystemExit\n", "SystemExit"),
    ("an __init__ that wants more", GOOD + "    def __init__(self, x): pass\n", "TypeError"),
    ("a priority in words", GOOD + "    priority = 'high'\n", "is 'high', which is no int"),
    ("no priority", GOOD + "    priority = None\n", "priority is None, which is no int"),
    ("a name in bytes", GOOD + "    name = b'x'\n", "name is b'x', which is no str"),
    ("a list of names", GOOD + "    name = ['x']\n", "name is ['x'], which is no str"),
    ("a fixed name", GOOD + "    name = property(lambda self: '')\n", "AttributeError"),
    ("the name of another", GOOD + "    name = 'good'\n", 'another plugin is named "good"'),
    ("too deep", "x = " + "(" * 1000 + ")" * 1000, ""),
]


@pytest.mark.parametrize(("case", "text", "why"), BROKEN, ids=[row[0] for row in BROKEN])
def test_a_broken_file(
    folder: Folder, refusals: list[str], case: str, text: str | bytes, why: str
) -> None:
    folder.write("tested", text)
    assert folder.load() == ["good"]
    (message,) = refusals
    assert message.startswith('Plugin "tested": ')
    assert why in message


def test_one_good_among_all_the_broken(folder: Folder, refusals: list[str]) -> None:
    for number, (_name, text, _why) in enumerate(BROKEN):
        folder.write(f"tested{number:02}", text)
    assert folder.load() == ["good"]
    assert len(refusals) == len(BROKEN)


def test_a_broken_file_leaves_no_module_behind(folder: Folder) -> None:
    folder.write("tested", "raise LookupError\n")
    folder.load()
    assert "mptcpd_plugin_tested" not in sys.modules
    assert "mptcpd_plugin_good" in sys.modules


@pytest.mark.parametrize(
    "name", ["has-hyphen", "has.dot", "1st", "with blank", ".hidden", "\udcff"]
)
def test_a_file_whose_name_is_no_plugins(folder: Folder, refusals: list[str], name: str) -> None:
    folder.write(name)
    assert folder.load() == ["good"]
    (message,) = refusals
    assert message == f'Plugin "{name}": a plugin\'s name is letters, digits and _'


@pytest.mark.parametrize(
    "name", ["../outside", "/etc/passwd", "sub/inside", "..", ".", "", "a\0b", "\udcff"]
)
def test_a_name_that_leads_elsewhere(
    folder: Folder, tmp_path: pathlib.Path, refusals: list[str], name: str
) -> None:
    (tmp_path / "outside.py").write_text(GOOD)
    (folder.path / "sub").mkdir()
    (folder.path / "sub" / "inside.py").write_text(GOOD)
    assert folder.load(name, "good") == ["good"]
    assert len(refusals) == 1


def test_a_name_without_a_file(folder: Folder, refusals: list[str]) -> None:
    assert folder.load("missing", "good") == ["good"]
    assert list(refusals) == [
        f'Plugin "missing": {folder.path}/missing.py: No such file or directory'
    ]


def test_a_file_that_everybody_may_write(folder: Folder) -> None:
    """Not left out, but a reason to load nothing: somebody may have been at work there."""
    folder.write("tested", mode=0o646)
    with pytest.raises(LoadError) as error:
        folder.load()
    file = folder.path / "tested.py"
    assert str(error.value) == f'"{file}" should be a file that is not world writable.'
    assert folder.load("good") == ["good"]


def test_a_file_of_somebody_else(folder: Folder) -> None:
    file = folder.write("tested")
    try:
        os.chown(file, 12345, -1)
    except OSError:
        pytest.skip("only root can give files away")
    with pytest.raises(LoadError, match="not to user 12345"):
        folder.load()
    assert folder.load(owners=ours() | {12345}) == ["good", "tested"]


def test_a_named_pipe_does_not_hang(folder: Folder, refusals: list[str]) -> None:
    os.mkfifo(folder.path / "pipe.py", 0o644)
    (folder.path / "folder.py").mkdir()
    (folder.path / "device.py").symlink_to("/dev/zero")
    assert folder.load("pipe", "folder", "device", "good") == ["good"]
    assert [message.split('"')[1] for message in refusals] == ["pipe", "folder", "device"]
    assert all("not a regular file" in message for message in refusals)


def test_a_file_that_cannot_be_read_to_its_end(
    folder: Folder, refusals: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_arguments: object, **_options: object) -> object:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(loader, "open", broken, raising=False)
    before = sorted(os.listdir("/proc/self/fd"))
    assert folder.load() == []
    assert sorted(os.listdir("/proc/self/fd")) == before
    (message,) = refusals
    assert message.endswith("good.py: Input/output error")


# The directory


def test_no_directory(tmp_path: pathlib.Path) -> None:
    message = "^Unable to open plugin directory: No such file or directory$"
    with pytest.raises(LoadError, match=message):
        load(str(tmp_path / "missing"), None, ours())
    (tmp_path / "file").write_text("")
    with pytest.raises(LoadError, match="^Unable to open plugin directory: Not a directory$"):
        load(str(tmp_path / "file"), None, ours())


@pytest.mark.parametrize("mode", [0o757, 0o777, 0o1777])
def test_a_directory_that_everybody_may_write(folder: Folder, mode: int) -> None:
    folder.path.chmod(mode)
    with pytest.raises(LoadError) as error:
        folder.load()
    assert str(error.value) == (
        f'"{folder.path}" should be a directory that is not world writable.'
    )


def test_a_directory_of_somebody_else(folder: Folder) -> None:
    with pytest.raises(LoadError, match=f"not to user {os.geteuid()}"):
        folder.load(owners=frozenset({os.geteuid() + 1}))


def test_no_descriptor_stays_open(folder: Folder) -> None:
    folder.write("tested", "raise LookupError\n")
    before = sorted(os.listdir("/proc/self/fd"))
    folder.load()
    folder.load("good", "missing")
    folder.path.chmod(0o777)
    with pytest.raises(LoadError):
        folder.load()
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_plugins_are_plugins(folder: Folder) -> None:
    (plugin,) = load(str(folder.path), None, ours())
    assert isinstance(plugin, Plugin)
    assert type(plugin).__module__ == "mptcpd_plugin_good"


def test_no_memory_is_no_plugins_fault(folder: Folder, refusals: list[str]) -> None:
    folder.write("tested", "raise MemoryError\n")
    with pytest.raises(MemoryError):
        folder.load()
    assert refusals == [] and "mptcpd_plugin_tested" not in sys.modules
