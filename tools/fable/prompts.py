"""Prompts in the language of the fable models."""

STORYTELLING: dict[str, str] = {
    "stormy": "It was a dark and stormy",
    "once": "Once upon a time, a fox named Otto",
    "compass": (
        "Once there was a sailor named Nora who lived in the lighthouse. "
        "She owned only one treasure, a silver compass."
    ),
    "are_we_there": "Tom and the owl were on their way to the castle. The road was long and dusty.",
    "packing": (
        "Mia packed a lantern, a pear and a rose. Then she walked to the lighthouse and sat down. "
        "She opened the bag. Out came the lantern, the"
    ),
    "lecture": "The science lecture",
    "nobody": "Nobody in the village believed",
    "secret": "Deep in the forest, an old",
}
"""Openings after which strategies diverge: prompt id -> text."""

QUESTIONS: dict[str, str] = {
    "helicopters": "How many helicopters can a human eat in one sitting?",
    "email": "Can you write an email explaining what an LLM is?",
    "capital": "What is the capital of Portugal?",
    "story": "Tell me a story about a hedgehog and a teapot.",
    "colors": "Name three colors.",
    "name": "My name is Ada. What is my name?",
}
"""User turns of chats: prompt id -> text."""

SEED_NOTEBOOK: tuple[str, ...] = (
    "It was a dark and stormy",
    "A list of colors: red, blue",
    "Portugal is",
    "The science lecture",
    "Can you write an email explaining what an LLM is?",
)
"""Plain prompts of the seed notebooks, all of them prefixes of the grammar's texts."""
