"""`experiments=NAME` finds ./experiments/NAME.yaml, then a built-in one, and nothing else."""

from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from omegaconf import OmegaConf

from harness.config.search_path import EXPERIMENTS, experiment_file, experiment_names


class ExperimentSource(ConfigSource):
    """A config source with one group, `experiments`; Hydra's protocol."""

    @staticmethod
    def scheme() -> str:
        """Return the scheme of its entry on the search path."""
        return EXPERIMENTS

    def load_config(self, config_path: str) -> ConfigResult:
        """Read an experiment; a ConfigError if two files have its name."""
        path = experiment_file(self._name(config_path) or "")
        if path is None:
            raise ConfigLoadError(f"no experiment {config_path}")
        text = path.read_text(encoding="utf-8")
        return ConfigResult(
            config=OmegaConf.create(text) if text.strip() else OmegaConf.create(),
            path=str(path),
            provider=self.provider,
            header=self._get_header_dict(text),
        )

    def available(self) -> bool:
        """Return True: it is always there, perhaps with no experiment."""
        return True

    def is_group(self, config_path: str) -> bool:
        """Return whether it is the root or `experiments`."""
        return config_path.strip("/") in ("", EXPERIMENTS)

    def is_config(self, config_path: str) -> bool:
        """Return whether there is such an experiment."""
        name = self._name(config_path)
        return name is not None and name in experiment_names()

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """Return the group at the root, or the experiments in the group."""
        if config_path.strip("/") == "":
            return [EXPERIMENTS] if results_filter != ObjectType.CONFIG else []
        if config_path.strip("/") != EXPERIMENTS or results_filter == ObjectType.GROUP:
            return []
        return experiment_names()

    def _name(self, config_path: str) -> str | None:
        group, _, name = config_path.strip("/").rpartition("/")
        return name.removesuffix(".yaml") if group == EXPERIMENTS else None
