"""Log messages at their destinations: the bytes that fake log daemons get, and what is printed."""

from __future__ import annotations

import array
import fcntl
import io
import logging
import os
import pathlib
import re
import socket
import struct
import time
from collections.abc import Iterator

import pytest

from mptcpd.cli import log
from mptcpd.cli.log import LogError, journal_entry, priority, set_up

logger = logging.getLogger("mptcpd.test_log")
LARGE = 1 << 20  # more than fits into a datagram


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    root = logging.getLogger()
    level = root.level
    yield
    set_up("null", False)
    for handler in [handler for handler in root.handlers if handler.get_name() == log.__name__]:
        root.removeHandler(handler)
    root.setLevel(level)


class LogDaemon:
    """A datagram socket that stands for a log daemon."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(file)
        self.socket.setblocking(False)

    def get(self) -> bytes:
        return self.socket.recv(LARGE * 2)

    def get_file(self) -> tuple[bytes, int]:
        """The datagram and the descriptor that came with it; the caller closes it."""
        data, ancillary, _, _ = self.socket.recvmsg(10, socket.CMSG_SPACE(4))
        [(level, kind, raw)] = ancillary
        assert (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
        return data, array.array("i", raw)[0]

    def stop(self) -> None:
        self.socket.close()
        os.unlink(self.file)


@pytest.fixture
def daemon(tmp_path: pathlib.Path) -> Iterator[LogDaemon]:
    daemon = LogDaemon(str(tmp_path / "socket"))
    yield daemon
    daemon.socket.close()


def fields(entry: bytes) -> dict[str, bytes]:
    """A journal entry read back, by the protocol's description."""
    found = {}
    while entry:
        line, _, entry = entry.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            (size,) = struct.unpack_from("<Q", entry)
            value, end, entry = entry[8 : 8 + size], entry[8 + size : 9 + size], entry[9 + size :]
            assert end == b"\n"
        found[name.decode()] = value
    return found


@pytest.mark.parametrize(
    ("level", "expected"),
    [(60, 2), (50, 2), (40, 3), (30, 4), (25, 5), (20, 6), (15, 7), (10, 7), (1, 7)],
)
def test_priority(level: int, expected: int) -> None:
    assert priority(level) == expected


@pytest.mark.parametrize(
    ("value", "entry"),
    [
        ("a=b", b"A=a=b\n"),
        ("", b"A=\n"),
        ("é", b"A=\xc3\xa9\n"),
        ("\udcff", b"A=\\udcff\n"),
        ("a\nb", b"A\n\3\0\0\0\0\0\0\0a\nb\n"),
        ("\n", b"A\n\1\0\0\0\0\0\0\0\n\n"),
    ],
)
def test_journal_entry(value: str, entry: bytes) -> None:
    assert journal_entry([("A", value)]) == entry
    assert journal_entry([("A", value), ("B", "c")]) == entry + b"B=c\n"


def test_stderr() -> None:
    stream = io.StringIO()
    set_up("stderr", False, stream=stream)
    logger.debug("not seen")
    logger.info("one %d", 1)
    logger.error("two\nthree")
    assert stream.getvalue() == "one 1\ntwo\nthree\n"


def test_stderr_is_the_default_stream(capsys: pytest.CaptureFixture[str]) -> None:
    set_up("stderr", False)
    logger.info("one")
    assert capsys.readouterr() == ("", "one\n")


def test_debug_messages_say_where_they_are_from() -> None:
    stream = io.StringIO()
    set_up("stderr", True, stream=stream)
    logger.debug("one")
    logger.info("two")
    name = "test_debug_messages_say_where_they_are_from"
    assert stream.getvalue() == f"test_log.py:{name}() one\ntwo\n"


def test_set_up_again_replaces(capsys: pytest.CaptureFixture[str]) -> None:
    stream = io.StringIO()
    set_up("stderr", True, stream=stream)
    set_up("stderr", False)
    logger.debug("zero")
    logger.info("one")
    assert (stream.getvalue(), capsys.readouterr().err) == ("", "one\n")


def test_null(capsys: pytest.CaptureFixture[str]) -> None:
    set_up("null", True)
    logger.critical("one")
    assert not logger.isEnabledFor(logging.CRITICAL)
    assert capsys.readouterr() == ("", "")


def test_unknown_destination() -> None:
    with pytest.raises(LogError, match='^Unknown logging option: "x"$'):
        set_up("x", False)


def test_journal(daemon: LogDaemon) -> None:
    set_up("journal", False, socket_file=daemon.file)
    logger.warning("one %s", "word")
    got = fields(daemon.get())
    assert got.pop("CODE_LINE").isdigit()
    assert got == {
        "MESSAGE": b"one word",
        "PRIORITY": b"4",
        "SYSLOG_IDENTIFIER": b"mptcpd",
        "LOGGER": b"mptcpd.test_log",
        "CODE_FILE": __file__.encode(),
        "CODE_FUNC": b"test_journal",
    }


def test_journal_keeps_a_traceback_in_one_entry(daemon: LogDaemon) -> None:
    set_up("journal", False, socket_file=daemon.file)
    try:
        raise ValueError("why")
    except ValueError:
        logger.exception("what")
    message = fields(daemon.get())["MESSAGE"].decode()
    assert message.startswith("what\nTraceback (most recent call last):\n")
    assert message.endswith("ValueError: why")


def test_journal_gets_large_entries_in_a_sealed_file(daemon: LogDaemon) -> None:
    set_up("journal", False, socket_file=daemon.file)
    logger.info("x" * LARGE)
    data, fd = daemon.get_file()
    try:
        seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
        with open(fd, "rb", closefd=False) as file:
            file.seek(0)
            entry = file.read()
    finally:
        os.close(fd)
    assert data == b""
    assert fields(entry)["MESSAGE"] == b"x" * LARGE
    every = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
    assert seals == every


def test_syslog(daemon: LogDaemon) -> None:
    set_up("syslog", True, socket_file=daemon.file)
    logger.error("one\n\ntwo")
    logger.debug("three")
    head = rf">[A-Z][a-z]{{2}} [ 123]\d \d\d:\d\d:\d\d mptcpd\[{os.getpid()}\]: "
    assert re.fullmatch("<27" + head + "one", daemon.get().decode())
    assert re.fullmatch("<27" + head + "two", daemon.get().decode())
    where = r"test_log\.py:test_syslog\(\) "
    assert re.fullmatch("<31" + head + where + "three", daemon.get().decode())


def test_syslog_says_what_it_cuts(daemon: LogDaemon) -> None:
    set_up("syslog", False, socket_file=daemon.file)
    logger.info("x" * 8000)
    assert daemon.get().endswith(b": " + b"x" * 8000)
    logger.info("x" * LARGE)
    assert daemon.get().endswith(b": " + b"x" * 8000 + b" ... (1040576 bytes cut)")


@pytest.mark.parametrize(
    ("destination", "what"), [("journal", "the journal"), ("syslog", "syslog")]
)
class TestTrouble:
    """What both protocols do when nobody takes their messages."""

    def test_absent_at_start(self, destination: str, what: str, tmp_path: pathlib.Path) -> None:
        stream = io.StringIO()
        set_up("stderr", False, stream=stream)
        file = str(tmp_path / "absent")
        with pytest.raises(LogError) as caught:
            set_up(destination, False, socket_file=file)
        assert str(caught.value) == f"Unable to log to {what}: {file}: No such file or directory"
        logger.info("still there")
        assert stream.getvalue() == "still there\n"

    def test_nobody_listens_at_start(self, destination: str, what: str, daemon: LogDaemon) -> None:
        daemon.socket.close()
        with pytest.raises(LogError, match=f"^Unable to log to {what}: .*: Connection refused$"):
            set_up(destination, False, socket_file=daemon.file)

    def test_name_too_long(self, destination: str, what: str) -> None:
        with pytest.raises(LogError, match=f"^Unable to log to {what}: .*: AF_UNIX path too long"):
            set_up(destination, False, socket_file="/" + "x" * 200)

    def test_goes_away_and_comes_back(
        self,
        destination: str,
        what: str,
        daemon: LogDaemon,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        set_up(destination, False, socket_file=daemon.file)
        daemon.stop()
        logger.info("one")
        logger.info("two")
        notice = f"{what}: No such file or directory; messages go here until it works again\n"
        assert capsys.readouterr().err == f"{notice}one\ntwo\n"
        again = LogDaemon(daemon.file)
        logger.info("three")
        assert b"three" in again.get()
        again.stop()
        logger.info("four")
        assert capsys.readouterr().err == f"{notice}four\n"

    def test_a_full_queue_stops_nothing(
        self,
        destination: str,
        what: str,
        daemon: LogDaemon,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.setattr(log, "_SEND_TIMEOUT", struct.pack("@ll", 0, 200_000))
        set_up(destination, False, socket_file=daemon.file)
        with open("/proc/sys/net/unix/max_dgram_qlen") as limit:
            takes = int(limit.read()) + 1
        start = time.monotonic()
        for number in range(takes + 20):
            logger.info("number %d", number)
        # One waits for its turn, 0.2 s; the others do not, or it would be 4 s.
        assert time.monotonic() - start < 20 * 0.2
        lines = capsys.readouterr().err.splitlines()
        assert lines[0].startswith(f"{what}: Resource temporarily unavailable")
        printed = [int(line.split()[-1]) for line in lines[1:]]
        sent = [int(re.findall(rb"number (\d+)", daemon.get())[0]) for _ in range(printed[0])]
        assert sent + printed == list(range(takes + 20))
        logger.info("number %d", takes + 20)
        assert b"number %d" % (takes + 20) in daemon.get()

    def test_arguments_that_do_not_fit(
        self,
        destination: str,
        what: str,
        daemon: LogDaemon,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        set_up(destination, False, socket_file=daemon.file)
        root = logging.getLogger()
        ours = [handler for handler in root.handlers if handler.get_name() == log.__name__]
        monkeypatch.setattr(root, "handlers", ours)  # without pytest's own, which would raise
        logger.info("%d", "no number")
        assert "no number" in capsys.readouterr().err
        logger.info("next")
        assert b"next" in daemon.get()
