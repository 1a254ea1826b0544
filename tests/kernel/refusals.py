"""What this kernel says when it refuses a command of mptcp_pm.

The errno and the attribute are compared exactly; the words, which change from version to version,
only where they carry what a reader needs.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from mptcpd.nl.errors import KernelError


def refused(
    call: Callable[[], object], number: int, words: str | None, attribute: str | None = None
) -> KernelError:
    """The kernel's refusal: errno; a pattern for its words; the attribute that it names."""
    with pytest.raises(KernelError) as caught:
        call()
    error = caught.value
    assert error.command.startswith("MPTCP_PM_CMD_")
    assert error.errno == number, error
    if words is not None and error.words is not None:
        assert re.search(words, error.words), error
    assert error.attribute == attribute, error
    return error
