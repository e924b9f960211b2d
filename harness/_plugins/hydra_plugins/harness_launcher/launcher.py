"""A launcher that runs the whole sweep at once, instead of job by job."""

from collections.abc import Sequence

from hydra.core.utils import JobReturn, JobStatus, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from harness.config.compose import jobs_with_cases, make_composer, sweep_name
from harness.config.hydra_app import HydraTask
from harness.config.hydra_output import sweep_files


class HarnessLauncher(Launcher):
    """Composes every job, makes the points and runs them as one sweep."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what `launch` needs; called by Hydra before it."""
        self.config_loader = hydra_context.config_loader
        self.task_function = task_function
        self.config = config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run all jobs; the return value of each is the sweep's exit status."""
        setup_globals()
        task = self.task_function
        if not isinstance(task, HydraTask):
            raise TypeError("the launcher `harness` only runs the harness's own task")
        cases = OmegaConf.to_container(self.config.cases) if self.config.get("cases") else []
        typed = [str(text) for text in self.config.hydra.overrides.task]
        jobs = jobs_with_cases(job_overrides, cases, typed, self.config.hydra.sweeper.get("params"))
        composer = make_composer(
            self.config_loader, lambda texts: self.config_loader.load_sweep_config(self.config, texts)
        )
        composed = [composer.compose(job) for job in jobs]
        choices = {str(key): value for key, value in self.config.hydra.runtime.choices.items()}
        status = task.run_sweep(composed, sweep_name(choices), sweep_files(self.config))
        returns = [JobReturn(overrides=list(job), status=JobStatus.COMPLETED) for job in job_overrides]
        for one in returns:
            one.return_value = status
        return returns
