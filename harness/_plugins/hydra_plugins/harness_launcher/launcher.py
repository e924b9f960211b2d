"""A launcher that hands the whole sweep to the harness, instead of running it job by job."""

from collections.abc import Sequence

from hydra.core.utils import JobReturn, JobStatus, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from harness.config.compose import composer_of, jobs_with_cases, sweep_name
from harness.config.hydra_command import Command
from harness.config.hydra_output import of_sweep


class HarnessLauncher(Launcher):
    """Composes every job, makes the points and runs them as one sweep."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra before `launch`."""
        self.config_loader = hydra_context.config_loader
        self.task_function = task_function
        self.config = config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run all jobs; each job's return value is the sweep's exit status."""
        setup_globals()
        command = self.task_function
        if not isinstance(command, Command):
            raise TypeError("the launcher `harness` runs the harness's own command only")
        cases = OmegaConf.to_container(self.config.cases) if self.config.get("cases") else []
        typed = [str(text) for text in self.config.hydra.overrides.task]
        jobs = jobs_with_cases(job_overrides, cases, typed, self.config.hydra.sweeper.get("params"))
        composer = composer_of(
            self.config_loader, lambda texts: self.config_loader.load_sweep_config(self.config, texts)
        )
        composed = [composer.compose(job) for job in jobs]
        choices = {str(key): value for key, value in self.config.hydra.runtime.choices.items()}
        status = command.sweep(composed, sweep_name(choices), of_sweep(self.config))
        returns = [JobReturn(overrides=list(job), status=JobStatus.COMPLETED) for job in job_overrides]
        for one in returns:
            one.return_value = status
        return returns
