"""Implementations are found wherever they are, and one that is broken hides no other."""

import importlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from twisted.plugin import IPlugin
from twisted.python import usage
from zope.interface.verify import verifyObject

from nymtw.errors import PluginError
from nymtw.interfaces import IProviderFactory
from nymtw.provider.options import Options, check_distinct, check_options, implementations_named
from nymtw.provider.plugin import ProviderFactory
from nymtw.provider.services.installed_plugins import find_implementations, load_options
from nymtw.provider.services.plugin_texts import help_text, list_text

pytestmark = pytest.mark.pythons

FACTORY = """
from nymtw.provider.plugin import ProviderFactory
{name} = ProviderFactory({text!r}, "Does things.", "nymtw.provider.store")
"""

Plugins = Callable[..., ModuleType]


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plugins]:
    """Makes a package of plugin modules out of keyword arguments: module name to source."""
    name = f"plugins_of_{tmp_path.name}"
    folder = tmp_path / name
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(**modules: str) -> ModuleType:
        for module, source in modules.items():
            (folder / f"{module}.py").write_text(source)
        importlib.invalidate_caches()
        return importlib.import_module(name)

    yield make
    for module in [module for module in sys.modules if module.split(".")[0] == name]:
        del sys.modules[module]


def factory(text: str) -> str:
    return FACTORY.format(name="it", text=text)


def test_the_bundled_provider_is_found() -> None:
    found = find_implementations()
    assert "store" in found.names()
    store = found.choose("store")
    verifyObject(IProviderFactory, store)
    assert IPlugin.providedBy(store)
    assert issubclass(load_options(store), usage.Options)


def test_implementations_are_sorted_and_chosen_by_their_exact_name(plugins: Plugins) -> None:
    found = find_implementations(plugins(one=factory("zebra"), two=factory("aardvark")))
    assert found.names() == ["aardvark", "zebra"]
    assert found.choose("zebra").name == "zebra"
    with pytest.raises(PluginError, match="no provider is called 'zeb'; there are: aardvark, zebra"):
        found.choose("zeb")


def test_a_name_that_is_there_twice_is_refused_naming_both_modules(plugins: Plugins) -> None:
    found = find_implementations(plugins(one=factory("echo"), two=factory("echo"), three=factory("other")))
    with pytest.raises(PluginError, match=r"two providers are called 'echo': in \S+\.one and \S+\.two"):
        found.choose("echo")
    assert found.choose("other").name == "other"


@pytest.mark.parametrize(
    ("source", "cause"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("def broken(:", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("1 / 0", "ZeroDivisionError"),
    ],
)
def test_a_module_that_cannot_be_imported_is_told_and_hides_no_other(
    plugins: Plugins, source: str, cause: str, expected_failures: list[str]
) -> None:
    expected_failures.append("{log_text}")  # twisted.plugin logs it too
    found = find_implementations(plugins(broken=source, whole=factory("whole")))
    assert found.choose("whole").name == "whole"
    ((module, told),) = found.broken.items()
    assert module.endswith(".broken")
    assert told.startswith(cause)
    with pytest.raises(PluginError, match=r"no provider is called 'x'; there are: whole; \S+\.broken cannot be read: "):
        found.choose("x")


def test_an_object_that_cannot_even_be_asked_hides_no_other(plugins: Plugins) -> None:
    hostile = """
class Hostile:
    def __getattribute__(self, name):
        raise RuntimeError("leave me alone")
hostile = Hostile()
"""
    found = find_implementations(plugins(hostile=hostile + factory("beside"), whole=factory("whole")))
    assert found.names() == ["beside", "whole"]
    ((module, told),) = found.broken.items()
    assert (module.endswith(".hostile"), told) == (True, "RuntimeError: leave me alone")


def test_a_module_that_was_whole_when_it_was_cached_and_no_longer_is(
    plugins: Plugins, tmp_path: Path, expected_failures: list[str]
) -> None:
    package = plugins(one=factory("one"), two=factory("two"))
    assert find_implementations(package).names() == ["one", "two"]
    plugins(one="raise RuntimeError('gone bad')")
    del sys.modules[f"{package.__name__}.one"]
    expected_failures.append("{log_text}")
    found = find_implementations(package)
    assert found.names() == ["two"]
    assert list(found.broken.values()) == ["RuntimeError: gone bad"]


@pytest.mark.parametrize("name", ["list", "Echo", "e cho", "", "-echo", "écho", "echo!"])
def test_a_name_that_no_command_line_could_give_is_told(plugins: Plugins, name: str) -> None:
    found = find_implementations(plugins(one=factory(name), two=factory("whole")))
    assert found.names() == ["whole"]
    assert "is not a valid name of a provider" in next(iter(found.broken.values()))


def test_an_implementation_whose_code_is_missing_is_refused_when_it_is_chosen() -> None:
    missing = ProviderFactory("missing", "Is not there.", "no_such_distribution.provider")
    with pytest.raises(PluginError, match="the provider 'missing' cannot be loaded: ModuleNotFoundError"):
        load_options(missing)


def test_options_of_the_wrong_kind_are_refused(plugins: Plugins) -> None:
    package = plugins(wrong="Options = dict", without="")
    with pytest.raises(PluginError, match="the provider 'wrong' is broken: its options are not a"):
        load_options(ProviderFactory("wrong", "Has another Options class.", f"{package.__name__}.wrong"))
    with pytest.raises(PluginError, match="the provider 'without' cannot be loaded: AttributeError"):
        load_options(ProviderFactory("without", "Has no Options class.", f"{package.__name__}.without"))


class Clashing(usage.Options):
    optParameters = [["port", None, None, "Hides the command's port."], ["own", None, None, "Its own."]]


def test_an_implementation_may_not_hide_an_option_of_the_command() -> None:
    with pytest.raises(PluginError, match="the provider 'clash' is broken: --port is an option of nym-provider itself"):
        check_options("clash", Clashing)


def test_the_list_has_name_summary_and_distribution(plugins: Plugins) -> None:
    text = list_text(find_implementations())
    assert any(line.startswith("store ") and "(nymtw " in line for line in text.splitlines())
    text = list_text(find_implementations(plugins(one=factory("elsewhere"))))
    assert "elsewhere  Does things.  (from " in text


def test_the_list_tells_what_cannot_be_read(plugins: Plugins, expected_failures: list[str]) -> None:
    expected_failures.append("{log_text}")
    text = list_text(find_implementations(plugins(broken="1 / 0", whole=factory("whole"))))
    first, second = text.splitlines()
    assert first.startswith("whole ")
    assert second.startswith("cannot be read: ")
    assert second.endswith("broken: ZeroDivisionError: division by zero")


def test_the_help_has_every_implementation_with_its_own_options_alone() -> None:
    text = help_text(find_implementations())
    assert "--impl=store: " in text
    assert "--mailboxes=" in text
    assert "--directory" not in text
    assert "--help" not in text


def test_the_options_of_the_implementation_join_the_command_line() -> None:
    options = Options()
    options.parseOptions(["--impl=store", "--mailboxes=5", "--port", "1800"])
    assert (options["mailboxes"], options["port"], [one.name for one in options.factories]) == (5, 1800, ["store"])
    assert "--mailboxes=" in str(options)
    assert "--client-port=" in str(options)


def test_the_store_is_what_a_provider_does_unless_it_is_told() -> None:
    options = Options()
    options.parseOptions([])
    assert [one.name for one in options.factories] == ["store"]


@pytest.mark.parametrize(
    ("argv", "error"),
    [
        (["--impl=zzz"], "no provider is called 'zzz'; there are: .*store"),
        (["--impl="], "no provider is called ''"),
        (["--impl=store", "--nope"], "option --nope not recognized"),
        (["--imp=other"], "write --impl=other in full"),
        (["--impl=store", "--impl=store"], "--impl=store is given twice"),
        (["--mailboxes=0"], "1 to 1000000"),
    ],
)
def test_a_wrong_command_line_is_a_usage_error(argv: list[str], error: str) -> None:
    with pytest.raises(usage.UsageError, match=error):
        Options().parseOptions(argv)


@pytest.mark.parametrize("argv", [["--impl=list"], ["--impl", "list"], ["--help-impls"]])
def test_the_list_ends_the_command_well(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        Options().parseOptions(argv)
    assert left.value.code == 0
    assert "store" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "names"),
    [
        ([], ["store"]),
        (["--impl=a"], ["a"]),
        (["--port", "1", "--impl", "a"], ["a"]),
        (["--impl=a", "--impl=b"], ["a", "b"]),
        (["--impl"], ["store"]),
        (["--", "--impl=a"], ["store"]),
    ],
)
def test_the_implementations_are_found_on_the_command_line(argv: list[str], names: list[str]) -> None:
    assert implementations_named(argv) == names


def test_several_implementations_bring_their_options_together() -> None:
    options = Options()
    options.parseOptions(["--impl=store", "--mailboxes=5", "--impl", "echo"])
    assert [one.name for one in options.factories] == ["store", "echo"]
    assert options["mailboxes"] == 5


def test_two_implementations_with_an_option_of_one_name_are_refused() -> None:
    class Other(usage.Options):
        optParameters = [["own", None, None, "The same name."]]

    with pytest.raises(
        PluginError, match="the providers 'a' and 'b' both have an option --own: run them in separate nodes"
    ):
        check_distinct(["a", "b"], {"a": Other, "b": Clashing})


def test_both_post_options_are_called(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []

    class Own(usage.Options):
        def postOptions(self) -> None:
            called.append("own")

    class Found:
        def choose(self, name: str) -> Any:
            return type("Factory", (), {"name": name, "options": Own})()

    monkeypatch.setattr("nymtw.provider.options.find_implementations", Found)
    monkeypatch.setattr(Options, "postOptions", lambda self: called.append("command"), raising=False)
    Options().parseOptions(["--impl=x"])
    assert called == ["own", "command"]


def test_no_plugin_module_installs_a_reactor() -> None:
    program = (
        "import sys, importlib, pathlib\n"
        "import twisted.plugins\n"
        "for folder in twisted.plugins.__path__:\n"
        "    for path in pathlib.Path(folder).glob('nymtw_*.py'):\n"
        "        importlib.import_module('twisted.plugins.' + path.stem)\n"
        "        print(path.stem)\n"
        "assert 'twisted.internet.reactor' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "nymtw_providers" in done.stdout
