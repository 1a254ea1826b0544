"""What the installed daemon needs: Python's own library and cffi's backend, and nothing else."""

from __future__ import annotations

import pathlib
import subprocess
import sys

TOP = pathlib.Path(__file__).resolve().parents[2]
CODE = """
import importlib.abc, importlib.util, pathlib, sys

class OnlyOurs(importlib.abc.MetaPathFinder):
    "Stands before all other finders, and says no to what is not in the standard library."

    allowed = {*sys.stdlib_module_names, "mptcpd", "_cffi_backend"}

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in self.allowed:
            raise ModuleNotFoundError(f"{name} is neither ours nor the standard library's")

before = {name.partition(".")[0] for name in sys.modules}
sys.meta_path.insert(0, OnlyOurs())
top = pathlib.Path(sys.argv[1])
sys.path.insert(0, str(top))
names = []
for file in sorted(top.glob("mptcpd/**/*.py")):
    parts = file.relative_to(top).with_suffix("").parts
    if parts[-1] not in ("__init__", "_attrs_build"):
        names.append(".".join(parts))
for name in names:
    importlib.import_module(name)
for file in sorted(top.glob("plugins/*.py")):
    spec = importlib.util.spec_from_file_location(file.stem, file)
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    names.append(file.stem)
found = {name.partition(".")[0] for name in sys.modules} - before
print(len(names), *sorted(found - set(sys.stdlib_module_names)))
try:
    import pytest
except ModuleNotFoundError as error:
    print(error)
"""


def test_imports_with_all_other_modules_blocked() -> None:
    """Every module but the build script, which is for the machine that builds."""
    run = subprocess.run(
        [sys.executable, "-c", CODE, TOP], capture_output=True, text=True, cwd="/", timeout=60
    )
    assert (run.returncode, run.stderr) == (0, "")
    counted, blocked = run.stdout.splitlines()
    count, *found = counted.split()
    assert {"_cffi_backend"} <= set(found) <= {"_cffi_backend", "mptcpd"}
    assert int(count) > 60
    assert blocked == "pytest is neither ours nor the standard library's"
