"""Which interfaces and addresses are used: the daemon does what --check-config says."""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys
from typing import NamedTuple

import pytest

from lab import Host, Lab
from mptcpd.nl import uapi as u
from tests.kernel.started import ROOT, endpoints
from tests.kernel.uplinks import Following, Uplinks, change_address

EVERYTHING = (
    "10.0.1.1", "fd00:1::1", "2001:db8:1::1",
    "10.0.2.1", "169.254.2.1",
    "192.168.3.1", "2001:db8:3::1", "2001:db8:3::2",
)  # fmt: skip


@pytest.fixture
def net(lab: Lab) -> Uplinks:
    """eth0, wwan0 and docker0, each with addresses of several classes; one is temporary."""
    net = Uplinks(lab)
    net.join("10.0.1.1", "fd00:1::1", "2001:db8:1::1")
    net.join("10.0.2.1", "169.254.2.1", name="wwan0")
    net.join("192.168.3.1", "2001:db8:3::1", "2001:db8:3::2", name="docker0")
    return net


class Case(NamedTuple):
    """Lines of the configuration, the endpoints that follow, and some lines of --check-config."""

    core: str
    used: dict[str, str]
    why: tuple[str, ...] = ()


def flagged(*ips: str, flags: str = "subflow") -> dict[str, str]:
    return dict.fromkeys(ips, flags)


CASES = {
    "everything": Case("", flagged(*EVERYTHING)),
    "allow list": Case(
        "interfaces=eth*,wwan0",
        flagged(*EVERYTHING[:5]),
        ("docker0: not used: interfaces= does not name it", "eth0: used: up and running"),
    ),
    "deny list": Case(
        "interfaces=!docker*",
        flagged(*EVERYTHING[:5]),
        ("docker0: not used: interfaces=!docker*", "wwan0: used: up and running"),
    ),
    "the first match counts": Case("interfaces=!docker*,*0,!eth0", flagged(*EVERYTHING[:5])),
    "the first match counts, too": Case("interfaces=!eth?,eth0,wwan0", flagged(*EVERYTHING[3:5])),
    "classes of addresses": Case(
        "addresses=!unique-local,!link-local,!192.168.0.0/16",
        flagged("10.0.1.1", "2001:db8:1::1", "10.0.2.1", "2001:db8:3::1", "2001:db8:3::2"),
        (
            "  fd00:1::1/64: not used: addresses=!unique-local",
            "  169.254.2.1/24: not used: addresses=!link-local",
            "  192.168.3.1/24: not used: addresses=!192.168.0.0/16",
            "  10.0.1.1/24: used: usable",
        ),
    ),
    "allowed addresses": Case(
        "addresses=!10.0.2.0/24,private,2001:db8:3::/48",
        flagged("10.0.1.1", "192.168.3.1", "2001:db8:3::1", "2001:db8:3::2"),
        ("  2001:db8:1::1/64: not used: addresses= does not name it",),
    ),
    "sections": Case(
        """
        addr-flags=signal
        [interface wwan*]
        flags=subflow,backup
        [interface docker0]
        enabled=no
        [interface *]
        flags=
        """,
        {**flagged(*EVERYTHING[:3], flags=""), **flagged(*EVERYTHING[3:5], flags="subflow,backup")},
        (
            "docker0: not used: enabled=no in [interface docker0]",
            "  flags of its endpoints: subflow,backup ([interface wwan*])",
            "  flags of its endpoints: none ([interface *])",
        ),
    ),
    "a section that says nothing of flags": Case(
        "interfaces=eth*\naddr-flags=signal\n[interface eth0]\nfamily=both",
        flagged(*EVERYTHING[:3], flags="signal"),
        ("  flags of its endpoints: signal (addr-flags)",),
    ),
    "one subflow per interface on dual stack": Case(
        """
        [interface eth*]
        family=6
        max-addresses=1
        [interface *]
        family=4
        """,
        flagged("fd00:1::1", "10.0.2.1", "169.254.2.1", "192.168.3.1"),
        (
            "  10.0.1.1/24: not used: family=6 in [interface eth*]",
            "  2001:db8:1::1/64: not used: max-addresses=1 in [interface eth*]",
            "  2001:db8:3::1/64: not used: family=4 in [interface *]",
        ),
    ),
}


def indented(core: str) -> str:
    return "\n".join(line.strip() for line in core.splitlines())


def check_config(host: Host, folder: pathlib.Path, core: str) -> list[str]:
    file = folder / "check.conf"
    file.write_text(f"[core]\n{core}\n")
    command = [sys.executable, "-m", "mptcpd.cli.daemon", "--check-config", f"--config={file}"]
    child = host.popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    output, _ = child.communicate(timeout=10)
    assert child.returncode == 0, output
    lines: list[str] = output.splitlines()
    assert lines[0] == "The configuration is fine."
    return lines


def used(lines: list[str]) -> set[str]:
    """The addresses that --check-config says are used."""
    found = (re.fullmatch(r"  (\S+)/\d+: used: .*", line) for line in lines)
    return {match[1] for match in found if match}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_is_used_and_why(net: Uplinks, tmp_path: pathlib.Path, case: Case) -> None:
    core = indented(case.core)
    lines = check_config(net.client, tmp_path, core)
    assert used(lines) == set(case.used)
    assert set(case.why) <= set(lines)
    with Following(net.client, tmp_path, core):
        shown = {ip: endpoint.flags for ip, endpoint in endpoints(net.client).items()}
        assert shown == case.used


def test_what_is_present_and_cannot_be_used(net: Uplinks, tmp_path: pathlib.Path) -> None:
    net[1].down()
    net.pull(2)
    change_address(net[0], "2001:db8:1::1", preferred=0, valid=1000)
    core = "notify-flags=existing,check_route"
    net.client.change(net.default_route(0))
    lines = check_config(net.client, tmp_path, core)
    assert used(lines) == {"10.0.1.1"}
    assert {
        "lo: not used: loopback",
        "wwan0: not used: down",
        "docker0: not used: no carrier",
        "  2001:db8:1::1/64: not used: deprecated",
        "  fd00:1::1/64: not used: no default route (notify-flags=check_route)",
    } <= set(lines)
    assert endpoints(net.client) == {}  # it only looks
    with Following(net.client, tmp_path, core):
        assert set(endpoints(net.client)) == {"10.0.1.1"}


def test_temporary_addresses(net: Uplinks, tmp_path: pathlib.Path) -> None:
    """The kernel makes them itself, beside an address that it makes from an announced prefix."""
    net.client.set_sysctl(f"net.ipv6.conf.{net[0].name}.use_tempaddr", 2)
    change_address(
        net[0], "2001:db8:9::1", flags=u.IFA_F_NODAD | u.IFA_F_MANAGETEMPADDR,
        preferred=10000, valid=20000,
    )  # fmt: skip
    found = net.addresses(0)
    (temporary,) = (ip for ip, value in found.items() if value.flags & u.IFA_F_TEMPORARY)
    assert temporary.startswith("2001:db8:9:")
    core = "interfaces=eth0\naddresses=!temporary"
    lines = check_config(net.client, tmp_path, core)
    assert f"  {temporary}/64: not used: addresses=!temporary" in lines
    with Following(net.client, tmp_path, core) as daemon:
        usual = {*EVERYTHING[:3], "2001:db8:9::1"}
        assert set(endpoints(net.client)) == usual
        assert daemon.stop() == 0
    with Following(net.client, tmp_path, "interfaces=eth0"):
        assert set(endpoints(net.client)) == usual | {temporary}


def test_the_next_address_takes_the_place_of_one_that_goes(
    net: Uplinks, tmp_path: pathlib.Path
) -> None:
    core = "interfaces=eth0\n[interface eth0]\nmax-addresses=2"
    with Following(net.client, tmp_path, core) as daemon:
        daemon.until("10.0.1.1", "fd00:1::1")
        change_address(net[0], "fd00:1::1", preferred=0, valid=100)
        daemon.until("10.0.1.1", "2001:db8:1::1")
        change_address(net[0], "fd00:1::1")
        daemon.caught_up()
        assert set(endpoints(net.client)) == {"10.0.1.1", "2001:db8:1::1"}  # those told stay
        assert daemon.stop() == 0
