"""Logits processors as a user might write them; read as a file by the tests."""

import torch


class Counting:
    """Pushes another token at each step; were it shared between texts, it would push others."""

    def __init__(self, every: int = 7, by: float = 6.0) -> None:
        self.every, self.by, self.step = every, by, 0

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        assert input_ids.shape[0] == scores.shape[0] == 1
        self.step += 1
        scores = scores.clone()
        scores[:, (self.every * self.step) % scores.shape[1]] += self.by
        return scores


class Echo:
    """Remembers its prompt as the first ids it sees, and rewards its tokens, in place."""

    def __init__(self, tokenizer, batch_size, device="cpu", by=3.0) -> None:  # type: ignore[no-untyped-def]
        assert batch_size == 1
        assert tokenizer.eos_token_id is not None
        self.prompt, self.by = None, by

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if self.prompt is None:
            self.prompt = input_ids[0].clone()
        scores[:, self.prompt] += self.by
        return scores


class Uncopyable(Counting):
    """Its state is a generator, which `deepcopy` refuses; what it adds depends on the scores it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.run = self._sums()
        next(self.run)

    def _sums(self):  # type: ignore[no-untyped-def]
        total = 0.0
        while True:
            total += float((yield total))

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        best = int(scores.argmax())
        total = int(self.run.send(float(best)))
        self.run.send(0.0)
        scores[:, total % scores.shape[1]] += 6.0
        return super().__call__(input_ids, scores)


class OnlyLater:
    """Copies until it has seen two steps."""

    def __init__(self) -> None:
        self.steps, self.held = 0, None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.steps += 1
        if self.steps == 2:
            self.held = (one for one in ())
        return scores


def no_last(input_ids: torch.Tensor, scores: torch.Tensor, times: int = 1) -> torch.Tensor:
    """Forbids the last token."""
    return scores.index_fill(1, input_ids[0, -times:], float("-inf"))


def second(input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """Leaves only the last likely of two or more that the samplers left."""
    kept = (scores > float("-inf")).nonzero()[:, 1]
    assert 1 <= len(kept) < scores.shape[1]
    least = kept[scores[0, kept].argmin()]
    return torch.full_like(scores, float("-inf")).index_fill(1, least[None], 0.0)


def nothing(input_ids: torch.Tensor, scores: torch.Tensor) -> None:
    scores += 1


def empty(input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    return scores.fill_(float("-inf"))


def narrow(input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    return scores[0]


def fails(input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    raise KeyError("my mistake")


class Unmade:
    def __init__(self) -> None:
        raise ValueError("no dictionary")

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        return scores
