"""What a point was run with: config.yaml (requested beside effective) and environment.json."""

from __future__ import annotations

from typing import Any

from harness.artifacts.artifact import Artifact, Workbench, complete
from harness.artifacts.job import Job
from harness.config.points import point_config
from harness.config.used_plugins import used_plugins

_FACTS = ("batch_rows", "captured")
"""Facts of the decoding that are told in environment.json as well."""


class Environment(Artifact):
    """config.yaml and environment.json."""

    name = "described"
    action = "describe"
    files = ("config.yaml", "environment.json")
    after = ("record",)
    implied = True

    def spec(self, job: Job) -> Any:
        """Return True: it is always requested."""
        return True

    def make(self, job: Job, bench: Workbench) -> tuple[str, ...]:
        """Describe the backend, and the settings the samples were made with."""
        stored, backend = bench.stored(job), bench.backend
        facts = stored.parts()["facts"]
        strategy = job.strategy(backend.token_ids)
        found = backend.environment() | {name: facts[name] for name in _FACTS if name in facts}
        if plugins := used_plugins(job.point):
            found["plugins"] = plugins
        stored.write_json("environment.json", found)
        effective = {"decoding": dict(job.effective)} | backend.effective(strategy)
        if job.chat_eos:
            effective["chat_eos_token_id"] = list(strategy.for_chat.eos_token_ids)
        stored.write_config({"requested": point_config(job.point), "effective": effective})
        complete(stored, self, True)
        return ()
