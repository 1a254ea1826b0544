"""Clients of the control socket: bounded buffers, deadlines, and no more of them than fit.

Knows sockets and bytes; must not know what a request means (``control_protocol``) or does
(``control_commands``), nor who has to go when there are too many (``control_room``). The rule it
keeps: whatever clients do, the daemon's own work waits no longer than one turn of a few
milliseconds, and memory stays below a bound.

All clients together are one descriptor of the daemon's loop, an epoll of their own. A turn that
took long is followed by a pause as long, so clients get at most half of the time.
"""

from __future__ import annotations

import contextlib
import logging
import select
import socket
from collections.abc import Callable, Iterator

from mptcpd.cli import control_room
from mptcpd.cli.control_peer import Peer, peer_of
from mptcpd.cli.control_protocol import MOST, Refusal, refusal
from mptcpd.core.loop import Loop, Timer

_LOG = logging.getLogger("mptcpd")
CLIENTS = 16  # that have sent a request
NEWCOMERS = 64  # that have not yet
WAITING = 128 << 10  # bytes that wait for a client; replies are asked for only below that
_TURN = 0.004  # seconds after which a turn ends; what is begun is finished
_PAUSE = 0.002  # seconds of a turn from which on a pause follows
_STEPS = 24  # of one client in one turn: requests, parts of answers
_ACCEPT = 32  # strangers at the door in one turn
SILENT = 10.0  # seconds for the first request; a half line, a reply that is not read: the same
IDLE = 60.0  # seconds between requests
_SILENCE = 60.0  # seconds after a stranger was named in the log in which others are not

Answer = Callable[["Client", bytes], "Iterator[bytes]"]


class Client:
    """One connection.

    out     what it has not taken yet
    more    what else is to be sent to it, made when there is room
    spoke   when its last request, or itself, came
    moved   the same, or when it took something of what waited for it
    stream  it has subscribed: its silence is no fault
    mask    what epoll said of it since it was served last
    """

    def __init__(self, sock: socket.socket, peer: Peer, now: float) -> None:
        self.sock = sock
        self.peer = peer
        self.spoke = self.moved = now
        self.heard = 0  # requests
        self.buffer = bytearray()
        self.out = bytearray()
        self.more: Iterator[bytes] | None = None
        self.stream = False
        self.mask = 0
        self.ended = False  # it will send nothing more
        self.deadline = now + SILENT

    @property
    def room(self) -> int:
        """Bytes that may be added to ``out``."""
        return WAITING - len(self.out)

    @property
    def waits(self) -> bool:
        """Whether there is something that it has not taken yet."""
        return bool(self.out) or self.more is not None

    @property
    def asks(self) -> bool:
        """Whether what it has sent is a whole line, or longer than one may be."""
        return b"\n" in self.buffer or len(self.buffer) >= MOST


class Server:
    """The clients.

    clients  descriptor -> Client
    refused  why -> how many clients were turned away or cut off
    """

    def __init__(
        self,
        loop: Loop,
        listener: socket.socket,
        answer: Answer,
        allowed: Callable[[Peer], bool],
        gone: Callable[[Client], object] = lambda client: None,
    ) -> None:
        """``answer`` takes a line and yields reply lines; ``gone`` is called for each that ends."""
        self._loop = loop
        self._listener = listener
        self._answer = answer
        self._allowed = allowed
        self._gone = gone
        self.clients: dict[int, Client] = {}
        self.refused: dict[str, int] = {}
        self._new: dict[int, Client] = {}  # those that have not sent a request, the oldest first
        # The row of those with whole lines in their buffers, or whom epoll has named.
        self._ready: dict[int, Client] = {}
        self._timer: Timer | None = None
        self._due = 0.0
        self._began = 0.0  # of this turn
        self._warn_after = 0.0
        self._pause: Timer | None = None
        self._again: Timer | None = None
        self._epoll = select.epoll()
        self._epoll.register(listener.fileno(), select.EPOLLIN)
        loop.add_reader(self._epoll.fileno(), self.turn)

    def close(self) -> None:
        """Cut all clients off."""
        for client in list(self.clients.values()):
            self._end(client)
        for timer in (self._timer, self._pause, self._again):
            if timer is not None:
                timer.cancel()
        if self._pause is None:
            self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()

    def send(self, client: Client, data: bytes) -> bool:
        """Add to what waits for a client; False if there is no room, and nothing was added."""
        if len(data) > client.room:
            return False
        if not client.out:
            client.moved = self._loop.time()
            client.deadline = client.moved + SILENT
        client.out += data
        self._interest(client)
        self._watch()
        return True

    def turn(self) -> None:
        """Serve those that are ready, for a few milliseconds."""
        self._began = began = self._loop.time()
        knocks = False
        for fd, mask in self._epoll.poll(0, CLIENTS + NEWCOMERS + _ACCEPT + 1):
            if fd == self._listener.fileno():
                knocks = True
            else:
                client = self._ready.setdefault(fd, self.clients[fd])
                client.mask |= mask
        # First, or those that always have something to ask would keep others from coming in; but
        # not for the whole turn.
        if knocks:
            self._accept()
        # Whoever is served and has more to ask comes to the end of the row.
        for client in list(self._ready.values()):
            if self._over():
                break
            self._guarded(client)
        self._watch()
        took = self._loop.time() - began
        if took > _PAUSE and self._pause is None:
            self._loop.remove_reader(self._epoll.fileno())
            self._pause = self._loop.call_later(took, self._go_on)
        elif self._ready and (self._again is None or not self._again.pending):
            self._again = self._loop.call_later(0, self.turn)

    def _over(self, part: float = 1.0) -> bool:
        return self._loop.time() - self._began > _TURN * part

    def _go_on(self) -> None:
        self._pause = None
        self._loop.add_reader(self._epoll.fileno(), self.turn)
        if self._ready:
            self.turn()

    def _accept(self) -> None:
        for _stranger in range(_ACCEPT):
            if self._over(0.5):
                return
            try:
                sock, _address = self._listener.accept()
            except OSError:
                return  # none waits, or it has gone again; without descriptors the next turn tries
            sock.setblocking(False)
            try:
                peer = peer_of(sock)
            except OSError:
                sock.close()
                continue
            if not self._allowed(peer):
                self._warn(peer)
                self._turn_away(sock, "denied", f"user {peer.uid} may not use this socket")
            elif not self._has_room(peer):
                self._turn_away(sock, "too-many", "too many others are waiting already")
            else:
                client = Client(sock, peer, self._loop.time())
                self.clients[sock.fileno()] = self._new[sock.fileno()] = client
                self._epoll.register(sock.fileno(), select.EPOLLIN)
                self._hear(client)

    def _turn_away(self, sock: socket.socket, kind: str, text: str) -> None:
        self._count(kind)
        with sock, contextlib.suppress(OSError):  # it may have gone already
            sock.send(refusal(Refusal(kind, text)), socket.MSG_NOSIGNAL)

    def _warn(self, peer: Peer) -> None:
        """Who may not, may not fill the log either."""
        now = self._loop.time()
        if now >= self._warn_after:
            self._warn_after = now + _SILENCE
            _LOG.warning("Control socket: user %d (process %d) may not.", peer.uid, peer.pid)

    def _hear(self, client: Client) -> bool:
        """Whether a newcomer has asked something by now; it is served soon, then."""
        self._receive(client)
        if client.sock.fileno() >= 0 and client.asks:
            self._ready[client.sock.fileno()] = client
        return client.asks

    def _has_room(self, peer: Peer) -> bool:
        """Whether there is room, or could be made, for one more newcomer, who is of ``peer``."""
        others = control_room.in_turn(self._new.values(), peer, NEWCOMERS)
        if others is None:
            return True
        for client in others:
            if not client.asks and not self._hear(client):
                if client.sock.fileno() >= 0:
                    self._cut_off(client, "silent")
                return True
        return False

    def _admit(self, client: Client) -> bool:
        """A newcomer's first request is there: whether there is a place for it."""
        self._new.pop(client.sock.fileno(), None)
        if len(self.clients) - len(self._new) <= CLIENTS:
            return True
        others = (each for each in self.clients.values() if each.heard)
        found = control_room.who_goes(others, client.peer)
        if found is not None:
            self._cut_off(found, "slow" if found.waits else "silent")
            return True
        text = f"{CLIENTS} clients are there already"
        client.out += refusal(Refusal("too-many", text))
        self._flush(client)
        self._cut_off(client, "too-many")
        return False

    def _guarded(self, client: Client) -> None:
        """A fault of ours with one client costs that client, not the daemon."""
        if client.sock.fileno() < 0:
            return  # it had to go for one before it in the row
        try:
            self._serve(client)
        except Exception:
            _LOG.exception("Control socket: a client of process %d is given up", client.peer.pid)
            self._cut_off(client, "internal")

    def _serve(self, client: Client) -> None:
        mask, client.mask = client.mask, 0
        if mask & select.EPOLLOUT:
            self._flush(client)
        if mask & select.EPOLLIN and client.sock.fileno() >= 0 and not client.ended:
            self._receive(client)
        elif mask & (select.EPOLLHUP | select.EPOLLERR) and client.sock.fileno() >= 0:
            self._end(client)
        self._work(client)

    def _receive(self, client: Client) -> None:
        if len(client.buffer) >= MOST:
            return
        try:
            data = client.sock.recv(MOST - len(client.buffer))
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._end(client)
            return
        if not data:
            client.ended = True
        elif not client.buffer:
            client.deadline = self._loop.time() + SILENT  # for a line once begun
        client.buffer += data

    def _work(self, client: Client) -> None:
        """Carry out requests as long as the client takes what it gets for them."""
        fd = client.sock.fileno()
        self._ready.pop(fd, None)
        for _step in range(_STEPS):
            if client.sock.fileno() < 0:
                return
            if client.out or client.more is not None:
                self._flush(client)
                if client.out or self._over():
                    break
                continue
            line, feed, rest = client.buffer.partition(b"\n")
            if not feed:
                if len(client.buffer) >= MOST:
                    text = f"a request has at most {MOST} bytes"
                    client.out += refusal(Refusal("too-long", text))
                    self._flush(client)
                    self._cut_off(client, "too-long")
                    return
                break
            if not client.heard and not self._admit(client):
                return
            client.buffer = rest
            client.heard += 1
            client.spoke = client.moved = self._loop.time()
            client.more = self._answer(client, bytes(line))
        if client.sock.fileno() < 0:
            return
        idle = not client.out and client.more is None
        if idle and client.spoke >= self._began:
            client.deadline = self._began + (SILENT if client.buffer else IDLE)
        if idle and b"\n" in client.buffer:
            self._ready[fd] = client
        elif idle and client.ended and not client.stream:
            self._end(client)
            return
        self._interest(client)

    def _flush(self, client: Client) -> None:
        """Send what waits, and then the next part of a long answer."""
        if not client.out and client.more is not None:
            part = next(client.more, None)
            if part is None:
                client.more = None
                return
            client.out += part
        if not client.out:
            return
        try:
            sent = client.sock.send(client.out, socket.MSG_NOSIGNAL)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._end(client)
            return
        del client.out[:sent]
        if sent:
            client.moved = self._loop.time()
            client.deadline = client.moved + SILENT

    def _interest(self, client: Client) -> None:
        waits = client.out or client.more is not None
        mask = select.EPOLLOUT if waits else 0
        # Who does not take its replies is not listened to; nor who may have lines left to do.
        if not client.ended and len(client.buffer) < MOST and (not waits or client.stream):
            mask |= select.EPOLLIN
        self._epoll.modify(client.sock.fileno(), mask)

    def _cut_off(self, client: Client, why: str) -> None:
        self._count(why)
        if client.sock.fileno() >= 0:  # it may have gone by itself just now
            self._end(client)

    def _count(self, why: str) -> None:
        self.refused[why] = self.refused.get(why, 0) + 1

    def _end(self, client: Client) -> None:
        fd = client.sock.fileno()
        self._epoll.unregister(fd)
        self._ready.pop(fd, None)
        self._new.pop(fd, None)
        del self.clients[fd]
        client.sock.close()
        client.out.clear()
        client.more = None
        self._gone(client)

    # Deadlines. While nobody is connected there is no timer.

    def _watch(self) -> None:
        """Look at the deadlines again when the first of them passes."""
        first = min((when for c in self.clients.values() if (when := _due(c))), default=0.0)
        if not first or (self._timer is not None and self._timer.pending and self._due <= first):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._due = first
        self._timer = self._loop.call_later(first - self._loop.time(), self._late)

    def _late(self) -> None:
        now = self._loop.time()
        for client in list(self.clients.values()):
            if 0.0 < _due(client) <= now:
                busy = client.out or client.buffer or client.more is not None
                self._cut_off(client, "slow" if busy else "idle")
        self._watch()


def _due(client: Client) -> float:
    """When a client must have done something; 0 for a subscriber that has taken everything."""
    # One that could take more of an answer, but whose socket is full, has nothing in ``out``.
    waits = client.out or client.buffer or client.more is not None or not client.stream
    return client.deadline if waits else 0.0
