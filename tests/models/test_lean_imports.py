"""Imports that are left out or made once: what they give is what transformers gives."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness.models.lean_imports import names_of_models

SCIPY = """
import sys
from harness.models.lean_imports import import_modeling
import_modeling()
assert "scipy.optimize" not in sys.modules
from transformers.loss.loss_for_object_detection import linear_sum_assignment
rows, columns = linear_sum_assignment([[1.0, 0.0], [0.0, 1.0]])
assert (rows.tolist(), columns.tolist()) == ([0, 1], [1, 0])
import scipy.optimize
assert scipy.optimize.minimize.__module__ == "scipy.optimize._minimize"
"""
ONCE = """
import transformers
from transformers.utils import import_utils
read = import_utils.create_import_structure_from_path.cache_info
before = read().misses
from harness.models.lean_imports import import_models
import_models()
assert before > 300, "all models' folders"
assert read().misses < before + 30
assert import_utils.define_import_structure.__module__ == "transformers.utils.import_utils"
from transformers import AutoTokenizer, GPT2LMHeadModel
from transformers.models.gpt2 import GPT2Config
assert GPT2LMHeadModel.config_class is GPT2Config
"""


def test_the_table_of_models_is_that_of_transformers() -> None:
    import transformers
    from transformers.utils.import_utils import define_import_structure

    path = Path(transformers.__file__).parent / "models" / "__init__.py"
    assert names_of_models() == define_import_structure.__wrapped__(str(path))


@pytest.mark.slow
@pytest.mark.parametrize("code", [SCIPY, ONCE])
def test_from_scratch(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True)
