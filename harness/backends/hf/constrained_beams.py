"""Constrained beam search: outputs that hold some words (Post and Vilar 2018, arXiv:1804.06609).

The candidates of a step are those of beam search, the likeliest token of every beam, and every token that
begins or continues a missing word. They are in banks by the tokens that they still need, and the beams are
shared out among the banks in turn, so that those that have a word are not crowded out by likelier ones that
have none. A text that ends without all words is no output.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from harness.backends.hf.beam_search import BeamGroup, BeamSearch
from harness.decoding.forced_words import ForcedWords, Progress, in_turn_by_bank
from harness.decoding.outputs import Beam, BestOutputs, Ends
from harness.decoding.strategy import Strategy

_COMPLETE = Progress((), 0, ())


@dataclass(frozen=True)
class _ForcedBeam(Beam):
    """A beam, and the words that it lacks."""

    progress: Progress = _COMPLETE


class _ForcedGroup(BeamGroup):
    """The beams of one prompt."""

    def __init__(self, size: int, best: BestOutputs, root: Beam, words: ForcedWords, longest: int) -> None:
        super().__init__(size, best, [_ForcedBeam(root.row, progress=words.start)])
        self._words, self._longest = words, longest

    def choose(self, candidates: Sequence[tuple[float, int, int]], ends: Ends) -> list[int]:
        """Take this step's continuations, as many of each bank as there is room for.

        One that ended with all words counts among the `size` best of those that have all.
        """
        found: list[_ForcedBeam] = []
        complete = 0
        length = len(self.beams[0].tokens) + 1
        for total, parent, token in candidates:
            if total == float("-inf"):
                break
            beam = self.beams[parent]
            assert isinstance(beam, _ForcedBeam)
            tokens = (*beam.tokens, token)
            progress, reason = self._words.after(beam.progress, tokens), ends(tokens)
            has_all = not progress.missing
            if reason is None or reason == "length":
                found.append(_ForcedBeam(beam.row, tokens, total, progress))
            elif has_all and complete < self.size:
                self.best.add(tokens, reason, total)
            complete += has_all
        # Those that cannot have all words in time make room.
        left = self._longest - length
        found = [beam for beam in found if beam.progress.needed <= left] or found
        going_on = in_turn_by_bank([beam.progress.needed for beam in found], self.size)
        done = self.best.complete(candidates[0][0], length)
        self.beams = [] if done else [found[index] for index in going_on]
        return [beam.tokens[-1] for beam in self.beams]

    def finish(self) -> None:
        """End the open beams that have all words."""
        self.beams = [
            beam for beam in self.beams if isinstance(beam, _ForcedBeam) and not beam.progress.missing
        ]
        super().finish()


class ConstrainedBeams(BeamSearch):
    """Beam search with the words of `force_words_ids`."""

    def group(self, root: Beam) -> BeamGroup:
        """Return the group of a prompt, which has one."""
        words = ForcedWords(self._strategy.effective["force_words_ids"])
        return _ForcedGroup(self._size, self.best(), root, words, self._strategy.max_new_tokens)

    def also(self, group: BeamGroup, scores: Tensor) -> list[tuple[int, int]]:
        """Return each beam's likeliest token, and those that advance it."""
        best = scores.argmax(-1).tolist()
        return [
            (index, token)
            for index, beam in enumerate(group.beams)
            if isinstance(beam, _ForcedBeam)
            for token in (best[index], *beam.progress.advancing)
        ]

    @staticmethod
    def nothing_left(strategy: Strategy) -> str:
        """Return why a prompt has no output, and the cure."""
        cure = (
            f"set generation.max_new_tokens above {strategy.max_new_tokens}, or relax bans and stop strings"
        )
        return f"no output of {strategy.max_new_tokens} tokens has all words that are forced; {cure}"
