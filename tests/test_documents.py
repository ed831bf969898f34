"""The documentation agrees with the code: settings, make targets, routes, files, links, versions.

.venv/bin/python -m pytest tests/test_documents.py
"""

import re
import tomllib
from contextlib import AbstractAsyncContextManager
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from services.model.settings import ModelSettings
from services.orchestrator.app import create_app
from services.orchestrator.settings import OrchestratorSettings
from services.worker.settings import WorkerSettings

ROOT = Path(__file__).parents[1]
README, CHANGELOG, ARCHITECTURE = ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "docs/architecture.md"
GUIDES = [README, *sorted((ROOT / "docs").glob("*.md"))]
MEASUREMENTS = sorted((ROOT / "docs/measurements").glob("*.md"))  # dated: the names of their day stay
LINES = (ROOT / ".env.example").read_text().splitlines()
ENV_EXAMPLE = dict(line.split("=", 1) for line in LINES if line[:1].isalpha())
SETTINGS = OrchestratorSettings.model_fields | WorkerSettings.model_fields
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())


def code(page: Path) -> list[str]:
    """The pieces of code on a page: fenced blocks, indented lines and `spans`."""
    fences = re.split(r"^```\w*$", page.read_text(), flags=re.M)
    prose = "".join(fences[::2])
    return [*fences[1::2], *re.findall(r"^ {4}.*$", prose, re.M), *re.findall(r"`([^`\n]+)`", prose)]


def section(page: Path, title: str) -> str:
    """The text under a heading, up to the next heading of the same level."""
    _, heading, rest = page.read_text().partition(f"\n{title}\n")
    assert heading, f"{page.name} has no section {title!r}"
    return rest.partition(f"\n{title.split()[0]} ")[0]


def missing(what: str, names: set[str], page: str) -> str:
    """What an assertion says."""
    return f"{page}: {what}: {', '.join(sorted(names))}"


# Settings


def test_env_example_names_every_setting_of_orchestrator_and_worker_with_its_default():
    for field in SETTINGS.values():
        name = str(field.validation_alias)
        if field.default in ("", None):
            assert any(line.startswith((f"# {name}=", f"{name}=")) for line in LINES), name
            continue
        default = f"{field.default:g}" if isinstance(field.default, float) else str(field.default)
        assert ENV_EXAMPLE[name] == default, name


def test_env_example_names_the_model_servers_settings_with_their_defaults():
    defaults = ModelSettings.from_environment({})
    assert ModelSettings.from_environment(ENV_EXAMPLE) == defaults
    source = (ROOT / "services/model/settings.py").read_text()
    assert set(re.findall(r'"((?:MODEL|ADA)_[A-Z_]+)"', source)) <= ENV_EXAMPLE.keys()


def test_the_documentation_names_every_setting():
    source = (ROOT / "services/model/settings.py").read_text()
    names = {str(field.validation_alias) for field in SETTINGS.values()}
    names |= set(re.findall(r'"((?:MODEL|ADA)_[A-Z_]+)"', source))
    documented = set(re.findall(r"\b[A-Z][A-Z_]+\b", "\n".join(page.read_text() for page in GUIDES)))
    assert not names - documented, missing("no page names these settings", names - documented, "docs/")


# Make targets


@cache
def targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.M))


def test_every_make_target_has_a_help_text():
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.M)
    assert phony
    assert set(phony[1].split()) == targets()


@pytest.mark.parametrize("page", [*GUIDES, CHANGELOG, *MEASUREMENTS], ids=lambda page: page.name)
def test_every_make_target_that_a_page_names_exists(page: Path):
    names = set(re.findall(r"(?<![\w-])make ([a-z][a-z-]*)", "\n".join(code(page))))
    assert names <= targets(), missing("no such make target", names - targets(), page.name)


def test_the_documentation_names_every_make_target():
    text = "\n".join(piece for page in GUIDES for piece in code(page))
    names = set(re.findall(r"(?<![\w-])make ([a-z][a-z-]*)", text))
    undocumented = targets() - names - {"help"}
    assert not undocumented, missing("no page names these make targets", undocumented, "docs/")


# Routes


def _opened() -> AbstractAsyncContextManager[Any]:
    raise AssertionError("the app is described, not started")


@cache
def routes() -> set[str]:
    """`METHOD /path` of every route in the app's OpenAPI document."""
    paths = create_app(_opened).openapi()["paths"]
    return {
        f"{method.upper()} {re.sub('{[a-z_]+}', '{id}', path)}"
        for path, methods in paths.items()
        for method in methods
    }


@cache
def documented_routes() -> set[str]:
    pattern = r"\b(GET|POST|PUT|DELETE) (/[\w/{}.-]*[\w}])"
    text = "\n".join(piece for page in GUIDES for piece in code(page))
    return {f"{method} {path}" for method, path in re.findall(pattern, text)}


def test_the_documentation_names_every_route():
    undocumented = routes() - documented_routes()
    assert not undocumented, missing("no page names these routes", undocumented, "docs/")


def test_every_route_that_the_documentation_names_exists():
    served = routes() | {"GET /docs", "GET /openapi.json"}
    patterns = [re.compile(re.escape(route).replace(r"\{id\}", "[^/]+")) for route in served]
    unknown = {
        route for route in documented_routes() if not any(pattern.fullmatch(route) for pattern in patterns)
    }
    assert not unknown, missing("no such route", unknown, "docs/")


# Files


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.name)
def test_every_file_that_a_page_names_exists(page: Path):
    pattern = r"(?<![\w/.])(?:(?:services|trainer|tests|docs|docker|data/samples)/[\w./-]*\w|\.ci/run)"
    paths = {path for piece in code(page) for path in re.findall(pattern, piece)}
    absent = {path for path in paths if not (ROOT / path).exists()}
    tests = {name for piece in code(page) for name in re.findall(r"\btest_\w+\.py\b", piece)}
    absent |= tests - {path.name for path in (ROOT / "tests").rglob("test_*.py")}
    assert not absent, missing("no such file", absent, page.name)


def paths_in_map() -> set[str]:
    """The files and folders of the README's map, whose tree is drawn by indentation."""
    paths, parents = set(), [""]
    for line in section(README, "## Map").splitlines():
        if not (entry := re.match(r"( {4,})(\S+(?:, \S+)*)  ", line)):
            continue
        depth = (len(entry[1]) - 4) // 2
        del parents[depth + 1 :]
        paths |= {parents[-1] + name for name in entry[2].split(", ")}
        parents.append(parents[-1] + entry[2])
    return paths


def test_the_readmes_map_names_files_that_exist():
    absent = {path for path in paths_in_map() - {"outputs/"} if not (ROOT / path).exists()}
    assert not absent, missing("the map names what does not exist", absent, "README.md")


def test_the_maps_name_every_package_and_shared_module():
    packages = {
        f"{folder.relative_to(ROOT)}/"
        for parent in ("services", "trainer")
        for folder in (ROOT / parent).iterdir()
        if (folder / "__init__.py").exists()
    }
    modules = {f"services/{path.name}" for path in (ROOT / "services").glob("[!_]*.py")}
    mapped = paths_in_map() | set(re.findall(r"`([^`]+)`", section(ARCHITECTURE, "## Shared modules")))
    absent = (packages | modules) - mapped
    assert not absent, missing("neither map names", absent, "README.md and docs/architecture.md")


@pytest.mark.parametrize(
    ("walk", "limit"),
    [
        ("### An entry's text, from the route to the index", 14),
        ("### A chat, from the route to vLLM", 16),
    ],
)
def test_a_walk_through_the_code_is_short_and_names_files_that_exist(walk: str, limit: int):
    files = re.findall(r"^\d+\. `([^`]+)`", section(ARCHITECTURE, walk), re.M)
    absent = {path for path in files if not (ROOT / path).is_file()}
    assert not absent, missing(f"{walk[4:]!r} names what does not exist", absent, ARCHITECTURE.name)
    assert len(set(files)) == len(files), "a file is named twice"
    assert 5 <= len(files) <= limit, f"{walk[4:]!r} has {len(files)} files, at most {limit} are allowed"


def test_the_architecture_names_the_layers_that_import_linter_checks():
    for contract in PYPROJECT["tool"]["importlinter"]["contracts"]:
        for package in contract.get("containers", []):
            line = f"- `{package}`: `{' → '.join(contract['layers'])}`"
            assert line in ARCHITECTURE.read_text(), f"{ARCHITECTURE.name} does not have the line: {line}"


# Links


def slug(heading: str) -> str:
    """The anchor of a heading, as GitHub and MkDocs make it."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
    return re.sub(r"[^\w\- ]", "", text).strip().replace(" ", "-")


@pytest.mark.parametrize("page", [*GUIDES, CHANGELOG, *MEASUREMENTS], ids=lambda page: page.name)
def test_every_link_of_a_page_leads_somewhere(page: Path):
    prose = re.sub(r"^```.*?^```$|`[^`\n]*`", "", page.read_text(), flags=re.M | re.S)
    broken = set()
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        if re.match(r"[a-z]+:", target):
            continue
        if not path.exists():
            broken.add(target)
        elif anchor:
            headings = re.findall(r"^#+ (.+)$", path.read_text(), re.M)
            if anchor not in map(slug, headings):
                broken.add(target)
    assert not broken, missing("broken links", broken, page.name)


# Versions


def test_every_place_that_names_the_version_names_the_same():
    version = PYPROJECT["project"]["version"]
    client = tomllib.loads((ROOT / "services/client/pyproject.toml").read_text())
    assert client["project"]["version"] == version
    assert create_app(_opened).version == version
    releases = re.findall(r"^## (\d\S*)", CHANGELOG.read_text(), re.M)
    assert releases[0] == version, "CHANGELOG.md"
    for name in ("compose.yaml", "docker/compose.cpu.yaml", ".env.example"):
        tags = set(re.findall(r"ada-[a-z-]+:([\d.]+)", (ROOT / name).read_text()))
        assert tags == {version}, name
