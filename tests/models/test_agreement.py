"""Files of one checkpoint that disagree: each kind is a mistake or a warning of `harness check`, one line."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from changed_files import SHORT, change_weights, edit_json

from harness.cli.main import main
from harness.config.point import Model, Quantization

ADAPTER = {"peft_type": "LORA", "base_model_name_or_path": "some/base", "r": 8}


def adapter(folder: Path) -> None:
    edit_json(folder / "adapter_config.json", **ADAPTER)


def adapter_alone(folder: Path) -> None:
    adapter(folder)
    for path in folder.glob("*.safetensors"):
        path.rename(folder / "adapter_model.safetensors")
    (folder / "config.json").unlink()


def adapter_with_config(folder: Path) -> None:
    adapter(folder)
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")


def integers(folder: Path) -> None:
    def pack(weights: dict[str, Any]) -> None:
        import torch

        weights["model.layers.0.mlp.up_proj.weight"] = torch.zeros(128, 64, dtype=torch.int8)

    change_weights(folder, pack)


def fewer_embeddings(folder: Path) -> None:
    def cut(weights: dict[str, Any]) -> None:
        for name in ("model.embed_tokens.weight", "lm_head.weight"):
            weights[name] = weights[name][:256].clone()

    change_weights(folder, cut)
    edit_json(folder / "config.json", vocab_size=256)


def other_vocabulary(folder: Path) -> None:
    edit_json(folder / "config.json", vocab_size=400)


def no_head(folder: Path) -> None:
    edit_json(folder / "config.json", tie_word_embeddings=False)


def added_tokens(folder: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    tokenizer.add_tokens([f"<extra-{number}>" for number in range(30)])
    tokenizer.save_pretrained(folder)


def added_pad(folder: Path) -> None:
    added_tokens(folder)
    edit_json(folder / "tokenizer_config.json", pad_token="<extra-29>")


def pad_is_text(folder: Path) -> None:
    edit_json(folder / "tokenizer_config.json", pad_token="t")


def eos_beyond(folder: Path) -> None:
    edit_json(folder / "generation_config.json", eos_token_id=[1, 9999])


def clock(folder: Path) -> None:
    template = (
        "{{ strftime_now('%d %b %Y') }}{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}"
    )
    (folder / "chat_template.jinja").write_text(template)


@pytest.mark.parametrize(
    ("change", "properties", "said"),
    [
        (adapter_alone, {}, ["is not a model but an adapter (LORA) to 'some/base'", "merge_and_unload()"]),
        (adapter_with_config, {}, ["is not a model but an adapter (LORA) to 'some/base'", "python -c"]),
        (integers, {}, ["up_proj.weight is stored as I8", "no quantization_config", "fetch it again"]),
        (
            fewer_embeddings,
            {},
            ["the tokenizer has ids up to 359", "a vocabulary of 256", "fetch both again"],
        ),
        (other_vocabulary, {}, ["vocab_size=400", "embeddings of 384 tokens (model.embed_tokens.weight)"]),
        (no_head, {"tied": True}, ["tie_word_embeddings=false", "no output head", "set it to true"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_cannot_run_is_a_mistake(
    changed: Any, check: Any, change: Callable[[Path], None], properties: Any, said: list[str]
) -> None:
    folder = changed(change, **properties)
    status, (line,), _ = check(folder)
    assert (status, line.partition(":")[0]) == (2, "model.id")
    assert [text for text in said if text not in line] == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda folder: None, ["24 of the 384 tokens that the model can choose are not in its tokenizer"]),
        (
            adapter,
            ["the adapter beside the weights (LORA to 'some/base') is not applied", "merge_and_unload()"],
        ),
        (added_tokens, ["6 tokens of its tokenizer are not in the model, which has 384"]),
        (eos_beyond, ["eos_token_id=9999 of generation_config.json is not one of the model's 384 tokens"]),
        (pad_is_text, ["the pad token 't' of its tokenizer is ordinary text", "pad_token", "'<|end|>'"]),
        (clock, ["writes today's date into the prompts", "model.chat_template"]),
    ],
    ids=["head", "adapter", "added_tokens", "eos", "pad", "clock"],
)
def test_what_runs_otherwise_than_it_seems_is_a_warning(
    changed: Any, check: Any, change: Callable[[Path], None], said: list[str]
) -> None:
    folder = changed(change, chat="plain")
    status, lines, out = check(folder, "prompts.chat=true")
    assert (status, lines) == (0, [])
    assert [text for text in said if text not in out] == []


def test_checkpoints_that_agree_are_not_warned_of(check: Any) -> None:
    for model in ("fable_tiny", "fable_small"):
        _, _, out = check(model, "prompts.chat=true")
        assert "warning" not in out


def test_what_is_warned_of_runs(changed: Any, check: Any, outputs: Path) -> None:
    def change(folder: Path) -> None:
        adapter(folder)
        added_pad(folder)
        edit_json(folder / "generation_config.json", eos_token_id=[-1, 9999])

    folder = changed(change, chat="plain")
    words = ["model=custom", f"model.id={folder}", *SHORT, "decoding.min_new_tokens=2", "tracking=off"]
    words += ["prompts.chat=true", "timing=off", "compare.noise=false", "engine.threads=1"]
    assert main(["-m", "decoding=greedy,top_p,beam", *words]) == 0
    assert len(list(outputs.glob("points/*/generations.parquet"))) == 3


def test_an_adapter_that_transformers_would_apply_is_refused(
    changed: Any, check: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = changed(adapter)
    monkeypatch.setattr("harness.models.agreement.find_spec", lambda name: name == "peft")
    status, (line,), _ = check(folder)
    assert status == 2
    assert "since peft is installed" in line


def test_the_command_that_merges_is_a_program_whatever_the_names(changed: Any, check: Any) -> None:
    base = 'it\'s "a" $(base); `x`\n'
    folder = changed(
        lambda folder: edit_json(
            folder / "adapter_config.json", **ADAPTER | {"base_model_name_or_path": base}
        )
    )
    (folder / "config.json").unlink()
    (folder / "tokenizer.json").unlink()
    _, (line,), _ = check(folder)
    command = shlex.split(line[line.index("python -c") :])
    assert command[:2] == ["python", "-c"]
    assert len(command) == 3
    program = compile(command[2], "merge", "exec")
    assert base in program.co_consts
    assert str(folder) in program.co_consts


def test_a_prompt_with_a_token_that_the_model_lacks_is_refused(changed: Any, check: Any) -> None:
    folder = changed(added_tokens)
    status, (line,), _ = check(folder, "prompts.items=['a <extra-29> b']")
    assert status == 2
    assert "the tokenizer yields token 389, which the model lacks (it has 384)" in line


@pytest.mark.parametrize(
    "change", [added_pad, pad_is_text, lambda folder: None], ids=["added", "text", "own"]
)
def test_pads_are_tokens_of_the_model_and_change_no_sample(
    changed: Any, change: Callable[[Path], None], one_thread: None
) -> None:
    """A ragged batch gives what each prompt gives alone, even where its texts hold the pad token."""
    from harness.backends.backend import Request
    from harness.backends.hf.backend import HfBackend
    from harness.config.decoding import Decoding
    from harness.config.effective import effective_decoding
    from harness.config.point import Engine
    from harness.decoding.strategy import Strategy
    from harness.models.load import load
    from harness.progress import SILENT
    from harness.prompts.prompt import Prompt
    from harness.prompts.render import encode

    folder = changed(change)
    loaded = load(Model(name="m", id=str(folder)), Quantization(name="fp32", dtype="float32"))
    pad = loaded.tokenizer.pad_token_id
    assert pad is not None
    assert 0 <= pad < 384
    backend = HfBackend(loaded)
    ids = [encode(loaded.tokenizer, text) for text in ("It was not the night that ", "the tt t t", "A")]
    prompts = [Prompt(str(number), "", (*row, pad, row[-1])) for number, row in enumerate(ids)]
    decodings = [
        Decoding(name="penalties", repetition_penalty=1.4, no_repeat_ngram_size=2),
        Decoding(name="sampled", do_sample=True, temperature=1.2, top_p=0.9),
        Decoding(name="beams", num_beams=3),
    ]
    for decoding in decodings:
        strategy = Strategy(
            effective_decoding(decoding), 8, 5, (), backend.token_ids.eos, backend.token_ids.pad, 2
        )
        requests = [Request(prompt, 0, strategy) for prompt in prompts]
        backend.configure(Engine(threads=1))
        together = [sample.token_ids for sample in backend.generate(requests, SILENT)]
        alone = [next(backend.generate([one], SILENT)).token_ids for one in requests]
        assert together == alone


def test_a_head_beside_tied_embeddings_is_used(changed: Any) -> None:
    from safetensors.torch import load_file

    from harness.models.load import load

    folder = changed(lambda folder: edit_json(folder / "config.json", tie_word_embeddings=True))
    loaded = load(Model(name="m", id=str(folder)), Quantization(name="fp32", dtype="float32"))
    stored = load_file(folder / "model.safetensors")
    assert (loaded.model.lm_head.weight == stored["lm_head.weight"]).all()
    assert (loaded.model.get_input_embeddings().weight == stored["model.embed_tokens.weight"]).all()


def test_all_of_it_is_said_without_torch(changed: Any, tmp_path: Path) -> None:
    def change(folder: Path) -> None:
        adapter(folder)
        eos_beyond(folder)
        edit_json(folder / "generation_config.json", eos_token_id=[0, 9999])

    folder = changed(change, chat="plain")
    program = (
        "import sys; from harness.cli.main import main; status = main(sys.argv[1:]); "
        "print('torch' in sys.modules, status)"
    )
    words = ["check", "model=custom", f"model.id={folder}", "decoding=greedy", "prompts.chat=true", *SHORT]
    result = subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert result.stdout.endswith("False 0\n")
    for said in ("is not applied", "eos_token_id=9999", "ends a turn with 1", "24 of the 384 tokens"):
        assert said in result.stdout
