"""Which sources are warned of: those that read clocks, unseeded random numbers or the environment."""

from __future__ import annotations

import pytest

from harness.decoding.chance_in_source import chance_in


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("import time\nx = time.time()", "time.time"),
        ("from time import perf_counter as now\nx = now()", "time.perf_counter"),
        ("import random\nx = random.random()", "random.random"),
        ("from random import choice\nx = choice([1])", "random.choice"),
        ("import numpy as np\nx = np.random.rand()", "numpy.random.rand"),
        ("from numpy.random import default_rng\nx = default_rng()", "numpy.random.default_rng"),
        ("import torch\nx = torch.rand(3)", "torch.rand"),
        ("import torch as t\nx = t.multinomial(p, 1)", "torch.multinomial"),
        ("import torch\nx = scores.exponential_()", "exponential_"),
        ("from datetime import datetime\nx = datetime.now()", "datetime.datetime.now"),
        ("import os\nx = os.environ['SEED']", "os.environ"),
        ("import os\nx = os.getenv('SEED')", "os.getenv"),
        ("import uuid\nx = uuid.uuid4()", "uuid.uuid4"),
    ],
)
def test_found(source: str, what: str) -> None:
    assert chance_in(source.encode()) == (what, 2)


@pytest.mark.parametrize(
    "source",
    [
        "import time\n",
        "import torch\nx = torch.randn(3, generator=g)",
        "import random\nx = random.Random(3)",
        "from datetime import timedelta\nx = timedelta(1)",
        "import os\nx = os.path.join('a', 'b')",
        "class C:\n    def __init__(self, time):\n        self.random = time.time",
        "def f(:",
    ],
)
def test_not_found(source: str) -> None:
    assert chance_in(source.encode()) is None
