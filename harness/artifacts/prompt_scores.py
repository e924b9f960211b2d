"""How likely the prompts' own tokens are: prompt_tokens.parquet, with record.prompt_logprobs=true."""

from __future__ import annotations

from typing import Any

from harness.artifacts.artifact import Artifact, Workbench, complete
from harness.artifacts.job import Job


class PromptScores(Artifact):
    """prompt_tokens.parquet."""

    name = "prompt_logprobs"
    action = "score prompts"
    files = ("prompt_tokens.parquet",)

    def spec(self, job: Job) -> Any:
        """Return True where they are requested."""
        return job.point.record.prompt_logprobs or None

    def make(self, job: Job, bench: Workbench) -> tuple[str, ...]:
        """Score the prompts."""
        from harness.store.tables import prompt_tokens_table

        stored = bench.stored(job)
        if not bench.backend.capabilities.teacher_forcing:
            return ("prompts are not scored: the backend does not tell how likely a given text is",)
        stored.write_table("prompt_tokens", prompt_tokens_table(list(bench.backend.score(job.prompts))))
        complete(stored, self, True)
        return ()
