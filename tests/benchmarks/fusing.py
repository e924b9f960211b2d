"""What the tree saves: strategies together against stock `generate` once per strategy, the model kept."""

from __future__ import annotations

from typing import Any

import torch

from harness.engine.batch import Row, pad_left
from harness.engine.tree import Text, Work, decode_tree
from tests.benchmarks.contend import contend
from tests.benchmarks.shapes import (
    EIGHT,
    TOP_PS,
    Loaded,
    llama_100m,
    qwen_half_billion,
    ragged_prompts,
    strategy,
)


def measure(
    loaded: Loaded, fields: tuple[dict[str, Any], ...], new_tokens: int, turns: int, alone: bool
) -> str:
    """One line of the table."""
    prompts = ragged_prompts(loaded)
    strategies = [strategy(new_tokens, **some) for some in fields]
    texts = [Text(one, Row(prompt, 0)) for one in strategies for prompt in prompts]
    work: list[Work] = []

    def stock(batches: list[list[tuple[int, ...]]]) -> None:
        for one in strategies:
            for batch in batches:
                inputs = pad_left(batch, 0, loaded.device)
                with torch.inference_mode():
                    loaded.model.generate(**inputs, generation_config=one.config())

    ids = [prompt.ids for prompt in prompts]
    contenders = {
        "tree": lambda: decode_tree(loaded, texts, None, on_work=work.append),  # type: ignore[arg-type]
        "apart": lambda: decode_tree(loaded, texts, None, share=False),  # type: ignore[arg-type]
        "stock": lambda: stock([ids]),
    }
    if alone:
        contenders["alone"] = lambda: stock([[one] for one in ids])
    times = contend(contenders, turns, warmup=0)
    tokens = len(texts) * new_tokens
    cells = [f"{tokens / times.median('tree'):>9.1f}", f"{times.ratio('stock', 'tree'):>9.2f}x"]
    cells.append(f"{times.ratio('alone', 'tree'):>9.2f}x" if alone else f"{'':>10}")
    cells.append(f"{times.ratio('apart', 'tree'):>9.2f}x")
    cells.append(f"{work[-1].rows / work[-1].texts:>8.2f}")
    return "".join(cells)


def main(turns: int = 3) -> None:
    """Print the table."""
    threads = torch.get_num_threads()
    print(f"\nFusing, 8 ragged prompts x 8 strategies, {threads} threads; the tree's speed over that of")
    head = f"{'':36}{'tokens/s':>9}{'per strategy':>10}{'one prompt':>10}{'rows apart':>10}{'rows':>8}"
    print(head)
    for name, loaded, fields, new_tokens, alone in (
        ("100M fp32, eight strategies, 64", llama_100m, EIGHT, 64, True),
        ("100M fp32, eight top_p, 64", llama_100m, TOP_PS, 64, False),
        ("0.5B bf16, eight strategies, 32", qwen_half_billion, EIGHT, 32, False),
    ):
        print(f"{name:36}{measure(loaded(), fields, new_tokens, turns, alone)}", flush=True)
