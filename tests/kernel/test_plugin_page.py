"""The complete example of mptcpd-plugin(7), taken out of the page and run."""

from __future__ import annotations

import pathlib
import re

from lab import traffic, wait_until
from lab.network import add_address
from tests.kernel.conftest import TwoHosts
from tests.kernel.started import ROOT, Started


def example() -> tuple[str, str]:
    """Plugin and configuration, as a reader would copy them."""
    page = (ROOT / "man/mptcpd-plugin.7").read_text().partition(".SH EXAMPLES\n")[2]
    plugin, configuration = re.findall(r"^\.EX\n(.*?)^\.EE$", page, re.M | re.S)
    return plugin.replace("\\-", "-").replace("\\e", "\\"), configuration.replace("\\-", "-")


def settings(folder: pathlib.Path, backup: str) -> str:
    """The example's configuration for [core] and after, with the folder of the plugin."""
    _plugin, configuration = example()
    text = configuration.removeprefix("[core]\n").replace("/etc/mptcpd/plugins", str(folder))
    assert text != configuration and "backup=yes" in text
    return text.replace("backup=yes", f"backup={backup}")


def test_the_example(two_hosts: TwoHosts, tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "plugins"
    folder.mkdir(mode=0o755)
    (folder / "spare.py").write_text(example()[0])
    (folder / "spare.py").chmod(0o644)
    core = settings(folder, "yes")
    with Started(two_hosts.client, tmp_path, "--debug", core=core) as daemon:
        daemon.until_ready()
        opened = traffic.open_connection(two_hosts.client, two_hosts.server, "10.0.1.2")
        wait_until(lambda: traffic.info(opened.client).subflows == 1, "a subflow from 10.0.2.1")
        add_address(two_hosts.second.one, "10.0.2.7/24")
        wait_until(lambda: traffic.info(opened.client).subflows == 2, "one more, from 10.0.2.7")
        assert "backup" in daemon.said
        opened.exchange()
        # A connection that the peer opens is not the plugin's.
        other = traffic.open_connection(two_hosts.server, two_hosts.client, "10.0.1.1")
        assert traffic.info(other.server).subflows == 0
        opened.close()
        other.close()
        assert daemon.stop() == 0
        assert "Traceback" not in daemon.said


def test_a_wrong_setting_is_told_with_its_line(two_hosts: TwoHosts, tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "plugins"
    folder.mkdir(mode=0o755)
    (folder / "spare.py").write_text(example()[0])
    (folder / "spare.py").chmod(0o644)
    with Started(two_hosts.client, tmp_path, core=settings(folder, "perhaps")) as daemon:
        assert daemon.status() == 1
        lines = daemon.file.read_text().splitlines()
        line = lines.index("backup=perhaps") + 1
        assert f"{daemon.file}:{line}: backup in [spare]: yes or no is expected" in daemon.said
