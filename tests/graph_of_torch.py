"""A stand-in for an exported graph: the same function, computed by the torch model that would be exported."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache


class TorchGraph:
    """Named tensors in, named tensors out, as `harness.backends.exported.graphs.Graph` has it.

    `names` are those of transformers' exporters, or those of optimum's graphs, which return all logits.
    """

    def __init__(self, model: Any, names: str = "transformers") -> None:
        self.model, self._own = model, names == "transformers"
        self.calls = 0
        config = model.config
        known = signature(type(model).forward).parameters
        self._cache_name = "cache" if "cache" in known else "past_key_values"
        self._layers = config.num_hidden_layers
        heads, width = config.num_key_value_heads, config.hidden_size // config.num_attention_heads
        past = ("input.cache.layers.{}.keys", "input.cache.layers.{}.values")
        present = ("output.cache.layers.{}.keys", "output.cache.layers.{}.values")
        if not self._own:
            past = ("past_key_values.{}.key", "past_key_values.{}.value")
            present = ("present.{}.key", "present.{}.value")
        every = range(self._layers)
        self._past = [tuple(name.format(layer) for name in past) for layer in every]
        self._present = [tuple(name.format(layer) for name in present) for layer in every]
        self.inputs: dict[str, tuple[int | None, ...]] = dict.fromkeys(
            ("input_ids", "attention_mask", "position_ids"), (None, None)
        )
        self.inputs |= {name: (None, heads, None, width) for pair in self._past for name in pair}
        if self._own:
            self.inputs["logits_to_keep"] = (None,)
        self.outputs = ("logits", *(name for pair in self._present for name in pair))

    def run(self, feed: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the outputs; a fresh cache in, a fresh one out."""
        self.calls += 1
        assert feed.keys() >= self.inputs.keys()
        rows = len(feed["input_ids"])
        for name, shape in self.inputs.items():
            given = feed[name].shape
            assert len(given) == len(shape), name
            assert all(size in (None, there) for size, there in zip(shape, given, strict=True)), name
            assert name == "logits_to_keep" or given[0] == rows, name
        cache = DynamicCache(config=self.model.config)
        if feed[self._past[0][0]].shape[-2]:
            for layer, (keys, values) in enumerate(self._past):
                cache.update(feed[keys].clone(), feed[values].clone(), layer)
        keep = {"logits_to_keep": feed["logits_to_keep"]} if self._own else {}
        with torch.inference_mode():
            found = self.model(
                input_ids=feed["input_ids"],
                attention_mask=feed["attention_mask"],
                position_ids=feed["position_ids"],
                use_cache=True,
                **{self._cache_name: cache},
                **keep,
            )
        outputs = {"logits": found.logits}
        for (keys, values), layer in zip(self._present, cache.layers, strict=True):
            outputs |= {keys: layer.keys, values: layer.values}
        return outputs
