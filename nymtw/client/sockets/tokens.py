"""The tokens of the sockets for applications: `BASE/sockets/PORT.token`, mode 0600, new at each start of a client.

Whoever can read the file may use the socket: programs of the client's user. It is gone when the client ends.
"""

from pathlib import Path
from typing import Any, Final

from nymtw.errors import ConfigError
from nymtw.node.home import nym_home, private_folder, write_file

TOKEN_BYTES: Final = 32
_LONGEST: Final = 1000
REQUEST: Final = "authenticate"


def token_file(port: int, base: Path | None = None) -> Path:
    """Where the token of the socket at `port` is. `base`: the folder of all homes; None: NYMTW_HOME or ~/.nym."""
    return (nym_home() if base is None else base) / "sockets" / f"{port}.token"


def write_token(file: Path, token: str) -> None:
    """Raises `ConfigError`."""
    private_folder(file.parent)
    try:
        write_file(file, f"{token}\n".encode())
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}") from None


def read_token(file: Path) -> str | None:
    """The token in a file; None where there is none that can be read."""
    try:
        with open(file, "rb") as opened:
            return opened.read(_LONGEST).decode("ascii").strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def remove_token(file: Path, token: str) -> None:
    """Remove the file, unless another client has put its own token there."""
    if read_token(file) == token:
        file.unlink(missing_ok=True)


def presented(value: Any) -> str | None:
    """The token in a request that presents one, in either form; None in any other."""
    if not isinstance(value, dict):
        return None
    body = value if value.get("type") == REQUEST else value.get(REQUEST)
    token = body.get("token") if isinstance(body, dict) else None
    return token if isinstance(token, str) else None
