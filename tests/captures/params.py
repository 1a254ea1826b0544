"""Recordings as parameters of tests."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from tests.captures.record import Record

NONE = pytest.param(
    None, marks=pytest.mark.skip(reason=f"no recording is of a {sys.byteorder}-endian kernel")
)


def params(recordings: list[Record]) -> list[Any]:
    found = [pytest.param(one, id=one.kernel.partition(",")[0]) for one in recordings]
    return found or [NONE]
