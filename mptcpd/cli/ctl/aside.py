"""What is said to people beside the output, on standard error.

Knows the descriptor; must not know what is said. Nobody there to read it is no failure.
"""

from __future__ import annotations

import contextlib
import os


def aside(text: str) -> None:
    """A line on standard error."""
    with contextlib.suppress(OSError):
        os.write(2, f"{text}\n".encode("utf-8", "surrogateescape"))
