"""A sample whose tokens are passed on while it is decoded: by a recorder that watches one request."""

from __future__ import annotations

from harness.backends.backend import OnToken, Request, TokenStep
from harness.backends.steps.finished import end_of
from harness.backends.steps.recorder import RawStep, Recorder
from harness.decoding.detokenizer import Detokenizer
from harness.decoding.streamed_text import StreamedText


class StreamingRecorder(Recorder):
    """A recorder of a single request that calls back after each step.

    Attributes:
        error: what the callback raised, which a method takes for a failure of the strategy.
    """

    def __init__(self, request: Request, detokenizer: Detokenizer, on_token: OnToken) -> None:
        super().__init__(request.strategy.top_k)
        self._request, self._detokenizer, self._on_token = request, detokenizer, on_token
        self._text = StreamedText(detokenizer, request.prompt.ids, request.strategy.stop_strings)
        self._tokens: list[int] = []
        self.error: Exception | None = None

    @property
    def can_wait(self) -> bool:
        """A token is passed on before the next one is computed."""
        return False

    def end_step(self, raw: RawStep) -> None:
        """Record the step, and pass its token on."""
        super().end_step(raw)
        columns = self._raw[-1] | self._warped[-1]
        self._tokens.append(int(columns["token_id"]))
        prompt_ids, strategy = self._request.prompt.ids, self._request.strategy
        ended = end_of(strategy, prompt_ids, self._tokens, self._detokenizer) is not None
        step = TokenStep(
            position=len(self._tokens) - 1,
            pieces=self._text.add(self._tokens[-1], last=ended),
            token_id=self._tokens[-1],
            token=self._detokenizer.token_text(self._tokens[-1]),
            logprob=float(columns["logprob"]),
            warped_logprob=float(columns["warped_logprob"]),
            rank=int(columns["rank"]),
            entropy=float(columns["entropy"]),
            warped_entropy=float(columns["warped_entropy"]),
            kept=int(columns["kept"]),
            kept_mass=float(columns["kept_mass"]),
        )
        try:
            self._on_token(step)
        except Exception as error:
            self.error = error
            raise
