"""Take every picture of the documentation. Run: make pictures, or python -m tools.pictures [NAME ...].

It needs Chromium, and for docs/compare.png a real model (make real-model). Sweeps are kept in `.pictures/`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tools.pictures.browser import Photograph, camera
from tools.pictures.terminal import run, save_svg

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PICTURES = DOCS / "pictures"
WORK = ROOT / ".pictures"
WIDTH = 100  # columns
_STORMY = "It was a dark and stormy"


def sweep_folder(name: str) -> Path:
    """Return the folder of a named experiment's sweep, which is run unless it is stored."""
    folders = sorted((WORK / "outputs" / "sweeps").glob(f"{name}-*/compare.html"))
    if not folders:
        _run([f"experiments={name}"])
        folders = sorted((WORK / "outputs" / "sweeps").glob(f"{name}-*/compare.html"))
    return folders[-1].parent


def _run(words: list[str]) -> tuple[str, str]:
    WORK.mkdir(exist_ok=True)
    return run(words, WORK, WIDTH, {"HARNESS_OUTPUTS": str(WORK / "outputs")})


def compare(photograph: Photograph) -> None:
    """The outputs of six strategies beside their reference, with the alternatives of a token."""

    def prepare(page: Any) -> None:
        page.wait_for_selector("#columns .text")
        page.locator("#columns .text span", has_text="honey").first.hover()

    page = sweep_folder("real") / "compare.html"
    photograph(DOCS / "compare.png", f"{page.as_uri()}#/prompts/bees", prepare)


def overview(photograph: Photograph) -> None:
    """What the page opens with: the answer and the table."""
    page = sweep_folder("real") / "compare.html"
    photograph(
        PICTURES / "overview.png", page.as_uri(), lambda page: page.wait_for_selector("#metrics tbody tr")
    )


def tree(photograph: Photograph) -> None:
    """The tree of a prompt's outputs."""
    page = sweep_folder("real") / "compare.html"
    photograph(
        PICTURES / "tree.png",
        f"{page.as_uri()}#/prompts/france?layout=tree",
        lambda page: page.wait_for_timeout(1500),
    )


def quantization(photograph: Photograph) -> None:
    """What each precision costs."""
    page = sweep_folder("demo") / "compare.html"
    photograph(
        PICTURES / "quantization.png",
        f"{page.as_uri()}#/quantization",
        lambda page: page.wait_for_timeout(1500),
    )


def walk(photograph: Photograph) -> None:
    """The page of `harness inspect --page`."""
    words = [sys.executable, "-m", "harness", "inspect", "model=fable_small", f"prompt={_STORMY}", "--page"]
    with _served(words, "Inspecting at ") as url:
        photograph(PICTURES / "walk.png", url, lambda page: page.wait_for_timeout(2500), (1280, 720))


def mlflow(photograph: Photograph) -> None:
    """The runs of a sweep in MLflow, by the link that `harness ui` prints."""

    def prepare(page: Any) -> None:
        page.wait_for_timeout(8000)
        close = page.locator("[aria-label='Close'], [aria-label='close']")
        if close.count():
            close.first.click()
        page.wait_for_timeout(3000)

    _sweep()
    words = [sys.executable, "-m", "harness", "ui", "--port", "5077"]
    with _served(words, "runs ") as url:
        photograph(PICTURES / "mlflow.png", url, prepare, (1440, 560))


@contextmanager
def _served(words: list[str], before: str) -> Iterator[str]:
    """Run a command that serves pages; yield the address that it prints after these words."""
    environment = os.environ | {"HARNESS_OUTPUTS": str(WORK / "outputs")}
    process = subprocess.Popen(
        words, cwd=WORK, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert process.stdout
        lines = (line for line in process.stdout if line.startswith(before))
        yield next(lines).removeprefix(before).split()[0]
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


def _sweep(*more: str) -> None:
    """Run the small sweep of the tutorial, so that it is the last one; what is stored is not run again."""
    _run(["-m", "decoding=greedy,top_p,beam", *more])


TERMINALS: dict[str, tuple[str, list[str]]] = {
    "sweep": ("harness -m decoding=greedy,top_p,beam", ["report"]),
    "plan": (
        "harness plan -m model=fable_small,fable_tiny decoding=greedy,top_p,beam",
        ["plan", "-m", "model=fable_small,fable_tiny", "decoding=greedy,top_p,beam"],
    ),
    "inspect": (
        f'harness inspect model=fable_small prompt="{_STORMY}"',
        ["inspect", "model=fable_small", f"prompt={_STORMY}"],
    ),
    "generate": (
        f'harness generate model=fable_small prompt="{_STORMY}" decoding=top_p',
        ["generate", "model=fable_small", f"prompt={_STORMY}", "decoding=top_p"],
    ),
}
"""By the picture's name: what is shown as typed, and the words that are run."""


def terminal(name: str) -> None:
    """Run a command and draw what it prints; of a run the report at its end."""
    command, words = TERMINALS[name]
    if words == ["report"]:
        _sweep("engine.fresh=true")
    out, err = _run(words)
    said = "".join(line + "\n" for line in err.splitlines() if "·" in line or "probability of" in line)
    save_svg(PICTURES / f"{name}.svg", command, out + said, WIDTH)


PHOTOGRAPHS: dict[str, Callable[[Photograph], None]] = {
    "compare": compare,
    "overview": overview,
    "tree": tree,
    "quantization": quantization,
    "walk": walk,
    "mlflow": mlflow,
}


def main(names: list[str]) -> None:
    """Take the pictures of these names, or all."""
    PICTURES.mkdir(exist_ok=True)
    for name in TERMINALS:
        if name in names or not names:
            terminal(name)
    with camera() as photograph:
        for name, take in PHOTOGRAPHS.items():
            if name in names or not names:
                take(photograph)


if __name__ == "__main__":
    main(sys.argv[1:])
