"""Real programs under mptcpize, each in a network of its own: their connections are MPTCP ones."""

from __future__ import annotations

import os
import pathlib
import platform
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable

import pytest

from lab import Host, wait_until
from mptcpd.nl import uapi as u
from tests.kernel import mptcpized

HTTP = b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello"

C_CLIENT = r"""
#include <arpa/inet.h>
#include <stdlib.h>
#include <unistd.h>
int main(int argc, char **argv)
{
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(atoi(argv[2])) };
    char answer[99];
    int fd = socket(AF_INET, SOCK_STREAM, IPPROTO_TCP);
    inet_pton(AF_INET, argv[1], &to.sin_addr);
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) || write(fd, "hi", 2) != 2)
        return 1;
    return read(fd, answer, sizeof answer) < 5;
}
"""
GO_CLIENT = """
package main

import ("net"; "os")

func main() {
    to, failed := net.Dial("tcp", os.Args[1]+":"+os.Args[2])
    if failed != nil { os.Exit(1) }
    to.Write([]byte("hi"))
    if got, _ := to.Read(make([]byte, 99)); got < 5 { os.Exit(2) }
}
"""
# The C library may use socketcall(2), whose arguments no filter can see; syscall(2) goes around it.
C_32_BITS = r"""
#include <stdio.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
static void show(int fd)
{
    int protocol = -1;
    socklen_t size = sizeof protocol;
    getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &size);
    printf("%d\n", protocol);
}
int main(void)
{
    show(syscall(__NR_socket, AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    show(syscall(__NR_socket, AF_INET, SOCK_DGRAM, 0));
    show(socket(AF_INET6, SOCK_STREAM, 0));
    return 0;
}
"""
PYTHON_CLIENT = """
import socket, sys
with socket.create_connection(sys.argv[1:3]) as to:
    to.sendall(b"hi")
    assert len(to.recv(99)) >= 5
"""


def needed(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if not found:
        pytest.skip(f"no {name} on this machine")
    return found


def built(folder: pathlib.Path, name: str, text: str, *command: str) -> str:
    """A program made from its source; a skip that says what the compiler lacks."""
    (folder / name).write_text(text)
    compiler = needed(command[0])
    try:
        made = subprocess.run(
            [compiler, *command[1:], "-o", str(folder / "client"), name],
            cwd=folder,
            env={"HOME": str(folder), **os.environ, "CGO_ENABLED": "0"},
            capture_output=True,
            text=True,
            timeout=120,
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"{command[0]} takes more than 120 s")
    if made.returncode:
        pytest.skip(f"{command[0]} cannot build it: {made.stderr.splitlines()[-1]}")
    return str(folder / "client")


def static(compiler: str) -> Callable[[pathlib.Path], list[str]]:
    return lambda folder: [built(folder, "client.c", C_CLIENT, compiler, "-static")]


CLIENTS: dict[str, Callable[[pathlib.Path], list[str]]] = {
    "curl": lambda _: [needed("sh"), "-c", f"exec {needed('curl')} -s http://$0:$1/"],
    "python": lambda _: [sys.executable, "-c", PYTHON_CLIENT],
    "static-glibc": static("gcc"),
    "static-musl": static("musl-gcc"),
    "go": lambda folder: [built(folder, "client.go", GO_CLIENT, "go", "build")],
}


@pytest.mark.parametrize("name", CLIENTS)
def test_client(lone_host: Host, tmp_path: pathlib.Path, name: str) -> None:
    """Our server accepts, and asks sock_diag while the program waits for the answer."""
    command = CLIENTS[name](tmp_path)
    with mptcpized.listening(lone_host) as server:
        address, port = server.getsockname()
        program = lone_host.popen(
            [*mptcpized.RUN, *command, address, str(port)],
            env=mptcpized.environment(),
        )
        accepted, client = server.accept()
        with accepted:
            assert accepted.recv(999)
            assert mptcpized.is_mptcp(lone_host, client, (address, port))
            accepted.sendall(HTTP)
        assert program.wait(10) == 0


def test_32_bits_on_64(lone_host: Host, tmp_path: pathlib.Path) -> None:
    """The other numbers of the 32-bit ABI; its socketcall is let through, whatever it asks for."""
    if platform.machine() != "x86_64":
        pytest.skip("written for x86-64, which runs programs of i386")
    program = built(tmp_path, "small.c", C_32_BITS, "gcc", "-m32")
    ended = mptcpized.run(lone_host, "run", program)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split()[:2] == ["262", "17"]
    assert ended.stdout.split()[2] in ("262", "6")


def test_without_it_they_are_tcp(lone_host: Host) -> None:
    """Or the other tests would prove nothing."""
    with mptcpized.listening(lone_host) as server:
        address, port = server.getsockname()
        lone_host.popen([sys.executable, "-c", PYTHON_CLIENT, address, str(port)])
        accepted, client = server.accept()
        with accepted:
            assert accepted.recv(999)
            assert not mptcpized.is_mptcp(lone_host, client, (address, port))
            accepted.sendall(HTTP)


def test_iperf3(lone_host: Host) -> None:
    """Server and client both; its data connection and its control connection."""
    program = needed("iperf3")
    server = lone_host.popen(
        [*mptcpized.RUN, program, "-s", "-1", "-p", "5201", "--forceflush"],
        stdout=subprocess.PIPE,
        text=True,
        env=mptcpized.environment(),
    )
    assert server.stdout
    while "listening" not in (line := server.stdout.readline()):
        assert line, "iperf3 ended"
    client = lone_host.popen(
        [*mptcpized.RUN, program, "-c", "127.0.0.1", "-t", "1"],
        stdout=subprocess.DEVNULL,
        env=mptcpized.environment(),
    )

    def both() -> bool:
        seen = [c.path for c in mptcpized.connections(lone_host)]
        return sum(path.remote_port == 5201 for path in seen) == 2 and len(seen) == 4

    wait_until(both, "two connections with two ends each")
    assert client.wait(20) == 0 and server.wait(20) == 0


NGINX = """
{user}
worker_processes 2;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    server {{
        listen 127.0.0.1:8080;
        location / {{ proxy_pass http://127.0.0.1:{port}; }}
    }}
}}
"""


def test_nginx(lone_host: Host, tmp_path: pathlib.Path) -> None:
    """It goes into the background and drops rights; what it accepts and what it opens is MPTCP."""
    program = needed("nginx")
    folder = tmp_path
    folder.chmod(0o755)
    with mptcpized.listening(lone_host) as upstream:
        address, port = upstream.getsockname()
        file = folder / "nginx.conf"
        user = "" if mptcpized.every_user() else "user root root;"
        file.write_text(NGINX.format(folder=folder, port=port, user=user))
        mark = f"nginx {os.getpid()}"
        started = mptcpized.run(
            lone_host, "run", program, "-e", f"{folder}/error.log", "-c", str(file), mark=mark
        )
        assert (started.returncode, started.stdout) == (0, ""), started.stderr
        wait_until((folder / "pid").exists, "nginx has started")
        try:
            assert len(mptcpized.supervisors(mark)) == 1
            with lone_host, socket.socket(socket.AF_INET, socket.SOCK_STREAM, u.IPPROTO_MPTCP) as s:
                s.settimeout(10)
                s.connect(("127.0.0.1", 8080))
                s.sendall(b"GET / HTTP/1.0\r\n\r\n")
                accepted, worker = upstream.accept()
                with accepted:
                    assert mptcpized.is_mptcp(lone_host, ("127.0.0.1", 8080), s.getsockname())
                    assert mptcpized.is_mptcp(lone_host, worker, (address, port))
                    assert accepted.recv(999)
                    accepted.sendall(HTTP)
                assert s.recv(999).startswith(b"HTTP/1.1 200")
        finally:
            os.kill(int((folder / "pid").read_text()), signal.SIGQUIT)
        mptcpized.until_none(mark)
