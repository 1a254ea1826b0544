"""Records netlink messages of the running kernel, as the codec's tests read them.

    python tests/captures/capture.py [FOLDER]     (root, or an ordinary user in a user namespace)

Writes events-VERSION.txt and replies-VERSION.txt into FOLDER, this one by default. What the kernel
draws at random, the tokens, stands at the top of the file; all else is always the same, so that the
tables of expected values in tests/nl/test_captures.py hold for a new recording, but for what the
new kernel does differently.
"""

from __future__ import annotations

import os
import sys
from ipaddress import ip_address
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from lab import Lab, traffic
from mptcpd.nl import diag
from mptcpd.nl import uapi as u
from mptcpd.nl.mptcp import Address
from tests.captures.record import FOLDER, Record
from tests.captures.replies import record_mptcp, record_network, record_sockets
from tests.captures.scene import CLOSED_PORT, IPS, OURS, PORT, THEIRS, Scene, destroy


def record_events(scene: Scene, flavour: str, record: Record) -> None:
    """All ten kinds on one kind of connection."""
    text = IPS[flavour]
    client1, client2, server1, server2 = (
        text.format(link, host) for host in (1, 2) for link in (1, 2)
    )
    at_client, at_server = scene.at_client, scene.at_server

    def both(kind: int, name: str) -> None:
        record.add(f"{name}/client/{flavour}", at_client.next(kind))
        record.add(f"{name}/server/{flavour}", at_server.next(kind))

    with scene.listening(server1, server2) as (listener, _second):
        record.add(f"listener_created/{flavour}", at_server.next(u.MPTCP_EVENT_LISTENER_CREATED))
        client = scene.connect(client1, server1)
        server = listener.accept()[0]
        both(u.MPTCP_EVENT_CREATED, "created")
        client.sendall(b"x")
        server.recv(1)
        server.sendall(b"x")
        client.recv(1)
        both(u.MPTCP_EVENT_ESTABLISHED, "established")
        ours, theirs = traffic.info(client).token, traffic.info(server).token
        record.tokens |= {f"client/{flavour}": ours, f"server/{flavour}": theirs}

        near, far = (ip_address(ip).packed for ip in (client2, server2))
        announced = far[-4:] if flavour == "mapped" else far
        signal = u.MPTCP_PM_ADDR_FLAG_SIGNAL
        scene.server.mptcp.announce(theirs, Address(announced, 0, THEIRS, signal))
        record.add(f"announced/{flavour}", at_client.next(u.MPTCP_EVENT_ANNOUNCED))

        join, there = Address(near, id=OURS), Address(far, PORT)
        scene.join(ours, join, there)
        both(u.MPTCP_EVENT_SUB_ESTABLISHED, "sub_established")
        backup = Address(near, flags=u.MPTCP_PM_ADDR_FLAG_BACKUP)
        scene.client.mptcp.set_flags(backup, there, ours)
        record.add(f"sub_priority/backup/{flavour}", at_server.next(u.MPTCP_EVENT_SUB_PRIORITY))
        scene.client.mptcp.set_flags(backup._replace(flags=0), there, ours)
        record.add(f"sub_priority/normal/{flavour}", at_server.next(u.MPTCP_EVENT_SUB_PRIORITY))

        scene.server.mptcp.remove(theirs, THEIRS)
        record.add(f"removed/{flavour}", at_client.next(u.MPTCP_EVENT_REMOVED))
        both(u.MPTCP_EVENT_SUB_CLOSED, "sub_closed/removed")

        refused = Address(far, CLOSED_PORT)
        scene.join(ours, Address(near, id=OURS), refused)
        closed = at_client.next(u.MPTCP_EVENT_SUB_CLOSED)
        record.add(f"sub_closed/refused/{flavour}", closed)

        bound = Address(near, id=OURS, ifindex=scene.links[1].one.ifindex)
        port = scene.join(ours, bound, there)
        both(u.MPTCP_EVENT_SUB_ESTABLISHED, "sub_established/bound")
        scene.client.mptcp.subflow_destroy(ours, Address(near, port), there)
        both(u.MPTCP_EVENT_SUB_CLOSED, "sub_closed/destroyed")

        spare = Address(near, id=OURS, flags=u.MPTCP_PM_ADDR_FLAG_BACKUP)
        scene.join(ours, spare, there)
        both(u.MPTCP_EVENT_SUB_ESTABLISHED, "sub_established/backup")

        client.close()
        record.add(f"closed/client/{flavour}", at_client.next(u.MPTCP_EVENT_CLOSED))
        server.close()
        record.add(f"closed/server/{flavour}", at_server.next(u.MPTCP_EVENT_CLOSED))
    record.add(f"listener_closed/{flavour}", at_server.next(u.MPTCP_EVENT_LISTENER_CLOSED))


def record_refusals(scene: Scene, flavour: str, record: Record) -> None:
    """A server that does not want id 0 joined, and that resets a join (MP_TCPRST)."""
    text = IPS[flavour]
    client1, client2, server1, server2 = (
        text.format(link, host) for host in (1, 2) for link in (1, 2)
    )
    scene.server.set_sysctl("net.mptcp.allow_join_initial_addr_port", 0)
    with scene.listening(server1, server2) as (listener, _second):
        client = scene.connect(client1, server1)
        server = listener.accept()[0]
        created = scene.at_client.next(u.MPTCP_EVENT_CREATED)
        record.add(f"created/deny_join/{flavour}", created)
        traffic.Connection(client, server, listener).exchange()
        token = traffic.info(client).token
        record.tokens[f"refused/{flavour}"] = token
        near, far = (ip_address(ip).packed for ip in (client2, server2))
        port = scene.join(token, Address(near, id=OURS), Address(far, PORT))
        scene.at_server.next(u.MPTCP_EVENT_SUB_ESTABLISHED)
        destroy(scene.server, diag.Path(far, PORT, near, port))
        closed = scene.at_client.next(u.MPTCP_EVENT_SUB_CLOSED)
        record.add(f"sub_closed/reset/{flavour}", closed)
        client.close()
        server.close()


def main(folder: Path) -> None:
    """Record everything into files in ``folder``."""
    version = ".".join(os.uname().release.split(".")[:2])
    events, replies = Record(), Record()
    for flavour in IPS:
        for scenario in (record_events, record_refusals):
            with Lab() as lab:  # hosts of their own: nothing is left of the connection before
                scenario(Scene(lab), flavour, events)
    with Lab() as lab:
        scene = Scene(lab)
        for recorder in (record_sockets, record_mptcp, record_network):
            recorder(scene, replies)
    events.write(folder / f"events-{version}.txt")
    replies.write(folder / f"replies-{version}.txt")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
