"""From points to a plan: prompts prepared, addresses known, groups that share one loaded model.

Nothing is loaded and no heavy library imported; every mistake of every point is found before any of
them runs.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.analysis.metrics import RequestedMetrics, read_custom_metrics
from harness.artifacts.needs import Needs, noise_spec, what_is_needed
from harness.config.effective import effective_decoding
from harness.config.labels import varied
from harness.config.point import Model, Point, Quantization
from harness.errors import ConfigError, Mistake
from harness.plan.checks import (
    alternatives_fit,
    expected_prompts,
    of_the_sweep,
    references_agree,
    timing_fits,
    timings_agree,
)
from harness.plan.references import NO_DRIFT, Drifting, Text, drift_needed, hints, with_drift
from harness.store.address import ENGINE_VERSION, digest, library_versions, point_id
from harness.store.files import outputs_folder
from harness.store.stored_point import stored_point
from harness.store.sweeps import Sweep, SweepPoint, sweep_id_of

if TYPE_CHECKING:
    from harness.models.locate import ModelFiles
    from harness.prompts.prompt import Prompt


@dataclass(frozen=True)
class PlannedPoint:
    """A point that is ready to run.

    Attributes:
        point: as asked.
        point_id: its address in the store.
        family: the address without what replay can do without: the decoding and the seed.
        files: the checkpoint on disk.
        device: kind of device it will run on.
        prompts: rendered, encoded, checked to fit.
        effective: every GenerationConfig field of its decoding.
        metrics: those that are asked of it.
        needs: what the store lacks.
        witness: whether its group's noise floor is measured at this point.
        warnings: what its user should know, one line each.
        drifting: its part in drift.
    """

    point: Point
    point_id: str
    family: str
    files: ModelFiles
    device: str
    prompts: tuple[Prompt, ...]
    effective: dict[str, Any]
    metrics: RequestedMetrics
    needs: Needs
    warnings: tuple[str, ...]
    witness: bool = False
    drifting: Drifting = NO_DRIFT

    @property
    def made(self) -> dict[str, Any]:
        """What parts.json keeps of how the samples are made, so that replay finds them."""
        seed = self.point.generation.seed
        return {"family": self.family, "decoding": self.effective, "seed": seed}

    @property
    def samples(self) -> int:
        """Texts to be made."""
        return len(self.prompts) * self.point.generation.samples

    @property
    def tokens(self) -> int:
        """Tokens to be made at most."""
        return self.samples * self.point.generation.max_new_tokens


@dataclass(frozen=True)
class Group:
    """Points that share one loaded model; `places` are indices into the plan's points."""

    model: Model
    quantization: Quantization
    places: tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """The points of one command, in its order, and the groups they are run in; hints are lines of advice."""

    name: str
    outputs: Path
    points: tuple[PlannedPoint, ...]
    groups: tuple[Group, ...]
    hints: tuple[str, ...] = ()

    @property
    def sweep_id(self) -> str:
        """The sweep's address."""
        return sweep_id_of(planned.point_id for planned in self.points)

    def sweep(self) -> Sweep:
        """What is kept of the sweep, nothing run yet."""
        values = varied([planned.point for planned in self.points])
        return Sweep(
            name=self.name,
            sweep_id=self.sweep_id,
            folder=self.outputs / "sweeps" / f"{self.name}-{self.sweep_id}",
            tracking=self.points[0].point.tracking.model_dump(mode="json"),
            points=tuple(
                SweepPoint(
                    label=planned.point.label,
                    point_id=planned.point_id,
                    model=planned.point.model.name,
                    quantization=planned.point.quantization.name,
                    prompts=planned.point.prompts.name,
                    decoding=planned.point.decoding.name,
                    varied=changes,
                    warnings=planned.warnings,
                )
                for planned, changes in zip(self.points, values, strict=True)
            ),
            started=time.time(),
            compare=self.points[0].point.compare.model_dump(mode="json"),
            expect=tuple(
                one.model_dump(mode="json", exclude_none=True) for one in self.points[0].point.expect
            ),
        )


def make_plan(points: Sequence[Point], name: str) -> Plan:
    """Prepare every point.

    Raises:
        ConfigError: with every mistake found in any of them.
    """
    from harness.models.precision import checkpoint_precision, precision

    preparer = _Preparer()
    planned: list[PlannedPoint] = []
    mistakes: dict[Mistake, list[str]] = {}
    for point in points:
        try:
            planned.append(preparer.prepare(point))
        except ConfigError as error:
            for mistake in error.mistakes:
                mistakes.setdefault(mistake, []).append(point.label)
    for mistake in of_the_sweep(points):
        mistakes[mistake] = [point.label for point in points]
    if mistakes:
        raise ConfigError(
            # Which points it concerns is told only where it does not concern all.
            mistake if len(labels) == len(points) else Mistake(mistake.key, mistake.message, tuple(labels))
            for mistake, labels in mistakes.items()
        )
    if disagreements := (
        timings_agree(planned) or references_agree(planned) or list(expected_prompts(planned))
    ):
        raise ConfigError(disagreements)
    precisions = [precision(one.point.quantization, one.files) for one in planned]
    planned = with_drift(planned, precisions, outputs_folder())
    groups: dict[tuple[Model, Quantization], list[int]] = {}
    outputs = outputs_folder()
    # References first: what is held against them needs what they keep.
    for place in sorted(range(len(points)), key=lambda place: not planned[place].drifting.held):
        groups.setdefault((points[place].model, points[place].quantization), []).append(place)
    if len(planned) > 1 and points[0].compare.noise:
        for places in groups.values():
            place = _witness(planned, sorted(places))
            planned[place] = as_of_now(replace(planned[place], witness=True), outputs)
    return Plan(
        name=name,
        outputs=outputs,
        points=tuple(planned),
        groups=tuple(
            Group(model, quantization, tuple(sorted(p))) for (model, quantization), p in groups.items()
        ),
        hints=hints(planned, precisions, [checkpoint_precision(one.files) for one in planned]),
    )


class _Preparer:
    """Prepares points one after the other; what they share is made once."""

    def __init__(self) -> None:
        self._outputs = outputs_folder()
        self._versions = library_versions()
        self._made: dict[Any, Any] = {}

    def prepare(self, point: Point) -> PlannedPoint:
        from harness.models.caches import NOTE, PACKAGES, cache_config, check_cache
        from harness.models.device import resolve_device
        from harness.models.locate import locate
        from harness.models.packages import package_version
        from harness.models.prequantized import stored_note
        from harness.models.quantize import check_quantization, packages_of
        from harness.models.tokenizer import load_tokenizer, tokenizer_fingerprint
        from harness.prompts import prepare_prompts
        from harness.prompts.passages import fixed_text
        from harness.tracking.uri import tracking_uri

        model, tracking = point.model, point.tracking
        own = self._once(("own", point.compare.metrics), lambda: read_custom_metrics(point.compare.metrics))
        if tracking.enabled:
            self._once(("tracking", tracking.uri), lambda: tracking_uri(tracking.model_dump()))
        device = self._once(("device", model.device), lambda: resolve_device(model.device).partition(":")[0])
        files = self._once(("files", model), lambda: locate(model))
        self._once(
            ("quantization", point.quantization, device, model),
            lambda: check_quantization(point.quantization, device, files),
        )
        self._once(("cache", point.cache, device, model), lambda: check_cache(point.cache, device, files))
        tokenizer = self._once(("tokenizer", model), lambda: load_tokenizer(model, files))
        budget = point.generation.max_new_tokens
        prepared = self._once(
            ("prompts", model, point.prompts.model_dump_json(), budget),
            lambda: prepare_prompts(point.prompts, files, tokenizer, budget),
        )
        prompts_hash = self._once(
            ("prompts hash", id(prepared)),
            lambda: digest([[p.id, p.text, list(p.ids)] for p in prepared.prompts]),
        )
        wrong = timing_fits(point, prepared.prompts, files.context_length)
        if wrong := wrong + alternatives_fit(point, files.vocab_size):
            raise ConfigError(wrong)
        effective = effective_decoding(point.decoding)
        cache = cache_config(point.cache, files)
        packages = packages_of(point.quantization, files.stored)
        packages += () if cache is None else PACKAGES[cache["backend"]]
        loaded = {
            "engine": ENGINE_VERSION,
            "weights": self._once(("weights", model), files.fingerprint),
            "quantization": point.quantization.model_dump(mode="json", exclude={"name"}),
            "attention": model.attention,
            "device": device,
            "versions": self._versions | {name: package_version(name) for name in packages},
        }
        facts = {
            **loaded,
            "prompts": prompts_hash,
            "tokenizer": self._once(("tokenizer print", model), lambda: tokenizer_fingerprint(model, files)),
            "decoding": effective,
            "generation": _budget_and_luck(point, effective),
            **({} if cache is None else {"cache": cache}),
        }
        address = point_id(facts)
        metrics = self._once(
            ("metrics", own, id(prepared)), lambda: RequestedMetrics(own, _references(prepared.prompts))
        )
        notes = [] if files.stored is None else [stored_note(model.name, files.stored)]
        notes += [] if cache is None else [NOTE]
        text = None
        if point.drift.enabled and (asked := point.drift.text) is not None:
            passages = self._once(
                ("text", asked, model, id(prepared)),
                lambda: fixed_text(asked, prepared.prompts, tokenizer, files.context_length),
            )
            ids = self._once(("text ids", id(passages)), lambda: digest([p.ids for p in passages.passages]))
            text = Text(passages, digest({**loaded, "text": ids}))
        return PlannedPoint(
            point=point,
            point_id=address,
            family=_family(facts),
            files=files,
            device=device,
            prompts=prepared.prompts,
            effective=effective,
            metrics=metrics,
            needs=what_is_needed(point, metrics, stored_point(self._outputs, address)),
            warnings=(*prepared.warnings, *notes),
            drifting=Drifting(text=text),
        )

    def _once(self, key: Any, make: Any) -> Any:
        """Make a value once a key; a ConfigError is as lasting as a value."""
        if key not in self._made:
            try:
                self._made[key] = (make(), None)
            except ConfigError as error:
                self._made[key] = (None, error)
        value, refused = self._made[key]
        if refused is not None:
            raise refused
        return value


def _budget_and_luck(point: Point, effective: dict[str, Any]) -> dict[str, Any]:
    """What of `generation` the samples depend on: the seed only where something is drawn."""
    facts = point.generation.model_dump(mode="json")
    return facts if effective["do_sample"] else facts | {"seed": None}


def _family(facts: dict[str, Any]) -> str:
    """What the points share that differ in decoding and luck only."""
    generation = facts["generation"] | {"seed": None}
    return point_id(facts | {"decoding": None, "generation": generation})


def _references(prompts: Sequence[Prompt]) -> dict[str, str]:
    """What the texts of prompts are held against, by prompt id; an empty reference, or NaN, is none."""
    found = {}
    for prompt in prompts:
        value = prompt.row.get("reference")
        # UTF-8 has no lone surrogates; they are stored as `?`.
        text = "" if value is None or value != value else str(value).encode("utf-8", "replace").decode()
        if text.strip():
            found[prompt.id] = text
    return found


def as_of_now(planned: PlannedPoint, outputs: Path) -> PlannedPoint:
    """The point with what the store lacks of it now: another process may have made it meanwhile."""
    stored = stored_point(outputs, planned.point_id)
    needs = what_is_needed(planned.point, planned.metrics, stored)
    drift, distributions = drift_needed(planned, outputs)
    noise = planned.witness and (needs.samples or stored.parts().get("noise") != noise_spec(planned.point))
    return replace(planned, needs=replace(needs, drift=drift, distributions=distributions, noise=noise))


def _witness(planned: Sequence[PlannedPoint], places: Sequence[int]) -> int:
    """Of the points of a group the one that is decoded again: the first that needs one row a text."""
    return next((p for p in places if planned[p].effective["num_beams"] == 1), places[0])
