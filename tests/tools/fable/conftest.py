"""The built-in models in fp32, loaded once, with plain forward passes and stock `generate`."""

from __future__ import annotations

import math

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

from harness.models.fable import FABLE_MODELS, fable_folder
from tools.fable.grammar import Grammar, fable_grammar


class Fable:
    """A model with its tokenizer; uses plain forward passes and stock `generate` only."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.folder = fable_folder(name)
        self.tokenizer: PreTrainedTokenizerFast = AutoTokenizer.from_pretrained(self.folder)
        self.model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(self.folder, dtype=torch.float32)
        self.model.eval()

    def logprobs(self, ids: list[int]) -> torch.Tensor:
        """Log-probabilities (length, vocabulary), float64: row i is the distribution after ids[: i + 1]."""
        with torch.inference_mode():
            return self.model(input_ids=torch.tensor([ids])).logits[0].double().log_softmax(-1)

    def probabilities(self, prefix: str, words: list[str]) -> list[float]:
        """The probability of each word after a prefix: the product over the word's tokens."""
        ids = self.tokenizer(prefix)["input_ids"]
        after: dict[tuple[int, ...], torch.Tensor] = {}
        found = []
        for word in words:
            tokens = self.tokenizer(word, add_special_tokens=False)["input_ids"]
            logprob = 0.0
            for at, token in enumerate(tokens):
                before = tuple(tokens[:at])
                if before not in after:
                    after[before] = self.logprobs([*ids, *before])[-1]
                logprob += float(after[before][token])
            found.append(math.exp(logprob))
        return found

    def score(self, prompt: str, output: str) -> float:
        """Log-probability of an output after a prompt."""
        ids = self.tokenizer(prompt)["input_ids"]
        added = self.tokenizer(output, add_special_tokens=False)["input_ids"]
        rows = self.logprobs(ids + added[:-1])[len(ids) - 1 :]
        return float(rows[range(len(added)), added].sum())

    def generate(self, prompt: str, max_new_tokens: int = 60, **options: object) -> str:
        """What stock `generate` adds to a prompt, without special tokens."""
        encoded = self.tokenizer(prompt, return_tensors="pt")
        ids = self.model.generate(**encoded, max_new_tokens=max_new_tokens, **options)[0]
        return self.tokenizer.decode(ids[encoded["input_ids"].shape[1] :], skip_special_tokens=True)

    def answer(self, question: str, system: str | None = None, **options: object) -> str:
        """The answer to a chat turn."""
        turns = [{"role": "system", "content": system}] if system else []
        turns.append({"role": "user", "content": question})
        prompt = self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        return self.generate(prompt, **options)


@pytest.fixture(scope="session")
def fables() -> dict[str, Fable]:
    torch.set_num_threads(1)
    return {name: Fable(name) for name in FABLE_MODELS}


@pytest.fixture(scope="session")
def small(fables: dict[str, Fable]) -> Fable:
    return fables["fable_small"]


@pytest.fixture(scope="session")
def grammar() -> Grammar:
    return fable_grammar()
