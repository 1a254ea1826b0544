"""make install and uninstall into an empty tree, and the programs that check what they need."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys

import pytest

from mptcpd import __version__
from mptcpd.cli import options
from mptcpd.cli.ctl import grammar, help_text, table
from mptcpd.cli.ctl import options as ctl_options

TOP = pathlib.Path(__file__).resolve().parent.parent


def make(target: str, root: pathlib.Path, **variables: str) -> subprocess.CompletedProcess[str]:
    # No MAKEFLAGS: under "make -j check" they would name a job server that is not ours.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    # The umask of a cautious administrator must not make the daemon unreadable to its own user.
    return subprocess.run(
        ["make", "-s", target, *(f"{name}={value}" for name, value in variables.items())]
        + [f"DESTDIR={root}"],
        cwd=TOP,
        env=environment,
        umask=0o077,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    root = tmp_path_factory.mktemp("root with a blank")
    run = make("install", root, PYTHON=sys.executable, PREFIX="/opt/m", SYSCONFDIR="/opt/etc")
    assert (run.returncode, run.stderr) == (0, "")
    return root


def launch(
    root: pathlib.Path, *words: str, program: str = "sbin/mptcpd"
) -> subprocess.CompletedProcess[str]:
    # An environment and a current folder with something else under the name mptcpd.
    (root / "mptcpd.py").write_text("raise SystemExit('not this one')")
    return subprocess.run(
        [root / "opt/m" / program, *words],
        cwd=root,
        env={"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_runs_from_where_it_was_put(installed: pathlib.Path) -> None:
    run = launch(installed, "--help")
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout == options.text("help") + "\n"


def test_runs_mptcpize(installed: pathlib.Path) -> None:
    run = launch(installed, "run", "/bin/echo", "x", program="bin/mptcpize")
    assert (run.returncode, run.stdout, run.stderr) == (0, "x\n", "")
    unit = "lib/systemd/system/mptcpd.service"
    (installed / "try.service").write_text((installed / "opt/m" / unit).read_text())
    run = launch(installed, "enable", "--print", "./try.service", program="bin/mptcpize")
    assert f'ExecStart="{installed}/opt/m/bin/mptcpize" run /opt/m/sbin/mptcpd' in run.stdout


def test_mptcpctl_runs_from_where_it_was_put(installed: pathlib.Path) -> None:
    run = launch(installed, "help", "endpoint", program="bin/mptcpctl")
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout == help_text.of(["endpoint"])


def test_mptcp_get_debug_runs_from_where_it_was_put(installed: pathlib.Path) -> None:
    run = launch(installed, "-V", program="bin/mptcp-get-debug")
    assert (run.returncode, run.stdout, run.stderr) == (0, f"mptcp-get-debug {__version__}\n", "")
    report = installed / "report"
    run = launch(installed, "-a", str(report), program="bin/mptcp-get-debug")
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    assert report.read_text().startswith("== versions\n")


def test_layout(installed: pathlib.Path) -> None:
    prefix = installed / "opt/m"
    programs = ("sbin/mptcpd", "bin/mptcpize", "bin/mptcpctl", "bin/mptcp-get-debug")
    launchers = {prefix / name for name in programs}
    folders = [file for file in prefix.rglob("*") if file.is_dir()]
    assert {file.stat().st_mode & 0o777 for file in folders} == {0o755}
    files = {file for file in prefix.rglob("*") if file.is_file()}
    assert {file.stat().st_mode & 0o777 for file in files - launchers} == {0o644}
    assert {file.stat().st_mode & 0o777 for file in launchers} == {0o755}
    names = {str(file.relative_to(prefix)) for file in files}
    assert {
        "bin/mptcpize",
        "sbin/mptcpd",
        "lib/mptcpd/mptcpd/nl/_attrs_abi.py",
        "lib/mptcpd/plugins/addr_adv.py",
        "lib/systemd/system/mptcpd.service",
        "lib/systemd/system/mptcpd.socket",
        "share/man/man8/mptcpd.8",
        "share/man/man8/mptcpize.8",
        "share/bash-completion/completions/mptcpize",
        "share/zsh/site-functions/_mptcpize",
        "share/man/man8/mptcpctl.8",
        "share/man/man8/mptcp-get-debug.8",
        "share/bash-completion/completions/mptcp-get-debug",
        "share/zsh/site-functions/_mptcp-get-debug",
        "share/man/man5/mptcpd.conf.5",
        "share/man/man7/mptcpd-plugin.7",
        "share/bash-completion/completions/mptcpd",
        "share/zsh/site-functions/_mptcpd",
        "share/bash-completion/completions/mptcpctl",
        "share/zsh/site-functions/_mptcpctl",
    } <= names
    library = prefix / "lib/mptcpd"
    sources = {file.relative_to(library) for file in library.glob("mptcpd/**/*.py")}
    assert sources == {file.relative_to(TOP) for file in TOP.glob("mptcpd/**/*.py")}
    assert len(list(library.glob("mptcpd/**/*.pyc"))) == len(sources)


def test_finds_its_configuration_and_plugins(installed: pathlib.Path) -> None:
    library = installed / "opt/m/lib/mptcpd"
    code = "from mptcpd.cli import paths; print(paths.config_file(), paths.plugin_dir(), sep='\\n')"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=library, capture_output=True, text=True, check=True
    )
    assert run.stdout.splitlines() == ["/opt/etc/mptcpd/mptcpd.conf", str(library / "plugins")]
    assert (installed / "opt/etc/mptcpd/mptcpd.conf").is_file()
    unit = (installed / "opt/m/lib/systemd/system/mptcpd.service").read_text()
    assert re.findall("^ExecStart=(.*)", unit, re.M) == ["/opt/m/sbin/mptcpd --log=journal"]
    assert re.findall("@[A-Z]+@", unit) == []
    for page in (installed / "opt/m/share/man").glob("man?/*"):
        assert " /etc/mptcpd" not in page.read_text()
    assert "/opt/etc/mptcpd" in (installed / "opt/m/share/man/man5/mptcpd.conf.5").read_text()


def test_again_and_away(tmp_path: pathlib.Path) -> None:
    """Installing again keeps the configuration but no old module; uninstall keeps what is mine."""
    variables = {"PYTHON": sys.executable, "PREFIX": "/usr"}
    assert make("install", tmp_path, **variables).returncode == 0
    configuration = tmp_path / "etc/mptcpd/mptcpd.conf"
    configuration.write_text("# mine\n")
    stale = tmp_path / "usr/lib/mptcpd/mptcpd/core/gone.py"
    stale.touch()
    mine = tmp_path / "usr/lib/mptcpd/plugins/mine.py"
    mine.touch()
    assert make("install", tmp_path, **variables).returncode == 0
    assert configuration.read_text() == "# mine\n"
    assert not stale.exists()
    run = make("uninstall", tmp_path, **variables)
    assert (run.returncode, run.stdout) == (0, f"kept {configuration}\n")
    assert {file for file in tmp_path.rglob("*") if file.is_file()} == {configuration, mine}


def need(what: str, *pythons: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", TOP / "tools/need.sh", what, *pythons], capture_output=True, text=True, timeout=60
    )


def fake(folder: pathlib.Path, version: str) -> str:
    """An interpreter that has no module at all, and says that it is ``version``."""
    file = folder / f"python{version}"
    file.write_text(f'#!/bin/sh\ncase "$*" in *"print("*) echo {version} ;; *) exit 1 ;; esac\n')
    file.chmod(0o755)
    return str(file)


@pytest.mark.parametrize(
    ("what", "version", "words"),
    [
        ("python", "3.9", "is 3.9: name a newer one"),
        ("venv", "3.12", "apt-get install python3-venv"),
        ("cffi", "3.12", "apt-get install python3-cffi;"),
        ("run", "3.12", "apt-get install python3-cffi-backend"),
    ],
)
def test_need_says_what_is_missing(
    tmp_path: pathlib.Path, what: str, version: str, words: str
) -> None:
    python = fake(tmp_path, version)
    run = need(what, python)
    assert (run.returncode, run.stdout, run.stderr.count("\n")) == (1, "", 1)
    assert words in run.stderr and python in run.stderr
    assert need(what, python, sys.executable).stdout == f"{sys.executable}\n"


def test_need_says_that_there_is_no_python() -> None:
    run = need("venv", "/no/python")
    assert (run.returncode, run.stderr.count("\n")) == (1, 1)
    assert "'/no/python' does not run here" in run.stderr


def test_manual_page_of_mptcpctl_has_every_command_and_option() -> None:
    page = (TOP / "man/mptcpctl.8").read_text().replace("\\-", "-")
    missing = [
        usage
        for entry in table.OBJECTS
        for usage in grammar.usage(entry)
        if f"\n{usage}\n" not in page
    ]
    assert missing == []
    names = {f"-{name}" for o in ctl_options.TABLE for name in (o.name, o.short)}
    assert names <= set(re.findall(r"(?<=[ ~])-[A-Za-z0-9]+", page))


def test_other_init_systems(tmp_path: pathlib.Path) -> None:
    """As packages install: for which init, and nothing that depends on the machine that builds."""
    variables = {"PREFIX": "/usr", "SYSCONFDIR": "/opt/etc", "COMPILE": ""}
    variables |= {"PYTHON": sys.executable, "SHEBANG": "/usr/bin/python3"}
    script = tmp_path / "opt/etc/init.d/mptcpd"
    for init, words in (("sysv", "DAEMON=/usr/sbin/mptcpd"), ("openrc", 'command="/usr/sbin/')):
        run = make("install", tmp_path, INIT=init, **variables)
        assert (run.returncode, run.stderr) == (0, "")
        assert words in script.read_text() and "@" not in script.read_text().replace("$@", "")
        assert script.stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "opt/etc/conf.d/mptcpd").is_file()
    assert not list(tmp_path.rglob("*.service")) and not list(tmp_path.rglob("*.pyc"))
    launcher = (tmp_path / "usr/sbin/mptcpd").read_text()
    assert launcher.startswith("#!/usr/bin/python3 -I\n")
    make("uninstall", tmp_path, INIT="openrc", **variables)
    left = {str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*") if file.is_file()}
    assert left == {"opt/etc/mptcpd/mptcpd.conf", "opt/etc/conf.d/mptcpd"}
