"""A recording that the kernel cuts short is drawn all the same, and the failure told."""

from __future__ import annotations

import pathlib
import xml.etree.ElementTree as xml
from collections.abc import Iterator

import pytest

from mptcpd.cli.ctl import kernel, record
from mptcpd.cli.ctl.call import Call
from mptcpd.cli.ctl.ends import Interfaces
from mptcpd.cli.ctl.output import Output, Settings
from mptcpd.cli.ctl.which_pm import PathManagers
from mptcpd.nl.errors import NetlinkError
from tests.cli.ctl.test_ends import Routes


class Failing:
    """sock_diag that answers some dumps, and then none."""

    left = 7

    def dump(self, protocol: int, states: int) -> Iterator[bytes]:
        self.left -= 1
        if not self.left:
            raise NetlinkError("SOCK_DIAG_BY_FAMILY: no answer")
        return iter(())


def test_cut_short(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    interfaces = Interfaces(Routes())
    monkeypatch.setattr(kernel, "dumps", Failing)
    monkeypatch.setattr(kernel, "interfaces", lambda: interfaces)
    monkeypatch.setattr(kernel, "path_managers", lambda: PathManagers(None))
    monkeypatch.setattr(record, "_subscribed", lambda: (None, None))
    file = tmp_path / "picture.svg"
    args = {"file": str(file), "interval": 0.01, "seconds": 60.0}
    with pytest.raises(NetlinkError, match="no answer"):
        record.run(Call(args, Settings(), Output(Settings())))
    told = [element.text or "" for element in xml.parse(file).iter()]
    assert "No MPTCP connection was seen." in told
    assert record._UNTOLD in told
