"""The calls of libc.py, each in a child, as they cannot be taken back."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable

import pytest

from mptcpd.nl import libc
from mptcpd.nl import uapi as u


def in_child(function: Callable[[], None]) -> int:
    child = os.fork()
    if not child:
        try:
            function()
            os._exit(0)
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_prctl_says_what_is_wrong() -> None:
    with pytest.raises(OSError) as caught:
        libc.prctl(0x7FFFFFFF)
    assert caught.value.errno == errno.EINVAL


def test_the_name_that_ps_shows() -> None:
    def child() -> None:
        libc.set_name("a name of many letters")
        with open("/proc/thread-self/comm") as comm:
            assert comm.read() == "a name of many \n"

    assert in_child(child) == 0


def test_all_words_are_passed() -> None:
    """The kernel refuses PR_SET_NO_NEW_PRIVS unless the unused words are zero."""

    def child() -> None:
        assert libc.prctl(u.PR_GET_NO_NEW_PRIVS) == 0
        with pytest.raises(OSError):
            libc.prctl(u.PR_SET_NO_NEW_PRIVS, 1, 1)
        libc.no_new_privileges()
        assert libc.prctl(u.PR_GET_NO_NEW_PRIVS) == 1

    assert in_child(child) == 0


def test_files_belong_to_whom_was_said() -> None:
    def child() -> None:
        assert libc.set_fs_ids(os.geteuid(), os.getegid())
        assert not libc.set_fs_ids(0xFFFFFFFF, os.getegid())
        if os.geteuid() == 0:
            assert libc.set_fs_ids(12345, 54321)
            where = f"/tmp/mptcpd-test-{os.getpid()}"
            os.close(os.open(where, os.O_CREAT | os.O_EXCL))
            made = os.stat(where)
            assert libc.set_fs_ids(0, 0)
            os.unlink(where)
            assert (made.st_uid, made.st_gid) == (12345, 54321)
        else:
            assert not libc.set_fs_ids(0, 0)

    assert in_child(child) == 0
