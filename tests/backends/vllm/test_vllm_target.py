"""What is known of a point in vLLM before anything is loaded: its address, its limits, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.backends.vllm import vllm_install, vllm_target
from harness.backends.vllm.reported import reported_steps
from harness.backends.vllm.vllm_install import Installed
from harness.cli.doctor import vllm_installed
from harness.cli.main import main
from harness.config.hydra_app import one_point
from harness.config.point import Backend
from harness.errors import ConfigError
from harness.once import Once
from harness.plan.plan import make_plan
from harness.plan.prepare import prepare

BASE = ("model=fable_tiny", "model.device=cpu", "prompts=storytelling", "prompts.limit=2")


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`vllm(quantizations=["fp8"], device="cuda")` pretends that such a vLLM is installed."""

    def pretend(device: str = "cpu", quantizations: Any = ("fp8", "awq", "gptq")) -> None:
        found = Installed("0.32.0", device, Path("/nowhere"))
        vars(found)["quantizations"] = frozenset(quantizations)
        monkeypatch.setattr(vllm_target, "installed", lambda: found)
        monkeypatch.setattr(vllm_target, "planned_device", lambda name, once: device)

    pretend()
    return pretend


def mistakes_of(*words: str) -> list[str]:
    try:
        prepare(one_point([*BASE, "backend=vllm", *words]), Once())
    except ConfigError as error:
        return [str(mistake) for mistake in error.mistakes]
    return []


def test_the_address_knows_the_backend_and_its_version(vllm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    point = one_point([*BASE, "backend=vllm"])

    def address(**keys: Any) -> str:
        backend = point.backend.model_copy(update=keys)
        return prepare(point.model_copy(update={"backend": backend}), Once()).point_id

    here = address()
    in_hf = prepare(point.model_copy(update={"backend": Backend(name="hf")}), Once())
    assert here != in_hf.point_id
    assert "vllm" not in json.dumps(in_hf.target.facts), "stored points keep their address"
    assert here != address(native=True)
    assert here != address(tensor_parallel_size=2)
    # How it is run is not what comes out.
    assert here == address(max_num_seqs=8, max_model_len=400, gpu_memory_utilization=0.5, enforce_eager=True)
    monkeypatch.setattr(vllm_target, "installed", lambda: Installed("0.33.0", "cpu", Path("/nowhere")))
    assert here != address()


@pytest.mark.thinned(3)
@pytest.mark.parametrize(
    ("words", "said", "cure"),
    [
        ("decoding=beam", "needs several continuations", "backend=hf"),
        ("decoding=contrastive_search", "needs several continuations", "backend=hf"),
        ("decoding=cfg", "needs a second distribution", "backend=hf"),
        ("decoding=dola", "needs a second distribution", "backend=hf"),
        ("cache=quantized_fp8", "a cache of transformers", "cache=default"),
        ("quantization=bnb_nf4", "is of transformers", "quantization=none"),
        ("quantization=vllm_fp8", "needs a GPU", "quantization=none"),
        ("quantization=vllm_bitsandbytes", "does not have bitsandbytes", "quantization=none"),
        ("quantization=vllm_awq", "fable_tiny is not quantized, and awq is not made", "quantization=none"),
        ("model.attention=eager", "no effect with backend=vllm", "model.attention=auto"),
        ("backend.max_model_len=9999", "has a context of 512 tokens", "backend.max_model_len=512"),
        ("decoding=typical backend.native=true", "no typical_p", "backend.native=false"),
        ("decoding=xtc backend.native=true", "no xtc_probability", "backend.native=false"),
    ],
)
def test_what_it_cannot_run_is_refused_with_a_cure_that_works(
    vllm: Any, words: str, said: str, cure: str
) -> None:
    (mistake,) = mistakes_of(*words.split())
    assert said in mistake
    if cure != "backend.max_model_len=512":
        assert cure in mistake
    assert mistakes_of(*words.split(), cure) == []


def test_inspect_reads_with_transformers(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "model=fable_tiny", "backend=vllm", "prompt=a"]) == 2
    said = capsys.readouterr().err
    assert "backend=vllm: inspect reads the model with transformers, in this process; use backend=hf" in said


def test_on_a_gpu_it_quantizes_on_load(vllm: Any) -> None:
    vllm("cuda")
    (second,) = mistakes_of("model.device=cuda:1")
    assert second.endswith("use model.device=cuda, in an environment with CUDA_VISIBLE_DEVICES=1")
    assert mistakes_of("model.device=auto", "quantization=vllm_fp8") == []
    (nf4,) = mistakes_of("model.device=auto", "quantization=bnb_nf4")
    assert "use quantization=vllm_fp8, or backend=hf" in nf4


def test_a_build_for_another_device_is_refused(vllm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    vllm("cuda")
    monkeypatch.setattr(vllm_target, "planned_device", lambda name, once: "cpu")
    (mistake,) = mistakes_of()
    assert mistake.startswith("model.device=cpu: is cpu here, and this vLLM (0.32.0) runs on cuda")


def test_its_context_is_what_room_is_kept_for(vllm: Any) -> None:
    target = vllm_target.vllm_target(one_point([*BASE, "backend=vllm", "backend.max_model_len=30"]), Once())
    assert target.info.context_length == 30
    (mistake,) = mistakes_of("backend.max_model_len=30")
    assert "leave no room for a prompt in the 30 positions of fable_tiny" in mistake


def test_without_vllm_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm_install, "find_spec", lambda name: None)
    (mistake,) = mistakes_of()
    assert mistake == f"backend=vllm: vLLM is not installed: {vllm_install.INSTALL}"
    assert vllm_installed() == f"not installed: {vllm_install.INSTALL}"


def test_its_quantizations_are_read_from_its_code(tmp_path: Path) -> None:
    folder = tmp_path / "model_executor" / "layers" / "quantization"
    folder.mkdir(parents=True)
    folder.joinpath("__init__.py").write_text(
        'QuantizationMethods = Literal[\n    "awq",\n    "fp8",  # x\n]\n'
    )
    assert Installed("1", "cuda", tmp_path).quantizations == {"awq", "fp8"}
    assert Installed("1", "cuda", tmp_path / "none").quantizations == frozenset()


def test_two_backends_of_a_sweep_are_two_groups(vllm: Any) -> None:
    points = [one_point([*BASE, f"backend={name}"]) for name in ("hf", "vllm", "hf")]
    points[2] = one_point([*BASE, "backend=hf", "decoding=top_p"])
    plan = make_plan(points, "both")
    assert [(group.name, group.jobs) for group in plan.groups] == [
        ("fable_tiny none", (0, 2)),
        ("fable_tiny none vllm", (1,)),
    ]


def test_what_vllm_reports_is_all_there_is() -> None:
    class Logprob:
        def __init__(self, logprob: float, rank: int) -> None:
            self.logprob, self.rank = logprob, rank

    steps = reported_steps(
        [7, 3],
        [
            {7: Logprob(-3.0, 9), 1: Logprob(-0.5, 1), 2: Logprob(-1.0, 2)},
            {3: Logprob(-0.25, 1), 8: Logprob(-2.0, 2)},
        ],
        2,
    )
    assert steps.token_id.tolist() == [7, 3]  # type: ignore[union-attr]
    assert steps.logprob.tolist() == [-3.0, -0.25]  # type: ignore[union-attr]
    assert steps.rank.tolist() == [9, 1]  # type: ignore[union-attr]
    assert steps.top_ids.tolist() == [[1, 2], [3, 8]]  # type: ignore[union-attr]
    assert steps.top_logprobs.tolist() == [[-0.5, -1.0], [-0.25, -2.0]]  # type: ignore[union-attr]
    unknown = {name for name, column in vars(steps).items() if column is None}
    assert {"entropy", "warped_logprob", "kept", "kept_mass", "top_warped_logprobs"} <= unknown
