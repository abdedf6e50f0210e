"""A role that cannot start ends in one line; what twistd and the console scripts print."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from twisted.application.service import Application, MultiService, Service
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import ILogObserver
from twisted.python import usage

from nymtw.errors import ConfigError, KeyFileError, ListenError
from nymtw.node import commands
from nymtw.node.process import parent_watch
from nymtw.node.process.log import LineObserver
from nymtw.node.tap import NodeOptions, RoleOptions, RoleService, port_number, run_or_exit

pytestmark = pytest.mark.pythons


class Role(Service):
    """Records what is asked of it, and fails where the test wants."""

    def __init__(self, fails_at: str = "") -> None:
        self.fails_at = fails_at
        self.log: list[str] = []

    def privilegedStartService(self) -> None:
        self.note("privileged")

    def startService(self) -> None:
        super().startService()
        self.note("start")

    def stopService(self) -> None:
        super().stopService()
        self.note("stop")

    def note(self, what: str) -> None:
        self.log.append(what)
        if what == self.fails_at:
            raise ListenError("cannot listen on 127.0.0.1:1:\nPermission denied")


@pytest.fixture(autouse=True)
def no_parent_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(parent_watch.VARIABLE, raising=False)


def run(role: Any, options: Any = None) -> RoleService:
    return run_or_exit("nym-role", options or RoleOptions(), lambda reactor: role, MemoryReactorClock())


def broken(reactor: Any) -> Any:
    raise KeyFileError("/a/key.pem: its type is X")


def test_an_error_while_building_is_one_line_and_status_1(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run_or_exit("nym-role", RoleOptions(), broken, MemoryReactorClock())
    assert caught.value.code == 1
    assert capfd.readouterr().err == "nym-role: /a/key.pem: its type is X\n"


@pytest.mark.parametrize("where", ["privileged", "start"])
def test_an_error_while_starting_is_one_line_and_status_1(where: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run(Role(where)).startService()
    assert caught.value.code == 1
    assert capfd.readouterr().err == "nym-role: cannot listen on 127.0.0.1:1: Permission denied\n"


def test_a_fault_of_ours_keeps_its_traceback() -> None:
    def fault(reactor: Any) -> Any:
        raise RuntimeError("a fault")

    with pytest.raises(RuntimeError):
        run_or_exit("nym-role", RoleOptions(), fault, MemoryReactorClock())


def test_ports_are_taken_before_the_process_becomes_a_daemon() -> None:
    role = Role()
    service = run(role)
    assert role.log == ["privileged"]
    service.privilegedStartService()
    service.startService()
    service.stopService()
    assert role.log == ["privileged", "start", "stop"]


class Twistd(usage.Options):
    """As much of twistd's options as matters."""

    def __init__(self, **values: Any) -> None:
        super().__init__()
        self.update({"nodaemon": True, "logfile": None, "logger": None, "syslog": False, **values})


def observer_under(parent: Any) -> Any:
    options = RoleOptions()
    options.parent = parent
    application = Application("nym-role")
    service = run(Role(), options)
    service.setServiceParent(application)
    service.startService()
    return application.getComponent(ILogObserver, None)


@pytest.fixture
def no_signal() -> Iterator[None]:
    import signal

    before = signal.getsignal(signal.SIGUSR1)
    yield
    signal.signal(signal.SIGUSR1, before)


def test_twistd_logs_our_lines_where_its_own_options_say(tmp_path: Path, no_signal: None) -> None:
    assert observer_under(Twistd()).file is sys.stdout
    assert observer_under(Twistd(logfile="-", nodaemon=False)).file is sys.stdout
    observer = observer_under(Twistd(logfile=str(tmp_path / "role.log")))
    observer({"log_namespace": "nymtw.x", "log_format": "hello"})
    assert "▶ INFO - hello" in (tmp_path / "role.log").read_text()
    observer.file.close()


def test_a_daemon_logs_to_twistd_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_signal: None) -> None:
    monkeypatch.chdir(tmp_path)
    observer_under(Twistd(nodaemon=False)).file.close()
    assert (tmp_path / "twistd.log").exists()


def test_another_logger_is_left_alone() -> None:
    assert observer_under(Twistd(logger=lambda: None)) is None
    assert observer_under(Twistd(syslog=True)) is None
    assert observer_under(usage.Options()) is None


def test_a_parent_that_is_no_application_gets_no_observer() -> None:
    parent = MultiService()
    service = run(Role())
    service.setServiceParent(parent)
    parent.startService()
    assert list(parent) == [service]
    parent.stopService()


def test_options_that_are_not_given_are_none() -> None:
    options = NodeOptions()
    options.parseOptions(["--port=17", "--directory-key", "x"])
    assert options.given("id", "port", "directory", "directory-key") == {"port": 17, "directory_key": "x"}


@pytest.mark.parametrize("text", ["-1", "65536", "x", "", "1.5", "٣"])
def test_a_port_is_a_number(text: str) -> None:
    with pytest.raises(ValueError, match="0 to 65535"):
        port_number(text)
    with pytest.raises(usage.UsageError):
        NodeOptions().parseOptions([f"--port={text}"])
    assert port_number("0") == 0


def test_version_is_ours(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        RoleOptions().parseOptions(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith("nymtw ")


class Greeting(usage.Options):
    optParameters = (("name", None, "you", "Whom to greet"),)


def greet(options: Any) -> int | None:
    if options["name"] == "nobody":
        raise ConfigError("there is nobody")
    print(f"hello {options['name']}")
    return 3 if options["name"] == "three" else None


def nym(*words: str) -> int:
    return commands.main("nym-x", "role", [commands.Command("greet", "Greet somebody", Greeting, greet)], words)


def test_the_program_alone_prints_usage_banner_and_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert nym() == nym("help") == nym("--help") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Usage: nym-x COMMAND [OPTIONS]"
    assert "(role)" in lines[9]
    assert "  greet    Greet somebody" in lines
    assert 'Run "nym-x help <command>" for more info on a specific command.' in lines


def test_a_command_runs_with_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert nym("greet", "--name=you") == 0
    assert nym("greet", "--name", "three") == 3
    assert capsys.readouterr().out == "hello you\nhello three\n"


def test_help_shows_a_commands_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert nym("help", "greet") == 0
    text = capsys.readouterr().out
    assert text.startswith("Usage: nym-x greet [OPTIONS]")
    assert "--name=" in text


@pytest.mark.parametrize("words", [["dance"], ["help", "dance"]])
def test_an_unknown_command_is_told(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert nym(*words) == 1
    assert capsys.readouterr().err == "nym-x: 'dance' is not a valid command: see 'nym-x help'\n"


def test_a_wrong_option_and_an_error_are_one_line_and_status_1(capfd: pytest.CaptureFixture[str]) -> None:
    assert nym("greet", "--nope") == 1
    assert capfd.readouterr().err == "nym-x greet: option --nope not recognized: see 'nym-x help greet'\n"
    with pytest.raises(SystemExit) as caught:
        nym("greet", "--name=nobody")
    assert caught.value.code == 1
    assert capfd.readouterr().err == "nym-x: there is nobody\n"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert nym("version") == 0
    assert capsys.readouterr().out.startswith("nym-x ")


class FakeReactor(MemoryReactorClock):
    stopped = False

    def stop(self) -> None:
        self.stopped = True


def test_the_reactor_stops_when_the_parent_has_gone() -> None:
    reactor = FakeReactor()
    reading, writing = os.pipe()
    line = parent_watch.watch_parent(reactor, {parent_watch.VARIABLE: str(reading)})
    assert line is not None
    line.startService()
    assert reactor.getReaders() == [line]
    line.doRead()
    assert not reactor.stopped
    os.close(writing)
    line.doRead()
    assert reactor.stopped
    assert reactor.getReaders() == []
    [deadline] = reactor.getDelayedCalls()
    assert (deadline.func, deadline.args) == (os._exit, (1,))
    os.close(reading)


def test_a_hang_up_is_an_end_too() -> None:
    from twisted.internet.error import ConnectionDone
    from twisted.python.failure import Failure

    reactor = FakeReactor()
    reading, writing = os.pipe()
    line = parent_watch.ParentWatch(reactor, reading)
    line.startService()
    line.connectionLost(Failure(ConnectionDone()))
    assert reactor.stopped
    line.stopService()
    os.close(reading)
    os.close(writing)


def test_no_parent_watch_where_no_descriptor_is_named() -> None:
    assert parent_watch.watch_parent(FakeReactor(), {}) is None


@pytest.mark.parametrize("text", ["x", "-1", "9999"])
def test_a_parent_watch_of_no_descriptor_is_an_error(text: str) -> None:
    with pytest.raises(ConfigError, match=parent_watch.VARIABLE):
        parent_watch.watch_parent(FakeReactor(), {parent_watch.VARIABLE: text})


def test_the_observer_for_twistds_logger_option() -> None:
    from nymtw.node.process.log import observer

    assert isinstance(observer(), LineObserver)
