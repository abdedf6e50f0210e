"""The declaration of a provider implementation, for modules in `twisted/plugins/`.

It imports little, because plugin modules import it: no reactor, no cryptography.
"""

from collections.abc import Mapping
from importlib import import_module
from types import ModuleType
from typing import Any

from twisted.plugin import IPlugin
from twisted.python import usage
from zope.interface import implementer

from nymtw.interfaces import IProviderFactory


@implementer(IPlugin, IProviderFactory)
class ProviderFactory:
    """A provider implementation whose code is imported only when it is chosen.

    `module` is the full name of a module with `Options`, a `twisted.python.usage.Options` subclass, and
    `make_provider(context, options)`, which returns an `IProvider`.
    """

    def __init__(self, name: str, summary: str, module: str) -> None:
        self.name = name
        self.summary = summary
        self.module = module

    @property
    def options(self) -> type[usage.Options]:
        """The implementation's own options."""
        return self._load().Options

    def make_provider(self, context: Any, options: Mapping[str, Any]) -> Any:
        """Make the implementation."""
        return self._load().make_provider(context, options)

    def _load(self) -> ModuleType:
        return import_module(self.module)
