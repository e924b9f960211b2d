"""JSON on standard output, for commands with `--json`."""

from __future__ import annotations

import json
import sys
from typing import Any

from harness.store.files import finite_or_null


def print_json(value: Any) -> None:
    """Print a value as indented ASCII JSON; NaN and infinities become null."""
    json.dump(finite_or_null(value), sys.stdout, indent=1, ensure_ascii=True, allow_nan=False)
    sys.stdout.write("\n")
