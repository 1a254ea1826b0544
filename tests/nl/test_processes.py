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
