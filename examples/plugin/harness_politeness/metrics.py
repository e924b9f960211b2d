"""How polite a text is."""

WORDS = ("gave", "give", "help", "please", "soft", "thank")


def politeness(generated):
    """Polite words of a text."""
    return sum(generated.output.lower().count(word) for word in WORDS)


politeness.better = "higher"
