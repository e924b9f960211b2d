"""`harness inspect`: the tokens of a prompt, and the next token's distribution, step by step."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial

import torch
from rich.table import Table
from rich.text import Text
from torch import Tensor

from harness.cli.inspect_arguments import InspectArguments
from harness.cli.output import print_json
from harness.cli.single_prompt import single_prompt
from harness.cli.token_walk import TokenWalk
from harness.config.effective import is_contrastive
from harness.config.no_effect import typed
from harness.config.point import Point
from harness.config.validation import format_value
from harness.decoding.detokenizer import Detokenizer
from harness.errors import ConfigError
from harness.models.amateur import amateur_model, check_amateur, locate_amateur
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


@dataclass(frozen=True)
class Inspection:
    """The tokens of a prompt, and the steps after it.

    Attributes:
        prompt: the text as the model got it.
        tokens: text and id of each of its tokens.
        steps: of the sample, until it ends.
    """

    prompt: str
    tokens: tuple[tuple[str, int], ...]
    steps: tuple[Step, ...]


def inspect(point: Point, arguments: InspectArguments) -> int:
    """Print the tokens of the prompt and the next-token table of each step, or one JSON object.

    Args:
        point: model, quantization, and the strategy that chooses the tokens.
        arguments: the prompt, and what to show.

    Returns:
        The exit status.
    """
    if arguments.page is not None:
        from harness.cli.inspect_page import serve_walk

        with _walk(point, arguments) as (walk, loaded, _):
            return serve_walk(walk, loaded, point, arguments)
    if not arguments.as_json:
        console = SafeConsole(highlight=True)
        inspect_prompt(
            point,
            arguments,
            lambda tokens: console.print(_tokens_table(tokens)),
            lambda step: console.print(_step_table(step)),
        )
        return 0
    found = inspect_prompt(point, arguments)
    print_json(
        {
            "model": point.model.id,
            "quantization": point.quantization.name,
            "decoding": point.decoding.name,
            "prompt": found.prompt,
            "tokens": [{"piece": text, "id": id_} for text, id_ in found.tokens],
            "steps": [asdict(step) for step in found.steps],
        }
    )
    return 0


def inspect_prompt(
    point: Point,
    arguments: InspectArguments,
    on_tokens: Callable[[Sequence[tuple[str, int]]], None] = lambda tokens: None,
    on_step: Callable[[Step], None] = lambda step: None,
) -> Inspection:
    """Return the tokens of the prompt and the steps after it.

    Args:
        point: model, quantization, and the strategy that chooses the tokens.
        arguments: the prompt, and how many steps and candidates.
        on_tokens: called with the prompt's tokens before the first step.
        on_step: called with each step as it comes.

    Raises:
        ConfigError: the strategy does not choose the tokens of a single sequence one by one.
    """
    with _walk(point, arguments) as (walk, loaded, prompt):
        tokens = tuple((str(loaded.tokenizer.convert_ids_to_tokens(id_)), id_) for id_ in prompt.ids)
        on_tokens(tokens)
        steps = []
        for step in _decode(walk, Detokenizer(loaded.tokenizer), point, arguments):
            on_step(step)
            steps.append(step)
    return Inspection(prompt.text, tokens, tuple(steps))


@contextmanager
def _walk(point: Point, arguments: InspectArguments) -> Iterator[tuple[TokenWalk, LoadedModel, Prompt]]:
    """Load the model, and free it at the end."""
    _check(point)
    files = locate(point.model)
    source = single_prompt(point.prompts, arguments)
    prompt = prepare_prompts(source, files, load_tokenizer(point.model, files), arguments.steps).prompts[0]
    loaded = load(point.model, point.quantization)
    walk = None
    try:
        walk = TokenWalk(loaded, prompt, partial(_load_amateur, point, loaded))
        yield walk, loaded, prompt
    finally:
        if walk is not None:
            walk.close()
        free(loaded)


def _check(point: Point) -> None:
    """Check that the strategy chooses the tokens of a single sequence one by one."""
    if point.decoding.num_beams not in (None, 1):
        raise ConfigError.of(
            "decoding.num_beams",
            f"{point.decoding.num_beams}: inspect decodes a single sequence; use decoding=greedy",
        )
    if is_contrastive(point.decoding):
        raise ConfigError.of(
            f"decoding.penalty_alpha={format_value(point.decoding.penalty_alpha)}",
            "inspect reads no candidates; "
            "use decoding=greedy decoding.penalty_alpha=null decoding.top_k=null",
        )
    if point.decoding.cot_branches is not None:
        raise ConfigError.of(
            f"decoding.cot_branches={point.decoding.cot_branches}",
            "inspect decodes a single sequence; "
            "use decoding=greedy decoding.cot_branches=null generation.samples=1",
        )
    if point.decoding.stochastic_beams:
        raise ConfigError.of(
            "decoding.stochastic_beams=true",
            "inspect decodes a single sequence; use decoding=temperature decoding.stochastic_beams=null",
        )
    if point.decoding.generate is not None:
        raise ConfigError.of(
            typed("generate", point.decoding.generate),
            "inspect chooses the tokens by itself; use decoding.generate=null",
        )
    if point.cache.quantized:
        raise ConfigError.of(
            "cache", f"{point.cache.name}: inspect reads with the model's own cache; use cache=default"
        )


def _load_amateur(point: Point, loaded: LoadedModel, name: str) -> LoadedModel:
    check_amateur(name, point.model, loaded.tokenizer, locate_amateur(name, point.model))
    return load(amateur_model(name, point.model), point.quantization)


def _decode(
    walk: TokenWalk, detokenizer: Detokenizer, point: Point, arguments: InspectArguments
) -> Iterator[Step]:
    """Yield the steps of a sample until it ends."""
    tokens: list[int] = []
    for position in range(arguments.steps):
        logits, warped = walk.logits(tokens)[0], walk.warped(tokens, point.decoding)
        raw = logits.log_softmax(-1)
        top = raw.topk(min(arguments.top_k, len(raw))).indices.tolist()
        tokens.append(walk.choose(warped, tokens, point.decoding, point.generation.seed))
        *candidates, chosen = _candidates(detokenizer, [*top, tokens[-1]], logits, raw, warped[0])
        entropy = float(torch.special.entr(raw.exp()).sum())
        yield Step(position, tuple(candidates), chosen, entropy)
        if chosen.id in walk.eos_ids:
            return


def _candidates(
    detokenizer: Detokenizer, ids: list[int], logits: Tensor, raw: Tensor, warped: Tensor
) -> Iterator[Candidate]:
    """Yield the candidates of these ids; `raw` and `warped` are (V,) logprobs."""
    for id_ in ids:
        numbers = [float(value) for value in (logits[id_], raw[id_].exp(), warped[id_].exp())]
        yield Candidate(detokenizer.token_text(id_), id_, *numbers)


def _tokens_table(tokens: Sequence[tuple[str, int]]) -> Table:
    table = Table(title=Text(f"{len(tokens)} tokens of the prompt"), title_justify="left")
    table.add_column("#", justify="right", style="dim")
    table.add_column("token")
    table.add_column("id", justify="right")
    for index, (text, id_) in enumerate(tokens):
        table.add_row(str(index), Text(_quoted(text)), str(id_))
    return table


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
