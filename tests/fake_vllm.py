"""An engine like vLLM's, which moves the rows of its batch at random, and what is imported of vLLM.

A step has fewer rows than there are requests. Between steps requests leave, come, are pushed out and come
back, and rows move and swap; some rows hold a prompt that is read in parts, whose logits come to nothing.
"""

from __future__ import annotations

import importlib
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch


class Direction(Enum):
    """vLLM's MoveDirectionality."""

    UNIDIRECTIONAL = 1
    SWAP = 2


def _params(**fields: Any) -> SimpleNamespace:
    """vLLM's SamplingParams, as far as processors read it."""
    return SimpleNamespace(**{"extra_args": None, "prompt_logprobs": None, **fields})


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the modules of vLLM that the harness imports while it runs requests be found."""
    names = {
        "vllm.v1.sample.logits_processor.interface": {"LogitsProcessor": object, "BatchUpdate": object},
        "vllm.v1.worker.gpu.sample.logits_processor": {"LogitsProcessor": object},
        "vllm.inputs.engine": {"tokens_input": lambda ids: {"prompt_token_ids": ids}},
        "vllm.sampling_params": {
            "SamplingParams": _params,
            "RequestOutputKind": SimpleNamespace(DELTA="delta"),
        },
    }
    for name, content in names.items():
        parts = name.split(".")
        for count in range(1, len(parts)):
            parent = ".".join(parts[:count])
            monkeypatch.setitem(sys.modules, parent, sys.modules.get(parent) or ModuleType(parent))
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    # What is imported with them must not stay for a test with the true ones.
    for name in ("harness.backends.vllm.runner_v1", "harness.backends.vllm.runner_v2"):
        monkeypatch.delitem(sys.modules, name, raising=False)
        module = importlib.import_module(name)
        del sys.modules[name]
        monkeypatch.setitem(sys.modules, name, module)


@dataclass
class Running:
    """A request: its tokens, in the list that a processor is given; how many parts are still to be read."""

    id: str
    prompt: list[int]
    params: Any
    tokens: list[int] = field(default_factory=list)
    parts: int = 0


class FakeEngine:
    """Runs requests with a processor of the first model runner, or with one of the second."""

    def __init__(self, model: Any, processor: Any, rows: int, seed: int, *, second: bool = False) -> None:
        self._model, self._processor, self._rows, self._second = model, processor, rows, second
        self._random = random.Random(seed)
        self._waiting: list[Running] = []
        self._in_row: list[Running] = []
        self._left: set[int] = set()  # rows whose request has left since the last step
        self.moves = self.swaps = self.parts = self.pushed = self.steps = 0
        self.pushes = True

    def add_request(self, request_id: str, prompt: Any, params: Any) -> str:
        self._waiting.append(Running(request_id, prompt["prompt_token_ids"], params))
        return request_id

    def abort_request(self, ids: list[str]) -> None:
        self._waiting = [one for one in self._waiting if one.id not in ids]
        self._remove(lambda one: one.id in ids)

    def reset_prefix_cache(self) -> bool:
        return True

    @torch.inference_mode()
    def step(self) -> list[Any]:
        self.steps += 1
        there = [row for row in range(len(self._in_row)) if row not in self._left]
        if self.pushes and len(there) > 1 and self._random.random() < 0.2:
            back = self._random.choice(there)
            self._waiting.append(self._in_row[back])
            self._left.add(back)
            self.pushed += 1
        update = self._update()
        if self._second:
            logits = self._apply_second(update)
        else:
            self._processor.update_state(update)
            logits = self._processor.apply(torch.stack([self._logits(one) for one in self._in_row]))
        outputs = []
        for one, row in zip(self._in_row, logits, strict=True):
            left = int((row > float("-inf")).sum())
            assert left == 1 or one.params.extra_args is None, "one token is left"
            if one.parts:
                one.parts -= 1  # what was read so far is not the whole text
                self.parts += 1
                continue
            one.tokens.append(int(row.argmax()))
            done = len(one.tokens) >= one.params.max_tokens
            outputs.append(
                SimpleNamespace(
                    request_id=one.id,
                    outputs=[SimpleNamespace(token_ids=[one.tokens[-1]], logprobs=None)],
                    finished=done,
                    prompt_logprobs=self._of_prompt(one),
                )
            )
        finished = {output.request_id for output in outputs if output.finished}
        self._remove(lambda one: one.id in finished)
        return outputs

    def _remove(self, is_gone: Callable[[Running], bool]) -> None:
        self._left |= {row for row, one in enumerate(self._in_row) if is_gone(one)}

    def _update(self) -> Any:
        """Fill the rows that are free, close the others up, swap some; return vLLM's BatchUpdate."""
        free, added, moved = sorted(self._left), [], []
        self._left = set()
        while self._waiting and (free or len(self._in_row) < self._rows):
            one = self._waiting.pop(0)
            row = free.pop(0) if free else len(self._in_row)
            if row == len(self._in_row):
                self._in_row.append(one)
            self._in_row[row] = one
            one.parts = self._random.choice((0, 0, 1, 2))
            added.append((row, one.params, one.prompt, one.tokens))
        removed = sorted(free, reverse=True)
        for row in removed:  # the last row that is used takes the place
            last = len(self._in_row) - 1
            if row != last:
                self._in_row[row] = self._in_row[last]
                moved.append((last, row, Direction.UNIDIRECTIONAL))
                self.moves += 1
            self._in_row.pop()
        if len(self._in_row) > 1 and self._random.random() < 0.5:
            a, b = self._random.sample(range(len(self._in_row)), 2)
            self._in_row[a], self._in_row[b] = self._in_row[b], self._in_row[a]
            moved.append((a, b, Direction.SWAP))
            self.swaps += 1
        if not (removed or added or moved):
            return None
        return SimpleNamespace(removed=removed, added=added, moved=moved)

    def _apply_second(self, update: Any) -> torch.Tensor:
        """Apply the second runner's processor: its requests have slots, its rows are in any order."""
        slots = {id(one): slot for slot, one in enumerate(self._in_row)}
        for one in self._in_row:
            self._processor.add_request(slots[id(one)], one.params)
        self._random.shuffle(self._in_row)
        logits = torch.stack([self._logits(one) for one in self._in_row])
        rows = [slots[id(one)] for one in self._in_row]
        return self._processor.apply(logits, SimpleNamespace(idx_mapping_np=rows))

    def _logits(self, one: Running) -> torch.Tensor:
        ids = one.prompt + one.tokens
        if one.parts:
            ids = ids[: max(1, len(ids) // 2)]
        return self._model(torch.tensor([ids])).logits[0, -1].float()

    def _of_prompt(self, one: Running) -> Any:
        if one.params.prompt_logprobs is None or len(one.tokens) > 1:
            return None
        log_p = self._model(torch.tensor([one.prompt])).logits[0].float().log_softmax(-1)
        pairs = enumerate(one.prompt[1:])
        return [None, *({t: SimpleNamespace(logprob=float(log_p[n, t]))} for n, t in pairs)]
