"""Tests of the fp8 cache, which transformers as old as vLLM wants it does not have."""

from __future__ import annotations

import pytest

from harness.models.caches import has_fp8_cache

needs_fp8_cache = pytest.mark.skipif(not has_fp8_cache(), reason="this transformers has no fp8 cache")
