"""The runtime directory: what is kept, whose files are believed, and what is never waited for."""

from __future__ import annotations

import os
import pathlib

import pytest

from mptcpd.cli.runtime import NONE, FileStore, namespace, store
from mptcpd.core.ownership import Forgetful

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")


@pytest.fixture
def file(tmp_path: pathlib.Path) -> pathlib.Path:
    """The file that the store of ``kept`` uses."""
    return tmp_path / "run" / "endpoints-7"


@pytest.fixture
def kept(file: pathlib.Path) -> FileStore:
    return FileStore(str(file.parent), "7")


def test_kept_over_a_restart(kept: FileStore, file: pathlib.Path) -> None:
    assert kept.load() == ""
    kept.save("one\n")
    kept.save("two\n")
    again = FileStore(str(file.parent), "7")
    assert again.load() == "two\n"
    assert FileStore(str(file.parent), "8").load() == ""
    assert os.listdir(file.parent) == ["endpoints-7"]
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o022 == 0


def test_nothing_to_keep(kept: FileStore, file: pathlib.Path) -> None:
    kept.save("")
    kept.save("one\n")
    kept.save("")
    kept.save("")
    assert not file.exists()
    assert kept.load() == ""


def test_replaced_as_a_whole(kept: FileStore, file: pathlib.Path) -> None:
    """Who has it open, or dies in between, has the old text or the new one."""
    kept.save("one\n")
    with open(file) as before:
        kept.save("two\n")
        assert before.read() == "one\n"
    file.with_name("endpoints-7.new").write_text("half of")  # left by a crash
    assert kept.load() == "two\n"
    kept.save("three\n")
    assert kept.load() == "three\n"


def test_named_after_the_namespace(tmp_path: pathlib.Path) -> None:
    kept = store(str(tmp_path))
    kept.save("one\n")
    assert [path.name for path in tmp_path.iterdir()] == [f"endpoints-{namespace()}"]
    assert namespace() == namespace()
    assert isinstance(store(NONE), Forgetful)


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_others_could_have_written_it(
    kept: FileStore, file: pathlib.Path, mode: int, caplog: pytest.LogCaptureFixture
) -> None:
    kept.save("one\n")
    file.chmod(mode)
    assert kept.load() == ""
    assert f"{file} is not believed: others could have written it." in caplog.text
    kept.save("two\n")
    assert kept.load() == "two\n"


@root_only
def test_somebody_elses_file(
    kept: FileStore, file: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept.save("one\n")
    os.chown(file, 12345, 0)
    assert kept.load() == ""
    assert "others could have written it" in caplog.text


def fifo(path: pathlib.Path) -> None:
    os.mkfifo(path)


def directory(path: pathlib.Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("make", [fifo, directory])
def test_no_file_at_all(
    kept: FileStore, file: pathlib.Path, make: object, caplog: pytest.LogCaptureFixture
) -> None:
    file.parent.mkdir()
    assert callable(make)
    make(file)
    assert kept.load() == ""
    assert f"{file} is not believed: it is no regular file." in caplog.text


def test_a_link_is_not_followed(
    kept: FileStore, file: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    file.parent.mkdir()
    target = file.with_name("target")
    target.write_text("one\n")
    file.symlink_to(target)
    assert kept.load() == ""
    assert "will not know its endpoints" in caplog.text
    kept.save("two\n")
    assert target.read_text() == "one\n"
    assert kept.load() == "two\n"


@pytest.mark.parametrize("make", ["link", "hard link", "fifo"])
def test_nothing_is_written_through_what_lies_there(
    kept: FileStore, file: pathlib.Path, make: str
) -> None:
    file.parent.mkdir()
    victim = file.with_name("victim")
    victim.write_text("precious")
    fresh = file.with_name("endpoints-7.new")
    if make == "fifo":
        os.mkfifo(fresh)
    elif make == "link":
        fresh.symlink_to(victim)
    else:
        fresh.hardlink_to(victim)
    kept.save("one\n")
    assert victim.read_text() == "precious"
    assert kept.load() == "one\n"


def test_no_directory_to_write_to(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "run").write_text("a file")
    kept = FileStore(str(tmp_path / "run" / "mptcpd"), "7")
    assert kept.load() == ""
    for text in ("one\n", "two\n", ""):
        kept.save(text)
    assert caplog.text.count("after a restart mptcpd will not know its endpoints again.") == 1
    assert len(caplog.records) == 1


def test_said_again_when_it_fails_again(
    kept: FileStore, file: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = file.with_name("endpoints-7.new")
    for count in (1, 2):
        blocked.mkdir(parents=True)
        kept.save("one\n")
        kept.save("one\n")
        assert len(caplog.records) == count
        blocked.rmdir()
        kept.save("two\n")
        assert kept.load() == "two\n"


def test_text_of_another_world(kept: FileStore, file: pathlib.Path) -> None:
    file.parent.mkdir()
    file.write_bytes(b"\xff\xfe\0\n" * 10)
    assert len(kept.load()) == 40
    file.write_bytes(b"x" * (3 << 20))
    assert len(kept.load()) <= 1 << 20
