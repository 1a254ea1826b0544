"""Hosts and links on one machine: private network namespaces, for the demo and the kernel tests.

    with Lab() as lab:
        client, server = lab.host("client"), lab.host("server")
        link = lab.link(client, "eth0", "10.0.1.1/24", server, "eth0", "10.0.1.2/24")
        with client:
            ...                       # sockets opened here belong to the client
        daemon = client.popen([sys.executable, "-m", "mptcpd.cli.daemon"])

Works as root and, where the kernel lets ordinary users make user namespaces, for everybody; needs
no other program. A namespace is held by a descriptor alone and children die with their parent, so
that nothing stays behind, however the process ends. ``Missing`` says in one line what a machine
lacks. Installed nowhere: part of the source tree only.
"""

from __future__ import annotations

from lab.host import Host
from lab.network import Interface, Lab, Link
from lab.process import Call, ChildFailed
from lab.rights import Missing
from lab.wait import wait_until

__all__ = ["Call", "ChildFailed", "Host", "Interface", "Lab", "Link", "Missing", "wait_until"]
