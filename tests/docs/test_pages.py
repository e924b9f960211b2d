"""The pages of the documentation: links, pictures, the navigation, the built site."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

sys.path.append(str(Path(__file__).parent))

from blocks import NAMES, PAGES, ROOT, blocks, links

from tools.outside_links import outside_links
from tools.pictures.__main__ import PHOTOGRAPHS, TERMINALS

DOCS = ROOT / "docs"
LARGEST = 300_000


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page: Path) -> None:
    for address in links(page):
        path, _, fragment = address.partition("#")
        if re.match(r"[a-z]+:", path):
            continue
        target = (page.parent / path).resolve() if path else page
        assert target.is_file(), address
        if fragment and target.suffix == ".md":
            assert fragment in anchors(target), address


def anchors(page: Path) -> set[str]:
    """Return what a fragment may name: headings as slugs, and `<a id>`."""
    text = page.read_text(encoding="utf-8")
    headings = re.findall(r"(?m)^#+ (.+)$", re.sub(r"(?ms)^```.*?^```", "", text))
    slugs = {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip()) for heading in headings}
    return slugs | set(re.findall(r'<a id="([^"]+)">', text))


def test_every_target_of_make_is_there() -> None:
    targets = set(re.findall(r"(?m)^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8")))
    shown = [block.text for page in PAGES for block in blocks(page) if block.language == "bash"]
    named = re.findall(r"(?m)^make ([a-z -]+)", "\n".join(shown))
    for page in PAGES:
        named += re.findall(r"`make ([a-z -]+)(?:&& [^`]*)?`", page.read_text(encoding="utf-8"))
    words = {word for line in named for word in line.split()}
    assert {"demo", "test", "lint", "docs", "real-model"} <= words
    assert words - targets == set()


def test_the_entry_points_that_are_shown_are_those_of_the_example() -> None:
    (shown,) = (
        tomllib.loads(block.text)
        for block in blocks(DOCS / "guides" / "plugins.md")
        if block.language == "toml"
    )
    example = tomllib.loads((ROOT / "examples" / "plugin" / "pyproject.toml").read_text(encoding="utf-8"))
    assert shown["project"]["entry-points"] == example["project"]["entry-points"]


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 200


def test_every_page_is_in_the_navigation_once() -> None:
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]

    def files(entry: object) -> list[str]:
        if isinstance(entry, str):
            return [entry]
        entries = entry.values() if isinstance(entry, dict) else entry
        return [file for one in entries for file in files(one)]  # type: ignore[union-attr]

    assert sorted(files(nav)) == sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))


def test_pictures_are_small_taken_by_the_script_and_shown() -> None:
    pictures = [path for path in DOCS.rglob("*") if path.suffix in (".png", ".svg")]
    assert {path.stem for path in pictures} == {*TERMINALS, *PHOTOGRAPHS}
    shown = {(page.parent / address).resolve() for page in PAGES for address in links(page)}
    assert [path.name for path in pictures if path not in shown] == []
    assert [path.name for path in pictures if path.stat().st_size > LARGEST] == []
    assert outside_links(DOCS) == []


def test_what_a_site_fetches_from_elsewhere_is_found(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(
        '<link rel="canonical" href="https://here.example"><a href="https://there.example">there</a>'
        '<script src="app.js"></script><link rel="stylesheet" href="//fonts.example/a.css">'
        '<script src="https://scripts.example/a.js"></script><img src="data:,">'
        '<style>@font-face { src: url("https://fonts.example/b.woff2") }</style>'
    )
    (tmp_path / "style.css").write_text(
        '@import "https://styles.example/c.css"; a { background: url(d.png) }'
    )
    assert outside_links(tmp_path) == [
        "page.html: //fonts.example/a.css",
        "page.html: https://scripts.example/a.js",
        "page.html: https://fonts.example/b.woff2",
        "style.css: https://styles.example/c.css",
    ]


@pytest.mark.skipif(find_spec("material") is None, reason="needs mkdocs-material: make docs")
def test_the_site_is_built_without_a_warning_and_fetches_nothing(tmp_path: Path) -> None:
    shutil.copytree(DOCS, tmp_path / "docs")
    shutil.copyfile(ROOT / "mkdocs.yml", tmp_path / "mkdocs.yml")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict"],
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    assert outside_links(tmp_path / "site") == []
    assert (tmp_path / "site" / "start.html").is_file()
