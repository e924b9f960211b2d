"""Compare LLM decoding strategies: sweeps over models, quantizations, prompts and strategies."""

from __future__ import annotations

import sys
from pathlib import Path

__version__ = "0.1.0"

# Hydra finds plug-ins by walking the namespace package `hydra_plugins`; ours lies beside the code, so that
# a clone, an editable install and a wheel all find it without installing anything more.
_PLUGINS = str(Path(__file__).parent / "_plugins")
if _PLUGINS not in sys.path:
    sys.path.append(_PLUGINS)
