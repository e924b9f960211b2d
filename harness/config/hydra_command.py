"""What Hydra runs for us: an object that takes one composed config, or from our launcher a whole sweep."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

from harness.config.compose import sweep_name
from harness.config.custom_sources import sources_of
from harness.config.hydra_output import HydraFiles, of_run
from harness.config.point import Point
from harness.config.points import EXPECT, Composed, make_points
from harness.config.schema import parts

if TYPE_CHECKING:
    from omegaconf import DictConfig

Action = Callable[[list[Point], str, HydraFiles], int]
"""Takes the points, the sweep's name and what Hydra would write beside them; returns the exit status."""


class Command:
    """A task function that knows what to do with points, and keeps the exit status.

    Args:
        action: what is done with the points.

    Attributes:
        status: the worst exit status so far.
        started: whether the action was reached, that is, the config was right.
        error: what ended a single run; Hydra would print a line of its own about it.
    """

    def __init__(self, action: Action) -> None:
        self.action = action
        self.status = 0
        self.started = False
        self.error: Exception | None = None

    def __call__(self, config: DictConfig) -> int:
        """A single run: one composed config, a sweep of one."""
        try:
            return self._single(config)
        except Exception as error:
            self.error = error
            return 2

    def _single(self, config: DictConfig) -> int:
        from hydra.core.hydra_config import HydraConfig
        from omegaconf import OmegaConf

        hydra = HydraConfig.get()
        choices: dict[str, Any] = {str(k): v for k, v in hydra.runtime.choices.items()}
        plain = OmegaConf.to_container(config, resolve=True)
        assert isinstance(plain, dict)
        kept = {str(key): value for key, value in plain.items() if key in (*parts(), EXPECT)}
        own = sources_of(list(hydra.overrides.task)).own
        files = of_run(config, cast("DictConfig", HydraConfig.instance().cfg))
        return self.sweep([Composed(kept, choices, own)], sweep_name(choices), files)

    def sweep(self, composed: Sequence[Composed], name: str, files: HydraFiles) -> int:
        """A whole sweep, from the launcher.

        Raises:
            ConfigError: with every mistake in any of the configs.
        """
        points = make_points(composed)
        self.started = True
        status = self.action(points, name, files)
        self.status = max(self.status, status)
        return status
