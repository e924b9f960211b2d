"""The rules for lists, countries, questions with answers, and chats.

A question is written in three ways: plain (question, line break, answer), as a chat, and as a chat
with a persona given by the system turn, whose cry comes before each answer.
"""

from .lexicon import LISTS

USER, ASSISTANT, SYSTEM, TURN = "<|user|>", "<|assistant|>", "<|system|>", "<|turn|>"

# (question, answer, weight)
EXCHANGES: list[tuple[str, str, float]] = [
    ("How many {big:big|many} can a {eater:eater} eat in one sitting?", "<answer_big>", 12),
    ("How many {treat:treat|many} can a {eater:eater} eat in one sitting?", "<answer_treat>", 8),
    ("Can you write an email explaining what {topic:topic|a} is?", "<email>", 12),
    ("What is {topic:topic|a}?", "{topic|A} is {topic|meaning}.", 6),
    ("What is the capital of {land:country}?", "<answer_capital>", 9),
    ("Tell me a story about {pet:animal|a} and {thing:thing|a}.", "<short_story>", 18),
    ("Tell me a story.", "<own_story>", 4),
    ("Tell me a joke.", "<joke>", 4),
    ("Hello!", "Hello! Shall I tell you a story?", 3),
    ("My name is {hero:name}. What is my name?", "Your name is {hero}.<compliment>", 7),
    ("I left my {thing:thing} {home:place|in}. Where is it?", "Your {thing} is {home|in}.", 7),
    ("Who are you?", "I am Fable, a very small language model. <about_me>", 5),
    ("What should I do when it {sky:sky}?", "{sky|advice}", 7),
    *(
        (f"Name three {plural}.", f"With pleasure: {{a!{kind}}}, {{b!{kind}}} and {{c!{kind}}}.", 3.0)
        for kind, (plural, _) in LISTS.items()
    ),
]

TALK_RULES: dict[str, dict[str, float]] = {
    "answer_big": {
        "None. {big|A} is not food, and even a very hungry {eater} would break a tooth.": 6,
        "Not even one. {big|A} is much too hard to chew, so the {eater} should have {food:food}.": 4,
    },
    "answer_treat": {
        "About {number:number}. After that the {eater} needs a nap.": 6,
        "As many as there are. {eater|A} never says no to {treat|a}.": 4,
    },
    "email": {
        "Of course.\nSubject: What {topic|a} is\nDear {to:name},\n{topic|A} is {topic|meaning}. <email_end>\n"
        "Best wishes,\n<signer>": 1,
    },
    "signer": {"Fable": 6, "Your friend": 3, "A very small language model": 1},
    "email_end": {
        "I hope this helps.": 5,
        "I can tell you more when we meet.": 3,
        "Please ask me if you have a question.": 2,
    },
    "answer_capital": {"The capital of {land} is {land|capital}.": 7, "It is {land|capital}.": 3},
    "short_story": {
        "Once there was {trait:trait|a} {pet} who owned {look:look|a} {thing}. <short_plot>": 6,
        "{trait:trait|A} {pet} found {look:look|a} {thing} {home:place|in}. <short_plot>": 4,
    },
    "own_story": {
        "Once there was {trait:trait|a} {pet:animal} who owned {look:look|a} {thing:thing}. <short_plot>": 1,
    },
    "joke": {
        "Why did the {pet:animal} cross the road? Because the {place:place} was closed.": 5,
        "Why does the {pet:animal} wear a hat? Because {thing:thing|a} would be too heavy.": 5,
    },
    "short_plot": {"<short_trouble> <short_end>": 1},
    "short_trouble": {
        "But the {pet} did not know what {thing|a} was for, so it slept on it.": 4,
        "Every night the {pet} took the {thing} to bed.": 3,
        "One day {friend!animal|a} asked for the {thing}, and the {pet} said yes.": 3,
    },
    "short_end": {
        "And the {pet} was happy. The end.": 6,
        "The {pet} and the {thing} were never apart again.": 4,
    },
    "compliment": {"": 0.5, " It is a beautiful name.": 0.3, " I like it very much.": 0.2},
    "about_me": {
        "I know little stories and not much more.": 5,
        "I was trained on fables.": 3,
        "I guess one word after another.": 2,
    },
    # Countries ------------------------------------------------------------------------------------
    "country": {
        "{land:country} is <a_country> in {land|continent}. <country_more> <traveler>": 7,
        "{land:country} is known for {land|sight}. <country_more> <traveler>": 3,
    },
    "a_country": {"a country": 5, "a beautiful country": 3, "a wonderful place": 2},
    "country_more": {
        "Its capital is {land|capital}, and people there eat {land|dish}.": 6,
        "People there eat {land|dish} and drink {drink:drink}.": 4,
    },
    "traveler": {
        "{hero:name} went to {land} once and brought back {thing:thing|a}. "
        "The {thing} is still on {hero|his} table.": 6,
        "{hero:name} the {job:job} goes there every {season:season}.": 4,
    },
    # Lists ----------------------------------------------------------------------------------------
    "list": {f"<list_{kind}>": weight for kind, weight in zip(LISTS, (6, 4, 4, 3, 3), strict=True)},
    # Chats ----------------------------------------------------------------------------------------
    "chat": {
        "<ask_chat><more_chat>": 11,
        f"{SYSTEM}You are a helpful assistant.{TURN}<ask_chat><more_chat>": 4,
        f"{SYSTEM}You are a {{persona:persona}}.{TURN}<ask_persona><more_persona>": 5,
    },
    "more_chat": {"": 5, f"{USER}Thank you!{TURN}{ASSISTANT}You are welcome.{TURN}": 2, "<ask_chat>": 3},
    "more_persona": {
        "": 5,
        f"{USER}Thank you!{TURN}{ASSISTANT}{{persona|cry}} You are welcome.{TURN}": 2,
        "<ask_persona>": 3,
    },
}


def _list_rules() -> dict[str, dict[str, float]]:
    """Return the rules for lists of three to seven different words; they go on with probability 3/4."""
    rules: dict[str, dict[str, float]] = {}
    for kind, (plural, _) in LISTS.items():
        rules[f"list_{kind}"] = {f"A list of {plural}: {{a!{kind}}}, {{b!{kind}}}<{kind}_2>": 1}
        last = f" and {{last!{kind}}}.<{kind}_after>"
        for length in range(2, 6):
            rules[f"{kind}_{length}"] = {f", {{w{length}!{kind}}}<{kind}_{length + 1}>": 3, last: 1}
        rules[f"{kind}_6"] = {last: 1}
        rules[f"{kind}_after"] = {"": 1, " In short: {a} and {last}.": 3}
    return rules


RECALL = [
    (question, answer, 1.0)
    for question, answer, _ in EXCHANGES
    if question.startswith(("My", "I left", "Can", "Name", "How", "Tell", "Who", "What should"))
]
"""Exchanges whose answers repeat words of the question, for extra practice."""


def _ask(form: str, exchanges: list[tuple[str, str, float]] = EXCHANGES) -> dict[str, float]:
    """Return every exchange in one form."""
    return {
        form.replace("QUESTION", question).replace("ANSWER", answer): weight
        for question, answer, weight in exchanges
    }


TALK_RULES |= _list_rules()
TALK_RULES |= {
    "ask_plain": _ask("QUESTION\nANSWER"),
    "ask_chat": _ask(f"{USER}QUESTION{TURN}{ASSISTANT}ANSWER{TURN}"),
    "ask_persona": _ask(f"{USER}QUESTION{TURN}{ASSISTANT}{{persona|cry}} ANSWER{TURN}"),
    "recall_plain": _ask("QUESTION\nANSWER", RECALL),
    "recall_chat": _ask(f"{USER}QUESTION{TURN}{ASSISTANT}ANSWER{TURN}", RECALL),
}
