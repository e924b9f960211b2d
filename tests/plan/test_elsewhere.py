"""Plans for the device of workers on other machines, made where there is none."""

from __future__ import annotations

from typing import Any

import pytest

from harness.config.hydra_app import one_point
from harness.errors import ConfigError
from harness.models import device
from harness.models.device import WorkerDevice
from harness.plan.plan import Plan, make_plan

CUDA = WorkerDevice("cuda", 1, 80 * 10**9)
WORDS = ["model=fable_tiny", "prompts.limit=1", "timing=off", "tracking=off"]


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "devices", lambda: ("cpu",))


def planned(there: WorkerDevice | None, *words: str) -> Plan:
    return make_plan([one_point([*WORDS, *words])], "it", there)


def test_points_have_the_addresses_of_the_workers_device(outputs: Any) -> None:
    import torch  # noqa: F401  checks ask it, where it is imported

    here, there, named = planned(None), planned(CUDA), planned(CUDA, "model.device=cuda")
    assert [plan.jobs[0].target.device for plan in (here, there, named)] == ["cpu", "cuda", "cuda"]
    assert here.jobs[0].point_id != there.jobs[0].point_id
    assert planned(WorkerDevice("cpu")).jobs[0].point_id == here.jobs[0].point_id
    assert planned(CUDA, "model.device=cpu").jobs[0].target.device == "cpu"
    assert there.jobs[0].target.available_bytes() == 80 * 10**9
    for quantization in ("bnb_nf4", "bf16"):
        assert planned(CUDA, f"quantization={quantization}").jobs[0].target.device == "cuda"


@pytest.mark.parametrize(
    ("there", "named", "line"),
    [
        (WorkerDevice("cpu", cure="set K=1"), "cuda", "the workers have no GPU; set K=1, or leave"),
        (CUDA, "cuda:1", "a worker sees only its own GPUs; leave model.device out"),
        (CUDA, "mps", "workers have cuda; leave model.device out"),
    ],
)
def test_a_device_that_workers_have_not_is_refused(there: WorkerDevice, named: str, line: str) -> None:
    with pytest.raises(ConfigError) as error:
        planned(there, f"model.device={named}")
    assert f"model.device={named}: {line}" in str(error.value)


def test_batches_are_as_large_as_the_workers_memory_allows(outputs: Any) -> None:
    def rows(there: WorkerDevice) -> int:
        job = planned(there).jobs[0]
        from harness.backends.backend import TokenIds

        return job.target.estimate([job.longest_request(job.strategy(TokenIds()))], None).rows

    small, large, unknown = (rows(WorkerDevice("cuda", 1, size)) for size in (3 * 10**7, 80 * 10**9, None))
    assert 1 <= small < large == unknown
