"""What samplers remember of a text: functions of the strategy and of the tokens chosen so far.

Texts of one strategy on one row of the batch have the same state, so it is kept by text and read of any of
them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from harness.config.effective import NEUTRAL
from harness.decoding.texts import Texts
from harness.decoding.upload import on_device


class SamplerState:
    """The states of one strategy's texts, by their numbers: a pair of numbers each.

    mirostat (Basu et al. 2021): mu, which starts at 2 tau and loses eta (surprisal - tau) with each token, in
    bits. adaptive_p: the decaying sum w of the chosen tokens' probabilities and that n of their number; the
    next goal is 2 target - w / n. A decaying top_p needs no more than the text (Lee et al. 2022).
    """

    def __init__(self, effective: Mapping[str, Any]) -> None:
        """`effective` are the fields of a strategy that act."""
        value = {name: effective.get(name, neutral) for name, neutral in NEUTRAL.items()}
        self._value = value
        self._states: dict[int, tuple[float, float]] = {}
        self._mirostat = value["mirostat_mode"] is not None
        self._adaptive = value["adaptive_target"] is not None
        self._decays = value["top_p_decay"] != 1.0
        decay = value["adaptive_decay"]
        self._first = (0.0, 0.0)
        if self._mirostat:
            self._first = (2 * value["mirostat_tau"], 0.0)
        elif self._adaptive:
            self._first = (value["adaptive_target"] / (1 - decay), 1 / (1 - decay))

    @property
    def updates(self) -> bool:
        """Whether it depends on the probabilities of the chosen tokens."""
        return self._mirostat or self._adaptive

    @property
    def needed(self) -> bool:
        """Whether any parameter differs by text."""
        return self.updates or self._decays

    def parameters(self, numbers: Sequence[int], texts: Texts) -> dict[str, Tensor]:
        """Return the parameters that differ by text, (M,) each; `texts` are the rows of these numbers."""
        device = texts.ids.device
        if self._mirostat:
            return {"mirostat_mu": on_device([self._of(n)[0] for n in numbers], device)} | (
                self._decayed(texts)
            )
        if self._adaptive:
            goals = [self._goal(*self._of(number)) for number in numbers]
            return {"adaptive_goal": on_device(goals, device)} | self._decayed(texts)
        return self._decayed(texts)

    def update(self, numbers: Sequence[int], logprobs: Sequence[float]) -> None:
        """Note what was chosen.

        Args:
            numbers: of the texts.
            logprobs: of the chosen tokens: among what was drawn from (mirostat), before adaptive_p. A token
                that was removed there, which a draft may be told of, leaves the state as it is.
        """
        for number, logprob in zip(numbers, logprobs, strict=True):
            if logprob == -math.inf:
                continue
            first, second = self._of(number)
            if self._mirostat:
                error = -logprob / math.log(2) - self._value["mirostat_tau"]
                self._states[number] = (first - self._value["mirostat_eta"] * error, 0.0)
            else:
                decay = self._value["adaptive_decay"]
                self._states[number] = (math.exp(logprob) + decay * first, 1 + decay * second)

    def saved(self, numbers: Sequence[int]) -> dict[int, tuple[float, float] | None]:
        """Return the states of some texts, for `restore`."""
        return {number: self._states.get(number) for number in numbers}

    def restore(self, saved: Mapping[int, tuple[float, float] | None]) -> None:
        """Take back what was noted of some texts since their states were saved."""
        for number, state in saved.items():
            if state is None:
                self._states.pop(number, None)
            else:
                self._states[number] = state

    def forget(self) -> None:
        """Begin all texts anew."""
        self._states.clear()

    def _of(self, number: int) -> tuple[float, float]:
        return self._states.get(number, self._first)

    def _goal(self, total: float, count: float) -> float:
        return min(1.0, max(0.0, 2 * self._value["adaptive_target"] - total / count))

    def _decayed(self, texts: Texts) -> dict[str, Tensor]:
        """Return the top_p of each text: p lambda^t, at least the minimum, t tokens since the last reset."""
        if not self._decays:
            return {}
        output = texts.ids[:, texts.width :]
        steps = torch.full((len(output),), output.shape[1], device=output.device)
        resets = self._value["top_p_reset_ids"]
        if resets and output.shape[1]:
            positions = torch.arange(1, output.shape[1] + 1, device=output.device)
            hits = torch.isin(output, on_device(list(resets), output.device))
            steps = output.shape[1] - torch.where(hits, positions, 0).amax(-1)
        decayed = self._value["top_p"] * self._value["top_p_decay"] ** steps.to(torch.float64)
        return {"top_p": decayed.clamp(min=self._value["top_p_min"]).to(torch.float32)}
