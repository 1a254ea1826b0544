"""Makes the pictures in docs/ from what really happens on this machine's kernel.

    python demo/pictures.py [FOLDER]

Two hosts in private network namespaces are joined by a quick and a slow link, mptcpd keeps the
client's endpoints, and data moves. ``record.svg`` is what ``mptcpctl record`` makes of a transfer
whose quick link is cut for a while; ``top.svg`` is the screen of ``mptcpctl top``.
"""

from __future__ import annotations

import os
import signal
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

from demo import screenshot  # noqa: E402
from lab import Lab, traffic, wait_until  # noqa: E402
from lab.network import Interface, Link, add_default_route  # noqa: E402
from lab.terminal import Terminal  # noqa: E402
from mptcpd.nl import rtnl_change  # noqa: E402
from mptcpd.nl import uapi as u  # noqa: E402
from mptcpd.nl.mptcp import Address  # noqa: E402

CTL = [sys.executable, "-m", "mptcpd.cli.ctl.main"]
DAEMON = [sys.executable, "-m", "mptcpd.cli.daemon", "--path-manager=addr_adv",
          "--addr-flags=subflow", "--plugin-dir=plugins", "--config=etc/mptcpd.conf",
          "--runtime-dir=none", "--log=null"]  # fmt: skip
RATES = (30_000_000, 12_000_000)  # bit/s
WIDTH, HEIGHT = 120, 24


class Scene:
    """A client with Wi-Fi and a mobile network, and a server that both lead to."""

    def __init__(self, lab: Lab) -> None:
        self.client, self.server = lab.host("client"), lab.host("server")
        # The numbers of a link's two ends differ then, and the kernel tells of a lost carrier at
        # once (net/core/link_watch.c takes it for urgent).
        for number in range(3):
            self.server.change(
                rtnl_change.add_veth(f"a{number}", self.server.fd, f"b{number}", self.server.fd)
            )
        self.links: list[Link] = []
        for index, (name, rate) in enumerate(zip(("wlan0", "wwan0"), RATES, strict=True), 1):
            link = lab.link(
                self.client, name, [f"10.0.{index}.2/24", f"fd00:{index}::2/64"],
                self.server, f"eth{index}", [f"10.0.{index}.1/24", f"fd00:{index}::1/64"],
                rate=rate,
            )  # fmt: skip
            add_default_route(link.one, f"10.0.{index}.1", metric=100 * index)
            self.links.append(link)
        self.server.mptcp.set_limits(subflows=4)
        self.client.mptcp.set_limits(subflows=4)
        self.client.popen(DAEMON, cwd=ROOT)
        wait_until(lambda: len(self.client.mptcp.dump_addrs()) >= 4, "the daemon's endpoints")

    def open(self, address: str, subflows: int = 1) -> traffic.Connection:
        connection = traffic.open_connection(self.client, self.server, address)
        wait_until(lambda: traffic.info(connection.client).subflows >= subflows, "a second subflow")
        return connection

    def download(self, connection: traffic.Connection, size: int) -> traffic.Transfer:
        """The server sends, the client receives."""
        turned = traffic.Connection(connection.server, connection.client, connection.listener)
        return traffic.Transfer(self.server, self.client, turned, size)

    def backup(self, end: Interface, ip: str, *, on: bool) -> None:
        """Make an address of the client a backup, for connections that are there, too."""
        flag = u.MPTCP_PM_ADDR_FLAG_BACKUP if on else 0
        for endpoint in end.host.mptcp.dump_addrs():
            if endpoint.ip is not None and ip == ".".join(map(str, endpoint.ip)):
                end.host.mptcp.set_flags(Address(endpoint.ip, id=endpoint.id, flags=flag))


def record(lab: Lab, file: str) -> None:
    """A download of 16 seconds: the Wi-Fi is lost for four, later the mobile network a backup."""
    scene = Scene(lab)
    wifi, mobile = (link.one for link in scene.links)
    recorder = scene.client.popen([*CTL, "record", file], cwd=ROOT)
    time.sleep(0.8)
    transfer = scene.download(scene.open("10.0.1.1"), 46_000_000)
    began = time.monotonic()
    for at, act in (
        (4, scene.links[0].other.down),
        (8, scene.links[0].other.up),
        (11, lambda: scene.backup(mobile, "10.0.2.2", on=True)),
        (13, lambda: scene.backup(mobile, "10.0.2.2", on=False)),
    ):
        time.sleep(max(0.0, began + at - time.monotonic()))
        act()
    transfer.result(60)
    time.sleep(0.5)
    recorder.send_signal(signal.SIGINT)
    recorder.wait(10)
    assert wifi.running()


def top(lab: Lab, file: str) -> None:
    """Three connections; two have just lost a subflow and got another one."""
    scene = Scene(lab)
    connections = [scene.open("10.0.1.1"), scene.open("10.0.2.1"), scene.open("fd00:1::1", 0)]
    transfers = [scene.download(one, 1 << 40) for one in connections[:2]]
    shown = Terminal(scene.client, [*CTL, "top"], WIDTH, HEIGHT, cwd=ROOT)
    shown.wait(20)
    scene.links[1].other.down()
    shown.wait(1.5)
    scene.links[1].other.up()
    shown.until(lambda lines: any("has a subflow" in line for line in lines), "a new subflow")
    shown.wait(3.2)
    with open(file, "w", encoding="utf-8") as stream:
        stream.write(screenshot.svg(shown.screen, "mptcpctl top"))
    for transfer in transfers:
        transfer.sender.stop()
        transfer.receiver.stop()
    shown.close()


def main(argv: list[str]) -> int:
    folder = os.path.abspath(argv[0] if argv else os.path.join(ROOT, "docs"))
    for make, name in ((record, "record.svg"), (top, "top.svg")):
        with Lab() as lab:
            make(lab, os.path.join(folder, name))
        print(f"wrote {os.path.join(folder, name)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
