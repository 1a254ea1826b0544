"""Who connected, as the kernel tells it: users and all of their groups."""

from __future__ import annotations

import os
import pathlib
import socket

import pytest

from mptcpd.cli import privileges
from mptcpd.cli.control_peer import Peer, may_use, peer_of

USER, GROUP, GROUPS = 65534, 65533, (4711, 4712)


def connected(file: pathlib.Path, groups: tuple[int, ...]) -> Peer:
    """Whom the kernel takes a child for that has connected as another user with these groups."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(file))
        listener.listen()
        file.chmod(0o666)
        listener.settimeout(10)
        place = os.open(file.parent, os.O_PATH)  # the child may not pass the folders above it
        pid = os.fork()
        if pid == 0:
            try:
                os.fchdir(place)
                os.setgroups(groups)
                os.setresgid(GROUP, GROUP, GROUP)
                os.setresuid(USER, USER, USER)
                with socket.socket(socket.AF_UNIX) as client:
                    client.connect(file.name)
                os._exit(0)
            finally:
                os._exit(1)
        os.close(place)
        sock, _address = listener.accept()
        with sock:
            found = peer_of(sock)
        assert os.waitpid(pid, 0)[1] == 0
        return found._replace(pid=0) if found.pid == pid else found


def test_ourselves() -> None:
    one, other = socket.socketpair()
    with one, other:
        mine = frozenset({os.getegid(), *os.getgroups()})
        assert peer_of(one) == Peer(os.getpid(), os.geteuid(), mine)


@pytest.mark.parametrize("groups", [(), GROUPS, tuple(range(5000, 5256))], ids=len)
def test_another_user(tmp_path: pathlib.Path, groups: tuple[int, ...]) -> None:
    """With all of its groups, of which any may be that of control-group=."""
    if os.geteuid() != 0 or not privileges._may_set_groups():
        pytest.skip("only root can become somebody else")
    tmp_path.chmod(0o755)
    peer = connected(tmp_path / "socket", groups)
    assert peer == Peer(0, USER, frozenset({GROUP, *groups}))
    assert may_use(peer, GROUP) and not may_use(peer, 4713)
    for group in groups:
        assert may_use(peer, group)


def test_too_many_groups_to_ask_for(tmp_path: pathlib.Path) -> None:
    """Then its first group counts alone: too few rights, never too many."""
    if os.geteuid() != 0 or not privileges._may_set_groups():
        pytest.skip("only root can become somebody else")
    tmp_path.chmod(0o755)
    peer = connected(tmp_path / "socket", tuple(range(5000, 5257)))
    assert peer == Peer(0, USER, frozenset({GROUP}))
