"""From points to a plan: prompts prepared, addresses known, groups that share one loaded model.

Nothing is loaded and no heavy library imported; every mistake of every point is found before any of
them runs.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.config.effective import effective_decoding
from harness.config.expectation import matches
from harness.config.labels import varied
from harness.config.nearest import did_you_mean
from harness.config.point import Model, Point, Quantization
from harness.errors import ConfigError, Mistake
from harness.results.address import ENGINE_VERSION, digest, library_versions, point_id
from harness.results.files import outputs_folder
from harness.results.metrics import Asked, own_metrics
from harness.results.store import StoredPoint, stored_point
from harness.results.sweeps import Sweep, SweepPoint, sweep_id_of
from harness.sweep.pairs import NO_DRIFT, Drifting, Text, drift_needed, hints, with_drift, wrong_reference

if TYPE_CHECKING:
    from harness.models.locate import ModelFiles
    from harness.prompts.prompt import Prompt


@dataclass(frozen=True)
class Needs:
    """What a stored point still lacks of what is asked."""

    samples: bool
    prompt_scores: bool
    timing: bool
    description: bool
    metrics: bool
    noise: bool = False
    drift: bool = False
    distributions: bool = False

    @property
    def model(self) -> bool:
        """Whether the model must be loaded for it: metrics come from the tables."""
        described = self.prompt_scores or self.timing or self.description
        return self.samples or described or self.noise or self.drift or self.distributions

    def __bool__(self) -> bool:
        return self.model or self.metrics


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
    metrics: Asked
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
    for mistake in _of_the_sweep(points):
        mistakes[mistake] = [point.label for point in points]
    if mistakes:
        raise ConfigError(
            # Which points it concerns is told only where it does not concern all.
            mistake if len(labels) == len(points) else Mistake(mistake.key, mistake.message, tuple(labels))
            for mistake, labels in mistakes.items()
        )
    if disagreements := (
        _timings_agree(planned) or _references_agree(planned) or list(_expected_prompts(planned))
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


def _of_the_sweep(points: Sequence[Point]) -> Iterator[Mistake]:
    """What concerns a sweep as a whole."""
    if len({point.tracking for point in points}) > 1:
        yield Mistake("tracking", "differs between the points of the sweep; they are told to one place")
    if len({point.compare for point in points}) > 1:
        yield Mistake("compare", "differs between the points of the sweep; they are compared in one way")
        return
    if len({point.drift for point in points}) > 1:
        yield Mistake("drift", "differs between the points of the sweep; they are held against one reference")
    else:
        yield from wrong_reference(points)
    labels = [point.label for point in points]
    baseline = points[0].compare.baseline
    if baseline is not None and baseline not in labels:
        yield Mistake(
            f"compare.baseline={baseline}",
            f"no point has this label{did_you_mean(baseline, labels)} (points: {_few(labels)})",
        )
    for place, one in enumerate(points[0].expect):
        if one.point is not None and not any(matches(one.point, label) for label in labels):
            yield Mistake(
                f"expect[{place}].point={one.point}",
                f"no point has this label{did_you_mean(one.point, labels)} (points: {_few(labels)})",
            )


def _expected_prompts(planned: Sequence[PlannedPoint]) -> Iterator[Mistake]:
    """Expectations of prompts and samples that their points do not have."""
    for place, one in enumerate(planned[0].point.expect):
        points = [p for p in planned if matches(one.point, p.point.label)]
        ids = list(dict.fromkeys(prompt.id for p in points for prompt in p.prompts))
        if one.prompt is not None and one.prompt not in ids:
            hint = did_you_mean(one.prompt, ids)
            yield Mistake(
                f"expect[{place}].prompt={one.prompt}", f"no prompt has this id{hint} (ids: {_few(ids)})"
            )
        samples = max(p.point.generation.samples for p in points)
        if one.sample >= samples:
            cure = f"the first sample is 0 and there are generation.samples={samples}"
            yield Mistake(f"expect[{place}].sample={one.sample}", cure)


def _few(labels: Sequence[str]) -> str:
    return ", ".join(labels[:8]) + (f" and {len(labels) - 8} more" if len(labels) > 8 else "")


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
        own = self._once(("own", point.compare.metrics), lambda: own_metrics(point.compare.metrics))
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
        wrong = _timing_fits(point, prepared.prompts, files.context_length)
        if wrong := wrong + _alternatives_fit(point, files.vocab_size):
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
            ("metrics", own, id(prepared)), lambda: Asked(own, _references(prepared.prompts))
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


def _timing_fits(point: Point, prompts: Sequence[Prompt], context: int | None) -> list[Mistake]:
    """A latency pass that could time no prompt is a mistake, not an empty table."""
    timing = point.timing
    if not timing.enabled or context is None:
        return []
    shortest = min(len(prompt.ids) for prompt in prompts)
    if shortest + timing.new_tokens <= context:
        return []
    message = (
        f"{timing.new_tokens} with the shortest prompt's {shortest} tokens are more than the context of "
        f"{context}; take fewer, or timing=off"
    )
    return [Mistake("timing.new_tokens", message)]


def _alternatives_fit(point: Point, vocabulary: int | None) -> list[Mistake]:
    """More alternatives a step than there are tokens were not meant."""
    asked = point.record.top_k
    if vocabulary is None or asked <= vocabulary:
        return []
    message = f"{point.model.name} has a vocabulary of {vocabulary} tokens; take at most that many"
    return [Mistake(f"record.top_k={asked}", message)]


def _timings_agree(planned: Sequence[PlannedPoint]) -> list[Mistake]:
    """Points with the same samples share one place in the store, which holds one timing."""
    specs: dict[str, dict[str, Any]] = {}
    for one in planned:
        if one.point.timing.enabled:
            first = specs.setdefault(one.point_id, timing_spec(one.point))
            if first != timing_spec(one.point):
                cure = "would have the same samples and two timings; run the second one as a sweep of its own"
                return [Mistake("timing", f"{one.point.label} and another point {cure}")]
    return []


def _references_agree(planned: Sequence[PlannedPoint]) -> list[Mistake]:
    """The same, of what their texts are held against."""
    held: dict[str, PlannedPoint] = {}
    for one in planned:
        first = held.setdefault(one.point_id, one)
        if first.metrics.references != one.metrics.references:
            cure = "have the same prompts with other references; run the second one as a sweep of its own"
            return [Mistake("prompts", f"{first.point.label} and {one.point.label} {cure}")]
    return []


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


def what_is_needed(point: Point, metrics: Asked, stored: StoredPoint) -> Needs:
    """What is asked of a point and not in the store."""
    parts = stored.parts()
    record = parts.get("record")
    fresh = point.engine.fresh
    samples = fresh or record is None or record["top_k"] < point.record.top_k
    timing = point.timing.enabled and (fresh or parts.get("timing") != timing_spec(point))
    return Needs(
        samples=samples,
        prompt_scores=point.record.prompt_logprobs and (fresh or not parts.get("prompt_logprobs")),
        timing=timing,
        description=samples or not parts.get("described"),
        metrics=samples or timing or parts.get("metrics") != metrics.part(parts),
    )


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


def noise_spec(point: Point) -> dict[str, Any]:
    """What a stored noise floor must have been measured with."""
    return {"timing": timing_spec(point) if point.timing.enabled else None}


def timing_spec(point: Point) -> dict[str, Any]:
    """What a stored timing must equal to be taken for the one that is asked."""
    return point.timing.model_dump(mode="json", exclude={"name", "enabled"}) | {
        "threads": point.engine.threads
    }
