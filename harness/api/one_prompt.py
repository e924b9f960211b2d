"""The texts of one prompt, decoded as a sweep would, with their tokens."""

from __future__ import annotations

from harness.api.text_view import Text, Texts
from harness.backends.backend import Backend, Failure
from harness.cli.generate_arguments import GenerateArguments
from harness.cli.single_prompt import single_prompt
from harness.config.point import Point
from harness.errors import HarnessError
from harness.once import Once
from harness.plan.prepare import prepare
from harness.progress import SILENT
from harness.run.kept_backends import KeptBackends
from harness.store.records import Sample
from harness.store.tables import generations_table, tokens_table


def generated(point: Point, arguments: GenerateArguments, backends: KeptBackends | None) -> Texts:
    """Return the samples of one prompt.

    Args:
        point: model, strategy, budget, seed and number of samples; its prompts are replaced by the one asked.
        arguments: the prompt.
        backends: what keeps the model; it is freed when None.

    Raises:
        HarnessError: a sample failed, or the model cannot be loaded.
    """
    kept = backends or KeptBackends(keep=0)
    prompts = single_prompt(point.prompts, arguments)
    job = prepare(point.model_copy(update={"prompts": prompts}), Once())
    backend: Backend = kept.open(job, SILENT)
    release = kept.close_one
    try:
        backend.configure(job.point.engine)
        requests = list(job.requests(job.prompts, job.strategy(backend.token_ids)))
        samples = [_sample(answer) for answer in backend.generate(requests, SILENT)]
        release = kept.release
    finally:
        release(backend)
    rows = generations_table(samples).to_pylist()
    tables = [tokens_table([sample]) for sample in samples]
    return Texts([Text(row, table, point.decoding.name) for row, table in zip(rows, tables, strict=True)])


def _sample(answer: Sample | Failure) -> Sample:
    if isinstance(answer, Sample):
        return answer
    if isinstance(answer.error, HarnessError):
        raise answer.error
    text = " ".join(str(answer.error).split()) or type(answer.error).__name__
    raise HarnessError(f"the text could not be generated: {text}") from answer.error
