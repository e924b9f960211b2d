"""The sweep by vLLM, where it is installed: each strategy's requests in one call, and all in one."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from harness.backends.hf.backend import HfBackend
from tests.benchmarks.contend import contend
from tests.benchmarks.gpu_steps import Bench
from tests.benchmarks.gpu_sweep import Sweep
from tests.benchmarks.shapes import EIGHT

_MEMORY_SHARE = 0.5
"""Of the card: the other half is the model that it is compared with."""


def vllm(bench: Bench, backend: HfBackend) -> None:
    """Report the sweep against vLLM with the same shape and weights of its own ("dummy" ones)."""
    if find_spec("vllm") is None:
        bench.report.note("vllm", bench.name, "skipped: vLLM is not installed")
        return
    if bench.loaded.facts["quantized_modules"]:
        bench.report.note("vllm", bench.name, "skipped: it is compared in bf16")
        return
    from vllm import LLM

    with tempfile.TemporaryDirectory() as folder:
        bench.loaded.model.config.save_pretrained(folder)
        bench.loaded.tokenizer.save_pretrained(Path(folder))
        engine: Any = LLM(
            model=folder,
            load_format="dummy",
            dtype="bfloat16",
            skip_tokenizer_init=True,
            max_model_len=256,
            max_num_seqs=512,
            gpu_memory_utilization=_MEMORY_SHARE,
            disable_log_stats=True,
        )
        for prompts in bench.sizes.prompts:
            run = Sweep(bench, backend, prompts)
            _compare(bench, run, engine)


def _compare(bench: Bench, run: Sweep, engine: Any) -> None:
    """Report one sweep: by the harness, by vLLM per strategy, and by vLLM all at once."""
    params = [_params(fields, bench.sizes.sweep_tokens) for fields in EIGHT]
    ids = [{"prompt_token_ids": list(prompt.ids)} for prompt in run.prompts]

    def answers(prompts: list[Any], settings: Any) -> int:
        outputs = engine.generate(prompts, settings, use_tqdm=False)
        return sum(len(output.outputs[0].token_ids) for output in outputs)

    contenders: dict[str, Callable[[], int]] = {
        "harness": run.harness,
        "per strategy": lambda: sum(answers(ids, one) for one in params),
        "at once": lambda: answers(ids * len(params), [one for one in params for _ in ids]),
    }
    times = contend(contenders, bench.sizes.turns, seconds=bench.seconds)
    one, every = times.ratio("per strategy", "harness"), times.ratio("at once", "harness")
    bench.report.row(
        "vllm", bench.name, run.case,
        f"{one:.2f}x vLLM per strategy, {every:.2f}x vLLM with all requests at once "
        f"({times.speed('at once'):,.0f} tokens/s, no logprobs, plain sampling for typical_p)",
        per_strategy=one, at_once=every, vllm_tokens_per_s=times.speed("at once"),
        tokens_per_s=times.speed("harness"),
    )  # fmt: skip


def _params(fields: dict[str, Any], new_tokens: int) -> Any:
    """Return a strategy as SamplingParams, of exactly so many tokens."""
    from vllm import SamplingParams

    known = {key: value for key, value in fields.items() if key not in ("do_sample", "typical_p")}
    if not fields.get("do_sample"):
        known["temperature"] = 0.0
    return SamplingParams(max_tokens=new_tokens, ignore_eos=True, detokenize=False, seed=0, **known)
