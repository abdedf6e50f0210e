"""The client: everything a program or a person needs to use the mixnet. Python programs begin with `Client`."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # loaded by `__getattr__` below
    from nymtw.client.api import Client, Message, Sent

__all__ = ["Client", "Message", "Sent"]


def __getattr__(name: str) -> Any:
    # Late: the twistd plugins load this package, and it should cost them nothing.
    if name in __all__:
        from nymtw.client import api

        return getattr(api, name)
    raise AttributeError(name)
