"""An exported graph as a transformers model: what `generate` and this project's decoding methods call.

The graph is a function: ids, mask, positions and the cache's keys and values in; logits and the keys and
values of all positions out. So one graph prefills (with an empty cache), decodes and reads whole texts, and
the caches are transformers' own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.cache_utils import DynamicLayer
from transformers.modeling_outputs import CausalLMOutputWithPast

from harness.backends.exported.graphs import Graph
from harness.errors import HarnessError

_KEYS_OR_VALUES = re.compile(
    r"(?:past_key_values|present|(?:(?:input|output)\.)?cache\.layers)\.(\d+)\.(key|value)s?"
)
"""Of the graphs of `transformers.exporters`, and of those that optimum and others wrote before."""
_PLAIN = ("input_ids", "attention_mask", "position_ids", "logits_to_keep")

LayerNames = dict[int, dict[str, str]]
"""By layer, the names of its `key` and `value`."""


class GraphNames:
    """Which input and output of a graph is what.

    Attributes:
        past: the inputs that take the cache.
        present: the outputs that return it.
        heads: (heads, width) of each layer's keys and of its values.
    """

    def __init__(self, graph: Graph) -> None:
        """Find them.

        Raises:
            HarnessError: it is not the graph of a decoder with a cache.
        """
        self.past, unknown = _layers(graph.inputs)
        self.present, _ = _layers(graph.outputs)
        unknown = [name for name in unknown if name not in _PLAIN]
        problem = None
        if "beam_idx" in unknown:
            problem = "keeps its cache within (stateful); export it with stateful=False"
        elif unknown:
            problem = f"takes {', '.join(unknown)}, which a decoder-only model does not need"
        elif "logits" not in graph.outputs or not self.past or set(self.past) != set(self.present):
            problem = "must return logits, and take and return a cache; export it for generation"
        if problem is not None:
            raise HarnessError(f"backend.exported: the graph {problem}")
        self.heads = {
            layer: {what: (_fixed(graph, name, 1), _fixed(graph, name, -1)) for what, name in names.items()}
            for layer, names in self.past.items()
        }


class ExportedCausalLM(PreTrainedModel, GenerationMixin):
    """A causal language model whose forward pass is an exported graph, on the CPU.

    It has no parameters and no submodules: hidden states and the output head do not exist outside the graph.
    """

    main_input_name = "input_ids"
    _supports_sdpa = True  # of the graph; `generate` asks

    def __init__(self, config: PretrainedConfig, graph: Graph) -> None:
        super().__init__(config)
        self.graph: Graph | None = graph
        self._names = GraphNames(graph)

    @property
    def device(self) -> torch.device:
        """The CPU."""
        return torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype:
        """Of the logits and the cache."""
        return torch.float32

    def get_output_embeddings(self) -> None:
        """Return None: the head is in the graph."""
        return

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        cache: DynamicCache | None = None,
        use_cache: bool = True,
        logits_to_keep: int = 0,
        output_hidden_states: bool = False,
        **_: Any,
    ) -> CausalLMOutputWithPast:
        """Read (R, N) more tokens, as the model that was exported does.

        Raises:
            HarnessError: hidden states are asked for.
        """
        if self.graph is None:
            raise HarnessError("the model is closed")
        if output_hidden_states:
            raise HarnessError("an exported graph returns no hidden states; use backend=hf")
        cache = cache if cache is not None or not use_cache else DynamicCache()
        rows, new = input_ids.shape
        read = 0 if cache is None else cache.get_seq_length()
        if attention_mask is None:
            attention_mask = torch.ones((rows, read + new), dtype=torch.long)
        if position_ids is None:
            position_ids = (attention_mask.cumsum(-1) - 1).clamp(min=0)[:, -new:]
        first = new - logits_to_keep if logits_to_keep else 0
        feed = {
            "input_ids": input_ids,
            "attention_mask": attention_mask.long(),
            "position_ids": position_ids.expand(rows, new),
            "logits_to_keep": torch.arange(first, new),
            **self._past(cache, rows, read),
        }
        found = self.graph.run(feed)
        logits = found["logits"]
        if cache is not None:
            self._extend(cache, found, read)
        # A graph without the input returns those of all tokens.
        logits = logits[:, -(new - first) :]
        return CausalLMOutputWithPast(logits=logits, cache=cache)

    def _past(self, cache: DynamicCache | None, rows: int, read: int) -> dict[str, Tensor]:
        feed = {}
        for layer, names in self._names.past.items():
            for what, name in names.items():
                if cache is not None and read:
                    feed[name] = getattr(cache.layers[layer], f"{what}s")
                else:
                    heads, width = self._names.heads[layer][what]
                    feed[name] = torch.zeros((rows, heads, 0, width))
        return feed

    def _extend(self, cache: DynamicCache, found: Mapping[str, Tensor], read: int) -> None:
        for layer, names in sorted(self._names.present.items()):
            keys, values = found[names["key"]].float(), found[names["value"]].float()
            if type(at := _layer_of(cache, layer)) is DynamicLayer:
                # The graph has joined old and new positions already.
                if not at.is_initialized:
                    at.lazy_initialization(keys, values)
                at.keys, at.values = keys, values
            else:
                cache.update(keys[:, :, read:], values[:, :, read:], layer)


def _layer_of(cache: DynamicCache, index: int) -> Any:
    """Return a layer of a cache, which may get its layers as they come."""
    kind = getattr(cache, "layer_class_to_replicate", None)
    while len(cache.layers) <= index and kind is not None:
        cache.layers.append(kind())
    return cache.layers[index]


def _layers(names: Any) -> tuple[LayerNames, list[str]]:
    """Return the names of keys and values, by layer, and the others."""
    layers: LayerNames = {}
    others = []
    for name in names:
        if (match := _KEYS_OR_VALUES.fullmatch(name)) is None:
            others.append(name)
        else:
            layers.setdefault(int(match[1]), {})[match[2]] = name
    return layers, others


def _fixed(graph: Graph, name: str, axis: int) -> int:
    size = graph.inputs[name][axis]
    if size is None:
        raise HarnessError(f"backend.exported: the graph leaves the heads of {name} open; export it again")
    return size
