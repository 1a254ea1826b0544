"""Who has to go when the control socket is crowded, so that who comes to ask something is served.

Knows what clients have done so far and whose they are; must not know sockets or requests. A client
gives up nothing but its place: who is sent away may come back. When it is crowded, a process that
has many connections gives up some of them before one that has a single one; the kernel says which
process each is of, and to make many processes is more work than to make connections.

Two crowds are bounded apart. Who has not sent a whole request yet costs next to nothing, so there
may be many of them, and the oldest goes for the next. Who has sent one gets a place among CLIENTS
and is answered at once. It keeps the place as long as nobody needs it: whoever does nothing with
it, or nothing but not to take the answer, goes for the next, the longest idle first. A crowd that
asks could else hold all places by asking once. Subscribers stay, so not all may be subscribers.

Members of ``control-group`` cannot keep root out: they go first, subscribers too, and nobody goes
for the sake of somebody less mighty.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mptcpd.cli.control_peer import Peer
    from mptcpd.cli.control_server import Client

# Newcomers from which on it is crowded, when more than so many of one process are not let in.
CROWD, EACH = 16, 4
# Of CLIENTS; less for the members of the group, or root could not subscribe any more.
SUBSCRIBERS, _OF_GROUP = 12, 8


def who_goes(clients: Iterable[Client], peer: Peer) -> Client | None:
    """The client that makes room for one of ``peer``; None: each has more right to stay."""
    mine = _may_replace(clients, peer)
    many = Counter(client.peer.pid for client in mine)
    may_go = [
        client for client in mine if not client.stream or _mighty(client.peer) < _mighty(peer)
    ]
    return min(
        may_go,
        key=lambda client: (
            _mighty(client.peer),
            client.stream,
            -many[client.peer.pid],
            client.waits,
            client.moved,
        ),
        default=None,
    )


def in_turn(newcomers: Collection[Client], peer: Peer, most: int) -> Sequence[Client] | None:
    """Of those who have not asked anything yet, one of whom has to go for one of ``peer``: the
    order in which they do; None if there is room for all.

    newcomers  the oldest first       most  how many of them there may be
    """
    if len(newcomers) < CROWD:
        return None
    same = [client for client in newcomers if client.peer.pid == peer.pid]
    if len(same) >= EACH:
        return same
    if len(newcomers) < most:
        return None
    return sorted(_may_replace(newcomers, peer), key=lambda client: _mighty(client.peer))


def may_subscribe(subscribers: int, peer: Peer) -> bool:
    """Whether there may be one more of those who keep their places."""
    return subscribers < (SUBSCRIBERS if _mighty(peer) else _OF_GROUP)


def _may_replace(clients: Iterable[Client], peer: Peer) -> list[Client]:
    return [client for client in clients if _mighty(peer) or not _mighty(client.peer)]


def _mighty(peer: Peer) -> bool:
    """Root, or the user that the daemon runs as."""
    return peer.uid in (0, os.geteuid())
