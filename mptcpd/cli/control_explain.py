"""What would become of a connection: which plugin would get it, what it would do, and why.

Knows the order in which plugins are asked, and what the kernel's own path manager goes by; must not
know policies: plugins explain themselves (``Plugin.explain``). Nothing is changed.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from mptcpd.cli import pm_type
from mptcpd.core.address import SockAddr
from mptcpd.core.connection import ESTABLISHED, Connection
from mptcpd.core.ownership import Endpoint
from mptcpd.core.path import path_of
from mptcpd.core.registry import FAILURES

if TYPE_CHECKING:
    from mptcpd.cli.service import Service

_LOG = logging.getLogger("mptcpd")


def explain(service: Service, role: str, local: SockAddr, remote: SockAddr) -> dict[str, Any]:
    """The answer to the command of that name. Errors: ValueError; KernelError."""
    if local.ip.version != remote.ip.version:
        raise ValueError(f"{local} and {remote} are not of one address family")
    found = pm_type.PathManagerType()
    imagined = Connection(0, path_of(local, remote), role == "server", False)
    imagined.state = ESTABLISHED
    answer: dict[str, Any] = {
        "path_manager": found.name,
        "interface": next(
            (
                interface.name
                for interface in service.network.network.interfaces.values()
                if any(own.ip == local.ip for own in interface.addresses)
            ),
            None,
        ),
        "plugins": _plugins(service, imagined) if found.name != "kernel" else [],
        "plugin": None,
    }
    takes = [each["plugin"] for each in answer["plugins"] if each["takes"]]
    if found.name == "kernel":
        answer["text"] = f"The kernel's own path manager decides: {_kernel(service, role, local)}."
    elif takes:
        answer["plugin"] = takes[-1]
        answer["text"] = f"{takes[-1]} takes it: {answer['plugins'][-1]['text']}."
    else:
        answer["text"] = "No plugin wants it: it stays with its first subflow."
    return answer


def _plugins(service: Service, imagined: Connection) -> list[dict[str, Any]]:
    """The answers of the plugins that would be asked, the last one being who takes it, if any."""
    answers = []
    for owner in service.owners.in_order():
        try:
            takes, text = owner.plugin.explain(imagined, owner.pm)
        except FAILURES as error:
            # A plugin is somebody else's code.
            service.registry.failed(owner.plugin, "explain")
            takes, text = False, f"{type(error).__name__}: {error}"
        answers.append({"plugin": owner.plugin.name, "takes": bool(takes), "text": str(text)})
        if takes:
            break
    return answers


def _kernel(service: Service, role: str, local: SockAddr) -> str:
    """What the kernel's path manager does by its endpoints and limits."""
    limits = service.endpoints.limits()
    endpoints = service.endpoints.endpoints()
    version = local.ip.version

    def named(flags: set[str]) -> str:
        return ", ".join(
            _shown(endpoint)
            for endpoint in endpoints
            if flags & {*endpoint.flags}
            and endpoint.address.ip.version == version
            and endpoint.address.ip != local.ip
        )

    parts = []
    if role == "client":
        parts.append(f"subflows from {named({'subflow', 'fullmesh'}) or 'no other address'}")
    parts.append(f"announces {named({'signal'}) or 'no other address'}")
    parts.append(f"at most {limits.subflows} subflows besides the first")
    return "; ".join(parts)


def _shown(endpoint: Endpoint) -> str:
    backup = " (backup)" if "backup" in endpoint.flags else ""
    return f"{endpoint.address}{backup}"
