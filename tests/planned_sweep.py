"""The plan of a command, as `harness plan` makes it."""

from __future__ import annotations

from harness.config.arguments import parse_arguments
from harness.config.hydra_app import compose
from harness.plan.plan import Plan, make_plan


def planned(*words: str) -> Plan:
    """Return the plan of a command's flags and overrides."""
    command = compose(parse_arguments(list(words)))
    return make_plan(command.points, command.name)
