"""Finds provider implementations: plugins of `twisted.plugins` that provide `IProviderFactory`."""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import import_module
from types import ModuleType
from typing import Any, Final

from twisted.plugin import CachedDropin, CachedPlugin, IPlugin, getCache
from twisted.python import usage
from twisted.python.modules import getModule
from zope.interface import providedBy

from nymtw.errors import PluginError
from nymtw.interfaces import IProviderFactory

_NAME: Final = re.compile(r"[a-z][a-z0-9-]*")
# A plugin module may do anything, even exit.
_FAULTS: Final = (Exception, SystemExit)
RESERVED: Final = "list"


@dataclass(frozen=True, slots=True)
class Installed:
    """A factory, and the plugin module that contains it."""

    factory: Any
    module: str


@dataclass(frozen=True, slots=True)
class Implementations:
    """The installed factories by name (more than one only for a doubled name), and the modules that cannot be read."""

    by_name: dict[str, list[Installed]] = field(default_factory=lambda: defaultdict(list))
    broken: dict[str, str] = field(default_factory=dict)
    """Plugin module -> its error."""

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted(self.by_name)

    def choose(self, name: str) -> Any:
        """The one factory of this name. Raises `PluginError` for an unknown or doubled name."""
        found = self.by_name.get(name, [])
        if not found:
            known = ", ".join(self.names()) or "none"
            broken = "".join(f"; {module} cannot be read: {cause}" for module, cause in sorted(self.broken.items()))
            raise PluginError(f"no provider is called {name!r:.80}; there are: {known}{broken}")
        if len(found) > 1:
            modules = " and ".join(sorted(installed.module for installed in found))
            raise PluginError(f"two providers are called {name!r}: in {modules}; uninstall one of them")
        return found[0].factory


def find_implementations(package: ModuleType | None = None) -> Implementations:
    """All implementations in `package` (default: `twisted.plugins`). An unreadable module does not hide the others."""
    if package is None:
        package = import_module("twisted.plugins")
    found = Implementations()
    for module, factory in _factories(package, found.broken):
        name = getattr(factory, "name", None)
        if not isinstance(name, str) or not _NAME.fullmatch(name) or name == RESERVED:
            found.broken[module] = (
                f"{name!r:.80} is not a valid name of a provider: lower-case letters, digits and dashes"
            )
        else:
            found.by_name[name].append(Installed(factory, module))
    return found


def load_options(factory: Any) -> type[usage.Options]:
    """The options class of a factory. Raises `PluginError` if its code cannot be imported."""
    try:
        options = factory.options
    except _FAULTS as error:
        raise PluginError(f"the provider {factory.name!r} cannot be loaded: {cause_of(error)}") from error
    if not (isinstance(options, type) and issubclass(options, usage.Options)):
        raise PluginError(f"the provider {factory.name!r} is broken: its options are not a usage.Options class")
    return options


def _factories(package: ModuleType, broken: dict[str, str]) -> Iterator[tuple[str, Any]]:
    """(plugin module, factory) of all that can be loaded. Errors of the others go into `broken`."""
    dropins = _dropins(package, broken)
    for key in sorted(dropins):
        for plugin in dropins[key].plugins:
            try:
                if any(provided.isOrExtends(IProviderFactory) for provided in plugin.provided):
                    yield dropins[key].moduleName, plugin.load()
            except _FAULTS as error:
                broken[dropins[key].moduleName] = cause_of(error)


def _dropins(package: ModuleType, broken: dict[str, str]) -> dict[str, CachedDropin]:
    """The entries of Twisted's plugin cache for the modules in `package`."""
    try:
        dropins: dict[str, CachedDropin] = dict(getCache(package))
    except _FAULTS:
        # Twisted survives a module that cannot be imported, but not one with an object that cannot be asked.
        dropins = dict(_one_by_one(package, broken))
    for module in getModule(package.__name__).iterModules():
        if module.name.split(".")[-1] not in dropins and module.name not in broken:
            try:
                module.load()
            except _FAULTS as error:
                broken[module.name] = cause_of(error)
    return dropins


def _one_by_one(package: ModuleType, broken: dict[str, str]) -> Iterator[tuple[str, CachedDropin]]:
    for module in getModule(package.__name__).iterModules():
        try:
            loaded = module.load()
            dropin = CachedDropin(module.name, loaded.__doc__)
        except _FAULTS as error:
            broken[module.name] = cause_of(error)
            continue
        for name, value in vars(loaded).items():
            try:
                if IPlugin(value, None) is not None:
                    CachedPlugin(dropin, name, value.__doc__, list(providedBy(value)))
            except _FAULTS as error:
                broken[module.name] = cause_of(error)
        yield module.name.split(".")[-1], dropin


def cause_of(error: BaseException) -> str:
    """Type and text of an error, in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
