"""mptcpize run: starts a program whose TCP sockets become MPTCP ones.

Knows    processes, signals, descriptors, and the order in which the two parties get ready.
Not      which calls are answered how (core.supervisor), nor the command line.

The process that was started becomes the program (exec), so that its number, its terminal, its
place in jobs, its parent, its exit status are the program's own. The supervisor is a child of a
child, which the program does not know of and cannot wait for. It ends when nobody is left to serve.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from typing import NoReturn

from mptcpd.core.supervisor import WANTED, Supervisor
from mptcpd.nl import libc, seccomp, syscalls
from mptcpd.nl import uapi as u
from mptcpd.nl.notify import Listener
from mptcpd.nl.processes import Processes
from mptcpd.nl.syscalls import Abi

_READY = b"ready"
_SO_PROTOCOL = 38  # asm-generic/socket.h; Python's socket module has it since 3.12 only


class LaunchError(Exception):
    """The program cannot be started under the filter; str() says why."""


def supervised(debug: bool) -> None:
    """From now on TCP sockets of this process, and of all that it starts, become MPTCP ones.

    debug   the supervisor tells on standard error what it does
    Errors  LaunchError. The process then is of no further use: it may have a filter already.

    Under another mptcpize there is nothing to do, as the filter of that one holds.
    """
    try:
        Processes().close()
    except OSError as error:
        raise LaunchError(
            f"/proc does not tell in which network namespace a program is: {error.strerror}"
        ) from error
    abi = _abi()
    channel = _start_supervisor(abi, debug)
    with channel:
        listener = _filter(abi)
        if listener is None:
            return
        answer = b""
        # A supervisor that has failed says why before it goes, and what it said can still be read.
        with contextlib.suppress(ConnectionError):
            socket.send_fds(channel, [b"f"], [listener])
        with contextlib.suppress(ConnectionError):
            answer = channel.recv(4096)
        os.close(listener)
    if answer != _READY:
        raise LaunchError(answer.decode() or "the supervisor ended")


def _abi() -> Abi:
    try:
        with open("/proc/self/exe", "rb") as file:
            abi = syscalls.of_program(file.read(64))
    except OSError as error:
        raise LaunchError(f"/proc/self/exe cannot be read: {error.strerror}") from error
    if abi is None:
        machine = os.uname().machine
        raise LaunchError(f"the numbers of system calls are not known for this machine ({machine})")
    return abi


def _filter(abi: Abi) -> int | None:
    """Install the filter; return the listener, None if another mptcpize serves us already."""
    program = seccomp.program(
        syscalls.siblings(abi), WANTED, default=u.SECCOMP_RET_ALLOW, foreign=u.SECCOMP_RET_ALLOW
    )
    number = syscalls.numbers(abi)["seccomp"]
    flags = u.SECCOMP_FILTER_FLAG_NEW_LISTENER | u.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
    for _attempt in range(3):
        try:
            return libc.seccomp(number, program, flags)
        except OSError as error:
            if error.errno == errno.EACCES:
                # Only who has CAP_SYS_ADMIN may filter programs that get rights by being started.
                libc.no_new_privileges()
            elif error.errno == errno.EINVAL and flags & u.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV:
                # Linux 5.19 has it. Without it a signal interrupts a call, which then comes anew.
                flags &= ~u.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
            elif error.errno == errno.EBUSY:
                if _is_mptcp_already():
                    return None
                raise LaunchError("another program listens to the system calls already") from error
            else:
                raise LaunchError(f"no filter for system calls: {error.strerror}") from error
    raise LaunchError("no filter for system calls: no right to have one")


def _is_mptcp_already() -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as trial:
        return trial.getsockopt(socket.SOL_SOCKET, _SO_PROTOCOL) == u.IPPROTO_MPTCP


def _start_supervisor(abi: Abi, debug: bool) -> socket.socket:
    """Fork the supervisor; it waits at the other end of the socket for the listener."""
    try:
        ours, theirs = map(_above_standard, socket.socketpair())
    except OSError as error:  # few descriptors are allowed
        raise LaunchError(f"no supervisor: {error.strerror}") from error
    # Not one signal that is meant for us may reach it, not even before it has left our session.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        middle = os.fork()
        if not middle:
            try:
                if not os.fork():
                    ours.close()
                    _supervise(theirs, abi, debug)
            except BaseException as error:  # whatever it is, our starter has to hear of it
                with contextlib.suppress(OSError):
                    theirs.send(f"no supervisor: {error}".encode())
            finally:
                os._exit(0)
        with contextlib.suppress(ChildProcessError):  # where SIGCHLD is ignored
            os.waitpid(middle, 0)
    except OSError as error:
        raise LaunchError(f"no supervisor: {error.strerror}") from error
    finally:
        theirs.close()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return ours


def _supervise(channel: socket.socket, abi: Abi, debug: bool) -> None:
    """The supervisor's life. All signals are blocked: it ends with the last program it serves."""
    os.setsid()
    os.chdir("/")  # keeps no file system busy
    _be_alone_with(channel.fileno(), keep_stderr=debug)
    libc.set_name("mptcpize-serve")
    _data, fds, _flags, _address = socket.recv_fds(channel, 1, 1)
    if not fds:
        return  # no filter, hence nothing to do; our starter knows and says why
    listener = Listener(fds[0], abi)
    if not listener.can_give():
        channel.send(b"the kernel cannot hand over sockets (Linux 5.14 can)")
        return
    listener.wake_on_this_cpu()
    supervisor = Supervisor(listener, fds[0], Processes(), _say if debug else None)
    channel.send(_READY)
    channel.close()
    try:
        supervisor.serve()
    except Exception as error:
        _say(f"the supervisor ends, sockets will fail with ENOSYS: {error!r}")  # heard with -d


def _above_standard(sock: socket.socket) -> socket.socket:
    """The same socket with a descriptor above 2: we may have been started without those."""
    with sock:
        return socket.socket(fileno=fcntl.fcntl(sock.fileno(), fcntl.F_DUPFD_CLOEXEC, 3))


def _be_alone_with(fd: int, keep_stderr: bool) -> None:
    """Close all descriptors but this one: pipes and files are the program's, and may not linger."""
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1) if keep_stderr else (0, 1, 2):
        os.dup2(null, number)
    for name in os.listdir("/proc/self/fd"):  # not closerange: the limit may be a thousand million
        if int(name) > 2 and int(name) != fd:
            with contextlib.suppress(OSError):  # the folder's own, which is closed already
                os.close(int(name))


def _say(line: str) -> None:
    # Where nobody reads it any more, that is no reason to fail the program.
    with contextlib.suppress(OSError):
        os.write(2, f"mptcpize: {line}\n".encode())


def environment(initial: bytes | None) -> dict[bytes, bytes]:
    """Our environment as our starter made it, with the word for Go programs.

    initial  /proc/self/environ, None if it cannot be read

    Python sets LC_CTYPE in the "C" locale (PEP 538), which would change what programs print.
    """
    variables = dict(os.environb)
    if initial is not None and not any(
        line.startswith(b"LC_CTYPE=") for line in initial.split(b"\0")
    ):
        variables.pop(b"LC_CTYPE", None)
    given = variables.get(b"GODEBUG", b"")
    if b"multipathtcp=1" not in given.split(b","):
        variables[b"GODEBUG"] = given + b"," * bool(given) + b"multipathtcp=1"
    return variables


def restore_signals(ignore_sigpipe: bool) -> None:
    """Undo what Python did to signals: programs inherit which of them are ignored.

    ignore_sigpipe  whether our starter ignored it, which Python cannot tell any more
    """
    if not ignore_sigpipe:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)


def execute(program: str, arguments: list[str], environ: Mapping[bytes, bytes]) -> NoReturn:
    """Become a program, found as the shell and execvpe(3) find it.

    arguments  argv, with the program's own name for itself first
    Errors     OSError
    """
    directories: Sequence[bytes] = [b""]
    if "/" not in program:
        path = environ.get(b"PATH", os.fsencode(os.defpath))
        directories = path.split(b":")
    if not program:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    refused: OSError | None = None
    for directory in directories:
        file = os.path.join(directory, os.fsencode(program))
        try:
            _exec(file, arguments, environ)
        except OSError as error:
            if error.errno == errno.EACCES:
                refused = error
            elif error.errno not in (errno.ENOENT, errno.ENOTDIR) or "/" in program:
                raise
    raise refused or FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))


def _exec(file: bytes, arguments: list[str], environ: Mapping[bytes, bytes]) -> None:
    try:
        os.execve(file, arguments, environ)
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
        # A script without a first line that names its interpreter.
        os.execve(b"/bin/sh", [b"/bin/sh", file, *map(os.fsencode, arguments[1:])], environ)


def from_systemd() -> bool:
    """Whether systemd started this very process (which then ignores SIGPIPE, by default)."""
    return os.environ.get("SYSTEMD_EXEC_PID") == str(os.getpid()) or (
        "INVOCATION_ID" in os.environ and os.getppid() == 1
    )
