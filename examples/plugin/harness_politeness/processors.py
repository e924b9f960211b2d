"""What makes polite words likelier."""

import torch

WORDS = (" gave", " give", " help", " soft")


class PoliteWords:
    """Adds a bias to the first token of polite words.

    Args:
        tokenizer: the model's; the harness passes it.
        bias: added to the logits.
    """

    def __init__(self, tokenizer, bias: float = 8.0):
        tokens = [tokenizer.encode(word, add_special_tokens=False)[:1] for word in WORDS]
        self.ids = sorted({token for one in tokens for token in one})
        self.bias = bias

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Return the logits (texts, vocabulary) with the bias added."""
        scores = scores.clone()
        scores[:, self.ids] += self.bias
        return scores
