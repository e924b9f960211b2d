"""Hydra's own sweeper, without what is too slow for a sweep of a thousand points."""

from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser


class HarnessSweeper(BasicSweeper):
    """The product of `params` and the command line, passed to the launcher as one list of jobs.

    It does not compose jobs to validate them (the launcher composes each combination of choices once),
    and creates no folder: a sweep's folder is made once its points are known.
    """

    def sweep(self, arguments: list[str]) -> Any:
        """Expand the product, the first key slowest, and launch it."""
        assert self.hydra_context is not None
        assert self.launcher is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        overrides = parser.parse_overrides([*self._parse_config(), *arguments])
        (jobs,) = self.split_arguments(overrides, max_batch_size=None)
        return [self.launcher.launch(jobs, initial_job_idx=0)]
