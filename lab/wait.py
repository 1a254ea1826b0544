"""Waiting for something to become true, with a deadline: no sleep that hopes to be long enough."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")
_PAUSE = 0.005  # seconds between two looks


def wait_until(condition: Callable[[], Value], what: str, timeout: float = 5.0) -> Value:
    """Call ``condition`` until what it returns is true, and return that.

    what     the condition in words, for the error     timeout  in seconds
    Errors   TimeoutError, with the last value; whatever ``condition`` raises.
    """
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout:g} s: {what} (at last: {value!r})")
        time.sleep(_PAUSE)
