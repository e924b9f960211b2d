"""The result of `harness.inspect`: a prompt's tokens and the next-token tables after it."""

from __future__ import annotations

from dataclasses import asdict

from harness.api.frame import Frame, frame_of
from harness.api.notebook_html import cell, note, rows_html
from harness.cli.inspect import Inspection, Step


class InspectionView:
    """The tokens of a prompt, and what came next.

    Attributes:
        prompt: the text as the model got it.
        steps: of each decoded token its `candidates` (likeliest first), the one `chosen`, and the raw
            `entropy` in nats; a candidate has `token`, `id`, `logit`, `probability`, `warped_probability`.
    """

    def __init__(self, found: Inspection) -> None:
        self.prompt = found.prompt
        self.steps: tuple[Step, ...] = found.steps
        self._tokens = found.tokens

    def tokens(self) -> Frame:
        """Return a row a token of the prompt: `piece` and `id`."""
        return frame_of([{"piece": text, "id": id_} for text, id_ in self._tokens])

    def candidates(self) -> Frame:
        """Return a row a candidate of every step: position, its numbers, and whether it was `chosen`."""
        rows = []
        for step in self.steps:
            for one in step.candidates:
                rows.append({"position": step.position, **asdict(one), "chosen": one.id == step.chosen.id})
        return frame_of(rows)

    @property
    def output(self) -> str:
        """The chosen tokens' texts, joined."""
        return "".join(step.chosen.token for step in self.steps)

    def __repr__(self) -> str:
        return f"<InspectionView: {len(self._tokens)} tokens of {self.prompt!r}, then {self.output!r}>"

    def _repr_html_(self) -> str:
        """Return the tables."""
        tokens = rows_html(["", *(str(i) for i in range(len(self._tokens)))], [
            ["token", *(repr(text) for text, _ in self._tokens)],
            ["id", *(str(id_) for _, id_ in self._tokens)],
        ])  # fmt: skip
        parts = [note(f"{len(self._tokens)} tokens of the prompt"), tokens]
        header = ["token", "id", "logit", "probability", "processed"]
        for step in self.steps:
            title = f"next token {step.position + 1}: {step.chosen.token!r} (entropy {step.entropy:.2f} nats)"
            rows = [
                [
                    repr(one.token),
                    str(one.id),
                    f"{one.logit:.3f}",
                    f"{one.probability:.2%}",
                    f"{one.warped_probability:.2%}",
                ]
                for one in step.candidates
            ]
            chosen = [(y, 0) for y, one in enumerate(step.candidates) if one.id == step.chosen.id]
            parts += [note(title), rows_html(header, rows, [False, True, True, True, True], chosen)]
        return cell(*parts)
