"""Gives MPTCP sockets to programs that ask for TCP: one system call at a time.

Knows what a program wanted and what it gets; must not know how the filter came to be or who is
told. Where MPTCP cannot be had, for whatever reason, the program gets what it asked for, from the
kernel itself: the call proceeds. Nothing here can make a call fail that would not fail otherwise.

The socket is made here, by another process, so it has to be made as the caller would have made it:
in the caller's network namespace, and as the caller's user (whom firewalls and policy routing look
at). What stays ours is the control group and the label of security modules.
"""

from __future__ import annotations

import collections
import os
import select
import socket
from collections.abc import Callable

from mptcpd.nl import uapi as u
from mptcpd.nl.notify import Call, Listener
from mptcpd.nl.processes import Processes
from mptcpd.nl.seccomp import Argument, Rule

# Other numbers on mips, hence not from our table.
_STREAM = int(socket.SOCK_STREAM)
_CLOEXEC, _NONBLOCK = int(socket.SOCK_CLOEXEC), int(socket.SOCK_NONBLOCK)

# socket(AF_INET or AF_INET6, SOCK_STREAM with any flags, 0 or IPPROTO_TCP); no other call is asked
# about. socketcall, the old way of 32-bit x86, takes its arguments from memory, which a filter
# cannot read: such calls stay TCP.
WANTED = (
    Rule(
        "socket",
        u.SECCOMP_RET_USER_NOTIF,
        (
            Argument(0, (int(socket.AF_INET), int(socket.AF_INET6))),
            Argument(1, (_STREAM,), ignore=_CLOEXEC | _NONBLOCK),
            Argument(2, (0, u.IPPROTO_TCP)),
        ),
    ),
)


class Supervisor:
    """Serves the programs behind a listener until the last of them has ended.

    listener   where their calls come in; ``fd`` is its descriptor
    processes  tells where a caller is
    say        gets a line for each call, for people; None: nobody wants it
    """

    def __init__(
        self,
        listener: Listener,
        fd: int,
        processes: Processes,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self._listener = listener
        self._processes = processes
        self._home = processes.home
        self._say = say
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)

    def serve(self) -> None:
        """Returns when no process is left that the filter holds for."""
        poll, receive = self._poll.poll, self._listener.receive
        waiting: collections.deque[Call] = collections.deque()
        while True:
            # Receiving would wait for ever when the last caller ends meanwhile; polling does not.
            # All are received before one is answered: from then on a signal cannot interrupt a
            # call, and a program whose signal handlers do not restart calls sees no EINTR.
            events = poll(0 if waiting else None)
            if not events:
                self.answer(waiting.popleft())
            elif events[0][1] & select.POLLIN:
                call = receive()
                if call is not None:
                    waiting.append(call)
            else:
                return

    def answer(self, call: Call) -> None:
        """Give a socket, or let the call proceed."""
        try:
            number = self._give(call)
        except OSError as error:
            if self._listener.proceed(call[0]):
                self._tell(call, f"leaving socket protocol {call[4]:#x}", f": {error.strerror}")
            return
        if number is not None:
            became = f"changing socket protocol from {call[4]:#x} to {u.IPPROTO_MPTCP:#x}"
            self._tell(call, f"{became} (IPPROTO_MPTCP)", f" fd {number}")

    def _give(self, call: Call) -> int | None:
        """As ``Listener.give``. Errors: OSError: there is no MPTCP for this one."""
        ident, thread, family, kind, _protocol = call
        place = self._processes.place(thread)
        if place == self._home:
            return self._made(ident, family, kind)
        with self._processes.acting_at(place, thread):
            return self._made(ident, family, kind)

    def _made(self, ident: int, family: int, kind: int) -> int | None:
        # Non-blocking is a mark of the socket itself, close-on-exec one of the descriptor.
        mptcp = socket.socket(family, kind | _CLOEXEC, u.IPPROTO_MPTCP)
        try:
            flags = os.O_CLOEXEC if kind & _CLOEXEC else 0
            return self._listener.give(ident, mptcp.fileno(), flags)
        finally:
            mptcp.close()

    def _tell(self, call: Call, what: str, result: str) -> None:
        if self._say is not None:
            _ident, thread, family, kind, _protocol = call
            self._say(f"{what} for family {family:#x} type {kind:#x}{result} (thread {thread})")
