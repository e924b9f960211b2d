"""Small random checkpoints made on the spot, in the shapes and habits that real ones have.

Weights are random, but the head is scaled until the next token has about 1.5 nats of entropy, as in a
trained model: random logits are near uniform, and a harness that is wrong could hide there.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

Kind = Literal["llama", "qwen2", "mistral", "gpt2"]
Pieces = Literal["bytes", "metaspace"]
Chat = Literal["none", "plain", "bos"]

CONTEXT = 128
WINDOW = 16  # Mistral's sliding window: shorter than the context, so that it matters

SENTENCES = (
    "It was a dark and stormy night, and the old fox walked home through the rain.",
    "A list of colors: red, blue, green, yellow, purple, orange and white.",
    "Portugal is a country where the fox and the crow went to the market together.",
    "The science lecture began with a story about a river, a bridge and a lantern.",
    "Once upon a time there was a girl who had a basket, a dog and a little house.",
    "She said that the rain in the night was cold, and that the house was warm.",
    "What is the color of the house? The house is red, and the bridge is blue.",
    "Café au lait, naïve façade, smörgåsbord: words that need more than one byte.",
)

_CHAT_BODY = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
CHAT_TEMPLATES: dict[Chat, str] = {"plain": _CHAT_BODY, "bos": "{{ bos_token }}" + _CHAT_BODY}


@dataclass(frozen=True)
class SmallModel:
    """What a small checkpoint looks like; every field is a habit of some real one.

    Attributes:
        kind: the architecture.
        pieces: `bytes`, a byte-level BPE, or `metaspace`, leading-space pieces with byte fallback.
        bos: the tokenizer puts a BOS in front.
        pad: there is a pad token of its own.
        chat: no chat template, one that says no BOS, or one that begins with BOS.
        shards: how many safetensors files.
        pickle: weights as .bin instead of safetensors.
        generation: contents of generation_config.json beyond the token ids.
        dtype: what the weights are stored as.
        tied: the head is the embedding (its entropy is then left as it is).
        fits: the weights are those that config.json speaks of; if not, the checkpoint does not load.
        seed: of the weights.
    """

    kind: Kind = "llama"
    pieces: Pieces = "bytes"
    bos: bool = True
    pad: bool = True
    chat: Chat = "none"
    shards: int = 1
    pickle: bool = False
    generation: tuple[tuple[str, Any], ...] = ()
    dtype: str = "float32"
    tied: bool = False
    fits: bool = True
    seed: int = 0


def make_tokenizer(pieces: Pieces, *, bos: bool, pad: bool, chat: Chat) -> Any:
    """A PreTrainedTokenizerFast of a few hundred pieces trained on SENTENCES."""
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    backend = _byte_level() if pieces == "bytes" else _metaspace()
    if bos:
        begin = backend.token_to_id("<|begin|>")
        backend.post_processor = TemplateProcessing(
            single="<|begin|> $A",
            pair="<|begin|> $A <|begin|> $B",
            special_tokens=[("<|begin|>", begin)],
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<|begin|>",
        eos_token="<|end|>",
        pad_token="<|pad|>" if pad else None,
        unk_token="<unk>" if pieces == "metaspace" else None,
        clean_up_tokenization_spaces=False,
        model_max_length=CONTEXT,
    )
    if chat != "none":
        tokenizer.chat_template = CHAT_TEMPLATES[chat]
    return tokenizer


_SPECIAL = ["<|begin|>", "<|end|>", "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>"]


def _byte_level() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=360,
        special_tokens=_SPECIAL,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(SENTENCES, trainer)
    return backend


def _metaspace() -> Any:
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    trained = Tokenizer(models.BPE(unk_token="<unk>"))
    trained.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first")
    trained.train_from_iterator(
        SENTENCES[:-1], trainers.BpeTrainer(vocab_size=120, special_tokens=["<unk>"], show_progress=False)
    )
    learned = json.loads(trained.to_str())["model"]
    names = ["<unk>", *_SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256))]
    names += [piece for piece in learned["vocab"] if piece not in names]
    merges = [tuple(merge) for merge in learned["merges"]]
    backend = Tokenizer(
        models.BPE(
            vocab={name: place for place, name in enumerate(names)},
            merges=merges,
            unk_token="<unk>",
            byte_fallback=True,
            fuse_unk=True,
        )
    )
    backend.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in _SPECIAL])
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return backend


def _config(spec: SmallModel, vocab_size: int, ids: dict[str, Any]) -> Any:
    from transformers import GPT2Config, LlamaConfig, MistralConfig, Qwen2Config

    common = {
        "vocab_size": vocab_size,
        "tie_word_embeddings": spec.tied,
        "initializer_range": 0.05,  # wide enough for the context to matter
        **ids,
    }
    if spec.kind == "gpt2":
        return GPT2Config(n_positions=CONTEXT, n_embd=64, n_layer=2, n_head=4, **common)
    shape = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": CONTEXT,
    }
    if spec.kind == "qwen2":
        return Qwen2Config(**shape, **common)
    if spec.kind == "mistral":
        return MistralConfig(**shape, sliding_window=WINDOW, **common)
    return LlamaConfig(**shape, **common)


def _scale_head(model: Any, nats: float = 1.5) -> None:
    """Scale the head until the mean next-token entropy on random ids is `nats`."""
    import torch

    ids = torch.randint(model.config.vocab_size, (4, 24), generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        logits = model(ids).logits.double()

        def entropy(scale: float) -> float:
            logp = torch.log_softmax(logits * scale, -1)
            return float(-(logp.exp() * logp).sum(-1).mean())

        low, high = math.log(1e-3), math.log(1e4)
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (middle, high) if entropy(math.exp(middle)) > nats else (low, middle)
        model.get_output_embeddings().weight.mul_(math.exp(low))


def make_small_model(folder: Path, spec: SmallModel) -> Path:
    """Write the checkpoint that `spec` describes into `folder`, which is made."""
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig

    tokenizer = make_tokenizer(spec.pieces, bos=spec.bos, pad=spec.pad, chat=spec.chat)
    vocab_size = math.ceil(len(tokenizer) / 64) * 64
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    if spec.pad:
        ids["pad_token_id"] = tokenizer.pad_token_id
    state = torch.random.get_rng_state()
    try:
        torch.manual_seed(spec.seed)
        model = AutoModelForCausalLM.from_config(_config(spec, vocab_size, ids), dtype=torch.float32).eval()
    finally:
        torch.random.set_rng_state(state)
    if not spec.tied:
        _scale_head(model)
    model = model.to(getattr(torch, spec.dtype))
    model.generation_config = GenerationConfig(**ids, **dict(spec.generation))
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    total = sum(p.numel() * p.element_size() for p in model.parameters())
    # The limit a shard, a little over the even share, since a tensor is never split.
    limit = "1GB" if spec.shards == 1 else f"{max(1, total // spec.shards // 1000)}KB"
    model.save_pretrained(folder, max_shard_size=limit)
    if spec.pickle:
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
        for path in folder.glob("*.safetensors*"):
            path.unlink()
    if not spec.fits:
        config = json.loads((folder / "config.json").read_text())
        config["intermediate_size"] *= 2
        (folder / "config.json").write_text(json.dumps(config))
    return folder


class SmallModels:
    """Makes each small checkpoint once a session; call it for the folder."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._made: dict[SmallModel, Path] = {}

    def __call__(self, kind: Kind = "llama", **habits: Any) -> Path:
        """The folder of a small checkpoint; `habits` are SmallModel's other fields (generation: a dict)."""
        if isinstance(habits.get("generation"), dict):
            habits["generation"] = tuple(sorted(habits["generation"].items()))
        spec = SmallModel(kind=kind, **habits)
        if spec not in self._made:
            folder = self._root / f"{kind}-{len(self._made):02d}"
            self._made[spec] = make_small_model(folder, spec)
        return self._made[spec]


@cache
def quiet_transformers() -> None:
    """No progress bars of other libraries in the tests' output."""
    from transformers.utils import logging

    logging.disable_progress_bar()
