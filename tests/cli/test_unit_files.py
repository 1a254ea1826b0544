"""mptcpize enable and disable, on made-up systems in a folder."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from mptcpd.cli import unit_files
from mptcpd.cli.mptcpize_options import Said
from mptcpd.cli.unit_files import UnitError, find

LAUNCHER = "/usr/bin/mptcpize"
VENDOR, LOCAL = "usr/lib/systemd/system", "etc/systemd/system"


@pytest.fixture
def root(tmp_path: pathlib.Path) -> pathlib.Path:
    """A system with a few services."""
    for name, text in {
        f"{VENDOR}/web.service": "[Service]\nExecStart=/bin/echo vendor\n",
        f"{VENDOR}/job@.service": "[Service]\nExecStart=/bin/echo %i\n",
        f"{VENDOR}/old.service": "[Service]\nExecStart=/bin/echo old\n",
        f"{LOCAL}/old.service": "[Service]\nExecStart=/bin/echo new\n",
        f"{VENDOR}/web.service.d/50-b.conf": "[Service]\nExecStart=\nExecStart=/bin/echo b\n",
        f"{LOCAL}/job@one.service.d/x.conf": "[Service]\nIgnoreSIGPIPE=no\n",
        f"{LOCAL}/job@.service.d/x.conf": "[Service]\nType=forking\n",
        f"{VENDOR}/empty.service": "",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / LOCAL / "alias.service").symlink_to(f"/{VENDOR}/web.service")
    (tmp_path / LOCAL / "masked.service").symlink_to("/dev/null")
    (tmp_path / LOCAL / "loop.service").symlink_to("loop.service")
    return tmp_path


def change(command: str, unit: str, root: pathlib.Path, **options: str) -> int:
    options = {"root": str(root), "launcher": LAUNCHER, **options}
    if command == "disable":
        del options["launcher"]
    return unit_files.change(Said(command, options, (unit,)))


def files(root: pathlib.Path) -> dict[str, bytes]:
    return {str(f.relative_to(root)): f.read_bytes() for f in root.rglob("*") if f.is_file()}


def starts(file: pathlib.Path) -> list[str]:
    return [line for line in file.read_text().splitlines() if line.startswith("ExecStart=/")]


@pytest.mark.parametrize("name", ["web", "web.service", "alias", f"/{VENDOR}/web.service"])
def test_there_and_back(
    root: pathlib.Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    before = files(root)
    assert change("enable", name, root) == 0
    made = f"{LOCAL}/web.service.d/mptcpize.conf"
    assert {n: t for n, t in files(root).items() if n != made} == before
    assert starts(root / made) == [f"ExecStart={LAUNCHER} run /bin/echo b"]
    assert (root / made).stat().st_mode & 0o777 == 0o644
    unit = f"unit {root}/{VENDOR}/web.service\n"
    assert capsys.readouterr().out == f"mptcp successfully enabled on {unit}"
    assert change("enable", name, root) == 0, "again, from the vendor's lines, not from ours"
    assert starts(root / made) == [f"ExecStart={LAUNCHER} run /bin/echo b"]
    capsys.readouterr()
    assert change("disable", name, root) == 0
    assert files(root) == before and not (root / made).parent.exists()
    assert change("disable", name, root) == 0
    assert capsys.readouterr().out == (
        f"mptcp successfully disabled on {unit}mptcp is not enabled on {unit}"
    )


@pytest.mark.parametrize("masked", [False, True])
def test_disabling_what_is_there_no_more(
    root: pathlib.Path, capsys: pytest.CaptureFixture[str], masked: bool
) -> None:
    """Or the drop-in file would be in force again when the package comes back."""
    assert change("enable", "old", root) == 0
    for folder in (VENDOR, LOCAL):
        (root / folder / "old.service").unlink()
    if masked:
        (root / LOCAL / "old.service").symlink_to("/dev/null")
    capsys.readouterr()
    assert change("disable", "old", root) == 0
    assert capsys.readouterr().out == "mptcp successfully disabled on unit old.service\n"
    assert not (root / LOCAL / "old.service.d").exists()
    with pytest.raises(UnitError, match="is masked" if masked else "there is no unit file"):
        change("disable", "old", root)


def test_an_administrators_file_counts(root: pathlib.Path) -> None:
    assert change("enable", "old", root) == 0
    made = root / LOCAL / "old.service.d/mptcpize.conf"
    assert starts(made) == [f"ExecStart={LAUNCHER} run /bin/echo new"]


def test_a_file_that_is_read_later(root: pathlib.Path) -> None:
    """systemd reads drop-in files in the order of their names, wherever they lie; what
    ``systemctl edit`` writes is override.conf, after mptcpize.conf."""
    ours = root / LOCAL / "web.service.d"
    assert change("enable", "web", root) == 0
    later = root / VENDOR / "web.service.d/override.conf"
    later.write_text("[Service]\nIgnoreSIGPIPE=no\n")
    assert change("enable", "web", root) == 0
    assert os.listdir(ours) == ["mptcpize.conf"], "it says nothing of ExecStart="
    later.write_text("[Service]\nExecStart=\nExecStart=/bin/echo edited\n")
    before = files(root)
    for _again in range(2):
        assert change("enable", "web", root) == 0
        assert os.listdir(ours) == ["zz-mptcpize.conf"]
        assert starts(ours / "zz-mptcpize.conf") == [f"ExecStart={LAUNCHER} run /bin/echo edited"]
    (ours / "zzz.conf").write_text("[Service]\nExecStart=\n")
    with pytest.raises(UnitError, match=r"zzz\.conf sets ExecStart=, and is read after"):
        change("enable", "web", root)
    (ours / "zzz.conf").unlink()
    assert change("disable", "web", root) == 0
    assert files(root) == {n: t for n, t in before.items() if "mptcpize.conf" not in n}
    assert not ours.exists()


def test_templates_and_instances(
    root: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert change("enable", "job@", root) == 0
    assert starts(root / LOCAL / "job@.service.d/mptcpize.conf") == [
        f"ExecStart={LAUNCHER} run /bin/echo %i"
    ]
    assert "Type=forking without PIDFile=" in capsys.readouterr().err
    assert change("enable", "job@one", root) == 0
    assert starts(root / LOCAL / "job@one.service.d/mptcpize.conf") == [
        f"ExecStart={LAUNCHER} run --sigpipe=default /bin/echo %i"
    ]
    assert capsys.readouterr().err == "", "its own x.conf counts, not that of the template"


def test_print_changes_nothing(root: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files(root)
    assert change("enable", "web", root, print="") == 0
    assert files(root) == before
    assert f"ExecStart={LAUNCHER} run /bin/echo b\n" in capsys.readouterr().out


def test_a_file_that_is_in_no_system(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "mine.service"
    file.write_text("[Service]\nExecStart=/bin/echo\n")
    made = tmp_path / "mine.service.d/mptcpize.conf"
    options = {"launcher": LAUNCHER}
    assert unit_files.change(Said("enable", options, (str(file),))) == 0
    assert starts(made) == [f"ExecStart={LAUNCHER} run /bin/echo"]
    assert unit_files.change(Said("disable", {}, (str(file),))) == 0
    assert not made.parent.exists()


def test_what_others_wrote_stays(root: pathlib.Path) -> None:
    file = root / LOCAL / "old.service.d/mptcpize.conf"
    file.parent.mkdir()
    file.write_text("[Service]\nNice=5\n")
    before = files(root)
    for command, words in (("enable", "move it away"), ("disable", "it stays")):
        with pytest.raises(UnitError, match=words):
            change(command, "old", root)
    assert files(root) == before


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nosuch", "there is no unit file for nosuch.service"),
        ("masked", "masked.service is masked"),
        ("empty", "empty.service is masked"),
        ("loop", "there is no unit file for loop.service"),
        ("web.socket", "web.socket is no service"),
        ("/nowhere/web.service", "is not a file"),
        ("/etc/passwd", "/etc/passwd is no service"),
    ],
)
def test_nothing_to_work_on(root: pathlib.Path, name: str, words: str) -> None:
    before = files(root)
    for command in ("enable", "disable"):
        with pytest.raises(UnitError, match=words):
            change(command, name, root)
    assert files(root) == before


def test_a_link_out_of_the_root_is_not_followed(root: pathlib.Path) -> None:
    """An absolute link of an image would lead to this system's own files."""
    outside = root / "outside"
    system = root / "system"
    for folder in (outside, system / VENDOR, system / LOCAL):
        folder.mkdir(parents=True)
    (system / VENDOR / "a.service").write_text("[Service]\nExecStart=/bin/echo\n")
    (outside / "b.service").write_text("[Service]\nExecStart=/bin/echo\n")
    (system / LOCAL / "a.service.d").symlink_to(outside)
    (system / "run/systemd").mkdir(parents=True)
    (system / "run/systemd/system").symlink_to(outside)
    with pytest.raises(UnitError, match="leads out of"):
        change("enable", "a", system)
    with pytest.raises(UnitError, match="no unit file"):
        change("enable", "b", system)
    assert [file.name for file in outside.iterdir()] == ["b.service"]


def test_the_root_has_to_be_there() -> None:
    with pytest.raises(UnitError, match="/nowhere is not a directory"):
        change("enable", "web", pathlib.Path("/nowhere"))


def test_told_by_systemctl(
    root: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where systemd runs it says which files make a unit; comments in them are no files."""
    folder = tmp_path / "bin"
    folder.mkdir()
    unit, part = root / VENDOR / "web.service", root / VENDOR / "web.service.d/50-b.conf"
    shell = f'#!/bin/sh\n[ "$*" = "cat --no-pager -- web.service" ] || exit 1\n' \
            f"printf '# %s\\n' {unit} /etc/passwd /etc/nsswitch.conf {part}\n"  # fmt: skip
    (folder / "systemctl").write_text(shell)
    (folder / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr(unit_files, "_systemd_runs", lambda: True)
    found = find("web")
    assert found.parts == (str(unit), str(part))
    assert found.ours[0] == f"/{LOCAL}/web.service.d/mptcpize.conf"
    with pytest.raises(UnitError, match="systemctl cat --no-pager -- other.service failed"):
        find("other")


def test_systemd_takes_it(tmp_path: pathlib.Path) -> None:
    """systemd-analyze reads unit and drop-in file as systemd would, and finds nothing wrong."""
    analyze = shutil.which("systemd-analyze")
    if not analyze:
        pytest.skip("no systemd-analyze on this machine")
    (tmp_path / "mptcpize").symlink_to(sys.executable)
    unit = tmp_path / "try.service"
    unit.write_text(
        "[Service]\nType=oneshot\n"
        "ExecStart=@/bin/echo 'a name' %n ; -/bin/echo two\n"
        "ExecStart=:/bin/echo $HOME \\\n  three\n"
    )
    launcher = str(tmp_path / "mptcpize")
    assert unit_files.change(Said("enable", {"launcher": launcher}, (str(unit),))) == 0
    run = subprocess.run(
        [analyze, "verify", "--man=no", "--recursive-errors=no", str(unit)],
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (run.returncode, run.stderr) == (0, "")
    made = tmp_path / "try.service.d/mptcpize.conf"
    made.write_text(made.read_text().replace(launcher, "/nonexistent/mptcpize"))
    run = subprocess.run(
        [analyze, "verify", "--man=no", "--recursive-errors=no", str(unit)],
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "/nonexistent/mptcpize" in run.stderr, "it does not read the drop-in file at all"
