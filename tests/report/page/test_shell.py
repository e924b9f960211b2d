from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from read_page import Page

from harness.report.page.shell import SCRIPTS, STYLES, TEMPLATES, page, safe_json
from harness.report.page.walk_page import WALK
from harness.terminal import visible

ANY = st.text(st.characters(exclude_categories=()), max_size=60)


@given(st.dictionaries(ANY, st.lists(ANY, max_size=3), max_size=4))
def test_embedded_data_reads_back_and_cannot_end_its_script(data: dict[str, list[str]]) -> None:
    text = safe_json(data)
    assert json.loads(text) == data
    assert not set(text) & set("<>&\u2028\u2029")
    text.encode("utf-8")


def test_numbers_that_json_lacks_are_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        safe_json([float("nan")])


@given(ANY)
def test_visible_text_holds_nothing_that_moves_a_terminal(text: str) -> None:
    shown = visible(text)
    assert not re.search("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]", shown)


def test_visible_leaves_ordinary_text_alone() -> None:
    assert visible("naïve 漢字 👩 = ok") == "naïve 漢字 👩 = ok"


def test_the_page_allows_its_own_script_and_style_and_nothing_else() -> None:
    written = Page(page("</title><b>x", {"x": "</script><i>"}))
    assert written.title == "</title><b>x"
    assert "b" not in [tag for tag in written.tags if tag not in ("body", "button")]
    assert "i" not in written.tags
    assert len(written.scripts) == 4
    assert written.data["x"] == "</script><i>"
    for kind, source in (("script-src", written.scripts[1]), ("style-src", written.styles[0])):
        assert f"{kind} {hash_of(source)}" in written.policy
    assert "default-src 'none'" in written.policy
    assert "unsafe" not in written.policy
    assert written.addresses == []
    assert written.scripts[2:] == ["", ""]


def test_the_charting_library_comes_packed_and_by_its_hash() -> None:
    written = Page(page("x", {}, chunks="abcd", charts=True))
    library = gzip.decompress(base64.b64decode(written.scripts[2])).decode()
    assert "Bokeh" in library
    assert f"script-src {hash_of(written.scripts[1])} {hash_of(library)};" in written.policy
    assert "script-src 'unsafe" not in written.policy
    assert "unsafe-eval" not in written.policy
    assert written.scripts[3] == "abcd"
    assert len(page("x", {}, charts=True)) < 3_000_000


def hash_of(source: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"


def test_every_file_of_the_templates_is_used_once() -> None:
    for folder, names in (("js", {*SCRIPTS, *WALK.scripts}), ("css", {*STYLES, *WALK.styles})):
        assert sorted(path.stem for path in (TEMPLATES / folder).iterdir()) == sorted(names)


def test_templates_ask_for_nothing_and_never_write_markup() -> None:
    banned = re.compile(
        r"https?://|fetch\(|XMLHttp|localStorage|sessionStorage|innerHTML|outerHTML|insertAdjacent|document\.write"
        r"|\beval\b|new Function|@import|url\("
    )
    for path in TEMPLATES.rglob("*.*"):
        if path.name == "walk_data.js":  # asks the process that serves its page, and nothing else
            assert path.read_text(encoding="utf-8").count("fetch(") == 1
            continue
        assert not banned.search(path.read_text(encoding="utf-8")), path.name


@pytest.mark.parametrize("scripts", [SCRIPTS, WALK.scripts], ids=["sweep", "walk"])
def test_no_name_is_declared_twice_in_a_page(scripts: tuple[str, ...]) -> None:
    """The files are joined into one script, in which a second declaration stops the whole page."""
    declared = re.compile(r"^(?:const|let|class|function|async function) (\w+)", re.M)
    names = [
        name
        for script in scripts
        for name in declared.findall((TEMPLATES / "js" / f"{script}.js").read_text())
    ]
    assert [name for name, count in Counter(names).items() if count > 1] == []
