"""MLflow's store as the tracker sees it: open it once, find the experiment, find and replace runs.

Only MlflowClient is used, never MLflow's global state, so that a user's own MLflow code stays as it was.
"""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.tracking.uri import SQLITE, artifacts_uri, prepare_environment

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

METRICS_AT_ONCE = 1000
PARAMS_AT_ONCE = 100


class Store:
    """One experiment of one tracking store.

    Args:
        uri: the tracking URI.
        experiment: its name; made when it is not there.
    """

    def __init__(self, uri: str, experiment: str) -> None:
        prepare_environment()
        with _alone(uri):
            from mlflow import MlflowClient

            self.uri = uri
            self.client: MlflowClient = MlflowClient(tracking_uri=uri)
            self.experiment_id = self._experiment(experiment)

    def _experiment(self, name: str) -> str:
        found = self.client.get_experiment_by_name(name)
        if found is not None:
            if found.lifecycle_stage == "deleted":
                self.client.restore_experiment(found.experiment_id)
            return found.experiment_id
        root = artifacts_uri(self.uri)
        folder = f"{root}/{_plain(name)}" if root else None
        # Of the UI's two faces, the one that shows runs.
        tags = {"mlflow.experimentKind": "custom_model_development"}
        return self.client.create_experiment(name, artifact_location=folder, tags=tags)

    def runs(self, **tags: str) -> list[Run]:
        """The runs that carry all of these tags; a double underscore in a name stands for a dot."""
        said = " and ".join(
            f"tags.`{name.replace('__', '.')}` = '{value.replace(chr(39), chr(39) * 2)}'"
            for name, value in tags.items()
        )
        found: list[Run] = []
        token = None
        while True:
            page = self.client.search_runs([self.experiment_id], said, max_results=1000, page_token=token)
            found += page
            token = page.token
            if not token:
                return found

    def create(self, name: str, tags: Mapping[str, str], started: float | None) -> str:
        """A new run, RUNNING, with its start in seconds since the epoch; its id."""
        known = {
            "mlflow.source.name": "harness",
            "mlflow.source.type": "LOCAL",
            "mlflow.user": _user(),
            **tags,
        }
        start = None if started is None else round(1000 * started)
        run = self.client.create_run(self.experiment_id, start_time=start, tags=known, run_name=name)
        return run.info.run_id

    def keep_tag(self, run_id: str, there: Mapping[str, str], name: str, value: str) -> None:
        """Make a tag that runs carry only sometimes what it is now; `there` are the tags that the run has."""
        if value and there.get(name) != value:
            self.client.set_tag(run_id, name, value)
        elif not value and name in there:
            self.client.delete_tag(run_id, name)

    def log(
        self,
        run_id: str,
        params: Mapping[str, str],
        metrics: Sequence[tuple[str, float, int]],
        at: float,
    ) -> None:
        """Params and metrics (key, value, step) of a run, at a time in seconds since the epoch."""
        from mlflow.entities import Metric, Param

        said = [Param(key, value) for key, value in params.items()]
        numbers = [Metric(key, value, round(1000 * at), step) for key, value, step in metrics]
        while said or numbers:
            # A request holds 1,000 entities at most, 100 of them params.
            now, said = said[:PARAMS_AT_ONCE], said[PARAMS_AT_ONCE:]
            room = METRICS_AT_ONCE - len(now)
            batch, numbers = numbers[:room], numbers[room:]
            self.client.log_batch(run_id, metrics=batch, params=now)

    def end(self, run_id: str, status: str, ended: float | None) -> None:
        """End a run: FINISHED, FAILED or KILLED, in seconds since the epoch."""
        self.client.set_terminated(run_id, status, None if ended is None else round(1000 * ended))

    def share_view(self, key: str, state: Mapping[str, Any]) -> None:
        """Keep a state of the UI's runs page where its links with `viewStateShareKey` find it."""
        self.client.set_experiment_tag(self.experiment_id, f"mlflow.sharedViewState.{key}", json.dumps(state))

    def delete(self, run_id: str) -> None:
        """Take a run out of sight; MLflow keeps it among the deleted ones."""
        self.client.delete_run(run_id)


@contextmanager
def _alone(uri: str) -> Iterator[None]:
    """Keep other processes out while a new sqlite file is filled: two at once break it for good."""
    if not uri.startswith(SQLITE):
        yield
        return
    path = Path(uri.removeprefix(SQLITE))
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f".{path.name}.lock")
    with lock.open("w") as held:
        try:
            import fcntl

            fcntl.flock(held, fcntl.LOCK_EX)
        except (ImportError, OSError):  # a system or file system without locks
            pass
        yield


def owner() -> dict[str, str]:
    """Tags that tell whether the process that opened a run still lives."""
    return {"host": socket.gethostname(), "pid": str(os.getpid())}


def is_orphan(tags: Mapping[str, Any]) -> bool:
    """Whether the process that opened a run is gone; False when another machine would have to be asked."""
    if tags.get("host") != socket.gethostname() or not str(tags.get("pid", "")).isdigit():
        return False
    try:
        os.kill(int(tags["pid"]), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a user id without a name, as in some containers
        return "unknown"


def _plain(name: str) -> str:
    """A folder name of an experiment's name; two experiments may share it, their runs do not."""
    return re.sub(r"[^\w.-]+", "-", name, flags=re.ASCII).strip("-.") or "experiment"
