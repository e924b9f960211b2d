"""How polite a text is."""

WORDS = ("please", "thank", "kind")


def politeness(generated):
    """Polite words of a text."""
    return sum(generated.output.lower().count(word) for word in WORDS)


politeness.better = "higher"
