"""Two workers share a small model: prints how many samples are those of transformers."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2]))


def main() -> None:
    import numpy as np
    from small_engines import TEXTS, opened

    from harness.backends.backend import Request
    from harness.backends.hf.tree import decode_tree
    from harness.config.decoding import Decoding
    from harness.config.effective import effective_decoding
    from harness.config.point import Model, Quantization
    from harness.decoding.detokenizer import Detokenizer
    from harness.decoding.strategy import Strategy
    from harness.models.fable import fable_folder
    from harness.models.load import load
    from harness.progress import SILENT
    from harness.prompts.prompt import Prompt

    model = Model(name="fable_tiny", id="fable_tiny", device="cpu")
    loaded = load(model, Quantization(name="fp32", dtype="float32"))
    fields = ({}, {"do_sample": True, "mirostat_mode": 2}, {"repetition_penalty": 1.3})
    decodings = [effective_decoding(Decoding(name="x", **one)) for one in fields]
    strategies = [Strategy(one, 12, 0, (), (), 0, 5) for one in decodings]
    prompts = [Prompt(t, t, tuple(loaded.tokenizer(t)["input_ids"])) for t in TEXTS]
    requests = [Request(prompt, 0, one) for one in strategies for prompt in prompts]
    expected = decode_tree(loaded, requests, Detokenizer(loaded.tokenizer))
    with opened(str(fable_folder("fable_tiny")), max_num_seqs=6, tensor_parallel_size=2) as backend:
        found = list(backend.generate(requests, SILENT))
    pairs = [(a, b) for a, b in zip(found, expected, strict=True) if a.token_ids == b.token_ids]
    gap = max(np.abs(a.steps.logprob - b.steps.logprob).max() for a, b in pairs)
    close = "within 1e-3" if gap < 1e-3 else f"differ by {gap}"
    told = any(one.steps.entropy is not None for one in found)
    print(f"equal {len(pairs)} of {len(found)}; entropy {told}; logprobs {close}")


if __name__ == "__main__":
    main()
