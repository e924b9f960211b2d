"""Temperature and truncation, applied to the top tokens only, for many strategies at once.

transformers' warpers each visit the whole vocabulary, and two of them sort it. What they keep is a few of
the likeliest tokens; so these are found once a step for all strategies (`logits.py`), and one call truncates
all distributions, each row with its own parameters. A row keeps exactly what the stock warpers keep, up to
the rounding of a sum at the threshold. Where the top tokens do not decide that, more of them are looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from harness.config.effective import effective_decoding
from harness.config.point import Decoding
from harness.decoding.logits import SHARED_TOP, Logits, TopTokens

_TOP_COUNTS = (SHARED_TOP, 1024, 8192)
"""How many of the top tokens are looked at, one after the other, until they decide what is kept."""

_INF = float("inf")


class TruncatedLogits(TopTokens):
    """The tokens that a truncation may have kept in each row; those it removed have the logit -inf."""

    def logits_of(self, tokens: Tensor) -> Tensor:
        """Return the (R, n) logits of (R, n) tokens; -inf where one was removed."""
        found, column = (self.tokens[:, None, :] == tokens[:, :, None]).max(-1)
        return self.logits.gather(1, column).masked_fill(~found, -_INF)

    def trimmed(self) -> TruncatedLogits:
        """Return the same without the last columns that no row keeps."""
        used = (self.logits > -_INF).any(0).nonzero()[:, 0]
        width = int(used[-1]) + 1 if len(used) else 1
        return TruncatedLogits(self.tokens[:, :width], self.logits[:, :width])


class Truncation(NamedTuple):
    """A strategy's temperature and truncations, in the order in which `generate` applies them.

    Fields are named as in GenerationConfig; the defaults here change nothing.
    """

    temperature: float = 1.0
    top_k: float = _INF
    top_p: float = _INF
    min_p: float = 0.0
    typical_p: float = _INF
    epsilon_cutoff: float = 0.0
    eta_cutoff: float = 0.0

    def active(self) -> tuple[bool, ...]:
        """Return which of the fields change something."""
        return tuple(value != none for value, none in zip(self, _INACTIVE, strict=True))

    def needs_total(self) -> bool:
        """Return whether the first truncation compares probabilities, which needs the sum over all tokens."""
        active = self.active()
        first = next((step for step in _STEPS if active[step]), None)
        return first in (_TOP_P, _TYPICAL, _EPSILON, _ETA)


_NAMES = Truncation._fields
_INACTIVE = Truncation()
_TEMPERATURE, _TOP_K, _TOP_P, _MIN_P, _TYPICAL, _EPSILON, _ETA = range(len(_NAMES))
_NEUTRAL = {name: effective_decoding(Decoding(name="neutral"))[name] for name in _NAMES}
"""The fields' values with which transformers builds no warper."""


def truncation_of(effective: Mapping[str, Any]) -> Truncation | None:
    """Return the truncation at the end of a strategy's processors; `effective` has every field.

    None where nothing is truncated, or not at the end: then transformers' warpers do it.
    """
    last = effective["renormalize_logits"] or effective["watermarking_config"] is not None
    # With beams the warpers keep at least two tokens.
    if not effective["do_sample"] or effective["num_beams"] > 1 or last:
        return None
    chosen = {
        name: float(effective[name]) for name in _fields_of(effective) if effective[name] != _NEUTRAL[name]
    }
    return Truncation(**chosen) if set(chosen) - {"temperature"} else None


def neutral_truncation(effective: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that `truncation_of` covers, neutral: with them only what comes before it is left."""
    return {name: _NEUTRAL[name] for name in _fields_of(effective)}


def _fields_of(effective: Mapping[str, Any]) -> tuple[str, ...]:
    # top_h acts between temperature and the others.
    return _NAMES if effective["top_h"] is None else _NAMES[_TOP_K:]


class TruncationBatch:
    """The truncations of several strategies, ready to be applied to distributions of any of them together."""

    def __init__(self, truncations: Sequence[Truncation], device: torch.device | str) -> None:
        active = [one.active() for one in truncations]
        self._parameters = torch.tensor(truncations, device=device)
        self._active = torch.tensor(active, device=device)
        self._used = [any(column) for column in zip(*active, strict=True)]
        self._needs_total = [one.needs_total() for one in truncations]
        self._tempered = [one.needs_total() and one.temperature != 1.0 for one in truncations]

    def __call__(self, logits: Logits, which: Sequence[int]) -> list[tuple[list[int], TruncatedLogits]]:
        """Truncate (M, V) logits; `which` (M,) are the indices of the rows' truncations.

        Returns:
            Groups of rows, each with what is kept in them; every row is in one group.
        """
        index = torch.tensor(which, device=logits.device)
        parameters, active = self._parameters[index], self._active[index]
        log_total, entropy = self._totals(logits, which, parameters)
        groups: list[tuple[list[int], TruncatedLogits]] = []
        rows = list(range(len(which)))
        for count in [*(n for n in _TOP_COUNTS if n < logits.vocab_size), logits.vocab_size]:
            if len(rows) == len(which):
                remaining, chosen = logits, slice(None)
            else:
                chosen = torch.tensor(rows, device=logits.device)  # type: ignore[assignment]
                remaining = logits.select(chosen)  # type: ignore[arg-type]
            top = remaining.top(count)
            state = _State(
                top.logits, log_total[chosen], entropy[chosen], parameters[chosen], active[chosen],
                complete=count == logits.vocab_size,
            )  # fmt: skip
            for step, truncate in _STEPS.items():
                if self._used[step]:
                    truncate(state)
            # Here the host waits for the device, usually once a step.
            decided = state.is_decided()[:, 0].tolist()
            done = [i for i, yes in enumerate(decided) if yes]
            if not done:
                continue
            kept = TruncatedLogits(top.tokens, state.logits)
            if len(done) < len(rows):
                kept = kept.select(torch.tensor(done, device=logits.device))
            groups.append(([rows[i] for i in done], kept if count == SHARED_TOP else kept.trimmed()))
            rows = [row for row, yes in zip(rows, decided, strict=True) if not yes]
            if not rows:
                break
        return groups

    def _totals(self, logits: Logits, which: Sequence[int], parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Return (M, 1) log of the sum of exp(logits / temperature), and the entropy, where needed."""
        zeros = parameters.new_zeros((len(which), 1))
        if not any(self._needs_total):
            return zeros, zeros
        needs_entropy = self._used[_TYPICAL] or self._used[_ETA]
        log_total, entropy = logits.log_total(), logits.entropy() if needs_entropy else zeros
        tempered = [row for row, one in enumerate(which) if self._tempered[one]]
        if tempered:
            index = torch.tensor(tempered, device=logits.device)
            scaled = Logits(logits.select(index).values / parameters[index, :1])
            log_total = log_total.index_copy(0, index, scaled.log_total())
            if needs_entropy:
                entropy = entropy.index_copy(0, index, scaled.entropy())
        return log_total, entropy


@lru_cache(maxsize=64)
def truncation_batch(truncations: tuple[Truncation, ...], device: str) -> TruncationBatch:
    """Return the truncations of some strategies, made once: they do not change from step to step."""
    return TruncationBatch(truncations, device)


class _State:
    """Logits of the top tokens on their way through the truncations.

    Attributes:
        logits: (M, n) likeliest first, -inf where a token was removed.
        parameters, active: (M, 7) of each row's `Truncation`.
        untouched: (M, 1) nothing was removed yet, so that there is probability beyond the n tokens.
    """

    def __init__(
        self, logits: Tensor, log_total: Tensor, entropy: Tensor, parameters: Tensor, active: Tensor,
        complete: bool,
    ) -> None:  # fmt: skip
        self.parameters, self.active = parameters, active
        self.logits = logits / parameters[:, :1]
        self.untouched = torch.ones_like(active[:, :1])
        self._decided = torch.ones_like(active[:, :1])
        self._log_total, self._entropy = log_total, entropy
        self._complete = complete

    def parameter(self, step: int) -> Tensor:
        """Return (M, 1), one parameter of each row."""
        return self.parameters[:, step, None]

    def log_p(self) -> Tensor:
        """Return (M, n) log-probabilities among all tokens that are left."""
        among_top = self.logits.logsumexp(-1, keepdim=True)
        return self.logits - torch.where(self.untouched, self._log_total, among_top)

    def entropy(self, log_p: Tensor) -> Tensor:
        """Return (M, 1) nats, of all tokens that are left."""
        among_top = -(log_p.exp() * log_p).nansum(-1, keepdim=True)
        return torch.where(self.untouched, self._entropy, among_top)

    def is_decided(self) -> Tensor:
        """Return (M, 1), whether nothing is left beyond the n tokens."""
        return self._decided & ~self.untouched | self._complete

    def keep(self, step: int, kept: Tensor, decides: Tensor | None = None) -> None:
        """Remove what is not in `kept`, in the rows in which this truncation is active.

        The n tokens decide what is kept where the last of them is removed: those beyond are less likely.
        Where that does not follow, `decides` (M, 1) says.
        """
        active = self.active[:, step, None]
        decides = ~kept[:, -1:] if decides is None else decides
        self._decided &= decides | ~(self.untouched & active)
        self.logits = self.logits.masked_fill(~kept & active, -_INF)
        self.untouched = self.untouched & ~active


def _top_k(state: _State) -> None:
    """Fan et al. 2018 (arXiv:1805.04833); ties with the k-th token are kept as well."""
    last = state.parameter(_TOP_K).clamp(max=state.logits.shape[1]).long() - 1
    state.keep(_TOP_K, state.logits >= state.logits.gather(1, last))


def _top_p(state: _State) -> None:
    """Holtzman et al. 2020 (arXiv:1904.09751): keep a token while likelier ones have less than top_p."""
    p = state.log_p().exp()
    state.keep(_TOP_P, _with_first(p.cumsum(-1) - p < state.parameter(_TOP_P)))


def _min_p(state: _State) -> None:
    """Nguyen et al. 2024 (arXiv:2407.01082): tokens at least min_p times as likely as the likeliest."""
    ratio = (state.logits - state.logits[:, :1]).exp()
    state.keep(_MIN_P, _with_first(ratio >= state.parameter(_MIN_P)))


def _typical(state: _State) -> None:
    """Meister et al. 2023 (arXiv:2202.00666): the tokens whose information is nearest to the entropy, until
    their probability reaches typical_p."""
    log_p = state.log_p()
    entropy = state.entropy(log_p)
    distance = (-log_p - entropy).abs()
    nearest, order = distance.sort(-1)
    mass = log_p.exp().gather(1, order).cumsum(-1)
    last = (mass < state.parameter(_TYPICAL)).sum(-1, keepdim=True)
    threshold = nearest.gather(1, last.clamp(max=distance.shape[1] - 1))
    # Beyond the last token are only less likely ones. If its information is above the entropy, they are
    # farther away than it; if it is removed, so are they.
    decides = (-log_p[:, -1:] >= entropy) & (distance[:, -1:] > threshold)
    state.keep(_TYPICAL, distance <= threshold, decides)


def _epsilon(state: _State) -> None:
    """Hewitt et al. 2022 (arXiv:2210.15191): tokens of at least this probability, and the likeliest."""
    state.keep(_EPSILON, _with_best(state, state.log_p().exp() >= state.parameter(_EPSILON)))


def _eta(state: _State) -> None:
    """Hewitt et al. 2022: as epsilon, with a threshold that falls where the distribution is flat."""
    log_p = state.log_p()
    eta = state.parameter(_ETA)
    threshold = torch.minimum(eta, eta.sqrt() * (-state.entropy(log_p)).exp())
    state.keep(_ETA, _with_best(state, log_p.exp() >= threshold))


def _with_first(kept: Tensor) -> Tensor:
    kept[:, 0] = True
    return kept


def _with_best(state: _State, kept: Tensor) -> Tensor:
    """Keep the likeliest of what is left as well, which need not be the first."""
    return kept | (state.logits >= state.logits.amax(-1, keepdim=True))


_STEPS = {_TOP_K: _top_k, _TOP_P: _top_p, _MIN_P: _min_p, _TYPICAL: _typical, _EPSILON: _epsilon, _ETA: _eta}
