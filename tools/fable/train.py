"""Train the built-in models: tokenizer, both checkpoints and their model cards.

`python -m tools.fable.train [--out FOLDER] [--only NAME]` trains for a fixed number of steps from a fixed
seed. The two models are trained in parallel, with one thread each.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import shutil
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.models.fable import FABLE_MODELS, fable_folder

from .bpe import BEGIN, CONTEXT, PAD, save_tokenizer, train_tokenizer
from .corpus import Batch, Corpus, draw_texts
from .grammar import END, fable_grammar, units
from .probes import by_site, draw_probes, probe_errors, summarise
from .talk import TURN

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer
    from transformers import LlamaForCausalLM

SEED = 20
TOKENIZER_TEXTS = 20_000


@dataclass(frozen=True)
class Recipe:
    """How one model is built and trained.

    Attributes:
        hidden: width of the residual stream.
        layers: number of transformer blocks.
        ffn: width inside the feed-forward blocks.
        heads: query heads.
        kv_heads: key-value heads.
        steps: optimizer steps.
        batch_tokens: tokens per step, padding included.
        peak: highest learning rate of AdamW, for embeddings and norms.
        muon_peak: highest learning rate of Muon, for the matrices inside the blocks.
        init_std: initial standard deviation of the matrices inside the blocks.
        warmup: steps until the highest learning rate.
        cooldown: share of the steps, at the end, over which it falls to zero.
        emphasis: share of the steps, from the first, in which copies have more weight.
        long_from: share of the steps before the first long window.
        long_share: share of batches that are long windows from then on.
        seed: of weights and corpus.
    """

    hidden: int
    layers: int
    ffn: int
    heads: int
    kv_heads: int
    steps: int
    batch_tokens: int
    peak: float = 4e-3
    muon_peak: float = 2e-2
    init_std: float = 0.06
    warmup: int = 50
    cooldown: float = 0.6
    emphasis: float = 0.8
    long_from: float = 0.5
    long_share: float = 0.2
    seed: int = SEED


RECIPES = {
    "fable_tiny": Recipe(128, 2, ffn=64, heads=4, kv_heads=2, steps=1600, batch_tokens=2048),
    "fable_small": Recipe(256, 2, ffn=640, heads=8, kv_heads=8, steps=3200, batch_tokens=2048, emphasis=0.75),
}


def schedule(recipe: Recipe, step: int) -> float:
    """Return the share of the highest learning rate: a linear rise, a plateau, then a linear fall to zero."""
    left = (recipe.steps - step) / (recipe.cooldown * recipe.steps)
    return min(1.0, (step + 1) / recipe.warmup, left)


def build(recipe: Recipe, tokenizer: Tokenizer) -> LlamaForCausalLM:
    """Return the untrained model; its vocabulary is rounded up to a multiple of 64."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(recipe.seed)
    config = LlamaConfig(
        vocab_size=math.ceil(tokenizer.get_vocab_size() / 64) * 64,
        hidden_size=recipe.hidden,
        intermediate_size=recipe.ffn,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.kv_heads,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        initializer_range=0.02,
        bos_token_id=tokenizer.token_to_id(BEGIN),
        eos_token_id=[tokenizer.token_to_id(token) for token in (END, TURN)],  # type: ignore[misc]
        pad_token_id=tokenizer.token_to_id(PAD),
    )
    model = LlamaForCausalLM(config)
    for matrix in model.model.layers.parameters():
        if matrix.ndim == 2:
            torch.nn.init.normal_(matrix, std=recipe.init_std)
    return model


def loss_of(model: LlamaForCausalLM, batch: Batch, weighted: bool) -> torch.Tensor:
    """Return the model's divergence from the exact probabilities of every next token.

    Args:
        model: the model.
        batch: tokens and the exact probabilities of the next ones.
        weighted: use the targets' weights, instead of equal ones.

    Returns:
        Mean KL(exact || model) in nats per token: cross-entropy with the exact probabilities as soft targets,
        less their entropy.
    """
    logits = model(input_ids=batch.inputs, use_cache=False).logits.float()
    logprobs = logits.log_softmax(-1).flatten(0, 1)[batch.positions, batch.token_ids]
    weights = (batch.weights if weighted else (batch.weights > 0).float()).flatten()
    return (
        weights[batch.positions] * batch.probabilities * (batch.probabilities.log() - logprobs)
    ).sum() / weights.sum()


def train_model(name: str, recipe: Recipe, tokenizer: Tokenizer) -> tuple[LlamaForCausalLM, dict[str, Any]]:
    """Train one model; return it and the numbers for its card."""
    import torch

    from .optim import Muon

    torch.set_num_threads(1)
    grammar = fable_grammar()
    model = build(recipe, tokenizer)
    corpus = Corpus(grammar, tokenizer, f"train {name} {recipe.seed}", recipe.batch_tokens)
    texts, probes = draw_probes(grammar, "watch", 60)
    blocks = [p for p in model.model.layers.parameters() if p.ndim == 2]
    inside = {id(p) for p in blocks}
    rest = [p for p in model.parameters() if id(p) not in inside]
    adam = torch.optim.AdamW(rest, lr=recipe.peak, betas=(0.9, 0.98), weight_decay=0.0)
    muon = Muon(blocks, lr=recipe.muon_peak)
    # Where the processor has no bf16 instructions, autocast would only slow it down.
    bf16 = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    started, seen, long_due = time.perf_counter(), 0, 0.0
    for step in range(recipe.steps):
        share = schedule(recipe, step)
        adam.param_groups[0]["lr"] = share * recipe.peak
        muon.param_groups[0]["lr"] = share * recipe.muon_peak
        long_due += recipe.long_share if step >= recipe.long_from * recipe.steps else 0.0
        long = long_due >= 1
        long_due -= long
        batch = corpus.batch(long)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            loss = loss_of(model, batch, weighted=step < recipe.emphasis * recipe.steps)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.step()
        muon.step()
        model.zero_grad(set_to_none=True)
        seen += int((batch.weights > 0).sum())
        if (step + 1) % 200 == 0 or step + 1 == recipe.steps:
            model.eval()
            errors = probe_errors(model, tokenizer, texts, probes)
            model.train()
            means = "  ".join(f"{kind} {error:.3f}" for kind, error in summarise(probes, errors).items())
            worst = "  ".join(f"{site} {error:.2f}" for error, site in by_site(probes, errors)[-5:])
            print(
                f"{name}  step {step + 1}/{recipe.steps}  {seen / 1e6:.1f} M tokens  "
                f"{time.perf_counter() - started:.0f} s  loss {loss.item():.3f}  "
                f"mean errors: {means}  largest: {worst}",
                flush=True,
            )
    return model.eval(), {"tokens": seen, "seconds": time.perf_counter() - started}


def validation_loss(model: LlamaForCausalLM, tokenizer: Tokenizer, texts: int = 500) -> float:
    """Return the mean cross-entropy of held-out texts, in nats per token."""
    import torch

    total = count = 0.0
    for text in draw_texts(fable_grammar(), "validation", texts):
        ids = torch.tensor([tokenizer.encode(text).ids])
        with torch.inference_mode():
            logprobs = model(input_ids=ids).logits[0, :-1].log_softmax(-1)
        total -= float(logprobs.gather(1, ids.mT[1:]).sum())
        count += ids.size(1) - 1
    return total / count


def grammar_loss(texts: int = 500) -> float:
    """Return the lowest possible loss on the validation texts, in nats per token."""
    grammar = fable_grammar()
    total = count = 0.0
    for text in draw_texts(grammar, "validation", texts):
        for probabilities, unit in zip(grammar.walk(text), units(text), strict=False):
            total -= math.log(probabilities[unit])
            count += 1
    return total / count


def save(model: LlamaForCausalLM, tokenizer: Tokenizer, folder: Path) -> None:
    """Write weights (fp16), config (with dtype fp32), generation config and tokenizer."""
    from transformers import GenerationConfig

    folder.mkdir(parents=True, exist_ok=True)
    save_tokenizer(tokenizer, folder)
    model.half()
    model.generation_config = GenerationConfig(
        bos_token_id=model.config.bos_token_id,
        eos_token_id=model.config.eos_token_id,
        pad_token_id=model.config.pad_token_id,
    )
    model.save_pretrained(folder)
    file = folder / "config.json"
    config = json.loads(file.read_text()) | {"dtype": "float32"}
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def make(name: str, tokenizer_file: str, out: str, steps: int | None) -> None:
    """Train one model and write its folder into `out`, replacing file by file."""
    from tokenizers import Tokenizer
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    from .card import write_card

    logging.disable_progress_bar()
    tokenizer = Tokenizer.from_file(tokenizer_file)
    recipe = RECIPES[name] if steps is None else replace(RECIPES[name], steps=steps)
    model, figures = train_model(name, recipe, tokenizer)
    with tempfile.TemporaryDirectory(dir=Path(tokenizer_file).parent) as temporary:
        folder = Path(temporary)
        save(model, tokenizer, folder)
        stored = AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval()
        figures["validation_loss"] = validation_loss(stored, tokenizer)
        figures["floor"] = grammar_loss()
        write_card(name, asdict(recipe) | figures, stored, tokenizer, folder / "README.md")
        target = Path(out) / name
        target.mkdir(parents=True, exist_ok=True)
        for file in sorted(folder.iterdir()):
            shutil.copyfile(file, target / (file.name + ".new"))
            os.replace(target / (file.name + ".new"), target / file.name)
    print(
        f"{name}  done: validation loss {figures['validation_loss']:.3f}, {figures['seconds']:.0f} s",
        flush=True,
    )


def main() -> None:
    """Train the models that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m tools.fable.train", description=__doc__)
    parser.add_argument(
        "--out", default=str(fable_folder("fable_tiny").parent), help="folder for the model folders"
    )
    parser.add_argument("--only", choices=FABLE_MODELS, help="train one of the models")
    parser.add_argument("--steps", type=int, help="number of steps, for a trial run")
    arguments = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["OMP_NUM_THREADS"] = "1"

    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        file = str(Path(temporary) / "tokenizer.json")
        tokenizer = train_tokenizer(draw_texts(fable_grammar(), f"tokenizer {SEED}", TOKENIZER_TEXTS))
        tokenizer.save(file)
        print(
            f"tokenizer: {tokenizer.get_vocab_size()} tokens, {time.perf_counter() - started:.0f} s",
            flush=True,
        )
        context = multiprocessing.get_context("spawn")
        workers = [
            context.Process(target=make, args=(name, file, arguments.out, arguments.steps))
            for name in ([arguments.only] if arguments.only else FABLE_MODELS)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    if any(worker.exitcode for worker in workers):
        raise SystemExit(1)
    print(f"all done in {(time.perf_counter() - started) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
