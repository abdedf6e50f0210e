"""`nymtw new-provider NAME`: writes a distribution with a new provider, ready to be installed and tested."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import Final

from twisted.python import usage

from nymtw.errors import ConfigError, NymtwError
from nymtw.node.option_types import CommandOptions, argument_last
from nymtw.provider.services.installed_plugins import RESERVED, find_implementations
from nymtw.scaffold.files import FILES

_NAME: Final = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


class Options(CommandOptions):
    synopsis = "Usage: nymtw new-provider NAME [options]"
    longdesc = (
        "Writes a distribution called nymtw-NAME with a provider implementation: plugin, service, tests, packaging. "
        "`pip install -e nymtw-NAME` makes it appear in `twistd nym-provider --impl=list`."
    )
    optParameters = [
        ["dir", None, None, "The folder to write, which must not exist [default: nymtw-NAME]"],
        ["summary", None, None, "What the provider does, in a line, for --impl=list [default: The provider NAME]"],
    ]

    def postOptions(self) -> None:
        """Raises `UsageError` for a summary that is no line."""
        summary = self["summary"]
        if summary is not None and (
            not summary.isprintable() or not 0 < len(summary) <= 100 or set(summary) & set('"\\')
        ):
            raise usage.UsageError("--summary: it is one line of 1 to 100 characters, without quotes and backslashes")

    def parseArgs(self, name: str) -> None:  # type: ignore[override]  # the signature follows usage.Options
        """Take the name, the later value of `--impl`."""
        self["name"] = name


def write(name: str, folder: Path, summary: str | None = None) -> list[Path]:
    """Write the files of a provider called `name` into a new `folder`; returns the files.

    Raises `ConfigError` for an invalid name, a name in use, and an existing folder.
    """
    if not _NAME.fullmatch(name) or name == RESERVED:
        raise ConfigError(f"{name!r:.80} is not a valid name of a provider: lower-case letters, digits and dashes")
    if name in find_implementations().names():
        raise ConfigError(f"there is a provider called {name!r} already: see 'twistd nym-provider --impl=list'")
    identifier = name.replace("-", "_")
    values = {
        "name": name,
        "identifier": identifier,
        "package": f"nymtw_{identifier}",
        "summary": summary or f"The provider {name}.",
        "Class": "".join(part.capitalize() for part in name.split("-")),
    }
    written = []
    try:
        folder.mkdir(parents=True)
        for path, text in FILES.items():
            file = folder / Template(path).substitute(values)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(Template(text).substitute(values), encoding="utf-8")
            written.append(file)
    except OSError as error:
        raise ConfigError(f"{error.filename}: {error.strerror}") from None
    return written


def main(arguments: Sequence[str]) -> int:
    """Run `nymtw new-provider` with these arguments; returns the exit status."""
    options = Options()
    try:
        options.parseOptions(argument_last(arguments))
        folder = Path(options["dir"] or f"nymtw-{options['name']}")
        written = write(options["name"], folder, options["summary"])
    except usage.UsageError as error:
        print(f"nymtw new-provider: {error}: see 'nymtw new-provider --help'", file=sys.stderr)
        return 1
    except NymtwError as error:
        print(f"nymtw new-provider: {error}", file=sys.stderr)
        return 1
    for file in written:
        print(file)
    print(f"\nNow: pip install -e '{folder}[test]' && pytest {folder}")
    return 0
