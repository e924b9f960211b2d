"""`harness inspect`: the tokens of a prompt, and the next token's distribution, step by step."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import torch
from rich.table import Table
from rich.text import Text
from torch import Tensor
from transformers import GenerationConfig

from harness.backends.hf.backend import HfBackend
from harness.backends.hf.finite import check_finite
from harness.backends.hf.forward import forward, read_texts
from harness.cli.inspect_arguments import InspectArguments
from harness.cli.output import print_json
from harness.config.effective import effective_decoding
from harness.config.point import Point, Prompts
from harness.decoding.detokenizer import Detokenizer
from harness.decoding.gumbel import draw, noise_key
from harness.decoding.processors import stock_processors
from harness.errors import ConfigError
from harness.models.end_of_turn import end_of_turn
from harness.models.load import LoadedModel, free, load
from harness.models.locate import locate
from harness.models.tokenizer import load_tokenizer
from harness.prompts import prepare_prompts
from harness.prompts.prompt import Prompt
from harness.report.console import SafeConsole


@dataclass(frozen=True)
class Candidate:
    """A possible next token: its text, id, logit, and raw and warped probability."""

    token: str
    id: int
    logit: float
    probability: float
    warped_probability: float


@dataclass(frozen=True)
class Step:
    """One decoding step: the likeliest candidates, likeliest first, the chosen one, and the raw entropy."""

    position: int
    candidates: tuple[Candidate, ...]
    chosen: Candidate
    entropy: float


def inspect(point: Point, arguments: InspectArguments) -> int:
    """Print the tokens of the prompt and the next-token table of each step, or one JSON object.

    Args:
        point: model, quantization, and the strategy that chooses the tokens.
        arguments: the prompt, and what to show.

    Returns:
        The exit status.
    """
    if point.decoding.num_beams not in (None, 1):
        raise ConfigError.of(
            "decoding.num_beams",
            f"{point.decoding.num_beams}: inspect decodes a single sequence; use decoding=greedy",
        )
    if point.cache.quantized:
        raise ConfigError.of(
            "cache", f"{point.cache.name}: inspect reads with the model's own cache; use cache=default"
        )
    files = locate(point.model)
    item = {"id": "inspect", "prompt": arguments.prompt}
    source = Prompts(name="inspect", items=(item,), chat=arguments.chat)
    (prompt,) = prepare_prompts(source, files, load_tokenizer(point.model, files), arguments.steps).prompts
    loaded = load(point.model, point.quantization)
    try:
        tokens = [(str(loaded.tokenizer.convert_ids_to_tokens(id_)), id_) for id_ in prompt.ids]
        backend = HfBackend(loaded)
        decoded = _decode(backend, loaded, point, prompt, arguments.steps, arguments.top_k)
        if arguments.as_json:
            print_json(
                {
                    "model": point.model.id,
                    "quantization": point.quantization.name,
                    "decoding": point.decoding.name,
                    "prompt": prompt.text,
                    "tokens": [{"piece": text, "id": id_} for text, id_ in tokens],
                    "steps": [asdict(step) for step in decoded],
                }
            )
        else:
            _print_tables(tokens, decoded)
    finally:
        free(loaded)
    return 0


def _decode(
    backend: HfBackend, loaded: LoadedModel, point: Point, prompt: Prompt, max_steps: int, top_k: int
) -> Iterator[Step]:
    """Yield the steps of a sample until it ends, at most `max_steps`."""
    eos_ids = backend.token_ids.eos
    if prompt.chat and (end := end_of_turn(loaded.tokenizer)) is not None:
        eos_ids = (*eos_ids, end)
    config = GenerationConfig(
        **effective_decoding(point.decoding),
        max_new_tokens=max_steps,
        eos_token_id=list(eos_ids) or None,
        pad_token_id=backend.token_ids.pad,
    )
    detokenizer = Detokenizer(loaded.tokenizer)
    processors = stock_processors(loaded.model, config, len(prompt.ids), loaded.device)
    key = torch.tensor([noise_key(point.generation.seed, prompt.id, 0)], device=loaded.device)
    ids = new_ids = torch.tensor([prompt.ids], device=loaded.device)
    cache = None
    with torch.inference_mode():
        for position in range(max_steps):
            if backend.modes.tree_is_right:
                output, cache = forward(loaded.model, new_ids, torch.ones_like(ids), cache)
            else:
                output = read_texts(loaded.model, ids, keep=1).float()
            logits = output[:, -1]
            check_finite(logits, loaded, f"step {position}")
            raw, warped = logits.log_softmax(-1), processors(ids, logits).log_softmax(-1)
            token = draw(warped, key, position) if config.do_sample else warped.argmax(-1)
            top = raw[0].topk(min(top_k, raw.shape[-1])).indices.tolist()
            *candidates, chosen = _candidates(detokenizer, [*top, int(token)], logits[0], raw[0], warped[0])
            entropy = float(torch.special.entr(raw.exp()).sum())
            yield Step(position, tuple(candidates), chosen, entropy)
            if chosen.id in eos_ids:
                return
            new_ids = token[:, None]
            ids = torch.cat([ids, new_ids], dim=1)


def _candidates(
    detokenizer: Detokenizer, ids: list[int], logits: Tensor, raw: Tensor, warped: Tensor
) -> Iterator[Candidate]:
    """Yield the candidates of these ids; `raw` and `warped` are (V,) logprobs."""
    for id_ in ids:
        numbers = [float(value) for value in (logits[id_], raw[id_].exp(), warped[id_].exp())]
        yield Candidate(detokenizer.token_text(id_), id_, *numbers)


def _print_tables(tokens: list[tuple[str, int]], steps: Iterator[Step]) -> None:
    console = SafeConsole(highlight=True)
    table = Table(title=Text(f"{len(tokens)} tokens of the prompt"), title_justify="left")
    table.add_column("#", justify="right", style="dim")
    table.add_column("token")
    table.add_column("id", justify="right")
    for index, (text, id_) in enumerate(tokens):
        table.add_row(str(index), Text(_quoted(text)), str(id_))
    console.print(table)
    for step in steps:
        console.print(_step_table(step))


def _step_table(step: Step) -> Table:
    title = f"next token {step.position + 1}: {_quoted(step.chosen.token)}  (entropy {step.entropy:.2f} nats)"
    table = Table(title=Text(title), title_justify="left")
    rows = list(step.candidates)
    if step.chosen.id not in {row.id for row in rows}:
        rows.append(step.chosen)
    warped = any(abs(row.probability - row.warped_probability) > 5e-7 for row in rows)
    table.add_column("token")
    for name in ("id", "logit", "probability", *(["warped"] if warped else [])):
        table.add_column(name, justify="right")
    table.add_column("", min_width=20)
    for row in rows:
        style = "bold green" if row.id == step.chosen.id else ""
        numbers = [str(row.id), f"{row.logit:.3f}", f"{row.probability:8.2%}"]
        if warped:
            numbers.append(f"{row.warped_probability:8.2%}")
        bar = Text("█" * round(20 * row.probability), style="green")
        table.add_row(Text(_quoted(row.token), style), *numbers, bar)
    return table


def _quoted(text: str) -> str:
    """Return the text in quotes, with invisible characters escaped."""
    return json.dumps(text, ensure_ascii=not text.isprintable())
