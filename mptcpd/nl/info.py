"""struct mptcp_info and struct tcp_info, as sock_diag sends them, to values.

Knows linux/mptcp.h and linux/tcp.h; must not know sockets. Both structs grow with the kernel:
what a kernel does not send is None. All integers are in host order.
"""

from __future__ import annotations

from typing import NamedTuple

from mptcpd.nl.growing import Growing


class MptcpInfo(NamedTuple):
    """What the kernel tells of a connection; names are those of struct mptcp_info.

    subflows, add_addr_signal, add_addr_accepted, local_addr_used
                      subflows beside the first; addresses announced, taken from the peer, used
    *_max             the limits of the kernel's own path manager for them, 0 under another one
    csum_enabled      1 where data carries a checksum
    retransmits       retransmissions of data, by whatever subflow; bytes_retrans in bytes
    bytes_sent, bytes_received, bytes_acked    of the application's data (Linux 6.5)
    subflows_total    living subflows, the first one counted (Linux 6.8)
    last_data_sent, last_data_recv, last_ack_recv    milliseconds ago (Linux 6.10)
    """

    subflows: int | None = None
    add_addr_signal: int | None = None
    add_addr_accepted: int | None = None
    subflows_max: int | None = None
    add_addr_signal_max: int | None = None
    add_addr_accepted_max: int | None = None
    local_addr_used: int | None = None
    local_addr_max: int | None = None
    csum_enabled: int | None = None
    retransmits: int | None = None
    bytes_retrans: int | None = None
    bytes_sent: int | None = None
    bytes_received: int | None = None
    bytes_acked: int | None = None
    subflows_total: int | None = None
    endp_laminar_max: int | None = None
    endp_fullmesh_max: int | None = None
    last_data_sent: int | None = None
    last_data_recv: int | None = None
    last_ack_recv: int | None = None


class TcpInfo(NamedTuple):
    """What the kernel tells of a subflow; names are those of struct tcp_info.

    retransmits     in a row, for the oldest segment; total_retrans: segments, ever
    rto, rtt, rttvar, min_rtt              microseconds
    last_data_sent, last_data_recv, last_ack_recv    milliseconds ago
    snd_mss, pmtu                          bytes
    unacked, lost, snd_cwnd, snd_ssthresh  segments
    pacing_rate, delivery_rate             bytes a second, as the kernel reckons
    bytes_sent      payload that left, retransmissions included; bytes_retrans: those alone
    bytes_acked     payload that the peer has confirmed (and 1 for our SYN)
    notsent_bytes   payload that waits to be sent
    """

    retransmits: int | None = None
    rto: int | None = None
    snd_mss: int | None = None
    unacked: int | None = None
    lost: int | None = None
    last_data_sent: int | None = None
    last_data_recv: int | None = None
    last_ack_recv: int | None = None
    pmtu: int | None = None
    rtt: int | None = None
    rttvar: int | None = None
    snd_ssthresh: int | None = None
    snd_cwnd: int | None = None
    total_retrans: int | None = None
    pacing_rate: int | None = None
    bytes_acked: int | None = None
    bytes_received: int | None = None
    notsent_bytes: int | None = None
    min_rtt: int | None = None
    delivery_rate: int | None = None
    bytes_sent: int | None = None
    bytes_retrans: int | None = None


# Field, offset, format.
MPTCP_INFO_FIELDS = (
    ("subflows", 0, "B"),
    ("add_addr_signal", 1, "B"),
    ("add_addr_accepted", 2, "B"),
    ("subflows_max", 3, "B"),
    ("add_addr_signal_max", 4, "B"),
    ("add_addr_accepted_max", 5, "B"),
    ("local_addr_used", 40, "B"),
    ("local_addr_max", 41, "B"),
    ("csum_enabled", 42, "B"),
    ("retransmits", 44, "I"),
    ("bytes_retrans", 48, "Q"),
    ("bytes_sent", 56, "Q"),
    ("bytes_received", 64, "Q"),
    ("bytes_acked", 72, "Q"),
    ("subflows_total", 80, "B"),
    ("endp_laminar_max", 81, "B"),
    ("endp_fullmesh_max", 82, "B"),
    ("last_data_sent", 84, "I"),
    ("last_data_recv", 88, "I"),
    ("last_ack_recv", 92, "I"),
)
TCP_INFO_FIELDS = (
    ("retransmits", 2, "B"),
    ("rto", 8, "I"),
    ("snd_mss", 16, "I"),
    ("unacked", 24, "I"),
    ("lost", 32, "I"),
    ("last_data_sent", 44, "I"),
    ("last_data_recv", 52, "I"),
    ("last_ack_recv", 56, "I"),
    ("pmtu", 60, "I"),
    ("rtt", 68, "I"),
    ("rttvar", 72, "I"),
    ("snd_ssthresh", 76, "I"),
    ("snd_cwnd", 80, "I"),
    ("total_retrans", 100, "I"),
    ("pacing_rate", 104, "Q"),
    ("bytes_acked", 120, "Q"),
    ("bytes_received", 128, "Q"),
    ("notsent_bytes", 144, "I"),
    ("min_rtt", 148, "I"),
    ("delivery_rate", 160, "Q"),
    ("bytes_sent", 200, "Q"),
    ("bytes_retrans", 208, "Q"),
)
_MPTCP = Growing([(offset, form) for _name, offset, form in MPTCP_INFO_FIELDS])
_TCP = Growing([(offset, form) for _name, offset, form in TCP_INFO_FIELDS])


def mptcp_info(data: bytes) -> MptcpInfo:
    """struct mptcp_info, of any length. Source: net/mptcp/sockopt.c: mptcp_diag_fill_info.

    A kernel whose struct ends inside of a gap of the table (before 6.10 it ended at 84 bytes) may
    count padding as a field: subflows_total is the last of that kernel's, the two after it are 0.
    """
    return MptcpInfo._make(_MPTCP.read(data))


def tcp_info(data: bytes) -> TcpInfo:
    """struct tcp_info, of any length. Source: net/ipv4/tcp.c: tcp_get_info."""
    return TcpInfo._make(_TCP.read(data))
