"""announce, remove, subflow, address: what the userspace path manager may do to one connection.

Knows the commands by their words; must not know netlink, nor how a join ends (``joining``). The
kernel refuses a connection that has another path manager, and its words are passed on.
"""

from __future__ import annotations

from mptcpd.cli.ctl.call import Call
from mptcpd.cli.ctl.endpoint import client, record, shown_ip
from mptcpd.cli.ctl.errors import Failure, required, wrong
from mptcpd.cli.ctl.grammar import Args
from mptcpd.nl import diag
from mptcpd.nl import uapi as u
from mptcpd.nl.client import MptcpClient
from mptcpd.nl.diag_client import DiagClient
from mptcpd.nl.mptcp import FLAGS, Address
from mptcpd.nl.sock import CommandSocket

_MAPPED = bytes(10) + b"\xff\xff"  # what IPv4 in IPv6 begins with


def announce(call: Call) -> int:
    """Send ADD_ADDR; with ``listen`` hold a listening socket there until somebody ends it."""
    args = call.args
    _no_zero(args["id"])
    address = Address(
        args["address"], args.get("port", 0), args["id"], FLAGS["signal"], args.get("dev")
    )
    if not args.get("listen"):
        client().announce(args["token"], address)
        return 0
    from mptcpd.cli.ctl import holding

    with holding.listener(args["address"], address.port, args.get("dev")) as sock:
        bound = address._replace(port=sock.getsockname()[1])
        client().announce(args["token"], bound)
        holding.hold(call, sock)
    return 0


def remove(call: Call) -> int:
    """Send RM_ADDR. ID 0 is the address that the connection began with."""
    client().remove(call.args["token"], call.args["id"])
    return 0


def create(call: Call) -> int:
    """Start a subflow; with ``--wait`` print it once it is there, or say why it is not."""
    args = call.args
    token = args["token"]
    kernel = client()
    local, remote = _side(args, "local"), _side(args, "remote")
    if local.id is None:
        local = local._replace(id=_free_id(kernel, token, args["local"]))
    flags = FLAGS["backup"] if args.get("backup") else None
    local = local._replace(flags=flags, ifindex=args.get("dev"))
    if "wait" not in args:
        kernel.subflow_create(token, local, remote)
        return 0
    from mptcpd.cli.ctl import joining

    seconds = joining.PATIENCE if args["wait"] is True else args["wait"]
    return joining.create(call, kernel, token, local, remote, seconds)


def destroy(call: Call) -> int:
    """Close one subflow."""
    args = call.args
    client().subflow_destroy(args["token"], _side(args, "local"), _side(args, "remote"))
    return 0


def priority(call: Call) -> int:
    """Tell the peer that a subflow is a backup, or is one no more (MP_PRIO)."""
    args = call.args
    said = args.get("FLAG")
    if not said:
        raise required("backup | nobackup")
    flags = FLAGS["backup"] if said[-1] == "backup" else 0
    if "local" in args and "remote" in args:
        local, remote = _side(args, "local"), _side(args, "remote")
    else:
        path = _only(args)
        local = Address(path.local_ip, path.local_port)
        remote = Address(path.remote_ip, path.remote_port)
    client().set_flags(local._replace(flags=flags), remote, args["token"])
    return 0


def show(call: Call) -> int:
    """List the addresses of a connection: announced ones, and those that subflows were made of."""
    token, ident = call.args["token"], call.args.get("id")
    kernel = client()
    found = kernel.dump_addrs(token) if ident is None else [kernel.get_addr(ident, token)]
    call.out.records(record(address) for address in found)
    return 0


def _side(args: Args, side: str) -> Address:
    return Address(args[side], args.get(f"{side}_port", 0), args.get(f"{side}_id"))


def _no_zero(ident: int) -> None:
    if not ident:
        raise wrong("id 0", "it is the address that the connection began with")


def _free_id(kernel: MptcpClient, token: int, ip: bytes) -> int | None:
    """An ID for a local address that none was given for: the one it has, else one that is free.

    Without an ID the kernel takes 0, which on the wire means the address of the first subflow.
    None where the kernel does not tell (before Linux 6.9): then it decides.
    """
    from mptcpd.nl.errors import KernelError

    try:
        known = kernel.dump_addrs(token)
    except KernelError:
        return None
    connection = DiagClient(CommandSocket(u.NETLINK_SOCK_DIAG)).connection(token)
    if connection is not None and plain(connection.path.local_ip) == plain(ip):
        return 0
    ids = {plain(address.ip or b""): address.id for address in known if address.id}
    taken = {*ids.values()}
    return ids.get(plain(ip)) or next((free for free in range(1, 256) if free not in taken), None)


def _only(args: Args) -> diag.Path:
    """The one subflow of the connection that fits what was said of it. Errors: Failure."""
    subflows = DiagClient(CommandSocket(u.NETLINK_SOCK_DIAG)).subflows()
    paths = [subflow.path for subflow in subflows if subflow.token == args["token"]]
    fitting = [
        path
        for path in paths
        if _fits(args, "local", path.local_ip, path.local_port)
        and _fits(args, "remote", path.remote_ip, path.remote_port)
    ]
    if not fitting:
        raise Failure("Error: no subflow of this connection fits (listing them needs rights).", 2)
    if len(fitting) > 1:
        listed = "; ".join(_spelled(path) for path in fitting)
        raise Failure(f"Error: several subflows fit, say which: {listed}.")
    return fitting[0]


def _fits(args: Args, side: str, ip: bytes, port: int) -> bool:
    if side not in args:
        return True
    return plain(args[side]) == plain(ip) and args.get(f"{side}_port", port) == port


def _spelled(path: diag.Path) -> str:
    local, remote = shown_ip(path.local_ip)[0], shown_ip(path.remote_ip)[0]
    return f"local {local} port {path.local_port} remote {remote} port {path.remote_port}"


def plain(ip: bytes) -> bytes:
    """An IPv4 address that comes as IPv6 (::ffff:10.0.0.1), as IPv4; others as they are."""
    return ip[12:] if len(ip) == 16 and ip.startswith(_MAPPED) else ip
