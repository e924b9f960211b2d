"""What is declared is what is there: extras, imports, the version, files for containers and commits."""

from __future__ import annotations

import ast
import fnmatch
import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from harness import __version__
from harness.backends.exported.runtimes import RUNTIMES
from harness.models.prequantized import METHODS

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
FOR_DEVELOPMENT = {"dev", "docs"}

COMES_WITH = {
    "huggingface-hub": "transformers",
    "pydantic-core": "pydantic",
    "regex": "transformers",
    "safetensors": "transformers",
    "sqlalchemy": "mlflow",
    "tqdm": "transformers",
}
"""Distributions that the code imports, and the dependency that brings each."""

LEFT_TO_THE_USER = {"ipython", "jsonschema", "polars"}
"""Distributions that are used where they happen to be: a notebook's, a second check, a kind of frame."""


def names(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(one).name) for one in requirements}


DEPENDENCIES = names(PROJECT["dependencies"])
OPTIONAL = {name for extra in set(EXTRAS) - FOR_DEVELOPMENT for name in names(EXTRAS[extra])}


def texts() -> Iterator[tuple[Path, str]]:
    """What users read: the code with its messages, configs, documentation, containers."""
    folders = ("harness", "conf", "experiments", "docs", "examples", "tools", ".devcontainer")
    found = [path for folder in folders for path in sorted((ROOT / folder).rglob("*"))]
    found += [
        ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "Makefile", "Dockerfile")
    ]
    for path in found:
        if path.suffix in (".py", ".md", ".yaml", ".json", "") and path.is_file():
            yield path, path.read_text(encoding="utf-8")


def test_every_extra_that_a_text_names_is_there() -> None:
    named = [
        (extra.strip(), path.relative_to(ROOT))
        for path, text in texts()
        for listed in re.findall(r"decoding-harness\[([^]{}]+)\]", text)
        for extra in listed.split(",")
    ]
    assert len({path for _, path in named}) > 10
    assert [one for one in named if one[0] not in EXTRAS] == []


def test_every_extra_that_the_code_computes_is_there() -> None:
    calls = [
        node
        for path in (ROOT / "harness").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "missing_packages"
    ]
    said = {call.args[1].value for call in calls if isinstance(call.args[1], ast.Constant)} - {""}
    methods = {method for method, modules in METHODS.items() if modules}
    assert {"gguf", "hqq", "torchao"} <= said
    assert (said | methods) - set(EXTRAS) == set()
    for method in methods:
        assert {canonicalize_name(name) for name in METHODS[method]} <= names(EXTRAS[method])


def test_every_extra_is_the_cure_of_an_error() -> None:
    code = "".join(text for path, text in texts() if path.is_relative_to(ROOT / "harness"))
    computed = {method for method, modules in METHODS.items() if modules} | {"gguf", "hqq", "torchao"}
    computed |= RUNTIMES.keys()
    cures = set(re.findall(r"decoding-harness\[([\w-]+)\]", code)) | computed
    assert set(EXTRAS) - FOR_DEVELOPMENT - cures == set()


def test_everything_imported_is_declared() -> None:
    installed = metadata.packages_distributions()
    of_module = {"hydra": ["hydra-core"], "yaml": ["pyyaml"]}
    undeclared = set()
    for path in (ROOT / "harness").rglob("*.py"):
        for module in imported(ast.parse(path.read_text(encoding="utf-8"))):
            found = of_module.get(module) or installed.get(module) or [module]
            known = DEPENDENCIES | OPTIONAL | set(COMES_WITH) | LEFT_TO_THE_USER
            if not {canonicalize_name(name) for name in found} & known:
                undeclared.add((module, str(path.relative_to(ROOT))))
    assert undeclared == set()


def imported(tree: ast.Module) -> Iterator[str]:
    """The top-level modules that a file imports, wherever in it, of other projects."""
    for node in ast.walk(tree):
        found = []
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found = [node.module]
        for name in found:
            top = name.partition(".")[0]
            if top not in sys.stdlib_module_names and top != "harness":
                yield top


@pytest.mark.parametrize("name", COMES_WITH)
def test_what_comes_with_a_dependency_does(name: str) -> None:
    brings = COMES_WITH[name]
    assert brings in DEPENDENCIES
    required = [Requirement(one) for one in metadata.requires(brings) or ()]
    assert name in {
        canonicalize_name(one.name) for one in required if one.marker is None or one.marker.evaluate()
    }


def test_the_version_is_written_once() -> None:
    assert "version" in PROJECT["dynamic"]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == __version__
    assert f"{__version__}" in (ROOT / "CHANGELOG.md").read_text()
    literal = re.compile(rf"['\"]{re.escape(__version__)}['\"]")
    found = [
        path.name
        for path in (ROOT / "harness").rglob("*.py")
        if literal.search(path.read_text(encoding="utf-8"))
    ]
    assert found == ["__init__.py"]


def test_the_package_says_that_it_is_typed() -> None:
    assert (ROOT / "harness" / "py.typed").is_file()


def test_a_source_distribution_has_all_that_is_tracked() -> None:
    built = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["sdist"]
    always = {"pyproject.toml", "LICENSE", ".gitignore"}
    assert [name for name in built["include"] if not (ROOT / name).exists()] == []
    if not (ROOT / ".git").exists():
        pytest.skip("no clone")
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {line.partition("/")[0] for line in listed.splitlines()} - {".ci"} <= {*built["include"], *always}


@pytest.mark.parametrize(
    "path",
    [
        "outputs/x", "mlruns/0/meta.yaml", "mlartifacts/1", "mlflow.db", ".venv/bin/python",
        "site/index.html", "multirun/x", "dist/x.whl", "harness/__pycache__/x.pyc", ".env", ".DS_Store",
    ],
)  # fmt: skip
def test_what_tools_leave_behind_is_ignored(path: str) -> None:
    patterns = (ROOT / ".gitignore").read_text().split()
    parts = path.split("/")
    assert any(fnmatch.fnmatch(part, pattern.rstrip("/")) for part in parts for pattern in patterns)


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions with their arguments, continued lines joined."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in joined.splitlines() if line)]


class TestDockerfile:
    def test_its_instructions_are_dockers(self) -> None:
        known = {
            "ARG",
            "FROM",
            "WORKDIR",
            "COPY",
            "RUN",
            "ENV",
            "VOLUME",
            "USER",
            "EXPOSE",
            "ENTRYPOINT",
            "CMD",
        }
        found = [name for name, _ in instructions()]
        assert set(found) <= known
        assert (found.count("FROM"), found[:2]) == (2, ["ARG", "FROM"])
        for name, rest in instructions():
            if name in ("ENTRYPOINT", "CMD", "VOLUME"):
                assert isinstance(json.loads(rest), list)

    def test_all_that_it_copies_is_there_and_in_its_context(self) -> None:
        kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().split() if line.startswith("!")}
        copied = {word for name, rest in instructions() if name == "COPY" for word in rest.split()[:-1]}
        assert copied == kept
        assert [name for name in copied if not (ROOT / name).exists()] == []

    def test_it_copies_what_the_wheel_is_made_of(self) -> None:
        copied = {word for name, rest in instructions() if name == "COPY" for word in rest.split()[:-1]}
        wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"][
            "wheel"
        ]
        needed = {"pyproject.toml", PROJECT["readme"], *PROJECT["license-files"], *wheel["packages"]}
        assert needed | set(wheel["force-include"]) == copied

    def test_its_stages_and_arguments_are_declared(self) -> None:
        stages, arguments = set(), set()
        for name, rest in instructions():
            if name == "FROM":
                assert rest.split()[0] == "${BASE}"
                stages |= set(rest.split()[2:])
            elif name == "ARG":
                arguments.add(rest.partition("=")[0])
            assert set(re.findall(r"\bfrom=(\w+)", rest)) <= stages
            assert set(re.findall(r"\$\{(\w+)\}", rest)) <= arguments
        assert stages == {"wheel"}

    def test_its_pytorch_and_its_extras_are_ours(self) -> None:
        values = dict(rest.split("=", 1) for name, rest in instructions() if name == "ARG")
        version = re.fullmatch(r"pytorch/pytorch:([\d.]+)-cuda[\d.]+-cudnn9-runtime", values["BASE"])
        torch = next(one for one in map(Requirement, PROJECT["dependencies"]) if one.name == "torch")
        assert version is not None
        assert torch.specifier.contains(version[1])
        assert set(values["EXTRAS"].split(",")) <= set(EXTRAS)
        container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
        assert container["image"] == values["BASE"]

    def test_it_runs_the_command_as_a_user_with_volumes(self) -> None:
        last = dict(instructions())
        volumes = json.loads(last["VOLUME"])
        environment = dict(word.split("=", 1) for word in shlex.split(last["ENV"]))
        assert last["USER"].split(":")[0] not in ("root", "0")
        assert {environment["HF_HOME"], environment["HARNESS_OUTPUTS"]} == set(volumes)
        assert json.loads(last["ENTRYPOINT"]) == ["harness"]
        assert "harness" in PROJECT["scripts"]


def test_a_development_container_has_the_gpus_and_makes_the_demo() -> None:
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    assert container["runArgs"][:2] == ["--gpus", "all"]
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert [word for word in re.findall(r"make ([\w-]+)", container["postCreateCommand"]) if word in targets]


def test_hooks_of_commits_run_what_lint_runs() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    by_name = {hook["id"]: hook for hook in hooks}
    lint = (ROOT / "Makefile").read_text().partition("\nlint:")[2].partition("\n\n")[0]
    assert {hook["entry"].split()[0].removeprefix(".venv/bin/") for hook in hooks} >= set(
        re.findall(r"\$\(BIN\)/([\w-]+)", lint)
    )
    files = re.compile(by_name["experiments"]["files"])
    assert all(files.search(f"experiments/{path.name}") for path in (ROOT / "experiments").glob("*.yaml"))
