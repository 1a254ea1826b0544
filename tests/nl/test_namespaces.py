"""The libc calls for namespaces: what the kernel says comes out as OSError.

That they work is shown by everything in ``tests/kernel``, which lives in namespaces made by them.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mptcpd.nl import namespaces


def test_no_change_is_allowed_to_anybody() -> None:
    namespaces.unshare(0)


def no_namespace(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        namespaces.setns(fd, 0)
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    ("call", "number"),
    [
        (lambda _path: namespaces.setns(-1, 0), errno.EBADF),
        (no_namespace, errno.EINVAL),
        (lambda _path: namespaces.unshare(1), errno.EINVAL),  # no CLONE_NEW* at all
    ],
)
def test_refused(call: Callable[[Path], None], number: int, tmp_path: Path) -> None:
    with pytest.raises(OSError) as caught:
        call(tmp_path)
    assert (caught.value.errno, caught.value.strerror) == (number, os.strerror(number))
