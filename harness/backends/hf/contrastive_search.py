"""Contrastive search: k candidates of every text are read, and the one that repeats the text least is kept.

The pass that reads a candidate is also the next step's, so a text costs k rows a step, k - 1 more than
greedy decoding. What is recorded is seen in the loop: the model's distribution as everywhere; the warped one
is what the strategy's processors made of it, over the k candidates, renormalised. No token is drawn from that
one: the hidden states decide too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from harness.backends.backend import Failure, Request
from harness.backends.hf.clock import Clock
from harness.backends.hf.search_rows import SearchRows
from harness.backends.steps.finished import end_of, finished_sample
from harness.backends.steps.recorder import Recorder
from harness.backends.steps.strategy_processors import strategy_processors
from harness.decoding.contrastive import candidates, contrastive_scores, directions, largest_similarity
from harness.decoding.detokenizer import Detokenizer
from harness.decoding.sampler_chain import TruncatedLogits
from harness.decoding.strategy import Strategy
from harness.models.load import LoadedModel
from harness.store.records import FinishReason, Sample


class _Step(NamedTuple):
    """One step of R texts.

    Attributes:
        logits: (R, V) the model's.
        compared: the candidates, with their processed logits.
        tokens: (R,) the chosen ones.
        allowed: (R, V) bool, what a grammar allowed; None without one.
    """

    logits: Tensor
    compared: TruncatedLogits
    tokens: Tensor
    allowed: Tensor | None


class _Search:
    """The unfinished texts of one strategy, whose rows are the candidates that were chosen last."""

    def __init__(
        self, loaded: LoadedModel, strategy: Strategy, prompts: Sequence[Sequence[int]], use_cache: bool
    ) -> None:
        """Prefill the prompts."""
        self._alpha, self._count = strategy.effective["penalty_alpha"], strategy.effective["top_k"]
        self._processors = strategy_processors(loaded, strategy)
        self._rows = SearchRows(
            loaded,
            prompts,
            pad=strategy.pad_token_id,
            rows=self._count * len(prompts),
            new_tokens=strategy.max_new_tokens,
            use_cache=use_cache,
            wants_hidden=True,
        )
        self._row_of = list(range(len(prompts)))
        self._logits = self._rows.logits
        assert self._rows.hidden is not None
        hidden = directions(self._rows.hidden)
        self._length = self._rows.width
        self._present = torch.nn.functional.pad(self._rows.present, (0, strategy.max_new_tokens), value=True)
        self._context = hidden.new_zeros(
            len(prompts), self._length + strategy.max_new_tokens, hidden.shape[2]
        )
        # Hidden states of padding may be anything, and 0 * NaN is NaN.
        self._context[:, : self._length] = hidden.masked_fill(~self._rows.present[..., None], 0.0)

    def step(self) -> _Step:
        """Choose the next token of each text, and read it."""
        texts, logits = self._rows.texts(self._row_of), self._logits
        processed = self._processors(texts, logits)
        compared = candidates(processed, self._count)
        p = (compared.logits - processed.logsumexp(-1, keepdim=True)).exp()
        shape = compared.tokens.shape
        parents = [row for row in self._row_of for _ in range(shape[1])]
        self._rows.grow(parents, compared.tokens.flatten())
        assert self._rows.hidden is not None
        hidden = directions(self._rows.hidden[:, -1]).view(*shape, -1)
        before = slice(None, self._length)
        similarity = largest_similarity(self._context[:, before], self._present[:, before], hidden)
        scores = contrastive_scores(p, similarity, self._alpha)
        # A token that the processors removed is no candidate, however new it would be.
        best = scores.masked_fill(compared.logits == float("-inf"), float("-inf")).argmax(-1)
        each = torch.arange(shape[0], device=best.device)
        self._row_of = [text * shape[1] + one for text, one in enumerate(best.tolist())]
        self._logits = self._rows.logits.view(*shape, -1)[each, best]
        self._context[:, self._length] = hidden[each, best]
        self._length += 1
        allowed = self._processors.allowed(texts, logits.shape[1])
        return _Step(logits, compared, compared.tokens[each, best], allowed)

    def keep(self, texts: Sequence[int]) -> None:
        """Go on with some of the texts only."""
        index = torch.tensor(texts, device=self._logits.device)
        self._row_of = [self._row_of[text] for text in texts]
        self._logits, self._present = self._logits[index], self._present[index]
        self._context = self._context[index]


@torch.inference_mode()
def contrastive_search(
    loaded: LoadedModel,
    requests: Sequence[Request],
    detokenizer: Detokenizer,
    *,
    use_cache: bool = True,
    recorder: Recorder | None = None,
    on_step: Callable[[int], None] = lambda _: None,
) -> list[Sample | Failure]:
    """Search for the output of each request; return one Sample a request, in their order, or a Failure.

    Args:
        loaded: the model.
        requests: of one strategy; prompts may be of different lengths.
        detokenizer: of the model's tokenizer; finds stop strings.
        use_cache: False reads every candidate's whole text by itself.
        recorder: a fresh one that sees every step; made here when None.
        on_step: called after each step with the number of texts that got a token.
    """
    strategy = requests[0].strategy
    recorder, clock = recorder or Recorder(strategy.top_k), Clock()
    search = _Search(loaded, strategy, [request.prompt.ids for request in requests], use_cache)
    tokens: list[list[int]] = [[] for _ in requests]
    reasons: list[FinishReason] = ["length"] * len(requests)
    texts = list(range(len(requests)))
    while texts:
        found = search.step()  # in which the host has waited for the device
        _record(recorder, found, texts)
        clock.step()
        for text, token in zip(texts, found.tokens.tolist(), strict=True):
            tokens[text].append(token)
        on_step(len(texts))
        left = []
        for place, text in enumerate(texts):
            reason = end_of(strategy, requests[text].prompt.ids, tokens[text], detokenizer)
            if reason is None:
                left.append(place)
            else:
                reasons[text] = reason
        if left and len(left) < len(texts):
            search.keep(left)
        texts = [texts[place] for place in left]
    recorded = recorder.finish()
    samples = []
    for number, request in enumerate(requests):
        steps = recorded.steps(number, len(tokens[number]), strategy.top_k)
        times = clock.times(len(tokens[number]), len(requests))
        ended = tokens[number], reasons[number]
        samples.append(finished_sample(loaded, request, *ended, steps, times, detokenizer))
    return samples


def _record(recorder: Recorder, step: _Step, texts: Sequence[int]) -> None:
    raw = recorder.begin_step(step.logits)
    rows = torch.arange(len(texts), device=step.tokens.device)
    allowed = None if step.allowed is None else raw.logprob_of(rows, step.allowed.to(rows.device))
    recorder.observe(texts, raw, rows, step.tokens, step.compared, rows, allowed)
    recorder.end_step(raw)


def contrastive_steps(
    loaded: LoadedModel, strategy: Strategy, prompts: Sequence[Sequence[int]], use_cache: bool
) -> Iterator[None]:
    """Run the search to its budget without recording it; yields where the host has a step's tokens."""
    search = _Search(loaded, strategy, prompts, use_cache)
    for _ in range(strategy.max_new_tokens):
        search.step()
        yield
