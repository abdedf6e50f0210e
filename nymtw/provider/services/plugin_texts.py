"""The texts of `--impl=list` and `--help-impls`: the installed implementations and their distributions."""

import json
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path
from urllib.parse import unquote, urlsplit

from nymtw.errors import PluginError
from nymtw.provider.services.installed_plugins import Implementations, Installed, load_options


def list_text(found: Implementations) -> str:
    """Name, summary and distribution of each implementation, one line each; then the modules that cannot be read."""
    rows = [(name, str(one.factory.summary), distribution_of(one.module)) for name, one in _sorted(found)]
    width = max((len(name) for name, _, _ in rows), default=0)
    lines = [f"{name:{width}}  {summary}  ({distribution})" for name, summary, distribution in rows]
    return "\n".join([*lines, *_broken(found)])


def help_text(found: Implementations) -> str:
    """All implementations with their options."""
    parts = []
    for name, one in _sorted(found):
        head = f"--impl={name}: {one.factory.summary}  ({distribution_of(one.module)})"
        try:
            options = load_options(one.factory)()
        except PluginError as error:
            parts.append(f"{head}\n  {error}")
            continue
        own = options.getUsage().split("Options:\n", 1)[-1]
        kept = [line for line in own.splitlines() if line.strip() and not line.lstrip().startswith(_ALWAYS)]
        parts.append("\n".join([head, *(kept or ["  (no options)"])]))
    return "\n\n".join([*parts, *_broken(found)])


_ALWAYS = ("--help", "--version")


def _sorted(found: Implementations) -> Iterator[tuple[str, Installed]]:
    return ((name, one) for name in found.names() for one in found.by_name[name])


def _broken(found: Implementations) -> list[str]:
    return [f"cannot be read: {module}: {cause}" for module, cause in sorted(found.broken.items())]


def distribution_of(module: str) -> str:
    """Name and version of the distribution that installed a plugin module, if the installation records show it."""
    path = _path_of(module)
    if path is not None:
        for distribution in distributions():
            if _holds(distribution, path):
                return f"{distribution.name} {distribution.version}"
    return f"from {path or module}"


def _path_of(module: str) -> Path | None:
    file = getattr(sys.modules.get(module), "__file__", None)
    return None if file is None else Path(file).resolve()


def _holds(distribution: Distribution, path: Path) -> bool:
    """Whether a distribution contains a file: a wheel's records name the file, an editable install's its folder."""
    for file in distribution.files or ():
        if file.name == path.name and Path(str(distribution.locate_file(file))).resolve() == path:
            return True
    try:
        origin = json.loads(distribution.read_text("direct_url.json") or "{}")
        editable = origin.get("dir_info", {}).get("editable", False)
        return bool(editable) and path.is_relative_to(Path(unquote(urlsplit(origin["url"]).path)).resolve())
    except (ValueError, KeyError, AttributeError):
        return False
