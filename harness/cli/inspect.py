"""Looking closely: a prompt's tokens, and the next token's distribution, one step after the other."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from harness.config.effective import effective_decoding
from harness.config.point import Point, Prompts
from harness.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from harness.models.load import LoadedModel


@dataclass(frozen=True)
class Candidate:
    """A possible next token: its piece as text, its id, its logit and its raw and warped probability."""

    token: str
    id: int
    logit: float
    probability: float
    warped_probability: float


@dataclass(frozen=True)
class Step:
    """One step of the walk: the likeliest candidates, likeliest first, and which token was chosen."""

    position: int
    candidates: tuple[Candidate, ...]
    chosen: Candidate
    entropy: float


def inspect(
    point: Point,
    prompt: str,
    *,
    steps: int = 1,
    top_k: int = 10,
    chat: bool = False,
    as_json: bool = False,
) -> int:
    """Print the tokens of `prompt` and the next-token table of each of `steps` steps.

    Args:
        point: model, quantization, and the decoding by which the walk goes on.
        prompt: the text, taken as it is.
        steps: how many tokens to walk.
        top_k: rows of each next-token table.
        chat: put the prompt through the model's chat template.
        as_json: print one JSON object instead of tables.

    Returns:
        The exit status.
    """
    from harness.models.load import free, load
    from harness.models.locate import locate
    from harness.models.tokenizer import load_tokenizer
    from harness.prompts import prepare_prompts

    if point.decoding.num_beams not in (None, 1):
        raise ConfigError.of(
            "decoding.num_beams",
            f"{point.decoding.num_beams}: inspect walks token by token; use decoding=greedy",
        )
    if point.cache.quantized:
        raise ConfigError.of(
            "cache", f"{point.cache.name}: inspect reads with the model's own cache; use cache=default"
        )
    if steps < 1 or top_k < 1:
        raise ConfigError.of("steps" if steps < 1 else "top_k", "must be at least 1")
    files = locate(point.model)
    source = Prompts(name="inspect", items=({"id": "inspect", "prompt": prompt},), chat=chat)
    tokenizer = load_tokenizer(point.model, files)
    (ready,) = prepare_prompts(source, files, tokenizer, steps).prompts
    loaded = load(point.model, point.quantization)
    try:
        tokens = [(str(loaded.tokenizer.convert_ids_to_tokens(id_)), id_) for id_ in ready.ids]
        walk = _walk(loaded, point, ready.id, ready.ids, steps, top_k)
        if as_json:
            _print_json(point, ready.text, tokens, list(walk))
        else:
            _print_tables(ready.text, tokens, walk)
    finally:
        free(loaded)
    return 0


def _walk(
    loaded: LoadedModel, point: Point, prompt_id: str, prompt_ids: tuple[int, ...], steps: int, top_k: int
) -> Iterator[Step]:
    import torch
    from transformers import GenerationConfig

    from harness.backends.hf.forward import forward
    from harness.backends.hf.generation_config import generation_config
    from harness.decoding.detokenizer import Detokenizer
    from harness.decoding.gumbel import draw, noise_key
    from harness.decoding.processors import stock_processors
    from harness.decoding.strategy import Strategy

    eos = loaded.model.generation_config.eos_token_id
    ends = {eos} if isinstance(eos, int) else set(eos or ())
    loaded.model.generation_config = GenerationConfig()
    strategy = Strategy(
        effective=effective_decoding(point.decoding),
        max_new_tokens=steps,
        seed=point.generation.seed,
        stop_strings=(),
        eos_token_ids=tuple(sorted(ends)),
        pad_token_id=loaded.tokenizer.pad_token_id or 0,
        top_k=top_k,
    )
    config = generation_config(strategy)
    texts = Detokenizer(loaded.tokenizer)
    processors = stock_processors(loaded.model, config, len(prompt_ids), loaded.device)
    key = torch.tensor([noise_key(point.generation.seed, prompt_id, 0)], device=loaded.device)
    seen = torch.tensor([prompt_ids], device=loaded.device)
    fresh, cache = seen, None
    with torch.inference_mode():
        for position in range(steps):
            mask = torch.ones_like(seen)
            logits, cache = forward(loaded.model, fresh, mask, cache)
            logits = logits[:, -1]
            raw = logits.log_softmax(-1)
            warped = processors(seen, logits).log_softmax(-1)
            token = draw(warped, key, position) if config.do_sample else warped.argmax(-1)

            def candidate(id_: int, logits: Any = logits, raw: Any = raw, warped: Any = warped) -> Candidate:
                return Candidate(
                    token=texts.token_text(id_),
                    id=id_,
                    logit=float(logits[0, id_]),
                    probability=float(raw[0, id_].exp()),
                    warped_probability=float(warped[0, id_].exp()),
                )

            top = raw[0].topk(min(top_k, raw.shape[-1])).indices.tolist()
            yield Step(
                position=position,
                candidates=tuple(candidate(id_) for id_ in top),
                chosen=candidate(int(token)),
                entropy=float(torch.special.entr(raw.exp()).sum()),
            )
            if int(token) in ends:
                return
            fresh = token[:, None]
            seen = torch.cat([seen, fresh], dim=1)


def _print_json(point: Point, text: str, tokens: list[tuple[str, int]], walk: list[Step]) -> None:
    found = {
        "model": point.model.id,
        "quantization": point.quantization.name,
        "decoding": point.decoding.name,
        "prompt": text,
        "tokens": [{"piece": piece, "id": id_} for piece, id_ in tokens],
        "steps": [asdict(step) for step in walk],
    }
    json.dump(found, sys.stdout, indent=1, ensure_ascii=True)
    sys.stdout.write("\n")


def _print_tables(text: str, tokens: list[tuple[str, int]], walk: Iterator[Step]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    pieces = Table(title=Text(f"{len(tokens)} tokens of the prompt"), title_justify="left")
    pieces.add_column("#", justify="right", style="dim")
    pieces.add_column("piece")
    pieces.add_column("id", justify="right")
    for place, (piece, id_) in enumerate(tokens):
        pieces.add_row(str(place), Text(_shown(piece)), str(id_))
    console.print(pieces)
    for step in walk:
        _print_step(console, Table, Text, step)


def _print_step(console: Console, table: type[Table], text: Any, step: Step) -> None:
    title = (
        f"next token {step.position + 1}: {_shown(step.chosen.token)!s}  (entropy {step.entropy:.2f} nats)"
    )
    view = table(title=text(title), title_justify="left")
    view.add_column("token")
    view.add_column("id", justify="right")
    view.add_column("logit", justify="right")
    view.add_column("probability", justify="right")
    warped = any(abs(c.probability - c.warped_probability) > 5e-7 for c in (*step.candidates, step.chosen))
    if warped:
        view.add_column("after warping", justify="right")
    view.add_column("", min_width=20)
    shown = list(step.candidates)
    if step.chosen.id not in {c.id for c in shown}:
        shown.append(step.chosen)
    for c in shown:
        style = "bold green" if c.id == step.chosen.id else ""
        cells = [text(_shown(c.token), style=style), str(c.id), f"{c.logit:.3f}", f"{c.probability:8.2%}"]
        if warped:
            cells.append(f"{c.warped_probability:8.2%}")
        view.add_row(*cells, text("█" * round(20 * c.probability), style="green"))
    console.print(view)


def _shown(piece: str) -> str:
    """A piece in quotes, with what cannot be seen written out."""
    return json.dumps(piece, ensure_ascii=False) if piece.isprintable() else json.dumps(piece)
