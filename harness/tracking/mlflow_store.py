"""One experiment of an MLflow store: open it once; find, create and replace runs in it.

Only MlflowClient is used, never MLflow's global state, so that a user's own MLflow code is not affected.
"""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import psutil

from harness.store.mlflow_uri import artifacts_uri
from harness.tracking.database import opened

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

# MLflow's limits of one request: 1,000 entities, of which 100 params.
MAX_ENTITIES = 1000
MAX_PARAMS = 100


class MlflowStore:
    """One experiment of a tracking store.

    Args:
        uri: the tracking URI.
        experiment: its name; created where it does not exist.
    """

    def __init__(self, uri: str, experiment: str) -> None:
        self.uri = uri
        self.client: MlflowClient
        with opened(uri) as self.client:
            self.experiment_id = self._find_or_create(experiment)

    def _find_or_create(self, name: str) -> str:
        found = self.client.get_experiment_by_name(name)
        if found is not None:
            if found.lifecycle_stage == "deleted":
                self.client.restore_experiment(found.experiment_id)
            return found.experiment_id
        root = artifacts_uri(self.uri)
        folder = f"{root}/{_folder_name(name)}" if root else None
        # The UI has two views of an experiment; this kind opens the one that shows runs.
        tags = {"mlflow.experimentKind": "custom_model_development"}
        return self.client.create_experiment(name, artifact_location=folder, tags=tags)

    def runs(self, **tags: str) -> list[Run]:
        """Return the runs that have all of these tags; a double underscore in a name stands for a dot."""
        conditions = " and ".join(
            f"tags.`{name.replace('__', '.')}` = '{value.replace(chr(39), chr(39) * 2)}'"
            for name, value in tags.items()
        )
        return list(pages(self.client.search_runs, [self.experiment_id], filter_string=conditions))

    def create(self, name: str, tags: Mapping[str, str], started: float | None) -> str:
        """Create a RUNNING run that started at a time in seconds since the epoch; return its id."""
        all_tags = {
            "mlflow.source.name": "harness",
            "mlflow.source.type": "LOCAL",
            "mlflow.user": _user(),
            **tags,
        }
        start = None if started is None else round(1000 * started)
        run = self.client.create_run(self.experiment_id, start_time=start, tags=all_tags, run_name=name)
        return run.info.run_id

    def update_tag(self, run_id: str, tags: Mapping[str, str], name: str, value: str) -> None:
        """Set a tag to `value`, or delete it when that is empty; `tags` are those that the run has."""
        if value and tags.get(name) != value:
            self.client.set_tag(run_id, name, value)
        elif not value and name in tags:
            self.client.delete_tag(run_id, name)

    def log(
        self, run_id: str, params: Mapping[str, str], metrics: Sequence[tuple[str, float, int]], at: float
    ) -> None:
        """Log params and metrics (key, value, step) of a run, at a time in seconds since the epoch."""
        from mlflow.entities import Metric, Param

        params_left = [Param(key, value) for key, value in params.items()]
        metrics_left = [Metric(key, value, round(1000 * at), step) for key, value, step in metrics]
        while params_left or metrics_left:
            some_params, params_left = params_left[:MAX_PARAMS], params_left[MAX_PARAMS:]
            room = MAX_ENTITIES - len(some_params)
            some_metrics, metrics_left = metrics_left[:room], metrics_left[room:]
            self.client.log_batch(run_id, metrics=some_metrics, params=some_params)

    def end(self, run_id: str, status: str, ended: float | None) -> None:
        """End a run as FINISHED, FAILED or KILLED, at a time in seconds since the epoch (None: now)."""
        self.client.set_terminated(run_id, status, None if ended is None else round(1000 * ended))

    def share_view(self, key: str, state: Mapping[str, Any]) -> None:
        """Store a state of the UI's runs page, which links with `viewStateShareKey` open."""
        self.client.set_experiment_tag(self.experiment_id, f"mlflow.sharedViewState.{key}", json.dumps(state))


def pages(search: Callable[..., Any], *args: Any, **keys: Any) -> Iterator[Any]:
    """Yield what a search of MlflowClient finds, page by page."""
    token = None
    while True:
        page = search(*args, max_results=500, page_token=token, **keys)
        yield from page
        token = page.token
        if not token:
            return


def owner_tags(pid: int | None = None) -> dict[str, str]:
    """Return the tags by which `is_orphan` sees whether the process of a run is alive; None is this one."""
    return {"host": socket.gethostname(), "pid": str(os.getpid() if pid is None else pid)}


def is_orphan(tags: Mapping[str, Any]) -> bool:
    """Return whether the process of a run is gone; False for one on another machine."""
    pid = str(tags.get("pid", ""))
    return tags.get("host") == socket.gethostname() and pid.isdigit() and not psutil.pid_exists(int(pid))


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a user id without a name, as in some containers
        return "unknown"


def _folder_name(experiment: str) -> str:
    """Return a folder name for an experiment; two experiments may share it, their runs do not."""
    return re.sub(r"[^\w.-]+", "-", experiment, flags=re.ASCII).strip("-.") or "experiment"
