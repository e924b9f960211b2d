"""Which mistakes are reported, and how: `harness check` on real files, in this process for speed."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from harness.cli.main import main


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """`check("decoding=top_p", ...)`: exit status, lines on stderr, and stdout of `harness check`."""
    monkeypatch.chdir(tmp_path)

    def run_check(*words: str) -> tuple[int, list[str], str]:
        model = [] if any(word.startswith("model=") for word in words) else ["model=fable_tiny"]
        status = main(["check", *model, *words])
        printed = capsys.readouterr()
        return status, printed.err.splitlines(), " ".join(printed.out.split())

    return run_check


LONG = f"prompts.items=['{'word ' * 600}']"


@pytest.mark.parametrize(
    ("words", "key", "cure"),
    [
        (["decoding.temperature=0.7"], "decoding.temperature=0.7", "no effect without do_sample=true"),
        (["decoding.top_k=3"], "decoding.top_k=3", "no effect without do_sample=true"),
        (["decoding=beam", "decoding.top_p=0.3"], "decoding.top_p=0.3", "no effect without do_sample=true"),
        (["decoding=temperature", "decoding.temperature=0"], "decoding.temperature=0", "decoding=greedy"),
        (["decoding=top_p", "decoding.top_p=1.5"], "decoding.top_p=1.5", "at most 1"),
        (["decoding=min_p", "decoding.min_p=-1"], "decoding.min_p=-1", "at least 0"),
        (["decoding=beam", "decoding.num_beams=0"], "decoding.num_beams=0", "at least 1"),
        (["decoding=temperature", "decoding.temperature=hot"], "decoding.temperature=hot", "a number"),
        (["decoding.temprature=1"], "decoding.temprature=1", "did you mean decoding.temperature?"),
        (["+decoding.temprature=1"], "+decoding.temprature=1", "did you mean decoding.temperature?"),
        (["decoding=gredy"], "decoding=gredy", "did you mean greedy?"),
        (["generation.max_length=9"], "generation.max_length=9", "generation.max_new_tokens"),
        (["+decoding.max_length=9"], "+decoding.max_length=9", "counts the prompt too"),
        (["generation.samples=2"], "generation.samples=2", "all samples would be equal"),
        (["decoding=beam", "generation.samples=2"], "generation.samples=2", "all samples would be equal"),
        (["prompts=custom", LONG], "603 tokens + 64 new ones > the model's 512", "truncate_left or split"),
        (["prompts=custom", "prompts.items=[]"], "prompts.items=[]", "give at least one"),
        (["prompts=custom", "prompts.items=['']"], "prompts.items[0]", "the prompt is empty"),
        (["model=custom", "model.id=/nowhere/at/all"], "'/nowhere/at/all'", "there is no folder"),
        (["model=custom", "model.id=nobody/nothing"], "'nobody/nothing'", "HF_HUB_OFFLINE=1 forbids"),
        (["model.device=cuda:9"], "model.device: 'cuda:9'", "use one of auto, cpu"),
        (["model.attention=flash_attention_2", "model.device=cpu"], "flash_attention_2", "use sdpa or eager"),
        (["engine.compile=on", "model.device=cpu"], "engine.compile=on", "use auto"),
        (["decoding.suppress_tokens=[2048]"], "decoding.suppress_tokens: 2048", "its ids are 0 to 2047"),
        (["decoding.begin_suppress_tokens=[1,9999]"], "begin_suppress_tokens: 9999", "ids are 0 to 2047"),
        (["decoding.bad_words_ids=[[1],[2,2048]]"], "decoding.bad_words_ids: 2048", "ids are 0 to 2047"),
        (["expect=[{top: {a: 0.1}, position: 64}]"], "expect[0].position=64", "max_new_tokens=64"),
        (
            ["decoding.exponential_decay_length_penalty=[2,10000]"],
            "exponential_decay_length_penalty=[2, 10000.0]",
            "take a factor nearer to 1",
        ),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else "",
)
def test_a_mistake_names_key_value_and_cure(check: Any, words: list[str], key: str, cure: str) -> None:
    status, lines, _ = check(*words)
    assert status == 2
    (line,) = lines
    assert key in line
    assert cure in line


@pytest.mark.parametrize(
    ("name", "content", "words", "key", "cure"),
    [
        ("bad.jsonl", '{"prompt": "a"}\n{"prompt": oops\n', [], "bad.jsonl:2", "invalid JSON"),
        ("two.jsonl", '{"id": "a", "prompt": "x"}\n' * 2, [], "two.jsonl:2", "taken already by two.jsonl:1"),
        ("blank.csv", "id,prompt\na,x\nb,  \n", [], "blank.csv:3", "the prompt is empty"),
        ("empty.txt", "\n\n", [], "empty.txt", "give at least one"),
        ("rows.csv", "id,prompt\na,x\n", ["prompts.template='{name}: {prompt}'"], "rows.csv:2", "{name}"),
    ],
)
def test_a_mistake_in_a_file_names_its_line(
    check: Any, tmp_path: Path, name: str, content: str, words: list[str], key: str, cure: str
) -> None:
    (tmp_path / name).write_text(content)
    status, lines, _ = check("prompts=custom", f"prompts.file={name}", *words)
    assert status == 2
    (line,) = lines
    assert line.startswith(key)
    assert cure in line


@pytest.mark.parametrize("cure", ["truncate_left", "split"])
def test_too_long_prompts_can_be_cut_or_split_and_it_is_said(check: Any, cure: str) -> None:
    status, lines, out = check("prompts=custom", LONG, f"prompts.too_long={cure}")
    assert (status, lines) == (0, [])
    assert (
        f"was {'truncated on the left to 448 tokens' if cure == 'truncate_left' else 'split into 2 prompts'}"
        in out
    )


def test_chat_templates_missing_and_unused(check: Any, small_model: Callable[..., Path]) -> None:
    status, (line,), _ = check("model=custom", f"model.id={small_model('llama')}", "prompts=questions")
    assert status == 2
    assert "has no chat template" in line
    assert "model.chat_template" in line
    status, lines, out = check("prompts=custom", "prompts.items=[hello]")
    assert (status, lines) == (0, [])
    assert "warning prompts.chat: fable_tiny has a chat template that no prompt uses" in out


def test_models_that_are_refused(check: Any, small_model: Callable[..., Path], tmp_path: Path) -> None:
    status, (line,), _ = check("model=custom", f"model.id={small_model('llama', pickle=True)}")
    assert status == 2
    assert "set model.allow_pickle=true if you trust it" in line
    for name, changes, cure in (
        ("t5", {"model_type": "t5", "is_encoder_decoder": True}, "only decoder-only models"),
        (
            "foreign",
            {"model_type": "x_llm", "auto_map": {"AutoModelForCausalLM": "modeling_x.X"}},
            "set model.trust_remote_code=true",
        ),
    ):
        folder = tmp_path / name
        shutil.copytree(small_model("llama"), folder)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | changes))
        status, (line,), _ = check("model=custom", f"model.id={folder}")
        assert status == 2
        assert cure in line


def test_a_quantization_that_cannot_run_here(check: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch  # noqa: F401  # a plan asks bitsandbytes itself only once torch is there

    from harness.models.quantize import import_bitsandbytes

    monkeypatch.setattr(import_bitsandbytes(), "supported_torch_devices", {"cuda"})
    status, (line,), _ = check("quantization=bnb_nf4")
    assert status == 2
    assert line.startswith("quantization: bnb_nf4 cannot run on cpu: bitsandbytes runs on cuda")
    assert line.endswith("use one of none, fp32, bf16, fp16")


class _Gate(BaseHTTPRequestHandler):
    """A hub on which every model is gated."""

    def do_GET(self) -> None:
        self.send_response(403)
        self.send_header("X-Error-Code", "GatedRepo")
        self.send_header("X-Error-Message", "Access to this model is restricted.")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def gate() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Gate)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_hub_that_refuses_and_one_that_does_not_answer(
    script: Callable[..., Any], gate: str, tmp_path: Path
) -> None:
    for endpoint, cure in (
        (gate, "is gated: request access"),
        ("http://127.0.0.1:9", "the hub does not answer"),
    ):
        done = script(
            "check", "model=custom", "model.id=some/model", folder=tmp_path,
            HF_HUB_OFFLINE="0", HF_ENDPOINT=endpoint, HF_HOME=str(tmp_path / "hub"),
        )  # fmt: skip
        assert done.returncode == 2, done.stderr
        (line,) = done.stderr.splitlines()
        assert line.startswith("model.id: ")
        assert "some/model" in line
        assert cure in line
