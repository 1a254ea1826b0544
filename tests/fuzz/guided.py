"""Coverage-guided fuzzing of every parser, where atheris is installed (``pip install atheris``).

    python -m tests.fuzz.guided SECONDS SEED FOLDER

atheris keeps the inputs that reach new branches, in FOLDER, and damages those further. The first
byte says which parser gets the rest; the last number stands for the datagram entry point. What
breaks a claim is shown, kept (``keep``) and ends the run with exit code 1.
"""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["mptcpd"]):
    from tests.fuzz import keep, parsers
    from tests.fuzz.datagrams import Entry

NAMES = list(parsers.PARSERS)
ENTRY = Entry()


def take(data: bytes) -> None:
    """One input of the fuzzer's. Does not return where it breaks a claim."""
    if not data:
        return
    which, rest = data[0] % (len(NAMES) + 1), data[1:]
    try:
        if which == len(NAMES):
            ENTRY.take(rest)
        else:
            parsers.check(NAMES[which], rest)
    except Exception:
        traceback.print_exc()
        print(f"guided: it broke the claim, kept as {kept(which, rest)}", flush=True)
        os._exit(1)


def kept(which: int, data: bytes) -> Path:
    test = "test_datagrams" if which == len(NAMES) else parsers.name_of_test(NAMES[which])
    return keep.write("tests/fuzz/test_fuzz_nl.py", f"{test}(data={data!r})")


def main(seconds: float, seed: int, folder: Path) -> None:
    """Does not return: libFuzzer ends the process, without a word to Python."""
    for which, name in enumerate(NAMES):
        for index, data in enumerate(parsers.PARSERS[name].seeds):
            (folder / f"{which}-{index}").write_bytes(bytes([which]) + data)
    for index, data in enumerate(parsers.EVENTS + parsers.REPLIES):
        (folder / f"datagram-{index}").write_bytes(bytes([len(NAMES)]) + data)
    options = [f"-max_total_time={max(1, int(seconds))}", f"-seed={seed}", "-max_len=1024"]
    options += ["-print_final_stats=1", "-verbosity=0", f"-artifact_prefix={folder}/"]
    atheris.Setup([sys.argv[0], *options, str(folder)], take)
    atheris.Fuzz()


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
