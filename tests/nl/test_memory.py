"""Freed memory goes back, or there is no such call; nothing fails for want of it."""

from __future__ import annotations

import ctypes

import pytest

from mptcpd.nl import memory


def test_give_back() -> None:
    assert memory.give_back() is hasattr(ctypes.CDLL(None), "malloc_trim")


def test_a_libc_that_has_no_such_call(monkeypatch: pytest.MonkeyPatch) -> None:
    class Musl:
        def dlopen(self, _name: object) -> object:
            return object()

    monkeypatch.setattr(memory, "ffi", Musl())
    assert memory.give_back() is False
