"""The sweep is a tree: strategies that pick one token a step from one row decode together.

The batch starts with one row a prompt. At each step every text chooses its token at the row where it
stands; a row splits where choices differ and leaves when no text stands there. So each prompt is prefilled
once, and every distinct beginning is computed once for all strategies and samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from harness.backends.hf.adaptive_batches import out_of_memory
from harness.backends.hf.batch import Row, pad_left
from harness.backends.hf.clock import Clock
from harness.backends.hf.cuda_graphs import StaticSteps
from harness.backends.hf.finished import finished_sample
from harness.backends.hf.forward import forward
from harness.backends.hf.recorder import Recorder, Seen
from harness.backends.hf.row_cache import RowLayer, row_cache, select_rows
from harness.backends.hf.sampler import Choosing, Rows, choose, choose_cut
from harness.backends.hf.wide_head import in_blocks
from harness.decoding.detokenizer import Detokenizer
from harness.decoding.gumbel import noise_key
from harness.decoding.processors import Processors
from harness.decoding.strategy import Strategy
from harness.store.records import FinishReason, Sample

if TYPE_CHECKING:
    from harness.models.load import LoadedModel


@dataclass(frozen=True)
class Text:
    """A sample to be made: by which strategy, of which prompt, which of its samples."""

    strategy: Strategy
    row: Row


@dataclass
class _Growing:
    """A text on its way: the row where it stands, what it chose so far, and what ended it."""

    number: int
    row: int
    key: int
    tokens: list[int] = field(default_factory=list)
    reason: FinishReason | None = None


@dataclass
class _Band:
    """The texts of one strategy that are still growing."""

    strategy: Strategy
    processors: Processors
    texts: list[_Growing]


class StrategyError(Exception):
    """A strategy failed by itself, as by its processors; the other strategies are none the worse."""

    def __init__(self, strategy: Strategy, cause: Exception) -> None:
        super().__init__(str(cause))
        self.strategy = strategy
        self.cause = cause


@dataclass(frozen=True)
class Work:
    """What decoding a tree took: rows that were computed, against texts times steps."""

    rows: int
    texts: int


@torch.inference_mode()
def decode_tree(
    loaded: LoadedModel,
    texts: Sequence[Text],
    detokenizer: Detokenizer,
    *,
    share: bool = True,
    capture: bool = False,
    recorder: Recorder | None = None,
    on_step: Callable[[int], None] | None = None,
    on_work: Callable[[Work], None] | None = None,
) -> list[Sample]:
    """Decode texts of any single-row strategies together.

    Args:
        loaded: the model.
        texts: what to make; prompts with the same ids share a row.
        detokenizer: of the model's tokenizer; finds stop strings.
        share: False keeps each text on a row of its own, to measure what sharing saves.
        capture: run the steps through buffers that stay, as CUDA graphs where there is CUDA; for models
            that are `capturable`.
        recorder: a fresh one that sees every step; made here when None.
        on_step: called after each step with the number of texts that grew.
        on_work: called once at the end.

    Returns:
        One Sample a text, in their order.

    Raises:
        StrategyError: a strategy's processors raised.
    """
    recorder = recorder or Recorder(max(text.strategy.top_k for text in texts))
    clock = Clock()
    grove = _Grove(loaded, texts, share, capture)
    bands = _bands(loaded, texts, grove.growing)
    rows = grown = 0
    for step in range(max(text.strategy.max_new_tokens for text in texts)):
        seen = recorder.look(grove.logits)
        rows += len(grove.logits)
        chosen = _chosen(bands, grove, seen, recorder, step)
        recorder.end_step(seen)
        # Here the host waits for the device; otherwise only where truncations ask whether they are settled.
        tokens = iter(chosen.tolist())
        clock.step()
        for band in bands:
            for text in band.texts:
                text.tokens.append(next(tokens))
        alive = [text for band in bands for text in band.texts]
        grown += len(alive)
        for band in bands:
            band.texts = [t for t in band.texts if not _ends(t, band.strategy, texts, detokenizer)]
        if on_step is not None:
            on_step(len(alive))
        bands = [band for band in bands if band.texts]
        if not bands:
            break
        grove.grow([text for band in bands for text in band.texts], step)
    if on_work is not None:
        on_work(Work(rows, grown))
    recorded = recorder.finish()
    return [
        finished_sample(
            text.row.prompt,
            text.row.sample,
            growing.tokens,
            finish_reason=growing.reason or "length",
            seed=text.strategy.seed,
            steps=recorded.steps(growing.number, len(growing.tokens), text.strategy.top_k),
            detokenizer=detokenizer,
            times=clock.times(len(growing.tokens), len(texts)),
        )
        for text, growing in zip(texts, grove.growing, strict=True)
    ]


class _Grove:
    """The rows of the batch: their ids, mask, cache and logits, and which text stands where."""

    def __init__(self, loaded: LoadedModel, texts: Sequence[Text], share: bool, capture: bool) -> None:
        """Prefill each distinct prompt once and put every text at its row."""
        self._model, self._device = loaded.model, loaded.device
        self._share = share
        row_of: dict[tuple, int] = {}
        for number, text in enumerate(texts):
            row_of.setdefault(self._place(text, number), len(row_of))
        self.growing = [
            _Growing(
                number=number,
                row=row_of[self._place(text, number)],
                key=noise_key(text.strategy.seed, text.row.prompt.id, text.row.sample),
            )
            for number, text in enumerate(texts)
        ]
        prompts = [ids for ids, _ in row_of]
        self.prompt_tokens = [len(ids) for ids in prompts]
        inputs = pad_left(prompts, texts[0].strategy.pad_token_id, self._device)
        self.ids, self._mask = inputs["input_ids"], inputs["attention_mask"]
        self.width = self.ids.shape[1]
        budget = max(text.strategy.max_new_tokens for text in texts)
        self._cache = row_cache(self._model.config, len(texts), self.width + budget)
        self._static = None
        if capture and all(isinstance(layer, RowLayer) for layer in self._cache.layers):
            self._static = StaticSteps(
                self._forward,
                self._cache,
                len(texts),
                self.width + budget,
                self._device,
                self._device.startswith("cuda"),
            )
        positions = (self._mask.cumsum(-1) - 1).clamp(min=0)
        self.logits = self._forward(self.ids, self._mask, positions)

    def grow(self, texts: Sequence[_Growing], step: int) -> None:
        """Put each text on the row of what it chose: split, retire, and compute the new rows.

        A row's first continuation stays in its place; splits and the rows at the end fill the places
        that have become free, so that few rows move.
        """
        children: dict[tuple[int, int, int], list[_Growing]] = {}
        for text in texts:
            children.setdefault((text.row, text.tokens[-1], 0 if self._share else text.number), []).append(
                text
            )
        places: list[tuple[int, int, int] | None] = [None] * len(children)
        homeless = []
        for child in children:
            parent = child[0]
            if parent < len(places) and places[parent] is None:
                places[parent] = child
            else:
                homeless.append(child)
        rest = iter(homeless)
        settled = [child if child is not None else next(rest) for child in places]
        for row, child in enumerate(settled):
            for text in children[child]:
                text.row = row
        parents = [parent for parent, _, _ in settled]
        tokens = torch.tensor([[token] for _, token, _ in settled], device=self._device)
        if parents != list(range(len(self.prompt_tokens))):
            select_rows(self._cache, parents, self._device)
            index = torch.tensor(parents, device=self._device)
            self.ids, self._mask = self.ids[index], self._mask[index]
            self.prompt_tokens = [self.prompt_tokens[parent] for parent in parents]
        self.ids = torch.cat([self.ids, tokens], dim=1)
        self._mask = torch.cat([self._mask, torch.ones_like(tokens)], dim=1)
        positions = torch.tensor([[length + step] for length in self.prompt_tokens], device=self._device)
        self.logits = (self._static or self._forward)(tokens, self._mask, positions)

    def _forward(self, ids: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
        """(R, V) float32 logits of the next token."""
        with in_blocks(self._model):
            logits, _ = forward(self._model, ids, mask, self._cache, position_ids=positions, logits_to_keep=1)
        return logits[:, -1]

    def _place(self, text: Text, number: int) -> tuple:
        return (text.row.prompt.ids, 0 if self._share else number)


def _bands(loaded: LoadedModel, texts: Sequence[Text], growing: Sequence[_Growing]) -> list[_Band]:
    bands: dict[int, _Band] = {}
    for text, state in zip(texts, growing, strict=True):
        strategy = text.strategy
        if id(strategy) not in bands:
            processors = Processors(loaded.model, strategy.config(), loaded.device)
            bands[id(strategy)] = _Band(strategy, processors, [])
        bands[id(strategy)].texts.append(state)
    return list(bands.values())


def _chosen(bands: Sequence[_Band], grove: _Grove, seen: Seen, recorder: Recorder, step: int) -> Tensor:
    """(N,) tokens of the bands' texts, in their order."""
    rows = Rows(grove.ids, grove.prompt_tokens, grove.width, step)
    cutting = [band for band in bands if band.processors.only_cuts]
    tokens: dict[int, Tensor] = {}
    if cutting:
        strategies = [band.processors for band in cutting]
        which = [place for place, band in enumerate(cutting) for _ in band.texts]
        those = _choosing([text for band in cutting for text in band.texts], draws=True)
        drawn = choose_cut(strategies, which, recorder, seen, rows, those)
        parts = drawn.split([len(band.texts) for band in cutting])
        tokens |= {id(band): part for band, part in zip(cutting, parts, strict=True)}
    for band in bands:
        if id(band) in tokens:
            continue
        try:
            those = _choosing(band.texts, band.strategy.draws)
            tokens[id(band)] = choose(band.processors, recorder, seen, rows, those)
        except Exception as error:
            if out_of_memory(error):  # which is nobody's fault
                raise
            raise StrategyError(band.strategy, error) from error
    return torch.cat([tokens[id(band)] for band in bands])


def _choosing(texts: Sequence[_Growing], draws: bool) -> Choosing:
    return Choosing(
        texts=[text.number for text in texts],
        standing=[text.row for text in texts],
        keys=[text.key for text in texts] if draws else None,
    )


def _ends(growing: _Growing, strategy: Strategy, texts: Sequence[Text], detokenizer: Detokenizer) -> bool:
    """Whether the text's last token ended it, and by what."""
    if strategy.stop_strings:
        prompt = texts[growing.number].row.prompt
        output = detokenizer.output(prompt.ids, growing.tokens)
        if any(stop in output for stop in strategy.stop_strings):
            growing.reason = "stop_string"
            return True
    if growing.tokens[-1] in strategy.eos_token_ids:
        growing.reason = "eos"
    elif len(growing.tokens) >= strategy.max_new_tokens:
        growing.reason = "length"
    return growing.reason is not None
