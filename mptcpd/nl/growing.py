"""Structs of the kernel that grow at their end: fields by length, None for what is not there yet.

Knows offsets and formats; must not know which struct it reads. A kernel that is newer than the
table sends more than is read, an older one less: neither is an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import Any

_MOST = 64  # lengths remembered: a kernel has one for each struct


class Growing:
    """A row of fields, read at once by one Struct for each length that is seen.

    fields  (offset, format of ``struct``), in the order of the offsets, which is that of the result
    """

    __slots__ = ("_fields", "_known", "_none")

    def __init__(self, fields: Sequence[tuple[int, str]]) -> None:
        self._fields = fields
        self._known: dict[int, tuple[Any, Any]] = {}
        self._none = (None,) * len(fields)

    def read(self, data: bytes) -> tuple[Any, ...]:
        """The values, None for every field that does not lie wholly in ``data``."""
        known = self._known.get(len(data))
        if known is None:
            known = self._compile(len(data))
            if len(self._known) < _MOST:
                self._known[len(data)] = known
        unpack, missing = known
        return (*unpack(data), *missing)

    def _compile(self, length: int) -> tuple[Any, Any]:
        form, end, found = "=", 0, 0
        for offset, code in self._fields:
            after = offset + Struct("=" + code).size
            if after > length:
                break
            form += f"{offset - end}x{code}"
            end, found = after, found + 1
        return Struct(f"{form}{length - end}x").unpack, self._none[found:]
