"""mptcpctl pm: the path manager of a namespace, on the real kernel."""

from __future__ import annotations

import json

import pytest

from lab import Host
from tests.kernel.ctl import mptcpctl, running, said


def test_choose_and_show(lone_host: Host) -> None:
    before = json.loads(said(lone_host, "-j", "pm"))
    assert before == {
        "enabled": True, "path_manager": "kernel", "subscribers": [],
        "limits": {"add_addr_accepted": 0, "subflows": 2}, "endpoints": 0,
    }  # fmt: skip
    assert "new connections get: the kernel's own path manager" in said(lone_host, "pm")
    try:
        lone_host.sysctl("net.mptcp.pm_type")
    except FileNotFoundError:
        pytest.skip("this kernel has no userspace path manager for MPTCP (Linux 5.19)")
    said(lone_host, "pm", "set", "user")
    assert lone_host.sysctl("net.mptcp.pm_type") == "1"
    said(lone_host, "endpoint", "add", "10.0.0.1")
    text = said(lone_host, "pm", "show")
    assert "the userspace path manager" in text and "endpoints: 1\n" in text
    assert "nobody\n  so the kernel refuses the peers' joins" in text
    said(lone_host, "pm", "set", "kernel")
    assert lone_host.sysctl("net.mptcp.pm_type") == "0"


def test_subscribers(lone_host: Host) -> None:
    with running(lone_host, "-j", "monitor") as monitor:
        assert monitor.stdout is not None and monitor.stdout.read(1) == "["  # it is subscribed now
        found = json.loads(said(lone_host, "-j", "pm"))["subscribers"]
        if found is None:
            pytest.skip("this kernel does not list netlink sockets (CONFIG_NETLINK_DIAG)")
        assert [one["pid"] for one in found] == [monitor.pid]
    assert json.loads(said(lone_host, "-j", "pm"))["subscribers"] == []


def test_off_and_refused(lone_host: Host) -> None:
    lone_host.set_sysctl("net.mptcp.enabled", 0)
    assert said(lone_host, "pm").startswith("MPTCP is switched off here (net.mptcp.enabled=0).\n")
    run = mptcpctl(lone_host, "pm", "set", "other")
    assert (run.returncode, run.stderr) == (
        255, 'Error: argument "other" is wrong: expected one of: kernel, userspace\n'
    )  # fmt: skip
