"""The table of system calls: every number against the headers of each architecture."""

from __future__ import annotations

import pathlib
import re
import shutil
import subprocess
import sys

import pytest

from mptcpd.nl import syscalls
from mptcpd.nl.syscalls import ABIS, Abi

# Column of the table, folders that may hold asm/unistd.h (Debian: linux-libc-dev-ARCH-cross), and
# what a compiler for the ABI would define.
HEADERS = [
    ("x86_64", "x86_64-linux-gnu", "__x86_64__ __LP64__"),
    ("x32", "x86_64-linux-gnu", "__x86_64__ __ILP32__"),
    ("i386", "x86_64-linux-gnu", "__i386__"),
    ("generic", "aarch64-linux-gnu", "__aarch64__ __LP64__"),
    ("generic", "riscv64-linux-gnu", "__riscv __LP64__ __riscv_xlen=64"),
    ("arm", "arm-linux-gnueabihf", "__ARM_EABI__"),
    ("powerpc", "powerpc64le-linux-gnu", "__powerpc__ __powerpc64__"),
    ("powerpc", "powerpc-linux-gnu", "__powerpc__"),
    ("s390", "s390x-linux-gnu", "__s390__ __s390x__"),
    ("s390", "s390x-linux-gnu", "__s390__"),
    ("o32", "mipsel-linux-gnu", "_MIPS_SIM=1 _MIPS_SIM_ABI32=1"),
    ("n64", "mips64el-linux-gnuabi64", "_MIPS_SIM=3 _MIPS_SIM_ABI64=3 _MIPS_SIM_ABI32=1"),
    ("n32", "mipsn32el", "_MIPS_SIM=2 _MIPS_SIM_NABI32=2 _MIPS_SIM_ABI32=1 _MIPS_SIM_ABI64=3"),
]
FOLDERS = {"mipsn32el": "mips64el-linux-gnuabin32"}
HEADER = 0x34 * b"\0"


def defined(folder: str, macros: str) -> dict[str, int]:
    """What ``__NR_`` names the preprocessor finds there; a skip without headers or compiler."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C preprocessor to read the headers with")
    name = FOLDERS.get(folder, folder)
    places = [pathlib.Path("/usr", name, "include"), pathlib.Path("/usr/include", name)]
    place = next((place for place in places if (place / "asm/unistd.h").exists()), None)
    if place is None:
        pytest.skip(f"no kernel headers for {name}")
    run = subprocess.run(
        [compiler, "-E", "-dM", "-undef", "-nostdinc", f"-I{place}", "-I/usr/include"]
        + [f"-D{macro}" for macro in macros.split()]
        + ["-"],
        input="#include <asm/unistd.h>\n",
        capture_output=True,
        text=True,
        check=True,
    )
    texts = dict(re.findall(r"^#define (\w+) (.+)$", run.stdout, re.M))

    def value(text: str) -> int:
        text = re.sub(r"\b[A-Za-z_]\w*", lambda m: str(value(texts.get(m[0], "0"))), text)
        return int(eval(text, {"__builtins__": {}}))

    return {
        name[5:]: value(text)
        for name, text in texts.items()
        if name.startswith("__NR_") and re.fullmatch(r"[\w() +]+", text)
    }


@pytest.mark.parametrize(
    ("column", "folder", "macros"), HEADERS, ids=[f"{c} in {f}" for c, f, _ in HEADERS]
)
def test_numbers(column: str, folder: str, macros: str) -> None:
    found = defined(folder, macros)
    assert len(found) > 250, "the headers were not understood"
    abi = next(abi for abi in ABIS if abi.column == column)
    ours = syscalls.numbers(abi)
    assert {name: ours[name] for name in ours if name in found} == {
        name: found[name] for name in ours if name in found
    }
    # Headers may be newer or older than the table; but these every Linux has had for long.
    assert {"socket", "seccomp", "execve", "ptrace", "mount", "setns"} <= set(ours) & set(found)
    missing = (syscalls.names() & set(found)) - set(ours)
    assert not missing, f"the table lacks {missing}"


def test_this_machine() -> None:
    with open(sys.executable, "rb") as file:
        own = syscalls.of_program(file.read(64))
    assert own is not None and own.bits == (64 if sys.maxsize > 1 << 32 else 32)
    assert own.little == (sys.byteorder == "little")
    assert own in syscalls.siblings(own)


def elf(machine: int, bits: int, little: bool, flags: int = 0) -> bytes:
    order = "little" if little else "big"
    head = bytearray(b"\x7fELF" + bytes([bits // 32, 1 if little else 2]) + bytes(58))
    head[18:20] = machine.to_bytes(2, order)  # type: ignore[arg-type]
    place = 36 if bits == 32 else 48
    head[place : place + 4] = flags.to_bytes(4, order)  # type: ignore[arg-type]
    return bytes(head)


@pytest.mark.parametrize("abi", ABIS, ids=lambda abi: abi.name)
def test_told_by_the_elf_header(abi: Abi) -> None:
    flags = 0x20 if abi.column == "n32" else 0
    assert syscalls.of_program(elf(abi.machine, abi.bits, abi.little, flags)) == abi


@pytest.mark.parametrize(
    "header", [b"", b"#!/bin/sh\n" * 9, b"\x7fELF", HEADER, elf(2, 32, False), elf(62, 96, True)]
)
def test_no_program_that_is_known(header: bytes) -> None:
    assert syscalls.of_program(header) is None


def test_siblings() -> None:
    kinds = {abi.name: [a.name for a in syscalls.siblings(abi)] for abi in ABIS}
    assert kinds["I386"] == kinds["X86_64"] == ["X86_64", "X32", "I386"]
    assert kinds["ARM"] == ["AARCH64", "ARM"]
    assert kinds["PPC64LE"] == ["PPC64LE"]
    assert kinds["MIPSEL64"] == ["MIPSEL", "MIPSEL64", "MIPSEL64N32"]
    assert kinds["MIPS"] == ["MIPS", "MIPS64", "MIPS64N32"]


@pytest.mark.parametrize("abi", ABIS, ids=lambda abi: abi.name)
def test_audit_names(abi: Abi) -> None:
    file = pathlib.Path("/usr/include/linux/audit.h")
    if not file.exists():
        pytest.skip("no kernel headers (Debian: linux-libc-dev)")
    if abi.name == "X32":
        pytest.skip("x32 has the name of x86-64, and differs in the numbers")
    text = file.read_text().replace("\\\n", " ")
    found = re.search(rf"#define AUDIT_ARCH_{abi.name}\s+(.*)", text)
    assert found
    words = {
        f"EM_{abi.name}": abi.machine,
        "EM_386": 3,
        "EM_MIPS": 8,
        "EM_RISCV": 243,
        "EM_LOONGARCH": 258,
        "EM_S390": 22,
        "EM_PPC64": 21,
        "__AUDIT_ARCH_64BIT": 0x80000000,
        "__AUDIT_ARCH_LE": 0x40000000,
        "__AUDIT_ARCH_CONVENTION_MIPS64_N32": 0x20000000,
    }
    assert abi.audit == eval(found[1], {"__builtins__": {}}, words)
