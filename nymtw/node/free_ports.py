"""Free TCP ports: usual ones that are taken give way to others at the first start of a node."""

import socket
from collections.abc import Mapping
from typing import Any, Final

from twisted.logger import Logger

from nymtw.errors import ListenError

_log = Logger()
_TRIES: Final = 100
Places = Mapping[tuple[str, str], int]  # (section, key) -> the usual port


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen on `port` of the IP address `host` now, the way Twisted does it."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        # As servers do it: a connection of a minute ago that lingers in TIME_WAIT does not make the port taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def any_port(host: str) -> int:
    """A port of `host` that was free a moment ago. Raises `ListenError`."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        try:
            probe.bind((host, 0))
        except OSError as error:
            raise ListenError(f"no free port on {host or 'this machine'}: {error.strerror}") from None
        return int(probe.getsockname()[1])


def with_free_ports(given: Mapping[str, Mapping[str, Any]], usual: Places, host: str) -> dict[str, dict[str, Any]]:
    """What is `given`, and another port for each usual one that is not given and is taken; the log says which.

    The topology has a node's ports, so nobody counts on the usual ones. Raises `ListenError`.
    """
    found = {section: dict(values) for section, values in given.items()}
    used = {values[key] for (section, key) in usual if key in (values := found.get(section, {}))}
    for (section, key), port in usual.items():
        values = found.setdefault(section, {})
        if key in values:
            continue
        if port not in used and is_free(host, port):
            used.add(port)
            continue
        for _ in range(_TRIES):
            values[key] = any_port(host)
            if values[key] not in used:
                break
        used.add(values[key])
        _log.warn(
            "Port {port} is taken on this machine: this node keeps to {other} ({key})",
            port=port,
            other=values[key],
            key=key,
        )
    return found
