"""Which powers are given up, and what is said of those that are left."""

from __future__ import annotations

import os
import pathlib
import pwd

import pytest

from lab import Call, ChildFailed
from mptcpd.cli import privileges, runtime
from mptcpd.cli.privileges import PrivilegeError
from mptcpd.core.config import Config
from mptcpd.nl import capabilities
from mptcpd.nl.capabilities import Sets

ADMIN, BIND = 1 << 12, 1 << 10
CONFIG = Config("null", "")
NOBODY = pwd.getpwnam("nobody")


@pytest.fixture
def root() -> None:
    if os.geteuid() != 0 or not privileges._may_set_groups():
        pytest.skip("only root can become somebody else")


def test_wanted() -> None:
    assert privileges.wanted(CONFIG) == ADMIN
    assert privileges.wanted(CONFIG._replace(low_ports=True)) == ADMIN | BIND


def test_a_user_that_is_not_there() -> None:
    with pytest.raises(PrivilegeError, match=r"^user=nob: there is no user of this name\.$"):
        privileges.user("nob")


def after(config: Config) -> tuple[Sets, list[int], tuple[int, ...], list[int], str]:
    privileges.give_up(config)
    ids = (*os.getresuid(), *os.getresgid())
    bounding = list(capabilities.bounding())
    return capabilities.get(), bounding, ids, os.getgroups(), privileges.left()


def test_root_keeps_one(root: None) -> None:
    sets, bounding, ids, groups, left = Call(after, CONFIG).result()
    assert sets == Sets(ADMIN, ADMIN)
    assert (bounding, ids, groups) == ([12], (0,) * 6, [])
    assert left == (
        "powers left: user 0, group 0 (also no other); capabilities effective cap_net_admin, "
        "permitted cap_net_admin, inheritable none, bounding cap_net_admin, ambient none; "
        "no_new_privs yes; system call filter no"
    )


def test_another_user_keeps_it(root: None) -> None:
    config = CONFIG._replace(user="nobody", low_ports=True)
    sets, bounding, ids, groups, _left = Call(after, config).result()
    assert sets == Sets(ADMIN | BIND, ADMIN | BIND)
    assert bounding == [10, 12]
    assert ids == (NOBODY.pw_uid,) * 3 + (NOBODY.pw_gid,) * 3
    assert set(groups) == set(os.getgrouplist("nobody", NOBODY.pw_gid))


def as_ordinary_user(granted: int, config: Config) -> object:
    """What systemd does with User= and AmbientCapabilities=, as far as the process sees it."""
    capabilities.keep_over_setuid(True)
    os.setgroups(())
    os.setresgid(NOBODY.pw_gid, NOBODY.pw_gid, NOBODY.pw_gid)
    os.setresuid(NOBODY.pw_uid, NOBODY.pw_uid, NOBODY.pw_uid)
    capabilities.put(Sets(granted, granted, granted))
    return after(config)


def test_an_ordinary_user_who_was_granted_it(root: None) -> None:
    sets, bounding, ids, _groups, _left = Call(as_ordinary_user, ADMIN | BIND, CONFIG).result()
    assert sets == Sets(ADMIN, ADMIN)
    assert ids[0] == NOBODY.pw_uid
    assert len(bounding) > 1, "without CAP_SETPCAP it stays"
    same = CONFIG._replace(user="nobody")
    assert Call(as_ordinary_user, ADMIN, same).result()[0] == Sets(ADMIN, ADMIN)


@pytest.mark.parametrize(
    ("granted", "config", "words"),
    [
        (BIND, CONFIG, "mptcpd needs the privilege CAP_NET_ADMIN."),
        (ADMIN, CONFIG._replace(user="daemon"), "cannot become user 1: Operation not permitted."),
    ],
)
def test_rights_that_do_not_suffice(
    root: None, granted: int, config: Config, words: str
) -> None:
    with pytest.raises(ChildFailed) as error:
        Call(as_ordinary_user, granted, config).result()
    assert words in str(error.value) and "PrivilegeError" in str(error.value)


# The runtime directory


@pytest.fixture
def directory(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "run"


def owners(directory: pathlib.Path) -> set[int]:
    return {file.stat(follow_symlinks=False).st_uid for file in (directory, *directory.iterdir())}


def test_handed_over_and_back(root: None, directory: pathlib.Path) -> None:
    runtime.hand_over(str(directory), 1, 1)
    assert owners(directory) == {1}
    runtime.hand_over(str(directory), 0, 0)
    assert owners(directory) == {0}
    (directory / "endpoints-7").write_text("notes")
    runtime.hand_over(str(directory), 1, 1)
    assert owners(directory) == {1}
    # What the lesser user wrote does not become root's.
    runtime.hand_over(str(directory), 0, 0)
    assert owners(directory) == {0, 1}


def test_a_directory_that_is_not_ours_alone(root: None, directory: pathlib.Path) -> None:
    directory.mkdir()
    (directory / "somebodys").touch()
    runtime.hand_over(str(directory), 1, 1)
    assert owners(directory) == {0}


def test_a_directory_that_others_may_write(root: None, directory: pathlib.Path) -> None:
    directory.mkdir()
    directory.chmod(0o1777)
    (directory / "endpoints-7").touch()
    runtime.hand_over(str(directory), 1, 1)
    assert owners(directory) == {0}


def test_a_link_in_place_of_the_directory(root: None, directory: pathlib.Path) -> None:
    elsewhere = directory.with_name("elsewhere")
    elsewhere.mkdir()
    directory.symlink_to(elsewhere)
    runtime.hand_over(str(directory), 1, 1)
    assert elsewhere.stat().st_uid == 0


def test_a_link_in_the_directory(root: None, directory: pathlib.Path) -> None:
    directory.mkdir()
    (directory / "endpoints-7").symlink_to("/etc/passwd")
    runtime.hand_over(str(directory), 1, 1)
    assert os.stat("/etc/passwd").st_uid == 0


def test_nothing_is_made_where_nothing_is_noted() -> None:
    runtime.hand_over("none", 1, 1)
    assert not os.path.exists("none")
