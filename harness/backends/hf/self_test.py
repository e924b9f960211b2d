"""At load: which ways of decoding are right with a model, each compared with one pass without a cache.

Every architecture keeps what it has read in its own way, and some cannot read a batch padded on the left,
forget where rows are moved, or predict otherwise from a cache than from the text. A way of decoding is used
for a model only once a few ragged prompts, decoded that way, have the probabilities that a plain forward pass
over each text alone gives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from harness.backends.backend import Failure, Request
from harness.backends.hf.adaptive_batches import out_of_memory
from harness.backends.hf.decoding_method import GENERATE_MODES, GenerateMode
from harness.backends.hf.padded_batch import pad_left
from harness.backends.hf.stock_generate import stock_generate
from harness.backends.hf.teacher_forcing import logits_along
from harness.backends.hf.tree import decode_tree
from harness.backends.steps.generation_config import generation_config
from harness.config.decoding import Decoding
from harness.config.effective import effective_decoding
from harness.decoding.detokenizer import Detokenizer
from harness.decoding.strategy import Strategy
from harness.errors import HarnessError, first_line
from harness.models.load import LoadedModel
from harness.prompts.prompt import Prompt
from harness.store.records import Sample

_TOKENS = 4
_STOCK_PROMPTS = 2
"""Prompts that stock `generate` decodes too: the longest and the shortest."""
_BEAMS = 4
_ALTERNATIVES = 8
_LONGEST = 64
_EXACT = 1e-3
"""Nats that any log-probability may differ by in float32."""
_ROUNDED = 0.2
"""Nats that they may differ by on average, a prompt at a time, where the weights or the dtype round more."""


def tree_is_right(loaded: LoadedModel, detokenizer: Detokenizer, expected: Expected | None = None) -> bool:
    """Return whether the tree decodes a model right, and as stock `generate` does.

    Greedy and sampled requests of ragged prompts, so that rows are split and moved: of the shortest prompt,
    which is padded, both are compared with the model's forward pass, of the others one. `expected` is what is
    known of the model from other tests.

    Raises:
        HarnessError: the model's logits are not finite.
    """
    greedy, hot = _strategy(loaded), _strategy(loaded, do_sample=True, temperature=2.0)
    prompts = _prompts(loaded)
    requests = [Request(prompt, 0, strategy) for strategy in (greedy, hot, greedy) for prompt in prompts]
    expected = expected or Expected(loaded)

    # Texts that are longer than a window are kept in another kind of cache than these may be: both are tried.
    longest = max(len(prompt.ids) for prompt in prompts) + _TOKENS
    reaches_none = any(window >= longest for window in _windows(loaded.model.config.get_text_config()))
    caches = (False, True) if reaches_none else (False,)

    def decode(windows: bool) -> bool:
        samples = decode_tree(loaded, requests, detokenizer, windows=windows)
        # The second greedy request of each prompt shares the rows of the first: it is not compared again.
        first, again = samples[: len(prompts)], samples[-len(prompts) :]
        if [_ids(sample) for sample in first] != [_ids(sample) for sample in again]:
            return False
        pairs = list(zip(requests, samples, strict=True))
        stayed, moved = pairs[: len(prompts)], pairs[len(prompts) : -len(prompts)]
        # Each is read alone, which reads all of the weights once more.
        if not all(expected.agrees(*pair) for pair in (*stayed[:_STOCK_PROMPTS], *moved[1:])):
            return False
        compared = stayed[:_STOCK_PROMPTS]
        return _equal_stock(loaded, expected, greedy, compared) or all(
            _equal_stock(loaded, expected, greedy, [pair]) for pair in compared
        )

    if all(_true_of(partial(decode, windows)) for windows in caches):
        return True
    expected.check(prompts)
    return False


def prefix_is_right(loaded: LoadedModel, detokenizer: Detokenizer, expected: Expected | None = None) -> bool:
    """Return whether the tree decodes a model right where rows share a prompt's keys and values."""
    greedy, hot = _strategy(loaded), _strategy(loaded, do_sample=True, temperature=2.0)
    requests = [Request(prompt, 0, one) for one in (greedy, hot) for prompt in _prompts(loaded)]
    expected = expected or Expected(loaded)

    def decode() -> bool:
        samples = decode_tree(loaded, requests, detokenizer, share_prefix=True)
        return all(map(expected.agrees, requests, samples))

    return _true_of(decode)


def generate_mode(loaded: LoadedModel, detokenizer: Detokenizer) -> GenerateMode | None:
    """Return the fastest mode in which stock `generate` decodes a model right; None where none is.

    Raises:
        HarnessError: the model's logits are not finite.
    """
    greedy, hot = _strategy(loaded), _strategy(loaded, do_sample=True, temperature=2.0)
    prompts = _prompts(loaded)
    expected = Expected(loaded)
    expected.check(prompts)

    def decode(mode: GenerateMode) -> bool:
        for strategy in (greedy, hot):
            for batch in mode.batches([len(prompt.ids) for prompt in prompts]):
                requests = [Request(prompts[index], 0, strategy) for index in batch]
                samples = stock_generate(loaded, requests, detokenizer, use_cache=mode.use_cache)
                if not all(map(expected.agrees, requests, samples)):
                    return False
        return True

    return _first_mode(decode)


def beam_mode(loaded: LoadedModel) -> GenerateMode | None:
    """Return the fastest mode in which stock beam search of a model is right; None where none is.

    The score of every beam must be the sum of the log-probabilities of its tokens.
    """
    prompts = _prompts(loaded)
    strategy = _strategy(loaded, num_beams=_BEAMS, length_penalty=0.0)
    expected = Expected(loaded)

    def search(mode: GenerateMode) -> bool:
        for batch in mode.batches([len(prompt.ids) for prompt in prompts]):
            inputs = pad_left([prompts[index].ids for index in batch], strategy.pad_token_id, loaded.device)
            config = generation_config(strategy, use_cache=mode.use_cache)
            config.num_return_sequences = _BEAMS
            config.return_dict_in_generate = config.output_scores = True
            found = loaded.model.generate(**inputs, generation_config=config)
            width = inputs["input_ids"].shape[1]
            for row, score in enumerate(found.sequences_scores.tolist()):
                prompt = prompts[batch[row // _BEAMS]]
                tokens = found.sequences[row, width:].tolist()
                log_p = expected.log_p(prompt.ids, tokens)
                chosen = log_p.gather(1, torch.tensor(tokens)[:, None]).sum()
                if not expected.close([float(chosen) - score]):
                    return False
        return True

    return _first_mode(search)


def reads_one_token(loaded: LoadedModel, detokenizer: Detokenizer, mode: GenerateMode) -> bool:
    """Return whether a prompt of one token is decoded right after a longer one, in the mode that was found.

    Recurrent models may take a call with one token for the next step of the text before it.
    """
    greedy = _strategy(loaded)
    before = _prompts(loaded)[0]
    request = Request(Prompt("alone", "", before.ids[:1]), 0, greedy)

    def decode() -> bool:
        first = Request(before, 0, replace(greedy, max_new_tokens=2))
        stock_generate(loaded, [first], detokenizer, use_cache=mode.use_cache)
        (sample,) = stock_generate(loaded, [request], detokenizer, use_cache=mode.use_cache)
        return Expected(loaded).agrees(request, sample)

    return _true_of(decode)


class Expected:
    """What one pass without a cache says of a model's texts, each read once."""

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded = loaded
        rounds = loaded.facts.get("quantized_modules") or loaded.facts.get("quant_method")
        self._exact = loaded.model.dtype in (torch.float32, torch.float64) and not rounds
        self._known: dict[tuple[tuple[int, ...], tuple[int, ...]], Tensor] = {}

    def check(self, prompts: Sequence[Prompt]) -> None:
        """Check that the model reads the prompts, and that its logits are finite."""
        name = f"model.id: {self._loaded.files.id}"
        try:
            for prompt in prompts:
                self.log_p(prompt.ids, [0])
        except HarnessError as error:
            raise HarnessError(f"{name}: {error}") from error
        except Exception as error:
            if out_of_memory(error):
                raise
            problem = f"its forward pass fails in {self._loaded.dtype}: {first_line(error)}"
            raise HarnessError(f"{name}: {problem}; choose another quantization or model") from error

    def log_p(self, prompt: Sequence[int], tokens: Sequence[int]) -> Tensor:
        """Return the (T, V) log-probabilities at each of a text's tokens, on the CPU."""
        text = tuple(prompt), tuple(tokens)
        if text not in self._known:
            slices = logits_along(self._loaded, (*prompt, *tokens), len(prompt))
            self._known[text] = torch.cat([logits.log_softmax(-1).cpu() for _, logits in slices])
        return self._known[text]

    def close(self, differences: Iterable[float]) -> bool:
        """Return whether rounding explains differences of log-probabilities."""
        sizes = [abs(value) for value in differences]
        if self._exact:
            return max(sizes) <= _EXACT
        return sum(sizes) / len(sizes) <= _ROUNDED

    def agrees(self, request: Request, sample: Sample | Failure) -> bool:
        """Return whether a sample's recorded log-probabilities are right, and greedy tokens the likeliest."""
        if isinstance(sample, Failure) or sample.steps is None:
            return False
        log_p = self.log_p(request.prompt.ids, _ids(sample))
        chosen = log_p.gather(1, torch.tensor(_ids(sample))[:, None])
        alternatives = log_p.gather(1, torch.as_tensor(sample.steps.top_ids))
        differences = torch.cat(
            [
                chosen[:, 0] - torch.as_tensor(sample.steps.logprob),
                (alternatives - torch.as_tensor(sample.steps.top_logprobs)).flatten(),
            ]
        )
        if not self.close(differences.nan_to_num(nan=torch.inf).tolist()):
            return False
        return request.strategy.do_sample or self.close((log_p.amax(1) - chosen[:, 0]).tolist())


def _equal_stock(
    loaded: LoadedModel,
    expected: Expected,
    greedy: Strategy,
    pairs: Sequence[tuple[Request, Sample | Failure]],
) -> bool:
    """Return whether stock `generate` gives requests the same tokens, or diverges only at ties.

    Several make one padded batch, which some models misread: then each is to be compared alone.
    """
    inputs = pad_left([request.prompt.ids for request, _ in pairs], greedy.pad_token_id, loaded.device)
    output = loaded.model.generate(**inputs, generation_config=generation_config(greedy))
    stock = output[:, inputs["input_ids"].shape[1] :].tolist()
    for (request, sample), tokens in zip(pairs, stock, strict=True):
        log_p = expected.log_p(request.prompt.ids, _ids(sample))
        for row, ours, theirs in zip(log_p, _ids(sample), tokens, strict=True):
            if ours != theirs:
                if not expected.close([float(row[ours] - row[theirs])]):
                    return False
                break
    return True


def _first_mode(is_right: Callable[[GenerateMode], bool]) -> GenerateMode | None:
    return next((mode for mode in GENERATE_MODES if _true_of(partial(is_right, mode))), None)


def _true_of(check: Callable[[], bool]) -> bool:
    """Return what a check says; False where the model raises, as with a cache that it does not know."""
    try:
        with torch.inference_mode():
            return check()
    except Exception as error:
        if out_of_memory(error):
            raise
        return False


def _prompts(loaded: LoadedModel) -> list[Prompt]:
    """Return two prompts of one length, longer than a small sliding window, and a shorter one."""
    config = loaded.model.config.get_text_config()
    longest = min(loaded.files.context_length or _LONGEST, _LONGEST) - _TOKENS
    window = max((w for w in _windows(config)), default=0)
    length = min(12 if window + _TOKENS > longest else max(12, window + _TOKENS), max(longest, 2))
    usable = max(1, min(config.vocab_size, 200) - 3)
    ids = [3 + (7 * index) % usable for index in range(2 * length)]
    texts = {"a": ids[:length], "b": ids[: max(1, length // 2 - 1)], "c": ids[length:]}
    return [Prompt(name, "", tuple(text)) for name, text in texts.items()]


def _windows(config: object) -> Iterable[int]:
    for name in ("sliding_window", "attention_window_size", "window_size", "attention_chunk_size"):
        value = getattr(config, name, None)
        if isinstance(value, int) and not isinstance(value, bool):
            yield value


def _ids(sample: Sample | Failure) -> tuple[int, ...]:
    ids = None if isinstance(sample, Failure) else sample.token_ids
    return ids or ()


def _strategy(loaded: LoadedModel, **fields: object) -> Strategy:
    return Strategy(
        effective=effective_decoding(Decoding(name="self-test", **fields)),  # type: ignore[arg-type]
        max_new_tokens=_TOKENS,
        seed=0,
        stop_strings=(),
        eos_token_ids=(),
        pad_token_id=loaded.tokenizer.pad_token_id or 0,
        top_k=_ALTERNATIVES,
    )
