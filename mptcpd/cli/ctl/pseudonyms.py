"""Names for IP addresses that tell which are the same and which share a network, and nothing more.

Knows addresses; must not know where they stand. 10.1.2.3 becomes net1.1, 10.1.2.4 net1.2, both
everywhere in one report; networks are told apart by /24 and /64. What says nothing of a place stays
as it is: loopback, unspecified, multicast, the prefix of link-local addresses.
"""

from __future__ import annotations

from mptcpd.cli.ctl.endpoint import shown_ip

_MAPPED = bytes(10) + b"\xff\xff"


class Pseudonyms:
    """Address to name; ``keep``: say the addresses themselves."""

    def __init__(self, keep: bool) -> None:
        self._keep = keep
        self._networks: dict[bytes, int] = {}
        self._hosts: dict[bytes, dict[bytes, int]] = {}

    def ip(self, ip: bytes) -> str:
        """The name of an address of 4 or 16 bytes."""
        if self._keep or _harmless(ip):
            return shown_ip(ip)[0]
        if ip.startswith(_MAPPED):
            return f"::ffff:{self.ip(ip[12:])}"
        split = 3 if len(ip) == 4 else 8
        network, host = ip[:split], ip[split:]
        hosts = self._hosts.setdefault(network, {bytes(len(host)): 0})
        number = hosts.setdefault(host, len(hosts))
        if network == b"\xfe\x80" + bytes(6):
            return f"fe80::host{number}"
        place = self._networks.setdefault(network, len(self._networks) + 1)
        return f"net{place}.{number}" if len(ip) == 4 else f"net{place}::{number}"

    def end(self, ip: bytes, port: int) -> str:
        """An address with a port."""
        text = self.ip(ip)
        return f"[{text}]:{port}" if ":" in text else f"{text}:{port}"

    def prefix(self, ip: bytes | None, length: int) -> str:
        """A network; "default" for none."""
        return "default" if ip is None else f"{self.ip(ip)}/{length}"


def _harmless(ip: bytes) -> bool:
    if len(ip) == 4:
        return ip[0] in (0, 127) or ip[0] >= 224
    return ip[0] == 0xFF or ip in (bytes(16), bytes(15) + b"\x01")
