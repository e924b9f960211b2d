"""The example notebook, executed in a kernel of its own as Jupyter does; what it shows, in a browser too."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
NOTEBOOK = REPOSITORY / "examples" / "notebook.ipynb"
MOST_SECONDS = 300  # on a busy machine; alone it takes ten


@pytest.fixture(scope="module")
def executed(tmp_path_factory, migrated):
    """The cells' outputs as HTML or text, by the beginning of their code."""
    nbformat = pytest.importorskip("nbformat")
    client = pytest.importorskip("nbclient").NotebookClient
    pytest.importorskip("ipykernel")
    folder = tmp_path_factory.mktemp("notebook")
    (folder / "outputs").mkdir()
    (folder / "outputs" / "mlflow.db").write_bytes(migrated.read_bytes())
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_OUTPUTS", str(folder / "outputs"))
        patch.setenv("PYTHONPATH", str(REPOSITORY))
        patch.setenv("JUPYTER_RUNTIME_DIR", str(folder / "runtime"))
        began = time.monotonic()
        client(notebook, timeout=MOST_SECONDS, resources={"metadata": {"path": str(folder)}}).execute()
    return {
        "seconds": time.monotonic() - began,
        "cells": [c for c in notebook.cells if c.cell_type == "code"],
    }


def test_the_notebook_has_no_outputs_and_no_paths():
    text = NOTEBOOK.read_text()
    assert not re.search(r"/(home|root|tmp|Users|work)/", text)
    assert '"outputs": []' in text
    assert not re.search(r'"outputs": \[[^\]]', text)
    assert '"execution_count": null' in text


def shown(cell):
    """What a cell's value is shown as."""
    (output,) = [output for output in cell.outputs if output.output_type == "execute_result"]
    return output.data


def test_a_sweep_with_progress_and_its_frames_text_and_page(executed):
    sweep, frame, comparison, text, page, session = executed["cells"]
    for cell in executed["cells"]:
        errors = [one for one in cell.outputs if one.output_type == "error" or one.get("name") == "stderr"]
        assert not errors
    told = "".join(
        one.data.get("text/plain", "") for one in sweep.outputs if one.output_type == "display_data"
    )
    assert told.startswith("sweep")
    assert "fable_tiny, 2 strategies" in told
    assert "fable_tiny/none/top_p" not in told  # the result says so
    assert sum(one.output_type == "display_data" for one in sweep.outputs) == 2  # the title, the bars
    assert "<td>greedy</td>" in shown(sweep)["text/html"]
    assert re.search(r"greedy +-0\.\d+ +0\.\d+", shown(frame)["text/plain"])
    assert "probability/mean_logprob" in shown(comparison)["text/html"]
    assert 'class="t s' in shown(text)["text/html"]
    assert shown(page)["text/html"].startswith("<iframe srcdoc=")
    assert shown(session)["text/plain"] == "1"
    assert not session.outputs[:-1]  # quiet


def test_the_cells_in_a_browser(executed, open_page, tmp_path):
    cells = [shown(cell)["text/html"] for cell in executed["cells"][3:5]]
    file = tmp_path / "cells.html"
    file.write_text(f'<!doctype html><meta charset="utf-8"><body data-jp-theme-light="true">{"".join(cells)}')
    page = open_page(file, size=(800, 1100)).tab
    tokens = page.locator(".harness-text .t")
    assert tokens.count() == 16
    assert [node for node in range(16) if page.locator(".card").nth(node).is_visible()] == [
        page.evaluate("[...document.querySelectorAll('.card')].findIndex(node => node.matches('.first'))")
    ]
    card = page.locator(".card:not(.first)").nth(3)
    assert not card.is_visible()
    page.locator(".harness-text .t:not(:has(.first))").nth(3).hover()
    assert card.is_visible()
    box = card.bounding_box()
    on_top = "(at) => document.elementFromPoint(...at).closest('.card').matches('.first')"
    assert not page.evaluate(on_top, [box["x"] + 20, box["y"] + 20])
    assert card.locator("tr").count() == 6  # header, five alternatives
    colours = {tokens.nth(i).evaluate("node => getComputedStyle(node).backgroundColor") for i in range(16)}
    assert len(colours) > 3
    light = tokens.nth(0).evaluate("node => getComputedStyle(node).color")
    page.evaluate("document.body.dataset.jpThemeLight = 'false'")
    assert tokens.nth(0).evaluate("node => getComputedStyle(node).color") != light
    page.frame_locator("iframe").locator("text=top_p").first.wait_for(timeout=60_000)
