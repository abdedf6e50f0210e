"""Builds the sdist and from it the wheel, twice, compares them, and checks their bill of materials. Installs the wheel,
then an editable copy, and asks for plugins.

Every question is asked outside the source tree, with `examples/third-party-provider` beside nymtw as wheel and as
editable install. Exits with a status other than zero at the first answer that is wrong.
"""

import importlib.machinery
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = (
    *("nym-directory", "nym-mixnode", "nym-provider", "nym-gateway", "nym-client", "nym-node"),
    *("nym-validator", "nym-watcher", "nym-redeemer", "nym-faucet"),
)
BUNDLED = ("store", "echo", "webproxy", "broadcaster", "exit")
UNWANTED = (".git", ".tox", ".venv", "build", "dist", "target", "*.egg-info", "__pycache__", "dropin.cache", ".*_cache")


def run(*words: str | Path, cwd: Path, status: int = 0) -> str:
    """Standard output of a command, which must end with `status`."""
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "NYMTW", "VIRTUAL_ENV"))
    }
    done = subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env={**clean, "NYMTW_HOME": str(cwd / "home"), "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    command = " ".join(str(word) for word in words)
    assert done.returncode == status, f"{command}: exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


class Environment:
    """A fresh virtual environment; its commands run in an empty folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        venv.create(folder, with_pip=True)
        self.outside = folder / "outside"
        self.outside.mkdir()

    def __call__(self, command: str, *words: str | Path, status: int = 0) -> str:
        return run(self.folder / "bin" / command, *words, cwd=self.outside, status=status)

    def install(self, *words: str | Path) -> None:
        self("python", "-m", "pip", "install", "--quiet", "--no-compile", *words)

    def uninstall(self, name: str) -> None:
        self("python", "-m", "pip", "uninstall", "--quiet", "--yes", name)

    def plugins(self) -> Path:
        """The folder of the plugin modules that wheels have brought."""
        (found,) = self.folder.glob("lib/python*/site-packages/twisted/plugins")
        return found


def copied(source: Path, target: Path) -> Path:
    """A copy of a source tree without what builds and tests leave in it."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns(*UNWANTED))
    return target


def build(source: Path, target: Path) -> tuple[Path, Path]:
    """The wheel, which is built from the sdist, and the sdist of a source tree."""
    run(sys.executable, "-m", "build", "--outdir", target, source, cwd=target.parent)
    (wheel,), (sdist,) = target.glob("*.whl"), target.glob("*.tar.gz")
    return wheel, sdist


def check_release(source: Path, folder: Path) -> tuple[Path, Path]:
    """sdist and wheel are the same from two copies of the tree that differ in times, modes and place.

    Their bill of materials names all dependencies and what is bundled. Returns wheel and sdist.
    """
    loader = importlib.machinery.SourceFileLoader("release", str(ROOT / "tools" / "release"))
    release = importlib.util.module_from_spec(importlib.util.spec_from_loader("release", loader))
    loader.exec_module(release)
    other = copied(source, folder / "elsewhere" / "another-name")
    for path in other.rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
        path.chmod(path.stat().st_mode | 0o020)
    seconds = release.epoch(ROOT)
    first = release.build(source, folder / "dist", seconds)
    second = release.build(other, folder / "dist-again", seconds)
    for one, again in zip(first, second, strict=True):
        assert release.digest(one) == release.digest(again), f"{one.name} is not the same when it is built again"
    sdist, wheel = first
    print(f"built twice, the same: {', '.join(file.name for file in first)}", flush=True)
    bill = release.materials(wheel)
    assert bill["bomFormat"] == "CycloneDX", bill
    components = {component["name"].lower().replace("_", "-"): component for component in bill["components"]}
    with zipfile.ZipFile(wheel) as archive:
        [name_of_metadata] = [name for name in archive.namelist() if name.endswith("/METADATA")]
        metadata = archive.read(name_of_metadata)
    for line in metadata.decode().splitlines():
        if line.startswith("Requires-Dist: ") and "extra ==" not in line:
            name = re.match(r"[A-Za-z0-9._-]+", line.removeprefix("Requires-Dist: "))
            assert name is not None
            assert name[0].lower().replace("_", "-") in components, f"the bill of materials does not name {name[0]}"
    assert [each["purl"] for each in components["nymtw"]["components"]] == ["pkg:npm/swagger-ui-dist@5.35.0"]
    assert str(folder) not in str(bill), "the bill of materials tells of this machine"
    print(f"bill of materials: {len(components)} components", flush=True)
    return wheel, sdist


def check_files(wheel: Path, sdist: Path) -> None:
    """What is, and what is not, in the distributions of nymtw."""
    in_wheel = set(zipfile.ZipFile(wheel).namelist())
    for wanted in (
        "twisted/plugins/nymtw_roles.py",
        "twisted/plugins/nymtw_providers.py",
        "nymtw/py.typed",
        "nymtw/directory/dashboard/web/index.html",
        "nymtw/web/swagger/swagger-ui-bundle.js",
        "nymtw/ethereum/contracts/nym.json",
        "nymtw/web/swagger/SHA256SUMS",
    ):
        assert wanted in in_wheel, f"{wanted} is not in the wheel"
    with tarfile.open(sdist) as archive:
        in_sdist = {name.partition("/")[2] for name in archive.getnames()}
    for wanted in (
        "twisted/plugins/nymtw_roles.py",
        "tests/conftest.py",
        "tests/packaging/check_plugins.py",
        "requirements/ci.txt",
        "tools/release",
        "examples/third-party-provider/setup.cfg",
        "examples/third-party-provider/twisted/plugins/nymtw_hello_provider.py",
    ):
        assert wanted in in_sdist, f"{wanted} is not in the sdist"
    for name in in_wheel | in_sdist:
        assert not name.endswith((".pyc", "dropin.cache")), f"{name} is in a distribution"
    for name in ("twisted/__init__.py", "twisted/plugins/__init__.py"):
        assert name not in in_wheel | in_sdist, f"{name} hides Twisted"


def check_commands(environment: Environment, each: bool) -> None:
    """Every role is a command of `twistd` and of `twist`, and (`each`) has its help there and by itself."""
    for program in ("twistd", "twist"):
        answer = environment(program, "--help")
        for command in COMMANDS:
            assert f"\n    {command} " in answer, f"{program} --help does not list {command}:\n{answer}"
            if each:
                environment(program, command, "--help")
    for command in COMMANDS if each else ():
        assert "Commands:" in environment(command), f"{command} alone does not print its commands"


def check_implementations(environment: Environment, third_party: bool, every_way: bool = False) -> None:
    """The installed implementations, each with the distribution that it came from; `every_way` asks all commands."""
    ways = (("twistd", "nym-provider"), ("twist", "nym-provider"), ("nym-provider", "run"))
    for ask in ways if every_way else ways[:1]:
        answer = environment(*ask, "--impl=list")
        lines = {line.split()[0]: line for line in answer.splitlines()}
        wanted = {**dict.fromkeys(BUNDLED, "(nymtw "), **({"hello": "(nymtw-hello "} if third_party else {})}
        assert set(lines) == set(wanted), f"{ask} --impl=list:\n{answer}"
        for name, distribution in wanted.items():
            assert distribution in lines[name], f"{name} does not come from {distribution}): {lines[name]}"
        if every_way:
            environment(*ask, "--impl=unknown", status=64 if ask[0] == "twist" else 1)
    if third_party:
        answer = environment("twistd", "nym-provider", "--impl=hello", "--help")
        assert "--greeting=" in answer, f"the implementation's own option is missing:\n{answer}"
        assert "--directory-key=" in answer, f"the command's options are missing:\n{answer}"


def give_option(module: Path) -> None:
    """Let the third party's provider have an option of its own, as its author would."""
    text, none = module.read_text(), "optParameters: list[list[Any]] = []"
    assert none in text, text
    module.write_text(text.replace(none, 'optParameters = [["greeting", None, "Hello", "The first word"]]'))


def check_third_party(environment: Environment, wheel: Path, source: Path) -> None:
    """A third party's provider comes and goes, as wheel and as editable install."""
    check_implementations(environment, third_party=False)
    for words in ((wheel,), ("--editable", source)):
        environment.install("--no-deps", *words)
        check_implementations(environment, third_party=True, every_way=words[0] == wheel)
        environment.uninstall("nymtw-hello")
        check_implementations(environment, third_party=False)


def check_broken(environment: Environment) -> None:
    """A broken plugin module is told and hides nobody."""
    broken = environment.plugins() / "broken_provider.py"
    broken.write_text("import no_such_module\n")
    answer = environment("twistd", "nym-provider", "--impl=list")
    assert answer.startswith(f"{min(BUNDLED)} "), answer
    assert "cannot be read: twisted.plugins.broken_provider: ModuleNotFoundError" in answer, answer
    assert "nym-provider" in environment("twistd", "--help")
    broken.unlink()


def main() -> None:
    """Check one way to install after the other."""
    with tempfile.TemporaryDirectory(prefix="nymtw-packaging-") as name:
        folder = Path(name)
        source = copied(ROOT, folder / "source")
        third_party = copied(ROOT / "examples" / "third-party-provider", folder / "third-party")
        give_option(third_party / "nymtw_hello" / "provider.py")
        wheel, sdist = check_release(source, folder)
        third_party_wheel, _ = build(third_party, folder / "third-party-dist")
        check_files(wheel, sdist)
        environment = Environment(folder / "venv")
        for way, words in (("wheel", (wheel,)), ("editable", ("--no-deps", "--editable", source))):
            started = time.monotonic()
            environment.install(*words)
            check_commands(environment, each=way == "wheel")
            check_third_party(environment, third_party_wheel, third_party)
            if way == "wheel":
                check_broken(environment)
                environment.install(f"{third_party_wheel}[test]")
                environment("python", "-m", "pytest", "-q", third_party / "tests")
                environment.uninstall("nymtw-hello")
            environment.uninstall("nymtw")
            print(f"{way}: all plugins found ({time.monotonic() - started:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
