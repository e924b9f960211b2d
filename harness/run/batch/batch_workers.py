"""Workers that are jobs of a batch system: one array a wave, watched until each has ended."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from queue import SimpleQueue

from harness.config.submitit_launchers import BatchLauncher
from harness.errors import ConfigError, HarnessError, StoreError
from harness.plan.plan import Plan
from harness.progress import Progress
from harness.run.batch.batch_worker import BatchWorker, unended
from harness.run.batch.cluster import Cluster, JobState
from harness.run.batch.gpus_needed import Need, gpus_needed
from harness.run.batch.job_record import JobRecord, SubmittedJob
from harness.run.batch.job_script import JobCommand
from harness.run.lines_file import free_name
from harness.run.weights_first import fetch_weights_first
from harness.run.workers import Event, Task, groups_at_once
from harness.store.files import write_text

_HEAR_S = 0.5
_LOOK_S = 2.0
_SLOWER_AFTER_S, _SLOWER_LOOK_S = 600.0, 5.0


class BatchWorkers(ABC):
    """Starts workers as jobs.

    Args:
        launcher: its options.
        cluster: that runs them.
    """

    def __init__(self, launcher: BatchLauncher, cluster: Cluster) -> None:
        self.retries = launcher.retries
        self._launcher, self._cluster = launcher, cluster
        self._workers: list[BatchWorker] = []
        self._lock = threading.Lock()
        self._watched = False
        self._record: JobRecord | None = None
        self._earlier: list[SubmittedJob] = []

    @abstractmethod
    def script(self, jobs: Sequence[JobCommand], folder: Path, gpus: int | None) -> str:
        """Return the script of an array."""

    def describe(self, plan: Plan) -> str:
        """Return how many jobs there are, what each gets, and which run after which."""
        most = getattr(self._launcher, "array_parallelism", 1)
        parts = [f"jobs of {self._launcher.NAME}, one a group: {groups_at_once(plan, most)}"]
        needs = {plan.groups[number].name: need for number, need in self._needs(plan).items()}
        for words in dict.fromkeys(need.words for need in needs.values()):
            names = [name for name, need in needs.items() if need.words == words]
            parts.append(words if len(names) == len(needs) else f"{', '.join(names)}: {words}")
        return "; ".join(parts)

    def places(self, plan: Plan) -> int:
        """Return the number of groups, or shares of them: the batch system queues what cannot run yet."""
        asked = (plan.jobs[group.jobs[0]].point.engine.shards for group in plan.groups)
        return len(plan.groups) * max(1 if shards == "auto" else shards for shards in asked)

    def prepare(self, plan: Plan, progress: Progress) -> None:
        """Fetch weights, since nodes may be offline."""
        record = self.record(plan)
        live = self.live(record)
        if not record.same_order and live:
            ids = " ".join(sorted({job.id.partition("_")[0] for job in record.jobs}))
            problem = f"jobs of this sweep are queued or running, with its points in another order ({ids})"
            raise ConfigError.of(
                f"hydra/launcher={self._launcher.NAME}", f"{problem}; repeat that command, or cancel them"
            )
        self._earlier = list(live)
        fetch_weights_first(plan, progress)

    def close(self) -> None:
        """Watch no job any more; the batch system goes on by itself."""
        with self._lock:
            self._workers = []

    def record(self, plan: Plan) -> JobRecord:
        """Return the jobs that were submitted for a sweep."""
        if self._record is None:
            folder = Task(plan, 0).folder
            self._record = JobRecord(folder, [job.point_id for job in plan.jobs])
        return self._record

    def live(self, record: JobRecord) -> dict[SubmittedJob, JobState]:
        """Return the jobs of a sweep that are queued or running.

        Raises:
            HarnessError: the batch system does not answer, so that jobs could be submitted twice.
        """
        found = self._cluster.live([job.id for job in record.jobs])
        if found is None:
            raise HarnessError("the batch system does not answer; try again when squeue does")
        return {job: found[job.id] for job in record.jobs if job.id in found}

    def how_ended(self, job: SubmittedJob) -> str:
        """Return in a few words how a job ended that is not live any more."""
        return self._cluster.ended(job.id).words

    def start(self, tasks: Sequence[Task], events: SimpleQueue[Event]) -> Sequence[BatchWorker]:
        """Go on with jobs that were queued or running already, and submit the others."""
        known = {task.name: job for task in tasks if (job := _taken(self._earlier, task)) is not None}
        new = self.submit([task for task in tasks if task.name not in known])
        started = []
        for task in tasks:
            job = known[task.name] if task.name in known else new[task.name]
            lines = task.folder / job.lines
            attached = task.name in known
            worker = BatchWorker(
                job.id, lines, task.log, self._cluster, events, attached=attached, later=self._later
            )
            started.append(worker)
            if attached:
                said = f"was submitted before; going on with it for {plan_name(task)}"
                worker.tell(said)
        with self._lock:
            self._workers = [*unended(self._workers), *started]
            if not self._watched:
                self._watched = True
                threading.Thread(target=self._keep_watch, daemon=True).start()
        return started

    def submit(self, tasks: Sequence[Task], after: Sequence[str] = ()) -> dict[str, SubmittedJob]:
        """Submit a job a task, those with as many GPUs as one array; return them by the task's name.

        Args:
            tasks: of one plan.
            after: ids of jobs that must end before.
        """
        if not tasks:
            return {}
        plan = tasks[0].plan
        needs = self._needs(plan)
        arrays: dict[int | None, list[Task]] = defaultdict(list)
        for task in tasks:
            arrays[needs[task.group].gpus].append(task)
        found: dict[str, SubmittedJob] = {}
        record = self.record(plan)
        folder = plan.folder / self._launcher.submitit_folder.removesuffix("/%j")
        for gpus, some in arrays.items():
            names = [free_name(task.folder, task.name) for task in some]
            jobs = [self._job(task, name) for task, name in zip(some, names, strict=True)]
            for name in names:  # so that the next one has another name
                write_text(some[0].folder / name, "")
            script = folder / names[0].replace("group", "array").replace(".jsonl", ".sh")
            folder.mkdir(parents=True, exist_ok=True)  # where it is missing SLURM fails without a word
            write_text(script, self.script(jobs, folder, gpus))
            ids = self._cluster.submit(script, len(some), after)
            submitted = [
                SubmittedJob(job, task.group, name, task.share)
                for job, task, name in zip(ids, some, names, strict=True)
            ]
            try:
                record.add(submitted)
            except StoreError:
                self._cluster.cancel(ids)  # nobody would know of them
                raise
            found |= zip((task.name for task in some), submitted, strict=True)
        return found

    def _later(self) -> list[str]:
        """Return the ids of jobs that an earlier head submitted, and whose turn has not come in this one."""
        watched = {worker.job for worker in self._workers}
        live = None if self._record is None else self._cluster.live([job.id for job in self._record.jobs])
        return [job for job in live or () if job not in watched]

    def _needs(self, plan: Plan) -> dict[int, Need]:
        return {number: gpus_needed(plan, group, self._launcher) for number, group in enumerate(plan.groups)}

    def _job(self, task: Task, lines: str) -> JobCommand:
        words = [*task.words, "--lines", str(task.folder / lines)]
        first = task.plan.jobs[task.plan.groups[task.group].jobs[0]]
        if first.target.device == "cpu":
            # Jobs of one node share its cores; a GPU is its job's own.
            words += ["--shared", str(task.plan.outputs / ".turns" / "cpu-{host}")]
        return JobCommand(words, task.log)

    def _unended(self) -> list[BatchWorker]:
        """Return the workers to watch; where there are none, the next that start get another watch."""
        with self._lock:
            found = unended(self._workers)
            self._watched = bool(found)
            return found

    def _keep_watch(self) -> None:
        began = looked = time.monotonic()
        silent = False
        while some := self._unended():
            for worker in some:
                worker.hear()
            now = time.monotonic()
            if now - looked >= (_LOOK_S if now - began < _SLOWER_AFTER_S else _SLOWER_LOOK_S):
                looked = now
                live = self._cluster.live([worker.job for worker in some])
                if live is None and not silent:
                    some[0].tell("the batch system does not answer; waiting until it does")
                silent = live is None
                for worker in some if live is not None else ():
                    worker.hear()  # what came before it was gone
                    worker.look(live or {})
            time.sleep(_HEAR_S)


def _taken(live: list[SubmittedJob], task: Task) -> SubmittedJob | None:
    """Take a job of a task out of those that are live: of its share, else of its group; None without one."""
    same = [job for job in live if job.group == task.group]
    job = next((job for job in same if job.share == task.share), next(iter(same), None))
    if job is not None:
        live.remove(job)
    return job


def plan_name(task: Task) -> str:
    """Return the name of a task's group."""
    return task.plan.groups[task.group].name
