"""The Markdown pages agree with the tree: links resolve, named modules exist, the page on architecture is complete."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ["docs", "examples", "benchmarks", "tests", "newsfragments"]
PAGES = sorted([*ROOT.glob("*.md"), *(page for folder in FOLDERS for page in (ROOT / folder).rglob("*.md"))])
PAGES = [page for page in PAGES if not {"target", "node_modules"} & set(page.relative_to(ROOT).parts)]


def prose(page: Path) -> str:
    """The page without its blocks of code, in which brackets are no links."""
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    found: dict[str, int] = {}
    for heading in re.findall(r"^#+ +(.*?) *#*$", prose(page), re.MULTILINE):
        text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        found[slug] = found.get(slug, -1) + 1
    return {slug if number == 0 else f"{slug}-{number}" for slug, last in found.items() for number in range(last + 1)}


def broken_links(page: Path) -> list[str]:
    """The relative links of a page whose file or anchor does not exist."""
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    return broken


def module_exists(name: str) -> bool:
    """Whether a dotted name is a package, a module, or a name in the source of one."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        path = ROOT.joinpath(*parts[:length])
        for source in (path / "__init__.py", path.with_suffix(".py")):
            if source.exists():
                rest = parts[length : length + 1]
                return not rest or re.search(rf"\b{rest[0]}\b", source.read_text(encoding="utf-8")) is not None
    return False


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_anchors_resolve(page: Path) -> None:
    assert broken_links(page) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_named_modules_exist(page: Path) -> None:
    spans = re.findall(r"`([^`\n]+)`", prose(page))
    modules = [span for span in spans if re.fullmatch(r"nymtw(\.[A-Za-z_]\w*)+", span)]
    files = [span for span in spans if re.fullmatch(r"(nymtw|tests|docs|benchmarks|examples)/[\w./-]+", span)]
    files = [span for span in files if not re.search(r"[A-Z]{4}", span.replace("README.md", ""))]  # NAME, ROLE
    assert [name for name in modules if not module_exists(name)] == []
    assert [name for name in files if not (ROOT / name).exists()] == []
    environments = set(re.findall(r"^\[testenv:(\w+)\]", (ROOT / "tox.ini").read_text(), re.M))
    assert set(re.findall(r"\btox -e (\w+)", page.read_text(encoding="utf-8"))) <= environments


def test_the_architecture_names_each_package_and_its_layer() -> None:
    """The layers are those that `lint-imports` checks; the tree has every package, two levels deep."""
    layers, tree = re.findall(r"^```\n(.*?)^```", (ROOT / "docs" / "architecture.md").read_text(), re.DOTALL | re.M)
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]["layers"]
    assert layers.replace(".py", "").splitlines() == [layer.replace("nymtw.", "") for layer in contract]
    packages = {path.parent.name for pattern in ("*", "*/*") for path in ROOT.glob(f"nymtw/{pattern}/__init__.py")}
    assert packages - set(re.findall(r"^ +(\w+)/ ", tree, re.M)) == set()


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# One heading, `two` words\n[a](#one-heading-two-words) [b](#none) [c](none.md) [d](https://e.f)\n"
    )
    assert broken_links(page) == ["#none", "none.md"]
    assert not module_exists("nymtw.client.no_such_module")
    assert module_exists("nymtw.client.Client")
