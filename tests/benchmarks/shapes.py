"""Models of realistic shapes with random weights, their heads scaled to the entropy of trained ones."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain, islice
from typing import Any

import torch

from harness.config.decoding import Decoding
from harness.config.effective import effective_decoding
from harness.decoding.detokenizer import Detokenizer, OutputText
from harness.decoding.strategy import Strategy
from harness.prompts.prompt import Prompt

NATS = 2.1
"""Entropy over random tokens; about 1.6 along the texts that the models generate, as in trained ones."""


@dataclass(frozen=True)
class Loaded:
    """As much of a LoadedModel as the backend uses."""

    model: Any
    device: str
    tokenizer: Any = None


class NoText(Detokenizer):
    """Stands in for a tokenizer: what texts cost is not measured here."""

    def __init__(self) -> None:
        pass

    def output_text(self, prompt_ids: Sequence[int], generated: Sequence[int]) -> OutputText:
        """Return empty texts."""
        return OutputText("", ("",) * len(generated))

    def token_text(self, token_id: int) -> str:
        """Return nothing."""
        return ""


@cache
def llama_100m(positions: int = 512) -> Loaded:
    """105 M parameters, 32,000 tokens, fp32, texts of so many positions."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=32_000,
        hidden_size=640,
        intermediate_size=1728,
        num_hidden_layers=13,
        num_attention_heads=10,
        num_key_value_heads=10,
        max_position_embeddings=positions,
        tie_word_embeddings=False,
    )
    torch.manual_seed(0)
    return with_trained_entropy(LlamaForCausalLM(config))


@cache
def llama_small() -> Loaded:
    """A model of 2 layers that reads the ids of `llama_100m`: an amateur."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=32_000,
        hidden_size=128,
        intermediate_size=352,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=False,
    )
    torch.manual_seed(1)
    return with_trained_entropy(LlamaForCausalLM(config))


@cache
def tokenizer_of(vocabulary: int) -> Any:
    """A byte-level BPE of so many tokens: bytes, and two to four letters, short ones after a space too."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = "etaoinshrdlcumwfgypbvkjxqz"
    tokens = ["<|begin|>", "<|end|>", "<|pad|>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    pairs = [a + b for a in letters for b in letters]
    merges: Iterator[tuple[str, str]] = chain(
        ((a, b) for a in letters for b in letters),
        ((pair, c) for pair in pairs for c in letters),
        (("\u0120", pair) for pair in pairs),
        (("\u0120", pair + c) for pair in pairs for c in letters),
        ((pair, other) for pair in pairs for other in pairs),
    )
    merges_used = list(islice(merges, vocabulary - len(tokens)))
    tokens += [first + second for first, second in merges_used]
    backend = Tokenizer(models.BPE({token: index for index, token in enumerate(tokens)}, merges_used))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<|begin|>", eos_token="<|end|>", pad_token="<|pad|>"
    )


@cache
def qwen_half_billion() -> Loaded:
    """The shape of Qwen2-0.5B, 151,936 tokens, bf16."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=151_936,
        hidden_size=896,
        intermediate_size=4864,
        num_hidden_layers=24,
        num_attention_heads=14,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=False,
    )
    torch.manual_seed(0)
    return with_trained_entropy(Qwen2ForCausalLM(config).to(torch.bfloat16))


@cache
def fable_small() -> Loaded:
    """The built-in model of 2 M parameters, fp32, whose short steps make any overhead visible."""
    from transformers import GenerationConfig

    from harness.config.point import Model, Quantization
    from harness.models.load import load

    choice = Model(name="fable_small", id="fable_small", device="cpu")
    loaded = load(choice, Quantization(name="fp32", dtype="float32"), None)
    loaded.model.generation_config = GenerationConfig()
    return Loaded(loaded.model, "cpu", loaded.tokenizer)


def with_trained_entropy(model: Any) -> Loaded:
    """Scale a random model's output head, in place and on its device, to `NATS`; ready to decode."""
    from transformers import GenerationConfig
    from transformers.utils import logging

    logging.set_verbosity_error()
    model = model.eval().requires_grad_(False)
    model.generation_config = GenerationConfig()
    ids = torch.randint(3, model.config.vocab_size, (1, 32)).to(model.device)
    with torch.inference_mode():
        hidden = model.model(ids).last_hidden_state[0].float()
        weight = model.lm_head.weight.float()
        low, high = math.log(1e-3), math.log(1e4)
        for _ in range(30):
            middle = (low + high) / 2
            p = (hidden @ weight.T * math.exp(middle)).softmax(-1)
            flat = float(torch.special.entr(p).sum(-1).mean()) > NATS
            low, high = (middle, high) if flat else (low, middle)
        model.lm_head.weight.mul_(math.exp(middle))
    return Loaded(model, str(model.device))


class FakeTokenizer:
    """As much of a tokenizer as a Detokenizer uses; the cost of texts is measured elsewhere."""

    all_special_ids = ()

    def decode(self, ids: Sequence[int], **_: Any) -> str:
        return "x" * len(ids)

    def encode(self, text: str, **_: Any) -> list[int]:
        return [3]


def fake_detokenizer() -> Detokenizer:
    """Return a detokenizer that costs nothing."""
    return Detokenizer(FakeTokenizer())


def ragged_prompts(loaded: Loaded, count: int = 8) -> list[Prompt]:
    """Return prompts of 6 to 40 random tokens."""
    rng = random.Random(0)
    vocabulary = loaded.model.config.vocab_size
    return [
        Prompt(f"p{index}", "", tuple(rng.randrange(3, vocabulary) for _ in range(rng.randrange(6, 41))))
        for index in range(count)
    ]


def some_ends(loaded: Loaded) -> tuple[int, ...]:
    """Return every thirtieth token as EOS: random texts end after about thirty tokens."""
    return tuple(range(0, loaded.model.config.vocab_size, 30))


def strategy(new_tokens: int, eos_token_ids: tuple[int, ...] = (), **fields: Any) -> Strategy:
    """Return a strategy that ends at its budget, or at one of `eos_token_ids`."""
    return Strategy(
        effective=effective_decoding(Decoding(name="x", **fields)),
        max_new_tokens=new_tokens,
        seed=0,
        stop_strings=(),
        eos_token_ids=eos_token_ids,
        pad_token_id=0,
        top_k=5,
    )


EIGHT: tuple[dict[str, Any], ...] = (
    {},
    {"do_sample": True, "temperature": 0.8},
    {"do_sample": True, "top_k": 40},
    {"do_sample": True, "top_p": 0.9},
    {"do_sample": True, "min_p": 0.05},
    {"do_sample": True, "typical_p": 0.95},
    {"repetition_penalty": 1.2},
    {"do_sample": True, "temperature": 1.2, "top_p": 0.95},
)
"""The last one is far from all others: a high temperature, truncated."""
SHIPPED: tuple[dict[str, Any], ...] = (*EIGHT[:-1], {"do_sample": True, "eta_cutoff": 0.0003})
"""Eight of the options in conf/decoding, unchanged."""
TOP_PS: tuple[dict[str, Any], ...] = tuple(
    {"do_sample": True, "top_p": top_p} for top_p in (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98)
)
NEAR_TOP_PS: tuple[dict[str, Any], ...] = tuple(
    {"do_sample": True, "top_p": top_p} for top_p in (0.8, 0.83, 0.86, 0.89, 0.92, 0.95, 0.98, 1.0)
)
