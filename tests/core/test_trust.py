"""Which kinds, modes and owners of files are trusted."""

from __future__ import annotations

import os
import stat

import pytest

from mptcpd.core.trust import Untrusted, trusted

OWNERS = frozenset({0, 1000})
FILE = '"X" should be a file that is not world writable.'
DIRECTORY = '"X" should be a directory that is not world writable.'
OWNER = '"X" should belong to root or to the user that runs mptcpd, not to user 1001.'


def status(mode: int, uid: int = 0, gid: int = 0) -> os.stat_result:
    return os.stat_result((mode, 1, 1, 1, uid, gid, 0, 0, 0, 0))


@pytest.mark.parametrize(
    ("mode", "uid", "directory"),
    [
        (stat.S_IFREG | 0o644, 0, False),
        (stat.S_IFREG | 0o600, 1000, False),
        (stat.S_IFREG | 0o664, 0, False),  # the group's right was given on purpose
        (stat.S_IFREG | 0o000, 0, False),
        (stat.S_IFREG | 0o775, 1000, False),
        (stat.S_IFDIR | 0o755, 0, True),
        (stat.S_IFDIR | 0o2775, 1000, True),
    ],
)
def test_trusted(mode: int, uid: int, directory: bool) -> None:
    trusted(status(mode, uid, gid=1001), "X", OWNERS, directory=directory)


@pytest.mark.parametrize(
    ("mode", "uid", "directory", "words"),
    [
        (stat.S_IFREG | 0o646, 0, False, FILE),
        (stat.S_IFREG | 0o002, 0, False, FILE),
        (stat.S_IFDIR | 0o755, 0, False, FILE),
        (stat.S_IFIFO | 0o644, 0, False, FILE),
        (stat.S_IFCHR | 0o600, 0, False, FILE),
        (stat.S_IFSOCK | 0o600, 0, False, FILE),
        (stat.S_IFREG | 0o666, 1001, False, FILE),
        (stat.S_IFREG | 0o600, 1001, False, OWNER),
        (stat.S_IFDIR | 0o757, 0, True, DIRECTORY),
        (stat.S_IFDIR | 0o1777, 0, True, DIRECTORY),  # /tmp: sticky does not help
        (stat.S_IFREG | 0o755, 0, True, DIRECTORY),
        (stat.S_IFDIR | 0o755, 1001, True, OWNER),
    ],
)
def test_not_trusted(mode: int, uid: int, directory: bool, words: str) -> None:
    with pytest.raises(Untrusted) as caught:
        trusted(status(mode, uid), "X", OWNERS, directory=directory)
    assert str(caught.value) == words
