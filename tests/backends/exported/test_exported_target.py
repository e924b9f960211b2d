"""What is known of a point as an exported graph before anything is loaded: its address, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from gguf_models import write_gguf
from planned_sweep import planned

from harness.backends.exported import runtimes
from harness.backends.exported.export_folder import export_facts, export_folder, given_fingerprint
from harness.backends.exported.runtimes import RUNTIMES, installed_in_words
from harness.cli.doctor import TRIED
from harness.config.hydra_app import one_point
from harness.errors import ConfigError
from harness.models.packages import missing_packages
from harness.once import Once
from harness.plan.prepare import prepare

BASE = ("model=fable_tiny", "model.device=cpu", "prompts=storytelling", "prompts.limit=2")
VERSIONS = {
    "onnxruntime": "1.32.0", "onnx": "1.23.2", "onnxscript": "0.7.2", "openvino": "2026.4.1", "nncf": "3.4.0",
    "transformers": "5.24.0", "torch": "2.13.0",
}  # fmt: skip


@pytest.fixture
def versions(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The distributions that are pretended to be installed, with their versions."""
    pretended = dict(VERSIONS)

    def missing(modules: Any, extra: str) -> str | None:
        lacking = [name for name in modules if name not in pretended]
        return f"{lacking} pip install 'decoding-harness[{extra}]'" if lacking else None

    monkeypatch.setattr(runtimes, "package_version", pretended.get)
    monkeypatch.setattr(runtimes, "missing_packages", missing)
    return pretended


def prepared(*words: str) -> Any:
    return prepare(one_point([*BASE, *words]), Once())


def mistakes_of(*words: str) -> list[str]:
    try:
        prepared(*words)
    except ConfigError as error:
        return [str(mistake) for mistake in error.mistakes]
    return []


@pytest.mark.parametrize("kind", ["onnx", "openvino"])
def test_the_address_knows_the_runtime_and_its_version(kind: str, versions: dict[str, str]) -> None:
    point_id = prepared(f"backend={kind}").point_id
    in_hf = prepared()
    assert point_id != in_hf.point_id
    assert "exported" not in json.dumps(dict(in_hf.target.facts)), "stored points keep their address"
    compressed = prepared(f"backend={kind}", "quantization=exported_int8")
    assert (
        len({point_id, compressed.point_id, prepared(f"backend={kind}", "quantization=fp32").point_id}) == 3
    )
    runs = RUNTIMES[kind].runs[0]
    versions[runs] = "9.9"
    assert prepared(f"backend={kind}").point_id != point_id
    versions[runs] = VERSIONS[runs]
    versions["transformers"] = "5.25.0"  # which exports
    assert prepared(f"backend={kind}").point_id != point_id


def test_an_export_is_made_again_only_where_it_would_be_another(versions: dict[str, str]) -> None:
    target = prepared("backend=onnx", "quantization=fp32").target
    assert target.folder == prepared("backend=onnx", "quantization=none").target.folder
    others = [
        prepared("backend=openvino").target.folder,
        prepared("backend=onnx", "quantization=exported_int8").target.folder,
        prepared("backend=onnx", "model=fable_small").target.folder,
    ]
    versions["onnxscript"] = "0.8.0"
    others.append(prepared("backend=onnx").target.folder)
    assert len({target.folder, *others}) == 5
    assert not target.folder.exists(), "nothing is exported for a plan"
    versions |= VERSIONS
    facts = export_facts(RUNTIMES["onnx"], target.info, False)
    assert export_folder(facts) == target.folder


def test_weights_in_transformers_are_the_reference(versions: dict[str, str]) -> None:
    plan = planned("-m", *BASE, "backend=onnx,hf,openvino", "quantization=fp32")
    by_backend = {job.point.backend.name: job for job in plan.jobs}
    for name in ("onnx", "openvino"):
        assert by_backend[name].drift.reference == by_backend["hf"].point_id
    assert by_backend["hf"].drift.reference is None
    int8 = prepared("backend=onnx", "quantization=exported_int8").target
    assert int8.precision < by_backend["onnx"].target.precision < by_backend["hf"].target.precision


@pytest.mark.parametrize(
    ("words", "said", "cure"),
    [
        ("decoding=contrastive_search", "reads hidden states", "backend=hf"),
        ("decoding=dola", "reads hidden states", "backend=hf"),
        ("decoding=contrastive_decoding decoding.amateur=fable_tiny", "reads a second model", "backend=hf"),
        ("cache=quantized_fp8", "a cache of transformers", "cache=default"),
        ("quantization=bnb_nf4", "is of transformers", "quantization=fp32"),
        ("quantization=bf16", "computes in float32", "quantization=fp32"),
        ("quantization=vllm_fp8", "is of vLLM", "quantization=fp32"),
        ("model.attention=eager", "whose graph has its own", "model.attention=auto"),
        ("model.device=mps", "runs on the CPU", "model.device=cpu"),
        ("engine.compile=on", "whose graph is compiled", "engine.compile=auto"),
    ],
)
def test_what_it_cannot_run_is_refused_with_a_cure_that_works(
    versions: dict[str, str], words: str, said: str, cure: str
) -> None:
    (mistake,) = mistakes_of("backend=onnx", *words.split())
    assert said in mistake
    assert cure in mistake
    assert mistakes_of("backend=onnx", *words.split(), cure) == []


def test_keys_of_others_are_refused() -> None:
    assert mistakes_of("quantization=exported_int8") == [
        "quantization: exported_int8 is of exported graphs; use backend=onnx or openvino, or "
        "quantization=torchao_int8_weight_only"
    ]
    (mistake,) = mistakes_of("backend.exported=/nowhere")
    assert "no effect with backend=hf; use backend=onnx or openvino" in mistake
    (mistake,) = mistakes_of("quantization=exported_int8", "quantization.torchao=int8_weight_only")
    assert "cannot be combined with another quantization" in mistake


def test_sliding_windows_are_refused(versions: dict[str, str], small_model: Any) -> None:
    folder = small_model("mistral")
    (mistake,) = mistakes_of("backend=openvino", "model=custom", f"model.id={folder}")
    assert "layers with a sliding window" in mistake
    assert "use backend=hf" in mistake


def test_gguf_files_are_refused(versions: dict[str, str], small_model: Any, tmp_path: Path) -> None:
    path = write_gguf(small_model("llama", chat="bos"), tmp_path / "small.gguf")
    words = ("model=custom", f"model.id={path}", "quantization=fp32")
    (mistake,) = mistakes_of("backend=onnx", *words)
    assert "is a GGUF file, which is not exported; use backend=hf" in mistake
    assert mistakes_of("backend=hf", *words) == []


@pytest.mark.parametrize("kind", ["onnx", "openvino"])
def test_what_is_not_installed_is_named_with_its_extra(kind: str, versions: dict[str, str]) -> None:
    del versions[RUNTIMES[kind].runs[0]]
    (mistake,) = mistakes_of(f"backend={kind}")
    assert f"pip install 'decoding-harness[{kind}]'" in mistake
    assert f"pip install 'decoding-harness[{kind}]'" in installed_in_words(kind)
    versions |= VERSIONS
    assert installed_in_words(kind) == f"{VERSIONS[RUNTIMES[kind].runs[0]]}, on cpu: backend={kind}"
    versions["transformers"] = "5.23.1"
    (mistake,) = mistakes_of(f"backend={kind}")
    assert "needs transformers 5.24 or later, and 5.23.1 is installed" in mistake


def test_only_what_is_used_must_be_installed(versions: dict[str, str], tmp_path: Path) -> None:
    """A graph that is there already needs no exporter; weights that stay whole need no NNCF."""
    del versions["onnx"], versions["nncf"]
    assert len(mistakes_of("backend=onnx")) == 1
    (tmp_path / "model.onnx").write_bytes(b"graph")
    assert mistakes_of("backend=onnx", f"backend.exported={tmp_path}") == []
    assert mistakes_of("backend=openvino") == []
    assert len(mistakes_of("backend=openvino", "quantization=exported_int8")) == 1


def test_a_folder_that_is_given(versions: dict[str, str], tmp_path: Path) -> None:
    key = f"backend.exported={tmp_path}"
    (mistake,) = mistakes_of("backend=onnx", f"backend.exported={tmp_path / 'none'}")
    assert "no such folder" in mistake
    (mistake,) = mistakes_of("backend=onnx", key)
    assert "has no model.onnx; give the folder that has it" in mistake
    (tmp_path / "openvino_model.xml").write_text("graph")
    (mistake,) = mistakes_of("backend=onnx", key)
    assert "it has openvino_model.xml, use backend=openvino" in mistake
    first = prepared("backend=openvino", key)
    assert first.target.folder == tmp_path
    assert not first.target.made_here
    before = given_fingerprint(tmp_path)
    (tmp_path / "openvino_model.bin").write_bytes(b"weights")
    assert given_fingerprint(tmp_path) != before
    assert prepared("backend=openvino", key).point_id != first.point_id
    (mistake,) = mistakes_of("backend=openvino", key, "quantization=exported_int8")
    assert "no effect on a graph that is exported already" in mistake


def test_doctor_does_not_try_it_in_transformers() -> None:
    assert "exported_int8" not in {one.name for one in TRIED}
    assert missing_packages(("json",), "onnx") is None
