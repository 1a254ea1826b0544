"""Clients that behave and clients that do not: buffers, deadlines, turns."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from mptcpd.cli import control_server
from mptcpd.cli.control_peer import Peer, may_use
from mptcpd.cli.control_protocol import MOST, Refusal, parse, refusal, reply
from mptcpd.cli.control_room import CROWD, EACH, SUBSCRIBERS, may_subscribe
from mptcpd.cli.control_server import (
    CLIENTS,
    IDLE,
    NEWCOMERS,
    SILENT,
    WAITING,
    Client,
    Server,
)
from mptcpd.core.loop import Loop


class Served:
    """A server with a clock of the test's own."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.now = 100.0
        self.loop = Loop(lambda: self.now)
        self.file = str(folder / "control.sock")
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.setblocking(False)
        self.listener.bind(self.file)
        self.listener.listen(100)
        self.asked: list[bytes] = []
        self.allowed = True
        self.gone: list[Client] = []
        self.server = Server(
            self.loop, self.listener, self.answer, lambda peer: self.allowed, self.gone.append
        )
        self.sockets: list[socket.socket] = []

    def answer(self, client: Client, line: bytes) -> Iterator[bytes]:
        self.asked.append(line)
        try:
            request = parse(line)
        except Refusal as error:
            yield refusal(error)
            return
        if request.command == "connections":
            for number in range(1000):
                yield reply(request.id, ["x" * 1000, number], more=True)
            yield reply(request.id, [])
        elif request.command == "subscribe":
            client.stream = True
            yield reply(request.id, {})
        else:
            yield reply(request.id, {"command": request.command})

    def connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(5)
        sock.connect(self.file)
        self.sockets.append(sock)
        self.turn()
        return sock

    def turn(self, rounds: int = 5, passes: float = 0.0) -> None:
        """Let the loop run a few rounds; ``passes``: seconds that pass before."""
        self.now += passes
        for _round in range(rounds):
            self.loop.call_later(0, self.loop.stop)
            self.loop.run()

    def close(self) -> None:
        self.server.close()
        self.loop.close()
        for sock in (*self.sockets, self.listener):
            sock.close()

    def left(self) -> int:
        return len(self.server.clients)


@pytest.fixture
def served(tmp_path: pathlib.Path) -> Iterator[Served]:
    found = Served(tmp_path)
    yield found
    found.close()


def said(sock: socket.socket) -> list[dict[str, Any]]:
    """Whole lines that have come so far."""
    sock.setblocking(False)
    data = b""
    try:
        while part := sock.recv(1 << 16):
            data += part
    except BlockingIOError:
        pass
    assert not data or data.endswith(b"\n")
    return [json.loads(line) for line in data.splitlines()]


def ended(sock: socket.socket) -> bool:
    sock.setblocking(False)
    try:
        while True:
            if not sock.recv(1 << 16):
                return True
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


def test_requests_in_order(served: Served) -> None:
    sock = served.connect()
    sock.sendall(b'{"command":"status","id":1}\n{"command":"log","id":2}\nnope\n')
    served.turn()
    assert [(each["id"], each["ok"]) for each in said(sock)] == [
        (1, True), (2, True), (None, False),
    ]  # fmt: skip
    sock.sendall(b'{"command":"sta')
    served.turn()
    sock.sendall(b'tus","id":3}\n')
    served.turn()
    assert [each["id"] for each in said(sock)] == [3]


def test_many_requests_at_once_take_several_turns(served: Served) -> None:
    sock, other = served.connect(), served.connect()
    sock.sendall(b"x\n" * 2000)
    other.sendall(b'{"command":"status"}\n')
    served.turn(2)
    assert len(said(other)) == 1  # without waiting for all of the others'
    assert len(served.asked) < 200
    found = 0
    for _round in range(400):
        served.turn(1)
        found += len(said(sock))
    assert found == 2000


def test_who_writes_all_and_closes_its_side_gets_its_answers(served: Served) -> None:
    sock = served.connect()
    sock.sendall(b'{"command":"status"}\n' * 3)
    sock.shutdown(socket.SHUT_WR)
    served.turn(10)
    assert len(said(sock)) == 3
    assert served.left() == 0 and len(served.gone) == 1


def test_a_long_answer_waits_for_its_reader(served: Served) -> None:
    sock, other = served.connect(), served.connect()
    sock.sendall(b'{"command":"connections","id":9}\n{"command":"status","id":10}\n')
    served.turn(100)
    (client,) = [each for each in served.server.clients.values() if each.heard]
    assert client.more is not None and len(client.out) <= WAITING
    other.sendall(b'{"command":"status"}\n')
    served.turn()
    assert len(said(other)) == 1
    found: list[dict[str, Any]] = []
    data = b""
    for _read in range(2000):
        sock.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            data += sock.recv(1 << 15)
        served.turn(1)
        if data.count(b"\n") == 1002:
            break
    found = [json.loads(line) for line in data.splitlines()]
    assert [each["result"][1] for each in found[:1000]] == list(range(1000))
    assert all(each["more"] for each in found[:1000])
    assert "more" not in found[1000] and found[1001]["id"] == 10


def test_who_does_not_read_is_not_listened_to_and_then_cut_off(served: Served) -> None:
    sock = served.connect()
    sock.setblocking(False)
    flood = b'{"command":"connections"}\n' * 500
    sent = 0
    for _write in range(200):
        with contextlib.suppress(BlockingIOError):
            sent += sock.send(flood)
        served.turn(1)
    (client,) = served.server.clients.values()
    assert len(client.out) <= WAITING and len(client.buffer) <= MOST
    assert len(served.asked) == 1  # its first answer is not read yet
    served.turn(passes=SILENT + 0.1)
    assert served.left() == 0
    assert served.server.refused == {"slow": 1}


@pytest.mark.parametrize(
    ("data", "seconds", "why"),
    [(b"", SILENT, "idle"), (b'{"command":', SILENT, "slow"), (b"x\n", IDLE, "idle"),
     (b'x\n{"command"', SILENT, "slow")],
    ids=["silent", "half a line", "after a request", "half a second line"],
)  # fmt: skip
def test_deadlines(served: Served, data: bytes, seconds: float, why: str) -> None:
    sock = served.connect()
    sock.sendall(data)
    served.turn(passes=0.5)
    served.turn(passes=seconds - 1.0)
    assert served.left() == 1
    served.turn(passes=1.1)
    assert served.left() == 0 and ended(sock)
    assert served.server.refused == {why: 1}


def test_bytes_that_trickle_do_not_extend_the_deadline(served: Served) -> None:
    sock = served.connect()
    for _second in range(int(SILENT) + 2):
        if served.left():
            sock.sendall(b"x")
        served.turn(passes=1.0)
    assert served.left() == 0


def test_a_subscriber_may_be_silent(served: Served) -> None:
    sock = served.connect()
    sock.sendall(b'{"command":"subscribe"}\n')
    served.turn()
    served.turn(passes=IDLE * 10)
    assert served.left() == 1
    (client,) = served.server.clients.values()
    assert served.server.send(client, b'{"stream":"log"}\n')
    served.turn()
    assert len(said(sock)) == 2
    served.turn(passes=IDLE * 10)
    assert served.left() == 1
    # But it has to read what comes.
    while served.server.send(client, b"x" * 1000 + b"\n"):
        served.turn(1)
    assert len(client.out) > WAITING - 1100
    served.turn(passes=SILENT + 0.1)
    assert served.left() == 0


def test_no_timer_while_nobody_is_there(served: Served) -> None:
    assert served.loop._wait() is None
    sock = served.connect()
    assert served.loop._wait() is not None
    sock.close()
    served.turn()
    served.turn(passes=SILENT + 1)
    assert served.loop._wait() is None


def test_a_line_without_an_end(served: Served) -> None:
    sock = served.connect()
    sock.setblocking(False)
    sent = 0
    while sent < 1 << 22:
        try:
            sent += sock.send(b"x" * 65536)
        except BlockingIOError:
            served.turn(1)
        except (BrokenPipeError, ConnectionResetError):
            break
    assert sent < 1 << 20
    assert served.left() == 0
    assert served.server.refused == {"too-long": 1}


def test_who_may_not(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    served.allowed = False
    for _client in range(20):
        sock = served.connect()
        assert said(sock)[0]["error"]["kind"] == "denied"
        assert ended(sock)
    assert served.server.refused == {"denied": 20}
    assert len(caplog.records) == 1  # no way to fill the log
    assert f"user {os.geteuid()} (process {os.getpid()}) may not" in caplog.text


STATUS = b'{"command":"status"}\n'


def asking(served: Served, data: bytes = STATUS) -> socket.socket:
    """One who has sent that before the server has looked."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(5)
    sock.connect(served.file)
    sock.sendall(data)
    served.sockets.append(sock)
    served.turn()
    return sock


def test_more_clients_than_fit(served: Served) -> None:
    """The one that has asked nothing for longest goes in favour of a new one; subscribers stay."""
    first = [asking(served, b'{"command":"subscribe"}\n') for _client in range(CLIENTS - 2)]
    one, two = asking(served), asking(served)
    served.turn(passes=0.1)
    one.sendall(STATUS)
    served.turn(passes=0.1)
    new = asking(served)
    assert said(new)[0]["ok"] and served.left() == CLIENTS
    assert [sock for sock in (*first, one, two) if ended(sock)] == [two]
    for sock in (one, new):
        sock.sendall(b'{"command":"subscribe"}\n')
    served.turn()
    late = asking(served)
    assert said(late)[0]["error"]["kind"] == "too-many" and ended(late)
    assert served.server.refused == {"too-many": 1, "silent": 1}


@pytest.fixture
def people(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Every connection is of a process of its own, or of that in "pid"; of the user in "uid"."""
    found = {"uid": os.geteuid(), "pid": 0, "last": 1000}

    def peer_of(sock: socket.socket) -> Peer:
        found["last"] += 1
        return Peer(found["pid"] or found["last"], found["uid"], frozenset({4711}))

    monkeypatch.setattr(control_server, "peer_of", peer_of)
    return found


@pytest.mark.usefixtures("people")
def test_a_crowd_that_says_nothing_keeps_nobody_out(served: Served) -> None:
    """Not even with half a line, nor by coming between one who has just come and his request."""
    crowd = [served.connect() for _client in range(NEWCOMERS - 1)]
    slow = served.connect()
    for sock in crowd:
        sock.sendall(b'{"command":"sta')
    served.turn()
    assert served.left() == NEWCOMERS
    for _round in range(3):  # in no time: the clock stands still
        new = asking(served)
        assert said(new)[0]["ok"] and not ended(new)
    assert [ended(sock) for sock in crowd[:3]] == [True, False, False]
    # One is about to go, and has asked: it is heard first, and the next one goes.
    others = [served.connect() for _client in range(NEWCOMERS - 1)]
    assert all(map(ended, crowd)) and not ended(slow) and not ended(others[0])
    slow.sendall(STATUS)
    served.connect()
    served.turn()
    assert said(slow)[0]["ok"] and ended(others[0]) and not ended(others[1])
    assert set(served.server.refused) == {"silent"}


def test_who_does_not_take_answers_makes_room(served: Served) -> None:
    """The one that has not moved for longest; but who asks nothing goes before."""
    crowd = []
    for _client in range(CLIENTS - 1):
        crowd.append(asking(served, b'{"command":"connections"}\n'))
        served.turn(50, passes=0.01)
    silent = asking(served)
    crowd[0].recv(1 << 20)
    served.turn(50, passes=0.01)
    assert said(asking(served, b'{"command":"subscribe"}\n'))[0]["ok"] and ended(silent)
    assert said(asking(served))[0]["ok"]
    assert served.left() == CLIENTS
    gone = [client.sock.fileno() < 0 for client in served.gone]
    assert gone == [True, True] and ended(crowd[1])
    assert served.server.refused == {"silent": 1, "slow": 1}


def test_a_process_with_many_connections_goes_first(
    served: Served, people: dict[str, int]
) -> None:
    first = served.connect()  # the oldest of all
    people["pid"] = 1
    crowd = [served.connect() for _client in range(4 * NEWCOMERS)]
    assert not ended(first) and served.left() == CROWD
    assert [ended(sock) for sock in crowd[-CROWD:]] == [True] + [False] * (CROWD - 1)
    people["pid"] = 2
    others = [served.connect() for _client in range(NEWCOMERS)]
    assert served.left() == CROWD + EACH
    assert [ended(sock) for sock in others[-EACH - 1 :]] == [True] + [False] * EACH
    # The same where they have asked something and stay.
    people["pid"] = 0
    good = [asking(served) for _client in range(CLIENTS - 2)]
    assert all(said(sock)[0]["ok"] for sock in good)
    people["pid"] = 1
    for _client in range(CLIENTS):
        assert said(asking(served))[0]["ok"]
    assert not any(map(ended, good))
    # And where more of them ask at once than can be served at once.
    waiting = []
    for _client in range(CROWD + EACH):
        waiting.append(sock := socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        served.sockets.append(sock)
        sock.connect(served.file)
        sock.sendall(STATUS)
    served.turn()
    assert json.loads(waiting[-1].recv(1000))["error"]["kind"] == "too-many"
    assert said(waiting[0])[0]["ok"]


def test_a_group_cannot_keep_root_out(served: Served, people: dict[str, int]) -> None:
    """Neither before nor after the first request; and root is not sent away for the group."""
    people["uid"] = 4711
    crowd = [asking(served, b'{"command":"subscribe"}\n') for _client in range(CLIENTS)]
    for _client in range(NEWCOMERS):
        served.connect()
    assert said(asking(served))[0]["error"]["kind"] == "too-many"
    people["uid"] = 0
    root = served.connect()
    before = asking(served, b'{"command":"subscribe"}\n')
    assert said(before)[0]["ok"] and sum(map(ended, crowd)) == 1
    people["uid"] = 4711
    for _client in range(NEWCOMERS + 10):
        served.connect()
    served.turn(passes=2.0)
    for _client in range(CLIENTS + 2):
        asking(served)
    root.sendall(STATUS)
    served.turn()
    assert said(root)[0]["ok"] and not ended(before)


def test_subscribers_leave_places_for_questions() -> None:
    assert SUBSCRIBERS < CLIENTS
    root, own, other = (Peer(1, uid, frozenset()) for uid in (0, os.geteuid(), 4711))
    assert may_subscribe(SUBSCRIBERS - 1, root) and not may_subscribe(SUBSCRIBERS, root)
    assert may_subscribe(SUBSCRIBERS - 1, own) and not may_subscribe(SUBSCRIBERS - 1, other)
    assert may_subscribe(0, other)


@pytest.mark.usefixtures("people")
def test_the_number_of_one_who_went_is_another_s(served: Served) -> None:
    """What was seen of the one is not taken for the other's."""
    crowd = [served.connect() for _client in range(NEWCOMERS)]
    crowd[0].close()  # its number is free as soon as that is noticed
    new = asking(served)
    served.turn()
    assert said(new)[0]["ok"] and not ended(new)


def test_a_turn_that_takes_long_is_followed_by_a_pause(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    sock = served.connect()
    answer = served.answer

    def slow(client: Client, line: bytes) -> Iterator[bytes]:
        served.now += 0.5
        yield from answer(client, line)

    monkeypatch.setattr(served.server, "_answer", slow)
    sock.sendall(b"x\n" * 10)
    served.turn(1)
    done = len(served.asked)
    assert done == 1
    served.turn(10, passes=0.1)
    assert len(served.asked) == done
    served.turn(3, passes=0.5)
    assert len(served.asked) == done + 1


def test_who_always_asks_lets_others_have_their_turns(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each request takes a whole turn; one who asks something later waits for one of them."""
    answer = served.answer

    def slow(client: Client, line: bytes) -> Iterator[bytes]:
        served.now += 0.005
        yield from answer(client, line)

    monkeypatch.setattr(served.server, "_answer", slow)
    greedy, other = served.connect(), served.connect()
    greedy.sendall(b"x\n" * 50)
    served.turn(1)
    other.sendall(STATUS)
    for _turn in range(4):
        served.turn(1, passes=0.01)
    assert len(said(other)) == 1 and len(served.asked) < 8


def test_a_crowd_at_the_door_leaves_half_a_turn_for_those_inside(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = served.connect()
    inside.sendall(STATUS)

    def peer_of(sock: socket.socket) -> Peer:
        served.now += 0.001
        return Peer(1, os.geteuid(), frozenset())

    monkeypatch.setattr(control_server, "peer_of", peer_of)
    for _stranger in range(20):
        served.sockets.append(sock := socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        sock.connect(served.file)
    served.turn(1)
    assert len(said(inside)) == 1 and 1 < served.left() < 10


def test_descriptors_are_given_back(served: Served) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _round in range(50):
        sock = served.connect()
        sock.sendall(b"x\nhalf")
        served.turn(1)
        sock.close()
        served.turn(2)
    served.sockets.clear()
    assert len(os.listdir("/proc/self/fd")) == before
    assert served.left() == 0 and len(served.gone) == 50


@pytest.mark.parametrize(
    ("peer", "group", "may"),
    [
        (Peer(1, 0, frozenset({0})), None, True),
        (Peer(1, os.geteuid(), frozenset()), None, True),
        (Peer(1, 4242, frozenset({0, 4242})), None, False),
        (Peer(1, 4242, frozenset({7, 42})), 42, True),
        (Peer(1, 4242, frozenset({7})), 42, False),
    ],
)
def test_who_may_use_it(peer: Peer, group: int | None, may: bool) -> None:
    assert may_use(peer, group) is may


def test_a_turn_ends_in_time(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """One turn serves only as many as its time allows; the others are first in the next."""
    socks = [served.connect() for _client in range(10)]

    def slow(client: Client, line: bytes) -> Iterator[bytes]:
        served.asked.append(line)
        served.now += control_server._TURN
        yield b"{}\n"

    monkeypatch.setattr(served.server, "_answer", slow)
    for sock in socks:
        sock.sendall(b"x\n")
    served.turn(1)
    assert len(served.asked) <= 2
    served.turn(60, passes=0.01)
    for _round in range(40):
        served.turn(1, passes=0.01)
    assert len(served.asked) == 10


def test_who_sends_too_much_and_is_gone_before_the_reply(served: Served) -> None:
    """Its end is found out while it is cut off: once is enough."""
    sock = served.connect()
    sock.sendall(b"x" * MOST)
    sock.close()
    served.turn(10)
    assert served.left() == 0 and len(served.gone) == 1
    assert served.server.refused == {"too-long": 1}


def test_a_fault_of_ours_costs_one_client(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sock, other = served.connect(), served.connect()
    answer = served.answer

    def faulty(client: Client, line: bytes) -> Iterator[bytes]:
        if line == b"fault":
            raise AssertionError("on purpose")
        return answer(client, line)

    monkeypatch.setattr(served.server, "_answer", faulty)
    sock.sendall(b"fault\n")
    other.sendall(b'{"command":"status"}\n')
    served.turn(10)
    assert ended(sock) and len(said(other)) == 1
    assert served.server.refused == {"internal": 1} and "on purpose" in caplog.text
