"""What the page of `harness inspect --page` asks for, and the answers: plain data in, plain data out."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from harness.cli.decoding_knobs import (
    choices_of,
    greedy,
    knob_texts,
    knobs,
    overrides_of,
    sampled,
    turned,
)
from harness.cli.token_walk import TokenWalk
from harness.config.decoding import Decoding
from harness.config.groups import ConfigGroups
from harness.config.point import Generation, Point
from harness.config.validation import read_section
from harness.decoding.detokenizer import Detokenizer
from harness.decoding.reductions import entropy_of
from harness.errors import ConfigError
from harness.models.load import LoadedModel

_MOST_AT_ONCE = 64
_MOST_SCORES = 50_000
_NEG_INF = float("-inf")


class WalkAnswers:
    """Answers the requests of one page: its knobs and walks are the page's, the model is here.

    Every request names the tokens of its walk after the prompt, so that nothing is remembered between two
    but what makes them fast.
    """

    def __init__(
        self, walk: TokenWalk, loaded: LoadedModel, point: Point, top_k: int, groups: ConfigGroups
    ) -> None:
        """`top_k` rows of the table are shown; `groups` have the choices that overrides start from."""
        self._walk = walk
        self._tokenizer = loaded.tokenizer
        self._detokenizer = Detokenizer(loaded.tokenizer)
        self._special = frozenset(loaded.tokenizer.all_special_ids)
        self._point = point
        self._top_k = min(top_k, walk.vocab_size)
        self._choices = choices_of(groups)
        self._scores: OrderedDict[tuple[int, ...], tuple[float, int]] = OrderedDict()
        self._requests: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
            "step": self._step, "score": self._score, "continue": self._continue, "encode": self._encode,
        }  # fmt: skip

    def start(self) -> dict[str, Any]:
        """Return what the page begins with."""
        names = [knob.name for knob in knobs()]
        return {
            "model": self._point.model.name,
            "quantization": self._point.quantization.name,
            "prompt": self._tokens((), self._walk.prompt.ids),
            "room": self._walk.room,
            "vocabulary": self._walk.vocab_size,
            "rows": self._top_k,
            "seed": str(self._point.generation.seed),
            "knobs": [vars(knob) for knob in knobs()],
            "values": knob_texts(self._point.decoding),
            "decoding": self._point.decoding.name,
            "choices": {
                name: {key: str(value) for key, value in values.items() if key in names}
                for name, values in self._choices.items()
                if not values.keys() & {"num_beams", "penalty_alpha", "cot_branches", "stochastic_beams"}
            },
        }

    def answer(self, name: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return the answer to a request.

        Raises:
            ConfigError: the request is wrong or unknown, or its tokens do not fit the model.
            HarnessError: the model's logits are not finite.
        """
        if name not in self._requests:
            raise ConfigError.of(name, "no such request")
        return self._requests[name](request)

    def _step(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The distribution after a walk's tokens; `show` names tokens that are to be among its rows."""
        tokens, decoding = self._tokens_of(request), self._decoding_of(request)
        show = self._ids_of(request, "show")
        # Of what is shown, a distribution to draw from: greedy decoding draws from none.
        overrides = overrides_of(sampled(decoding), self._choices)
        if tokens and tokens[-1] in self._walk.eos_ids:
            return {"ended": True, "overrides": overrides}
        logits, log_q = self._walk.logits(tokens)[0], self._walk.warped(tokens, decoding)[0]
        log_p = logits.log_softmax(-1)
        kept = log_q > _NEG_INF
        top = [*log_p.topk(self._top_k).indices.tolist(), *log_q.topk(self._top_k).indices.tolist(), *show]
        return {
            "ended": False,
            "overrides": overrides,
            "entropy": float(entropy_of(log_p[None])),
            "warped_entropy": float(entropy_of(log_q[None])),
            "kept": int(kept.sum()),
            "kept_mass": min(1.0, float(log_p.exp()[kept].sum())),
            "rows": [self._row(id_, logits, log_p, log_q) for id_ in dict.fromkeys(top)],
        }

    def _row(self, id_: int, logits: Tensor, log_p: Tensor, log_q: Tensor) -> dict[str, Any]:
        return {
            "id": id_,
            "text": self._detokenizer.token_text(id_),
            "logit": float(logits[id_]),
            "logprob": float(log_p[id_]),
            "warped_logprob": float(log_q[id_]),
            "rank": int((log_p > log_p[id_]).sum()) + 1,
            "kept": bool(log_q[id_] > _NEG_INF),
        }

    def _score(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The tokens of a walk, with their texts and how likely model and strategy find each."""
        tokens, decoding = self._tokens_of(request), self._decoding_of(request)
        warped: list[float] = []
        # From the end: where logits are no longer kept, one forward pass gives those of many prefixes.
        for length in range(len(tokens) - 1, -1, -1):
            log_q = self._walk.warped(tokens[:length], decoding)[0]
            warped.append(float(log_q[tokens[length]]))
            self._add_score(tokens, length)
        scores = [self._scores[tuple(tokens[: length + 1])] for length in range(len(tokens))]
        shown = self._tokens(self._walk.prompt.ids, tokens)
        return {
            "tokens": [
                {**token, "logprob": logprob, "rank": rank, "warped_logprob": log_q}
                for token, (logprob, rank), log_q in zip(shown, scores, reversed(warped), strict=True)
            ],
        }

    def _add_score(self, tokens: Sequence[int], length: int) -> None:
        """Keep the raw log-probability and the rank of the token at `length`."""
        key = tuple(tokens[: length + 1])
        if key not in self._scores:
            log_p = self._walk.logits(tokens[:length])[0].log_softmax(-1)
            logprob = log_p[tokens[length]]
            self._scores[key] = float(logprob), int((log_p > logprob).sum()) + 1
        self._scores.move_to_end(key)
        while len(self._scores) > _MOST_SCORES:
            self._scores.popitem(last=False)

    def _continue(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """A walk with at most `count` more tokens, sampled with `seed`, or greedy where that is null."""
        tokens, decoding = self._tokens_of(request), self._decoding_of(request)
        count = request.get("count")
        if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= _MOST_AT_ONCE:
            raise ConfigError.of(f"count={count}", f"must be a whole number from 1 to {_MOST_AT_ONCE}")
        seed = self._seed_of(request)
        decoding = greedy(decoding) if seed is None else sampled(decoding)
        for _ in range(count):
            if tokens and tokens[-1] in self._walk.eos_ids:
                break
            if self._walk.room is not None and len(tokens) >= self._walk.room:
                break
            warped = self._walk.warped(tokens, decoding)
            tokens.append(self._walk.choose(warped, tokens, decoding, seed or 0))
        return {
            "tokens": tokens,
            "ended": bool(tokens) and tokens[-1] in self._walk.eos_ids,
            "full": self._walk.room is not None and len(tokens) >= self._walk.room,
        }

    def _encode(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """A walk with the tokens of a text appended."""
        tokens, text = self._tokens_of(request), request.get("text")
        if not isinstance(text, str) or not text:
            raise ConfigError.of("text", "is empty; type what is to be appended")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ConfigError.of("text", "holds half a surrogate pair, which is no Unicode text") from None
        tokens += self._tokenizer.encode(text, add_special_tokens=False)
        self._walk.check_length(len(tokens))
        return {"tokens": tokens}

    def _tokens(self, before: Sequence[int], ids: Sequence[int]) -> list[dict[str, Any]]:
        """Return ids with the texts that each adds; a special token has its name, since it adds none."""
        texts = self._detokenizer.output_text(before, ids).token_texts
        return [
            {
                "id": id_,
                "text": self._detokenizer.token_text(id_) if id_ in self._special else text,
                "special": id_ in self._special,
            }
            for id_, text in zip(ids, texts, strict=True)
        ]

    def _tokens_of(self, request: Mapping[str, Any]) -> list[int]:
        tokens = self._ids_of(request, "tokens")
        self._walk.check_length(len(tokens))
        return tokens

    def _ids_of(self, request: Mapping[str, Any], key: str) -> list[int]:
        """Return a list of ids from a request, empty where it is missing."""
        ids = request.get(key, [])
        last = self._walk.vocab_size - 1
        if not isinstance(ids, list) or not all(
            isinstance(id_, int) and not isinstance(id_, bool) and 0 <= id_ <= last for id_ in ids
        ):
            raise ConfigError.of(key, f"must be a list of token ids from 0 to {last}")
        return list(ids)

    def _decoding_of(self, request: Mapping[str, Any]) -> Decoding:
        texts = request.get("decoding", {})
        if not isinstance(texts, dict) or not all(isinstance(text, str) for text in texts.values()):
            raise ConfigError.of("decoding", "must map keys to values as typed")
        return turned(self._point.decoding, texts)

    def _seed_of(self, request: Mapping[str, Any]) -> int | None:
        """Return the seed as typed; None for greedy decoding."""
        text = request.get("seed")
        if text is None:
            return None
        typed = str(text).strip()
        value = int(typed) if typed.isascii() and typed.isdigit() and len(typed) < 20 else typed
        generation, mistakes = read_section("generation", {"seed": value})
        if not isinstance(generation, Generation):
            raise ConfigError(mistakes)
        return generation.seed
