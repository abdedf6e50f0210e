"""`config.toml`: strict TOML with a comment for every value.

A role declares a frozen `msgspec.Struct` whose fields are its sections, each a Struct again. The text for a value's
comment, and limits for the value, are in its `Annotated[..., msgspec.Meta(description=..., ge=...)]`.
"""

import json
import re
import textwrap
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import msgspec

from nymtw.errors import ConfigError
from nymtw.node.home import check_writers, write_file

T = TypeVar("T", bound=msgspec.Struct)

_FILE_LIMIT = 2**20  # bytes
_HEADER = re.compile(r"\s*\[\s*([^\[\]]+?)\s*\]")
_ASSIGNMENT = re.compile(r"""\s*["']?([A-Za-z0-9_-]+)["']?\s*=""")
_PLACE = re.compile(r"(?P<what>.*?)(?: - at `\$\.?(?P<path>[^`]*)`)?", re.DOTALL)


def read_config(path: Path, schema: type[T]) -> T:
    """The configuration in the file at `path`.

    Raises `ConfigError` ("FILE:LINE: cause") for a file that cannot be read or that others can write, a syntax error,
    an unknown section or key, a missing or wrong value.
    """
    check_writers(path)
    try:
        with open(path, "rb") as file:
            content = file.read(_FILE_LIMIT + 1)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    if len(content) > _FILE_LIMIT:
        raise ConfigError(f"{path}: longer than {_FILE_LIMIT} bytes")
    return parse_config(content, schema, str(path))


def parse_config(content: bytes, schema: type[T], name: str) -> T:
    """The configuration in `content`; `name` stands for the file in errors. Raises `ConfigError` like `read_config`."""
    try:
        text = content.decode()
        plain = tomllib.loads(text)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{name}:{line}: not UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        cause = str(error)
        at = re.search(r" \(at line (\d+), column (\d+)\)$", cause)
        line = int(at[1]) if at else content.rstrip().count(b"\n") + 1
        raise ConfigError(f"{name}:{line}: {cause[: at.start()] if at else cause.split(' (at')[0]}") from None
    except RecursionError:
        raise ConfigError(f"{name}: nested too deeply") from None
    _refuse_unknown(plain, schema, text, name)
    try:
        return msgspec.convert(plain, schema, strict=True)
    except msgspec.ValidationError as error:
        what, section, key = _parts(error)
        where = f" in [{section}]" if section else ""
        subject = f"{key!r}{where}: " if key else f"[{section}]: " if section else ""
        raise ConfigError(f"{name}{_line(text, section, key)}: {subject}{what}") from None


def load_config(path: Path, schema: type[T], given: Mapping[str, Mapping[str, Any]], heading: str) -> T:
    """The configuration in the file at `path`, with what the command line has `given` instead.

    `given` maps section to key to value. At the first start there is no file yet: one with the given values and the
    defaults is written, under `heading`, a line or more of text. Later, what is given overrides the file and is not
    written back. Raises `ConfigError`.
    """
    if path.exists():
        return _override(msgspec.to_builtins(read_config(path, schema)), schema, given)
    config = _override({}, schema, given)
    write_config(path, config, heading)
    return config


def write_config(path: Path, config: msgspec.Struct, heading: str) -> None:
    """Write `config` to `path`, mode 0600, every value with its comment. Raises `ConfigError`."""
    try:
        write_file(path, config_text(config, heading).encode())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None


def config_text(config: msgspec.Struct, heading: str) -> str:
    """The TOML text that `write_config` writes. A value that is None stands there as a comment alone."""
    lines = [f"# {line}".rstrip() for line in _wrapped(heading)]
    for name in config.__struct_fields__:
        section = getattr(config, name)
        comments = _comments(type(section))
        lines += ["", f"[{name}]"]
        for key, value in msgspec.to_builtins(section).items():
            lines += ["", *(f"# {line}".rstrip() for line in _wrapped(comments.get(key, "")))]
            lines.append(f"# {key} =" if value is None else f"{key} = {_value(value)}")
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    """A string, a number, a truth value or a list of those: what JSON and TOML write alike, but for one character."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _override(plain: dict[str, Any], schema: type[T], given: Mapping[str, Mapping[str, Any]]) -> T:
    for section, values in given.items():
        plain[section] = {**plain.get(section, {}), **values}
    for section in schema.__struct_fields__:
        plain.setdefault(section, {})
    try:
        return msgspec.convert(plain, schema, strict=True)
    except msgspec.ValidationError as error:
        what, _, key = _parts(error)
        missing = re.search(r"missing required field `(\w+)`", what)
        if missing:
            raise ConfigError(f"--{missing[1].replace('_', '-')} is needed") from None
        raise ConfigError(f"--{key.replace('_', '-')}: {what}") from None


def _refuse_unknown(plain: Mapping[str, Any], schema: type[msgspec.Struct], text: str, name: str) -> None:
    sections = {field.name: field.type for field in msgspec.structs.fields(schema)}
    for section, values in plain.items():
        if section not in sections:
            if isinstance(values, dict):
                line_of = _line(text, section, "") or _line(text, "", section)
                raise ConfigError(f"{name}{line_of}: unknown section [{section}]")
            raise ConfigError(f"{name}{_line(text, '', section)}: unknown key {section!r} outside any section")
        if not isinstance(values, dict):
            raise ConfigError(f"{name}{_line(text, '', section)}: {section!r} is a section, not a value")
        known = _struct(sections[section]).__struct_fields__
        for key in values:
            if key not in known:
                raise ConfigError(f"{name}{_line(text, section, key)}: unknown key {key!r} in [{section}]")


def _comments(section: type[msgspec.Struct]) -> dict[str, str]:
    """Key -> description, out of the annotations."""
    found = {}
    for key, hint in get_type_hints(section, include_extras=True).items():
        for note in get_args(hint)[1:]:
            if isinstance(note, msgspec.Meta) and note.description:
                found[key] = note.description
    return found


def _struct(kind: Any) -> type[msgspec.Struct]:
    if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
        raise TypeError(f"a section is a msgspec.Struct, not {kind!r}")
    return kind


def _parts(error: msgspec.ValidationError) -> tuple[str, str, str]:
    """The error, the section and the key, from "Expected `int`, got `str` - at `$.node.port`"."""
    match = _PLACE.fullmatch(str(error))
    what, path = (match["what"], match["path"] or "") if match else (str(error), "")
    section, _, key = path.partition(".")
    return what, section, re.split(r"[.\[]", key)[0]


def _line(text: str, section: str, key: str) -> str:
    """ ":LINE" of a key, of a section's header if `key` is empty; "" where neither is found (an inline table)."""
    for line, at_section, at_key in _keys(text):
        if at_section == section and at_key == key:
            return f":{line}"
    return ""


def _keys(text: str) -> Iterator[tuple[int, str, str]]:
    """Line number, section and key of each header (key "") and assignment."""
    section = ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            section = header[1].strip("\"' ")
            yield number, section, ""
        elif assignment := _ASSIGNMENT.match(line):
            yield number, section, assignment[1]


def _wrapped(text: str) -> list[str]:
    return [line for paragraph in text.splitlines() for line in textwrap.wrap(paragraph, 100) or [""]]
