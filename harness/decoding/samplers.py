"""The samplers: what each does to the candidates of a step, one function each, with its source.

Truncations keep exactly what transformers' warpers keep, up to the rounding of a sum at the threshold; the
others are defined as by their authors, and differences between tools are named beside them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from harness.decoding.candidates import INF, Candidates
from harness.decoding.sampler_settings import Step

_MOST_TOP_H = 100
"""Of so many likeliest tokens top-h takes the entropy, as transformers does."""

_MOST_MIROSTAT = 100
"""Of so many likeliest tokens mirostat 1 estimates the exponent of their distribution, as its authors do."""

_SLACK = 1e-6
"""In log-probability: a uniform distribution must reach its own sum of squares."""


def _temperature(c: Candidates) -> None:
    """Divide by the temperature."""
    c.divide(c.parameter("temperature"))


def _dynamic_temperature(c: Candidates) -> None:
    """Divide by a temperature that depends on the entropy H.

    Dynamic temperature (kalomaze 2023): between T - range and T + range, as (H / log of the number of tokens)
    to the power of the exponent. Entropy-based dynamic temperature: T base^(theta / H) (Zhang et al. 2024,
    arXiv:2403.14541).
    """
    temperature, reach, theta = (c.parameter(n) for n in ("temperature", "dynatemp_range", "edt_theta"))
    entropy, count = c.entropy(c.log_p()), c.count()
    lowest = (temperature - reach).clamp(min=0.0)
    relative = (entropy / count.log()).clamp(0.0, 1.0) ** c.parameter("dynatemp_exponent")
    dynamic = torch.where(count > 1, lowest + (temperature + reach - lowest) * relative, temperature)
    falling = temperature * c.parameter("edt_base") ** (theta / entropy.clamp(min=1e-30))
    varied = torch.where(theta > 0, falling, dynamic)
    best = c.best()
    # A temperature of 0 leaves the best tokens; the others reach -inf.
    c.change(best + (c.logits - best) / varied.clamp(min=1e-30))


def _smoothing(c: Candidates) -> None:
    """Quadratic sampling (kalomaze 2024): replace a logit's distance d < 0 from the best one.

    By -(3 - curve) / 2 factor d^2 + (curve - 1) / 2 factor d^3, which keeps the order for curves of 1 to 3.
    """
    factor, curve = c.parameter("smoothing_factor"), c.parameter("smoothing_curve")
    best = c.best()
    d = (c.logits - best).masked_fill(c.logits == -INF, 0.0)
    c.change(best - (3 - curve) / 2 * factor * d**2 + (curve - 1) / 2 * factor * d**3)


def _top_n_sigma(c: Candidates) -> None:
    """Tang et al. 2024 (arXiv:2411.07641), with the population's deviation, as llama.cpp has it."""
    c.keep(c.logits >= c.best() - c.parameter("top_n_sigma") * c.deviation())


def _top_h(c: Candidates) -> None:
    """Potraghloo et al. 2025 (arXiv:2509.02510): the likeliest tokens while their share of the entropy of the
    100 likeliest is at most top_h."""
    width = min(_MOST_TOP_H, c.logits.shape[1])
    top = c.logits.topk(width, dim=-1)
    log_p = top.values.log_softmax(-1)
    terms = -(log_p.exp() * log_p).nan_to_num(0.0)
    kept = terms.cumsum(-1) <= terms.sum(-1, keepdim=True) * c.parameter("top_h")
    kept[:, 0] = True
    among = torch.zeros_like(c.logits, dtype=torch.bool).scatter_(1, top.indices, kept)
    whole = torch.full_like(c.untouched, width == min(_MOST_TOP_H, c.vocabulary))
    c.keep(among, whole)


def _top_k(c: Candidates) -> None:
    """Fan et al. 2018 (arXiv:1805.04833); ties with the k-th token are kept as well."""
    first = (c.logits > -INF).cumsum(-1) <= c.parameter("top_k")
    c.keep(c.logits >= torch.where(first, c.logits, INF).amin(-1, keepdim=True))


def _top_p(c: Candidates) -> None:
    """Holtzman et al. 2020 (arXiv:1904.09751): keep a token while likelier ones have less than top_p."""
    p = c.log_p().exp()
    kept = p.cumsum(-1) - p < c.parameter("top_p")
    c.keep(kept.scatter_(1, c.logits.argmax(-1, keepdim=True), True))


def _min_p(c: Candidates) -> None:
    """Nguyen et al. 2024 (arXiv:2407.01082): tokens at least min_p times as likely as the likeliest."""
    c.keep(_with_best(c, (c.logits - c.best()).exp() >= c.parameter("min_p")))


def _typical_p(c: Candidates) -> None:
    """Meister et al. 2023 (arXiv:2202.00666): the tokens whose information is nearest to the entropy, until
    their probability reaches typical_p."""
    log_p = c.log_p()
    entropy = c.entropy(log_p)
    distance = (-log_p - entropy).abs()
    nearest, order = distance.sort(-1)
    mass = log_p.exp().gather(1, order).cumsum(-1)
    last = (mass < c.parameter("typical_p")).sum(-1, keepdim=True)
    threshold = nearest.gather(1, last.clamp(max=distance.shape[1] - 1))
    # Beyond the last token are only less likely ones. If its information is above the entropy, they are
    # farther away than it; if it is removed, so are they.
    decides = (-log_p[:, -1:] >= entropy) & (distance[:, -1:] > threshold)
    c.keep(distance <= threshold, decides)


def _epsilon_cutoff(c: Candidates) -> None:
    """Hewitt et al. 2022 (arXiv:2210.15191): tokens of at least this probability, and the likeliest."""
    c.keep(_with_best(c, c.log_p().exp() >= c.parameter("epsilon_cutoff")))


def _eta_cutoff(c: Candidates) -> None:
    """Hewitt et al. 2022: as epsilon, with a threshold that falls where the distribution is flat."""
    log_p = c.log_p()
    eta = c.parameter("eta_cutoff")
    threshold = torch.minimum(eta, eta.sqrt() * (-c.entropy(log_p)).exp())
    c.keep(_with_best(c, log_p.exp() >= threshold))


def _tfs(c: Candidates) -> None:
    """Tail-free sampling (Phoenix 2021), as text-generation-webui has it; llama.cpp kept one token fewer.

    Of the sorted probabilities the second differences count, in size and as shares of their sum: kept are
    the tokens before which their cumulative share is at most tfs. Removed tokens are among them as zeros.
    Of tokens beyond the n, which fall to 0 from the last probability p, the sum is between 0 and D + 2 p, D
    the last difference: the n tokens decide where both bounds keep the same.
    """
    ranked, order = c.log_p().exp().sort(dim=-1, descending=True)
    count = ranked.shape[1]
    beyond = min(2, c.vocabulary - count)
    padded = torch.nn.functional.pad(ranked, (0, beyond))
    falls = -padded.diff(dim=-1)
    curvature = falls.diff(dim=-1).abs()
    if beyond:
        unknown = c.untouched & (torch.arange(curvature.shape[1], device=curvature.device) >= count - 2)
        curvature = curvature.masked_fill(unknown, 0.0)
    cumulative, total = curvature.cumsum(-1), curvature.sum(-1, keepdim=True)
    most = total + torch.where(c.untouched, falls[:, count - 2, None] + 2 * ranked[:, -1:], 0.0)
    kept = torch.ones_like(padded, dtype=torch.bool)
    kept[:, 1:-1] = ~(cumulative / total > c.parameter("tfs"))
    kept[:, -1] = False
    kept[:, 0] = True
    bounded = ~(cumulative / most > c.parameter("tfs"))
    decides = (kept[:, 1:-1] == bounded).all(-1, keepdim=True) & ~kept[:, count - 1, None]
    among = torch.zeros_like(kept[:, :count]).scatter_(1, order, kept[:, :count])
    c.keep(among, decides)


def _top_a(c: Candidates) -> None:
    """Ethan Smith 2022: tokens at least top_a times as likely as the square of the largest probability."""
    p = c.log_p().exp()
    c.keep(_with_best(c, p >= c.parameter("top_a") * p.amax(-1, keepdim=True).square()))


def _p_less(c: Candidates) -> None:
    """Tan et al. 2025 (arXiv:2509.23234): tokens at least as likely as the sum of squared probabilities.

    The normalised form subtracts what a uniform distribution over the V tokens has: (V sum - 1) / (V - 1).
    """
    log_p = c.log_p()
    squares = c.squares(log_p)
    excess = ((c.vocabulary * squares - 1) / (c.vocabulary - 1)).clamp(min=0.0)
    threshold = torch.where(c.parameter("p_less") > 1, excess, squares)
    c.keep(_with_best(c, log_p >= threshold.log() - _SLACK))


def _xtc(c: Candidates) -> None:
    """Exclude top choices (p-e-w 2024): all tokens of at least the threshold but the least likely of them.

    They are left out of a share of the draws (`mix_excluded`); llama.cpp's form, which spares no end-of-text.
    """
    p = c.log_p().exp()
    likely = p >= c.parameter("xtc_threshold")
    least = torch.where(likely, p, INF).argmin(-1, keepdim=True)
    excluded = likely.scatter(1, least, False) & c.acting
    c.excluded = excluded if c.excluded is None else c.excluded | excluded


def mix_excluded(c: Candidates) -> None:
    """Give excluded tokens their share of the draws in which they are not left out.

    Instead of a coin per token the mixture of both distributions: with probability pi and the mass m of the
    excluded tokens, these have (1 - pi) p and the others (1 - pi + pi / (1 - m)) p.
    """
    if c.excluded is None:
        return
    share, log_p = c.parameter("xtc_probability"), c.log_p()
    mass = torch.where(c.excluded, log_p.exp(), 0.0).sum(-1, keepdim=True)
    others = (1 - share + share / (1 - mass).clamp(min=1e-30)).log()
    c.acting = c.excluded.any(-1, keepdim=True)
    c.change(log_p + torch.where(c.excluded, torch.log1p(-share), others))


def _mirostat(c: Candidates) -> None:
    """Basu et al. 2021 (arXiv:2007.14966), version 2: keep tokens of at most mu bits.

    So the surprisal of the text stays near a target; mu is a state (`sampler_state.py`).
    """
    c.keep(_with_best(c, -c.log_p() / math.log(2) <= c.parameter("mirostat_mu")))


def _mirostat_1(c: Candidates) -> None:
    """Version 1: keep the k likeliest, k from mu and the exponent s of a Zipf distribution.

    It is fitted to the 100 likeliest tokens.
    """
    log_p, mu = c.log_p(), c.parameter("mirostat_mu")
    width = min(_MOST_MIROSTAT, log_p.shape[1])
    ranked, order = log_p.sort(dim=-1, descending=True)
    b = ranked[:, : width - 1] - ranked[:, 1:width]
    index = torch.arange(1, width, device=b.device, dtype=b.dtype)
    t = ((index + 1) / index).log().expand_as(b).masked_fill(~b.isfinite(), 0.0)
    s = (t * b.masked_fill(~b.isfinite(), 0.0)).sum(-1, keepdim=True) / t.square().sum(-1, keepdim=True)
    s = s.nan_to_num(1.0).clamp(min=1e-3)
    e = s - 1
    log_size = math.log(c.vocabulary)
    # e / (1 - V^-e), 1 / log V where e is 0
    ratio = torch.where(e.abs() < 1e-6, 1 / log_size, e / -torch.expm1(-e * log_size))
    k = (ratio * 2**mu) ** (1 / s)
    rank = torch.empty_like(order).scatter_(
        1, order, torch.arange(log_p.shape[1], device=b.device).expand_as(order)
    )
    kept = _with_best(c, rank < k.floor().clamp(min=1))
    enough = torch.full_like(c.untouched, width == min(_MOST_MIROSTAT, c.vocabulary))
    c.keep(kept, enough & ~kept[:, -1:])


def _adaptive_p(c: Candidates) -> None:
    """Prefer tokens whose probability is near a goal, which steers the average of the chosen ones.

    With D = |p - goal| / 0.3 the logit is 5 - 10 D^2 / (1 + D). llama.cpp's sampler of 2025; the goal is a
    state (`sampler_state.py`).
    """
    c.before_adaptive = c.log_p()
    distance = (c.before_adaptive.exp() - c.parameter("adaptive_goal")).abs() / 0.3
    c.change(5 - 10 * distance.square() / (1 + distance))


def _skew(c: Candidates) -> None:
    """Raise the cumulative sum of the sorted probabilities to exp(skew), as exllamav2 does."""
    ranked, order = c.log_p().double().exp().sort(dim=-1, descending=True)
    before, power = ranked.cumsum(-1) - ranked, c.parameter("skew").double().exp()
    # F' = before^power ((1 + p / before)^power - 1), which keeps small probabilities
    gained = before.log() * power + torch.expm1(torch.log1p(ranked / before) * power).log()
    gained[:, 0] = ranked[:, 0].log() * power[:, 0]
    c.change(torch.empty_like(c.logits).scatter_(1, order, gained.to(c.logits.dtype)))


def _with_best(c: Candidates, kept: Tensor) -> Tensor:
    """Keep the likeliest of what is left as well, which need not be the first."""
    return kept | (c.logits >= c.best())


SAMPLERS: Mapping[Step, Callable[[Candidates], None]] = {
    "temperature": _temperature,
    "dynamic_temperature": _dynamic_temperature,
    "smoothing": _smoothing,
    "top_n_sigma": _top_n_sigma,
    "top_h": _top_h,
    "top_k": _top_k,
    "top_p": _top_p,
    "min_p": _min_p,
    "typical_p": _typical_p,
    "epsilon_cutoff": _epsilon_cutoff,
    "eta_cutoff": _eta_cutoff,
    "tfs": _tfs,
    "top_a": _top_a,
    "p_less": _p_less,
    "xtc": _xtc,
    "mirostat": _mirostat,
    "mirostat_1": _mirostat_1,
    "adaptive_p": _adaptive_p,
    "skew": _skew,
}
"""What each step of a chain does, in the usual order; the rows in which it does not act stay as they are."""
