"""Where threads are, and acting in their place; what needs other namespaces is in tests/kernel."""

from __future__ import annotations

import os
import threading

import pytest

from mptcpd.nl.processes import Place, Processes


def test_ourselves_and_our_threads() -> None:
    processes = Processes()
    home = processes.place(os.getpid())
    assert home == processes.home == processes.place(threading.get_native_id())
    where = os.stat("/proc/self/ns/net")
    assert home == Place((where.st_dev, where.st_ino), os.geteuid(), os.getegid())
    processes.close()


def test_nobody() -> None:
    processes = Processes()
    with pytest.raises((FileNotFoundError, ProcessLookupError)):
        processes.place(1 << 30)
    processes.close()


def test_no_right() -> None:
    """A user that cannot be (-1): refused, and we are who we were."""
    processes = Processes()
    nobody = processes.home._replace(uid=0xFFFFFFFF)
    with pytest.raises(PermissionError), processes.acting_at(nobody, os.getpid()):
        raise AssertionError
    processes.close()
    ours, theirs = os.pipe()
    assert os.fstat(ours).st_uid == os.geteuid()
    os.close(ours)
    os.close(theirs)


def test_nothing_stays_open() -> None:
    before = os.listdir("/proc/self/fd")
    processes = Processes()
    with processes.acting_at(processes.home, os.getpid()):
        pass
    processes.close()
    assert os.listdir("/proc/self/fd") == before


def test_another_namespace_is_entered_and_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Home comes last, whatever happens there; that the kernel obeys is shown in tests/kernel."""
    moves: list[int] = []
    monkeypatch.setattr(
        "mptcpd.nl.processes.setns", lambda fd, _kind: moves.append(os.fstat(fd).st_ino)
    )
    processes = Processes()
    there = processes.home._replace(namespace=(0, 0))
    with pytest.raises(ZeroDivisionError), processes.acting_at(there, os.getpid()):
        assert len(moves) == 1
        raise ZeroDivisionError
    assert moves == [processes.home.namespace[1]] * 2  # both are ours: setns is not the real one
    processes.close()


def test_a_namespace_that_may_not_be_entered(monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.listdir("/proc/self/fd")

    def refuse(fd: int, _kind: int) -> None:
        if fd != processes._home:
            raise PermissionError(1, "no")

    monkeypatch.setattr("mptcpd.nl.processes.setns", refuse)
    processes = Processes()
    there = processes.home._replace(namespace=(0, 0))
    with pytest.raises(PermissionError), processes.acting_at(there, os.getpid()):
        raise AssertionError
    processes.close()
    assert os.listdir("/proc/self/fd") == before


def test_a_proc_that_is_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.listdir("/proc/self/fd")
    pid = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: pid + 1)
    with pytest.raises(FileNotFoundError, match="another PID namespace"):
        Processes()
    monkeypatch.undo()
    assert os.listdir("/proc/self/fd") == before


def test_a_proc_that_hides_us(monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.listdir("/proc/self/fd")

    def hidden(_processes: Processes, _thread: int) -> Place:
        raise PermissionError(13, "hidepid")

    monkeypatch.setattr(Processes, "place", hidden)
    with pytest.raises(PermissionError):
        Processes()
    assert os.listdir("/proc/self/fd") == before
