"""The build step, run as a script, writes the module that is loaded.

``test__attrs.py`` holds what is in that module to what is declared.
"""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
from cffi import FFI

from mptcpd.nl import _attrs_abi


def test_where_the_module_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    built = Path(_attrs_abi.__file__)
    told: list[str] = []
    monkeypatch.setattr(FFI, "emit_python_code", lambda _ffi, file: told.append(file))
    runpy.run_path(str(built.with_name("_attrs_build.py")), run_name="__main__")
    assert told == [str(built)]
