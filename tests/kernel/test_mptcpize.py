"""mptcpize run: what becomes of sockets, and that nothing else about a program changes."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pathlib
import pty
import shutil
import signal
import subprocess
import sys

import pytest

from lab import Host, wait_until
from mptcpd.nl import libc, seccomp, syscalls
from mptcpd.nl import uapi as u
from mptcpd.nl.seccomp import Rule
from tests.kernel import mptcpized
from tests.kernel.mptcpized import python, run

# linux/prctl.h, linux/capability.h
_PR_CAPBSET_DROP, _CAP_SYS_PTRACE, _CAP_SYS_ADMIN = 24, 19, 21
MPTCP, TCP = str(u.IPPROTO_MPTCP), str(u.IPPROTO_TCP)
PROTOCOL = """
import socket as s
def protocol(*args):
    with s.socket(*args) as made:
        return made.getsockopt(s.SOL_SOCKET, 38)
"""


def test_which_sockets(lone_host: Host) -> None:
    lines = python(
        lone_host,
        PROTOCOL + "import ctypes, os\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "for family in (s.AF_INET, s.AF_INET6):\n"
        "    for number in (0, s.IPPROTO_TCP, 262):\n"
        "        for flags in (0, 0o2000000, 0o4000, 0o2004000):\n"
        "            fd = libc.socket(family, s.SOCK_STREAM | flags, number)\n"
        "            made = s.socket(fileno=fd)\n"
        "            assert made.getsockopt(s.SOL_SOCKET, 38) == 262\n"
        "            assert os.get_inheritable(fd) == (not flags & s.SOCK_CLOEXEC)\n"
        "            assert os.get_blocking(fd) == (not flags & s.SOCK_NONBLOCK)\n"
        "            made.close()\n"
        "print(protocol(s.AF_INET, s.SOCK_DGRAM), protocol(s.AF_UNIX, s.SOCK_STREAM))\n"
        "for wrong in ((s.AF_INET, s.SOCK_STREAM | 1 << 20, 0), (s.AF_INET, s.SOCK_STREAM, 17)):\n"
        "    print(libc.socket(*wrong), ctypes.get_errno())\n",
    )
    assert lines == ["17 0", f"-1 {errno.EINVAL}", f"-1 {errno.EPROTONOSUPPORT}"]


def test_debug_tells_in_the_words_of_the_c_program(lone_host: Host) -> None:
    ended = run(lone_host, "run", "-d", sys.executable, "-c", "import socket; socket.socket()")
    words = "changing socket protocol from 0x0 to 0x106 (IPPROTO_MPTCP) for family 0x2 type 0x80001"
    assert ended.stderr.startswith(f"mptcpize: {words} fd 3 (thread ")


def test_forks_threads_and_execs(lone_host: Host) -> None:
    code = PROTOCOL + (
        "import os, subprocess, sys, threading\n"
        "seen = []\n"
        "thread = threading.Thread(target=lambda: seen.append(protocol(s.AF_INET)))\n"
        "thread.start(); thread.join()\n"
        "if not os.fork():\n"
        "    os._exit(protocol(s.AF_INET) == 262)\n"
        "seen.append(os.waitstatus_to_exitcode(os.wait()[1]))\n"
        "print(*seen, flush=True)\n"
        "again = 'import socket; print(socket.socket().getsockopt(1, 38))'\n"
        "os.execv(sys.executable, [sys.executable, '-c', again])\n"
    )
    assert python(lone_host, code) == [f"{MPTCP} 1", MPTCP]


def test_without_mptcp_it_is_tcp(lone_host: Host) -> None:
    lone_host.set_sysctl("net.mptcp.enabled", 0)
    code = "import socket; print(socket.socket().getsockopt(1, 38))"
    ended = run(lone_host, "run", "-d", sys.executable, "-c", code)
    assert (ended.returncode, ended.stdout) == (0, f"{TCP}\n")
    assert "leaving socket protocol 0x0 for family 0x2" in ended.stderr
    assert os.strerror(errno.ENOPROTOOPT) in ended.stderr


def test_no_descriptor_left(lone_host: Host) -> None:
    """The program gets the errno that it would have got, and can go on afterwards."""
    code = PROTOCOL + (
        "import os, resource\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))\n"
        "kept = []\n"
        "for round in range(2):\n"
        "    try:\n"
        "        while True: kept.append(s.socket())\n"
        "    except OSError as error: print(error.errno, kept[-1].fileno())\n"
        "    kept.clear()\n"
    )
    assert python(lone_host, code) == [f"{errno.EMFILE} 19"] * 2


@pytest.mark.parametrize(
    ("script", "status"),
    [("exit 0", 0), ("exit 7", 7), ("exit 255", 255), ("kill -TERM $$", -15), ("kill -9 $$", -9)],
)
def test_exit_status_is_that_of_the_program(lone_host: Host, script: str, status: int) -> None:
    assert run(lone_host, "run", "sh", "-c", script).returncode == status


def test_the_process_is_the_program(lone_host: Host) -> None:
    """Number, children, session, folder and argv; no descriptor is added, stdin is there."""
    code = (
        "import os, sys, json\n"
        "try: os.waitpid(-1, os.WNOHANG); children = True\n"
        "except ChildProcessError: children = False\n"
        "print(json.dumps([os.getpid(), os.getsid(0), os.getpgid(0), os.getcwd(), children,\n"
        "    sorted(map(int, os.listdir('/proc/self/fd'))), sys.stdin.read(), sys.argv[1:]]))\n"
    )
    words = ["-d", "--", "--help", "\udcff\u00e4 b", ""]
    program = lone_host.popen(
        [*mptcpized.RUN, sys.executable, "-c", code, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=mptcpized.environment(),
        cwd="/usr",
    )
    out, _err = program.communicate(b"given", timeout=20)
    # What listdir itself opened is the 3.
    assert json.loads(out) == [
        program.pid, program.pid, program.pid, "/usr", False, [0, 1, 2, 3], "given", words,
    ]  # fmt: skip


def test_environment_and_signals(lone_host: Host) -> None:
    """Only GODEBUG changes: not LC_CTYPE, which Python sets, nor SIGPIPE, which Python ignores."""
    show = "tr '\\0' '\\n' </proc/$$/environ | grep -v ^PATH=; exec grep ^Sig /proc/self/status"
    given = {"PATH": os.environ["PATH"], "PYTHONPATH": str(mptcpized.ROOT), "GODEBUG": "a=1"}
    plain, changed = (
        subprocess.run(
            [*before, "sh", "-c", show],
            env=given,
            capture_output=True,
            text=True,
            timeout=20,
            cwd="/usr",
        ).stdout
        for before in ([], mptcpized.RUN)
    )
    assert "SigIgn" in plain and "LC_CTYPE" not in plain
    assert changed == plain.replace("GODEBUG=a=1", "GODEBUG=a=1,multipathtcp=1")


def test_names_and_argv0(lone_host: Host, tmp_path: pathlib.Path) -> None:
    """Programs are found in PATH, as execvp does; also scripts that name no interpreter."""
    for name, mode in (("no", 0o644), ("script", 0o755)):
        (tmp_path / name).write_text('echo "$0 $1"\n')
        (tmp_path / name).chmod(mode)
    path = os.environ["PATH"]
    os.environ["PATH"] = f"/nonexistent:{tmp_path}:{path}"
    try:
        assert run(lone_host, "run", "script", "x").stdout == f"{tmp_path}/script x\n"
        assert run(lone_host, "run", "--argv0=me", "sh", "-c", "echo $0").stdout == "me\n"
        for name, number in (
            ("no", errno.EACCES),
            ("nosuch", errno.ENOENT),
            ("/", errno.EACCES),
            ("", errno.ENOENT),
        ):
            ended = run(lone_host, "run", name)
            assert ended.stderr == f"mptcpize: {name}: {os.strerror(number)}\n"
            assert (ended.returncode, ended.stdout) == (255, "")
    finally:
        os.environ["PATH"] = path


def test_pipes_end_when_the_program_closes_them(lone_host: Host) -> None:
    """A daemon that the program leaves behind is served on; the supervisor holds no pipe open."""
    mark = f"pipes {os.getpid()}"
    code = PROTOCOL + (
        "import os, sys\n"
        "ours, theirs = os.pipe()\n"
        "if not os.fork():\n"
        "    os.setsid(); os.close(theirs)\n"
        "    for fd in 0, 1, 2: os.close(fd)\n"
        "    os.read(ours, 1)\n"  # until the writing end is closed, with its last user
        "    open(sys.argv[1], 'w').write(str(protocol(s.AF_INET)))\n"
        "    os.rename(sys.argv[1], sys.argv[1] + '.done')\n"
        "    os._exit(0)\n"
        "print('started')\n"
    )
    file = pathlib.Path("/tmp", f"mptcpize-test-{os.getpid()}")
    done = file.with_name(f"{file.name}.done")
    try:
        assert python(lone_host, code, str(file), mark=mark) == ["started"]
        wait_until(done.exists, "the daemon has a socket")
        assert done.read_text() == MPTCP
    finally:
        done.unlink(missing_ok=True)
    mptcpized.until_none(mark)


def test_interrupt_at_the_terminal(lone_host: Host) -> None:
    """The program is in the terminal's foreground and gets its signals; the supervisor does not."""
    mark = f"terminal {os.getpid()}"
    code = (
        "import os, signal, socket, sys\n"
        "assert os.tcgetpgrp(0) == os.getpgid(0) == os.getpid()\n"
        "def ended(*_):\n"
        "    signal.signal(2, signal.SIG_DFL)\n"
        "    print(socket.socket().getsockopt(1, 38), flush=True)\n"
        "    os.kill(os.getpid(), 2)\n"
        "signal.signal(2, ended)\n"
        "print('ready', flush=True)\n"
        "while True: signal.pause()\n"
    )
    with lone_host:
        pid, terminal = pty.fork()
    if not pid:
        words = [*mptcpized.RUN, sys.executable, "-c", code]
        os.execve(words[0], words, mptcpized.environment(mark))
    seen = b""
    while b"ready" not in seen:
        seen += os.read(terminal, 99)
    assert len(mptcpized.supervisors(mark)) == 1
    os.write(terminal, b"\x03")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGINT
    while MPTCP.encode() not in seen:
        seen += os.read(terminal, 99)
    os.close(terminal)
    mptcpized.until_none(mark)


def held_by(pid: int) -> set[str]:
    """The kinds of descriptors that a process has."""
    found = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            found.add(os.readlink(f"/proc/{pid}/fd/{fd}").partition(":")[0])
    return found


def test_the_supervisor_holds_little_and_takes_no_orders(lone_host: Host) -> None:
    mark = f"orders {os.getpid()}"
    code = (
        "import socket, sys\n"
        "for line in sys.stdin:\n"
        "    try: print(socket.socket().getsockopt(1, 38), flush=True)\n"
        "    except OSError as error: print(error.errno, flush=True)\n"
    )
    ours, theirs = os.pipe()
    program = lone_host.popen(
        [*mptcpized.RUN, sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        pass_fds=(theirs,),
        env=mptcpized.environment(mark),
    )

    os.close(ours)
    os.close(theirs)

    def ask() -> str:
        assert program.stdin and program.stdout
        program.stdin.write(b"\n")
        return str(program.stdout.readline().decode().strip())

    assert ask() == MPTCP
    (pid,) = mptcpized.supervisors(mark)
    least = {"/dev/null", "/proc", "net", "anon_inode"}
    wait_until(lambda: held_by(pid) == least, f"it holds {least}")  # a socket may be just closing
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    assert os.getsid(pid) != os.getsid(program.pid)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1):
        os.kill(pid, number)
    assert ask() == MPTCP
    # Killed, it leaves no call hanging: that is the kernel's promise, and in our manual.
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not mptcpized.supervisors(mark), "the supervisor is dead")
    assert ask() == str(errno.ENOSYS)


def test_a_mptcpize_inside_another(lone_host: Host) -> None:
    code = "import socket; print(socket.socket().getsockopt(1, 38))"
    ended = run(lone_host, "run", *mptcpized.RUN, sys.executable, "-c", code)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, f"{MPTCP}\n", "")


def refusing(call: str, number: int, listener: bool = False) -> None:
    """Filter this process, as a container's manager might."""
    with open("/proc/self/exe", "rb") as file:
        abi = syscalls.of_program(file.read(64))
    assert abi
    rule = Rule(call, seccomp.errno_action(number))
    allow = u.SECCOMP_RET_ALLOW
    program = seccomp.program([abi], [rule], default=allow, foreign=allow)
    libc.no_new_privileges()
    flags = u.SECCOMP_FILTER_FLAG_NEW_LISTENER if listener else 0
    fd = libc.seccomp(syscalls.numbers(abi)["seccomp"], program, flags)
    if listener:
        os.set_inheritable(fd, True)  # as long as somebody has it, there can be no other


def without_rights() -> None:
    """Take from all programs that this process starts what makes root more than a user here."""
    for capability in (_CAP_SYS_PTRACE, _CAP_SYS_ADMIN):
        libc.prctl(_PR_CAPBSET_DROP, capability)


@pytest.mark.parametrize(
    ("call", "number", "listener", "words"),
    [
        ("seccomp", errno.ENOSYS, False, "no filter for system calls: Function not implemented"),
        ("seccomp", errno.EPERM, False, "no filter for system calls: Operation not permitted"),
        ("seccomp", errno.EINVAL, False, "no filter for system calls: Invalid argument"),
        ("reboot", errno.EPERM, True, "another program listens to the system calls already"),
    ],
)
def test_no_filter(lone_host: Host, call: str, number: int, listener: bool, words: str) -> None:
    mark = f"no filter {os.getpid()}"
    ended = run(
        lone_host, "run", "echo", "x", mark=mark,
        preexec_fn=lambda: refusing(call, number, listener), close_fds=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.splitlines()[0] == f"mptcpize: {words}"
    assert "--preload=LIB" in ended.stderr
    mptcpized.until_none(mark)


def test_no_supervisor(lone_host: Host, tmp_path: pathlib.Path) -> None:
    """What it fails with is told by who was to become the program."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os\n"
        "def setsid(): raise OSError(11, 'no session today')\n"
        "os.setsid = setsid\n"
    )
    with lone_host:
        ended = subprocess.run(
            [*mptcpized.RUN, "echo", "x"],
            env=mptcpized.environment(PYTHONPATH=f"{tmp_path}:{mptcpized.ROOT}"),
            capture_output=True,
            text=True,
            timeout=20,
        )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("mptcpize: no supervisor: [Errno 11] no session today\n")


def test_hardly_any_descriptors(lone_host: Host) -> None:
    """One more than Python itself takes: no traceback, and no program that runs without it."""
    with lone_host:
        ended = subprocess.run(
            ["sh", "-c", 'ulimit -n 5; exec "$@"', "sh", *mptcpized.RUN, "echo", "x"],
            env=mptcpized.environment(),
            capture_output=True,
            text=True,
            timeout=20,
        )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("mptcpize: no supervisor: ")
    assert "Too many open files" in ended.stderr.splitlines()[0]


def test_preload_needs_no_filter(lone_host: Host) -> None:
    ended = run(
        lone_host, "run", "--preload=libm.so.6", "sh", "-c", "echo $LD_PRELOAD; echo $GODEBUG",
        preexec_fn=lambda: refusing("seccomp", errno.ENOSYS),
    )  # fmt: skip
    assert ended.stdout == "libm.so.6\nmultipathtcp=1\n"


def test_proc_is_missing(lone_host: Host) -> None:
    if os.geteuid() or not shutil.which("unshare"):
        pytest.skip("hiding /proc needs root and unshare(1)")
    shell = f"umount -l /proc || exit 77; exec {' '.join(mptcpized.RUN)} echo x"
    with lone_host:
        ended = subprocess.run(
            ["unshare", "-m", "sh", "-c", shell],
            env=mptcpized.environment(),
            capture_output=True,
            text=True,
            timeout=20,
        )
    if ended.returncode == 77:
        pytest.skip(f"hiding /proc is not permitted: {ended.stderr.strip()}")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("mptcpize: /proc does not tell in which network namespace")


SOCKET_NAMESPACE = (
    "import fcntl, os, socket\n"
    "def where(made):\n"
    "    fd = fcntl.ioctl(made.fileno(), 0x894C)\n"  # SIOCGSKNS
    "    return os.fstat(fd).st_ino == os.stat('/proc/self/ns/net').st_ino\n"
)


def test_in_another_network(lone_host: Host) -> None:
    """A program that moves to another network gets its sockets there."""
    code = SOCKET_NAMESPACE + (
        "import sys\n"
        "from mptcpd.nl.namespaces import setns, unshare\n"
        "before = os.open('/proc/self/ns/net', os.O_RDONLY)\n"
        "for step in (lambda: 0, lambda: unshare(0x40000000), lambda: setns(before, 0)):\n"
        "    step()\n"
        "    made = socket.socket()\n"
        "    print(made.getsockopt(1, 38), where(made))\n"
    )
    assert python(lone_host, code) == [f"{MPTCP} True"] * 3


def test_where_it_may_not_go_it_leaves_calls_alone(lone_host: Host) -> None:
    """Without CAP_SYS_ADMIN there is no way into a network that a child made for itself."""
    code = SOCKET_NAMESPACE + (
        "from mptcpd.nl.namespaces import unshare\n"
        "for step in (lambda: 0, lambda: unshare(0x10000000), lambda: unshare(0x40000000)):\n"
        "    step()\n"
        "    made = socket.socket()\n"
        "    print(made.getsockopt(1, 38))\n"
        "print(where(made))\n"
    )
    ended = run(lone_host, "run", sys.executable, "-c", code, preexec_fn=without_rights)
    if "unshare" in ended.stderr:
        pytest.skip("ordinary users may not make user namespaces here")
    assert (ended.stdout.split(), ended.stderr) == ([MPTCP, MPTCP, TCP, "True"], "")


def test_who_may_not_be_looked_at_is_left_alone(lone_host: Host) -> None:
    """What protects a process against other users' debuggers hides its network, too."""
    code = PROTOCOL + (
        "from mptcpd.nl import libc\n"
        "for value in (1, 0, 1):\n"
        "    libc.prctl(4, value)\n"  # PR_SET_DUMPABLE
        "    print(protocol(s.AF_INET))\n"
    )
    assert python(lone_host, code) == [MPTCP] * 3
    assert python(lone_host, code, preexec_fn=without_rights) == [MPTCP, TCP, MPTCP]


def test_sockets_belong_to_the_caller(lone_host: Host) -> None:
    """Firewalls and policy routing look at whose a socket is."""
    code = PROTOCOL + (
        "import os\n"
        "def owner():\n"
        "    made = s.socket()\n"
        "    assert made.getsockopt(1, 38) == 262\n"
        "    return os.fstat(made.fileno()).st_uid, os.fstat(made.fileno()).st_gid\n"
        "print(owner())\n"
        "os.setresgid(4321, 4321, 0); os.setresuid(1234, 1234, 0)\n"
        "print(owner())\n"
        "os.setresuid(0, 0, 0); os.setresgid(0, 0, 0)\n"
        "print(owner())\n"
    )
    if os.geteuid() or not mptcpized.every_user():
        pytest.skip("changing the user needs root, and users")
    assert python(lone_host, code) == ["(0, 0)", "(1234, 4321)", "(0, 0)"]


def test_privileges(lone_host: Host) -> None:
    """Programs of who may do all may still gain rights; those of others may not."""
    words = ["run", "grep", "NoNewPrivs", "/proc/self/status"]
    assert run(lone_host, *words).stdout.split()[1] == "0"
    assert run(lone_host, *words, preexec_fn=without_rights).stdout.split()[1] == "1"


STORM = """
import os, sys, threading, _socket
def work(count, bad):
    for turn in range(count):
        made = _socket.socket(2 if turn % 2 else 10, 1, 0)
        bad += [made] * (made.getsockopt(1, 38) != 262)
        made.close()
    bad.append(None)  # it has come to its end
processes, threads, count = map(int, sys.argv[1:])
for process in range(processes):
    if not os.fork():
        bad = []
        for thread in [threading.Thread(target=work, args=(count, bad)) for _ in range(threads)]:
            thread.start()
        while threading.active_count() > 1: threading.enumerate()[-1].join()
        os._exit(len(bad) != threads)
print(*(os.waitstatus_to_exitcode(os.wait()[1]) for _ in range(processes)))
"""


def test_50000_calls_at_once(lone_host: Host, tmp_path: pathlib.Path) -> None:
    """Eight processes with eight threads each: no call is lost, none hangs, no descriptor stays."""
    mark = f"storm {os.getpid()}"
    (tmp_path / "storm.py").write_text(STORM)
    script = f"{sys.executable} {tmp_path}/storm.py 1 1 1; read go; " \
             f"{sys.executable} {tmp_path}/storm.py 8 8 782; read go"
    program = lone_host.popen(
        [*mptcpized.RUN, "sh", "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
        env=mptcpized.environment(mark),
    )
    assert program.stdin and program.stdout
    assert program.stdout.readline() == "0\n"
    (pid,) = mptcpized.supervisors(mark)
    before = {*os.listdir(f"/proc/{pid}/fd")}
    program.stdin.write("\n")
    assert program.stdout.readline() == "0 0 0 0 0 0 0 0\n"
    # The last caller goes on before the supervisor has closed its own end.
    wait_until(lambda: {*os.listdir(f"/proc/{pid}/fd")} <= before, "no descriptor stays")
    program.stdin.write("\n")
    assert program.wait(10) == 0
    mptcpized.until_none(mark)


def test_interrupted_and_killed_callers(lone_host: Host) -> None:
    """Signals in the middle of calls, and callers that die in them, disturb nobody else.

    The handler restarts calls (SA_RESTART): without that, one may end with EINTR, see the manual.
    """
    mark = f"killed {os.getpid()}"
    code = PROTOCOL + (
        "import os, signal, time\n"
        "signal.signal(signal.SIGALRM, lambda *_: None)\n"
        "signal.siginterrupt(signal.SIGALRM, False)\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)\n"
        "assert all(protocol(s.AF_INET) == 262 for turn in range(1000))\n"
        "signal.setitimer(signal.ITIMER_REAL, 0)\n"
        "for turn in range(40):\n"
        "    victims = []\n"
        "    for _ in range(4):\n"
        "        victims.append(os.fork())\n"
        "        if not victims[-1]:\n"
        "            while True: s.socket().close()\n"
        "    assert protocol(s.AF_INET) == 262\n"
        "    for victim in victims: os.kill(victim, 9); os.waitpid(victim, 0)\n"
        "print(protocol(s.AF_INET))\n"
    )
    assert python(lone_host, code, mark=mark) == [MPTCP]
    mptcpized.until_none(mark)
