"""`harness doctor`: what this machine offers, tested by running it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.table import Table
from rich.text import Text

from harness.backends.exported.runtimes import RUNTIMES, installed_in_words
from harness.backends.vllm.vllm_install import installed
from harness.cli.launcher_words import usable_launchers
from harness.config.plugins import GROUPS, plugins
from harness.config.point import Cache, Model, Quantization
from harness.config.search_path import conf_folder
from harness.errors import ConfigError, HarnessError, first_line
from harness.models.caches import cache_config, check_cache
from harness.models.describe import environment
from harness.models.device import device_name, devices
from harness.models.energy import NoEnergyError
from harness.models.energy_meters import energy_meter
from harness.models.locate import locate
from harness.models.memory import available_bytes
from harness.models.placement import gpus
from harness.models.quantize import check_quantization
from harness.report.console import SafeConsole
from harness.terminal import visible


def _choices(group: str) -> Iterator[dict[str, Any]]:
    """The fields of each choice in a built-in config group, by name."""
    for path in sorted((conf_folder() / group).glob("*.yaml")):
        yield {"name": path.stem, **yaml.safe_load(path.read_text(encoding="utf-8"))}


TRIED = tuple(
    one
    for fields in _choices("quantization")
    if (one := Quantization(**fields)).name != "none" and one.vllm is None and one.exported is None
)
TRIED_CACHES = tuple(cache for fields in _choices("cache") if (cache := Cache(**fields)).quantized)


@dataclass(frozen=True)
class Trial:
    """Whether a quantization or a quantized cache works on a device; `reason` is why it does not."""

    quantization: str
    device: str
    works: bool
    reason: str = ""


def doctor() -> int:
    """Print devices, memory, versions, launchers, and which quantizations work; returns the exit status."""
    console = SafeConsole(highlight=True)
    facts = environment()
    versions = _table("Versions", "what", "version")
    for name, found in facts["versions"].items():
        versions.add_row(name, found or "not installed")
    versions.add_row("vLLM", vllm_installed())
    for kind, runtime in RUNTIMES.items():
        versions.add_row(runtime.title, installed_in_words(kind))
    versions.add_row("CUDA", facts["machine"]["cuda"] or "none")
    console.print(versions)

    available = devices()
    machine = _table("Devices", "device", "name", "free memory", "threads")
    threads = f"{facts['machine']['threads']} of {facts['machine']['cpu_count']}"
    for device in available:
        free = f"{available_bytes(device) / 1024**3:.1f} GiB"
        machine.add_row(device, device_name(device), free, threads if device == "cpu" else "")
    console.print(machine)

    energy = _table("Energy counters", "device", "source")
    for device in available:
        energy.add_row(device, visible(energy_source(device)))
    console.print(energy)

    larger = _table("Models larger than one GPU", "model.devices", "here")
    for chosen, what in several_devices():
        larger.add_row(chosen, what)
    console.print(larger)

    launchers = _table("Launchers", "launcher", "here")
    for chosen, what in usable_launchers():
        launchers.add_row(chosen, what)
    console.print(launchers)

    if found := plugin_table():
        console.print(found)

    title = "Quantizations, tried on a tiny random model"
    tried = _table(title, "quantization", "device", "works", "why not")
    with tempfile.TemporaryDirectory(prefix="harness-doctor-") as scratch:
        folder = write_tiny_model(Path(scratch) / "tiny")
        with console.status("trying quantizations"):
            trials = [try_quantization(folder, one, device) for device in available for one in TRIED]
            trials += [try_cache(folder, cache, device) for device in available for cache in TRIED_CACHES]
    for trial in trials:
        answer = Text("yes", "green") if trial.works else Text("no", "red")
        tried.add_row(trial.quantization, trial.device, answer, trial.reason)
    console.print(tried)
    return 0


def energy_source(device: str) -> str:
    """Return what counts the energy of a device, or why nothing does."""
    try:
        return energy_meter(device).source
    except NoEnergyError as error:
        return f"none: {first_line(error)}"


def several_devices() -> Iterator[tuple[str, str]]:
    """Yield each way to let a model lie on several devices, and what it comes to on this machine."""
    import torch

    found = gpus()
    room = f"{sum(map(available_bytes, found)) / 1024**3:.1f} GiB"
    layers = f"layers over {len(found)} GPUs with {room} free, then the CPU" if found else "all on the CPU"
    yield "auto", layers if len(found) != 1 else f"layers on one GPU with {room} free, then on the CPU"
    split = f"each layer split over {len(found)} GPUs with {room} free"
    if not torch.distributed.is_available():
        split = "this torch is built without torch.distributed; install another one"
    elif found and not torch.distributed.is_nccl_available():
        split = "this torch is built without NCCL; install another one"
    elif len(found) < 2:
        has = "one GPU is" if found else "no GPU is"
        split = f"needs two GPUs, {has} visible"
        split += "" if found else "; on the CPU for trials, with model.tensor_parallel_size=2"
    yield "tensor_parallel", split


def plugin_table() -> Table | None:
    """Return the plug-ins, of which package each is, and why one does not work; None without any."""
    found = [one for group in GROUPS for one in plugins(group)]
    table = _table("Plug-ins", "name", "kind", "package", "works", "why not")
    for one in found:
        problem = one.problem()
        answer = Text("no", "red") if problem else Text("yes", "green")
        kind = one.group.removeprefix("harness.")
        table.add_row(visible(one.name), kind, visible(str(one)), answer, visible(problem or ""))
    return table if found else None


def vllm_installed() -> str:
    """Return the version of vLLM and what it runs on, or how to install it."""
    try:
        found = installed()
    except ConfigError as error:
        return error.mistakes[0].message.removeprefix("vLLM is ")
    return f"{found.version}, on {found.device}: backend=vllm"


def try_quantization(folder: Path, quantization: Quantization, device: str) -> Trial:
    """Load a tiny model with a quantization and run a forward pass; the logits must be finite."""
    import torch

    def attempt() -> None:
        check_quantization(quantization, device)
        model = _tiny(folder, quantization, device)
        with torch.inference_mode():
            logits = model(torch.arange(8, device=device)[None]).logits
        if not bool(torch.isfinite(logits).all()):
            raise HarnessError("the logits are not finite")

    return _try(quantization.name, device, attempt)


def try_cache(folder: Path, cache: Cache, device: str) -> Trial:
    """Decode a few tokens of a tiny model with a quantized cache."""
    import torch
    from transformers import GenerationConfig

    def attempt() -> None:
        files = locate(_choice(folder))
        check_cache(cache, device, files)
        config = GenerationConfig(
            max_new_tokens=4, pad_token_id=0, cache_implementation="quantized",
            cache_config=cache_config(cache, files),
        )  # fmt: skip
        model = _tiny(folder, Quantization(name="fp32", dtype="float32"), device)
        ids = torch.arange(3, 10, device=device)[None]
        model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config)

    return _try(f"cache={cache.name}", device, attempt)


def _try(name: str, device: str, attempt: Callable[[], None]) -> Trial:
    try:
        attempt()
    except HarnessError as error:
        return Trial(name, device, False, first_line(error))
    except Exception as error:  # whatever a driver or a kernel raises is the answer
        return Trial(name, device, False, f"{type(error).__name__}: {first_line(error)}"[:200])
    return Trial(name, device, True)


def _table(title: str, *columns: str) -> Table:
    return Table(*columns, title=title, title_justify="left")


def _choice(folder: Path) -> Model:
    return Model(name="tiny", id=str(folder))  # type: ignore[call-arg]


def _tiny(folder: Path, quantization: Quantization, device: str) -> Any:
    from harness.models.load import read_model

    dtype = "float32" if quantization.dtype == "checkpoint" else quantization.dtype
    return read_model(folder, _choice(folder), quantization, device, dtype, lambda stage, part: None)


def write_tiny_model(folder: Path) -> Path:
    """Write a two-layer Llama with random weights; the global random state is unchanged."""
    import torch

    from harness.models.torchao import import_torchao
    from harness.models.weight_progress import quiet_loading

    import_torchao()
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=128, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=64,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]), quiet_loading():
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(folder)
    return folder
