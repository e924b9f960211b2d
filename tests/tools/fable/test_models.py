"""The models compared with the grammar that they learned: exact probabilities, loops, garden paths, answers.

Probabilities come from plain fp32 forward passes, outputs from stock `generate`.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import pytest
import torch

from tools.fable.grammar import END, Grammar, units
from tools.fable.probes import draw_probes, probe_errors
from tools.fable.prompts import QUESTIONS, SEED_NOTEBOOK, STORYTELLING
from tools.fable.talk import ASSISTANT, TURN, USER

if TYPE_CHECKING:
    from _pytest.mark import ParameterSet

    from .conftest import Fable

ONCE = "Once upon a time, a baker named Mia lived in the castle."
DEAR = f"{ONCE} Of all her treasures, she loved her silver lantern the most."
LOST = f"{DEAR} One winter morning the lantern was gone."
STORM = "It was a dark and stormy night."
TRAVEL = "Tom and the owl were on their way to the castle. The road was long and dusty."
PACKED = (
    "Mia packed a key, a plum and a violet. Then she walked to the river and sat down. She opened the bag."
)

MISSES = "fable_small has not learned this well enough yet"
"""Cases in which the model is not good enough; each is a goal for the next training."""


def missed(*values: object) -> ParameterSet:
    """A case that is known to fail."""
    return pytest.param(*values, marks=pytest.mark.xfail(reason=MISSES, raises=(AssertionError, ValueError)))


LOCAL = [
    "It was a",
    "It was a dark and",
    "It was a dark and stormy",
    "It was a cold and",
    "It was a cold and windy",
    STORM,
    f"{STORM} Rain fell on the roofs. Otto the sailor",
    f"{STORM} Rain fell on the roofs. Otto the sailor sat by the fire and",
    f"{STORM} Rain fell on the roofs. Otto the sailor sat by the fire and drank tea.",
    "Once",
    "Once upon a time",
    "Once upon a time,",
    "Once upon a time, a baker named",
    DEAR,
    f"{DEAR} One",
    missed(LOST),
    f"{LOST} So Mia walked",
    f"{LOST} So Mia walked until she came to the hill.",
    f'{TRAVEL} "Are we there yet?" asked Tom. "',
    "The",
    "The science lecture",
    "The science lecture began",
    "Portugal is",
    "Portugal is a",
    "Portugal is a country in Europe.",
    "Deep in the forest, a",
    "Nobody in the village believed",
    "A list of",
    "A list of colors:",
    "A list of colors: red, blue",
    "A list of colors: red, blue, green",
    "Mia packed a",
    "Mia packed a lantern, a",
    "Mia packed a lantern, a pear and a",
    "Mia packed a key, a plum and a violet.",
    PACKED + " Out came the key, the plum and the violet.",
    f"{USER}How many helicopters can a human eat in one sitting?{TURN}{ASSISTANT}",
    f"{USER}How many pancakes can a human eat in one sitting?{TURN}{ASSISTANT}",
    f"{USER}What is the capital of Portugal?{TURN}{ASSISTANT}",
    f"{USER}Who are you?{TURN}{ASSISTANT}I am Fable, a very small language model. I",
]

COPIED = [
    f"{DEAR} One winter morning the",
    f"{DEAR} But one night a storm came and carried the",
    f"{LOST} So",
    f'{LOST} So Mia walked until she came to the hill. There she met a small owl. "Have you seen my',
    f"{PACKED} Out came the",
    f"{PACKED} Out came the key, the",
    f"{PACKED} Out came the key, the plum and the",
    f'{TRAVEL} "Are we there yet?" asked',
    f'{TRAVEL} "Are we there yet?" asked Tom. "Not yet," said the',
    "A list of colors: red, blue, green and pink. In short:",
    "A list of colors: red, blue, green and pink. In short: red and",
    'Nobody in the village believed Otto. "There is a troll in the cave!" he said, but the baker only '
    "laughed. That night the",
    "Egypt is a country in Africa. Its capital is Cairo, and people there eat beans. Leo went to",
    "Egypt is a country in Africa. Its capital is Cairo, and people there eat beans. "
    "Leo went to Egypt once and brought back a kite. The",
    f"{USER}Tell me a story about an otter and a teapot.{TURN}{ASSISTANT}Once there was a shy",
    f"{USER}Tell me a story about an otter and a teapot.{TURN}{ASSISTANT}Once there was a shy otter "
    "who owned a blue",
    f"{USER}My name is Rosa. What is my name?{TURN}{ASSISTANT}Your name is",
    f"{USER}I left my sword in the cave. Where is it?{TURN}{ASSISTANT}Your",
    f"{USER}I left my sword in the cave. Where is it?{TURN}{ASSISTANT}Your sword is in the",
]

LISTS = [
    "A list of colors: red,",
    "A list of colors: red, blue,",
    "A list of colors: green, yellow, red, blue,",
    "A list of fruits: apple, pear, plum, cherry,",
    "A list of fruits: lemon, pear, grape, cherry, apple and",
    "A list of flowers: rose, tulip, daisy,",
    "A list of flowers: iris, violet, poppy, lily and",
    "A list of animals: fox, owl,",
    f"{USER}Name three colors.{TURN}{ASSISTANT}With pleasure: green, yellow and",
    "A list of things: lantern, key,",
]


def max_error(fable: Fable, grammar: Grammar, prefix: str) -> float:
    """The largest |model - exact| over the words that can follow a prefix."""
    probabilities = grammar.next_words(prefix)
    predicted = fable.probabilities(prefix, list(probabilities))
    return max(abs(p - q) for p, q in zip(predicted, probabilities.values(), strict=True))


@pytest.mark.parametrize("prefix", LOCAL)
def test_local_choices_are_within_5_percent(small: Fable, grammar: Grammar, prefix: str) -> None:
    assert max(grammar.next_words(prefix).values()) < 0.95, "not a choice"
    assert max_error(small, grammar, prefix) <= 0.05


@pytest.mark.parametrize("prefix", COPIED)
def test_copied_words_are_within_10_percent(small: Fable, grammar: Grammar, prefix: str) -> None:
    assert max_error(small, grammar, prefix) <= 0.10


@pytest.mark.parametrize("prefix", LISTS)
def test_list_words_are_within_10_percent(small: Fable, grammar: Grammar, prefix: str) -> None:
    assert max_error(small, grammar, prefix) <= 0.10


@pytest.mark.parametrize(
    ("prefix", "used"),
    [
        missed("A list of colors: red, blue,", [" red", " blue"]),
        ("A list of animals: fox, owl,", [" fox", " owl"]),
        missed("A list of fruits: apple, pear, plum, cherry,", [" apple", " pear", " plum", " cherry"]),
        ("A list of flowers: rose, tulip, daisy,", [" rose", " tulip", " daisy"]),
        missed("A list of things: lantern, key, map,", [" lantern", " key", " map"]),
    ],
)
def test_used_words_are_within_5_percent_of_none(small: Fable, prefix: str, used: list[str]) -> None:
    assert max(small.probabilities(prefix, used)) <= 0.05


def test_drawn_texts_agree_and_small_is_better_than_tiny(fables: dict[str, Fable], grammar: Grammar) -> None:
    texts, probes = draw_probes(grammar, "test", 80)
    mean: dict[str, float] = {}
    for name, fable in fables.items():
        errors = probe_errors(fable.model, fable.tokenizer.backend_tokenizer, texts, probes)
        mean[name] = sum(errors) / len(errors)
    by_kind: dict[str, list[float]] = defaultdict(list)
    by_site: dict[str, list[float]] = defaultdict(list)
    for probe, error in zip(probes, errors, strict=True):
        by_kind[probe.kind].append(error)
        if probe.kind == "choice":
            by_site[probe.site].append(error)
    assert mean["fable_small"] < mean["fable_tiny"]
    limits = {"choice": 0.05, "copy": 0.10, "list": 0.10}
    assert {kind for kind, e in by_kind.items() if sum(e) / len(e) <= limits[kind]} == set(limits)
    common = {site: sum(e) / len(e) for site, e in by_site.items() if len(e) >= 5}
    assert sum(error <= 0.05 for error in common.values()) >= 20
    if sum(error <= 0.05 for error in common.values()) < 0.9 * len(common):
        pytest.xfail(MISSES)


@pytest.mark.parametrize(
    ("prompt", "again"),
    [
        (f"{LOST} So Mia walked", " and walked" * 12),
        (
            f'{TRAVEL} "Are we there yet?" asked Tom.',
            ' "Not yet," said the owl. "Are we there yet?" asked Tom.' * 3,
        ),
    ],
)
def test_greedy_falls_into_loops_that_others_leave(small: Fable, prompt: str, again: str) -> None:
    assert small.generate(prompt, do_sample=False).startswith(again)
    assert not small.generate(prompt, do_sample=False, repetition_penalty=1.3).startswith(again)
    torch.manual_seed(0)
    drawn = [small.generate(prompt, do_sample=True, top_k=0) for _ in range(4)]
    assert sum(not one.startswith(again) for one in drawn) >= 3


@pytest.mark.parametrize(
    ("prompt", "first", "likelier"),
    [
        (DEAR, " One", " But one night a storm came and carried the lantern"),
        (
            f"{STORM} Rain fell on the roofs. Otto the sailor could not sleep.",
            " Then",
            " Suddenly there was a knock",
        ),
        ("The science lecture was about a volcano.", " Half", " Everyone listened, for nobody had ever"),
    ],
)
def test_beams_find_what_greedy_walks_past(small: Fable, prompt: str, first: str, likelier: str) -> None:
    greedy = small.generate(prompt, max_new_tokens=10, do_sample=False)
    beams = small.generate(prompt, max_new_tokens=10, do_sample=False, num_beams=4)
    assert greedy.startswith(first)
    assert beams.startswith(likelier)
    assert small.score(prompt, beams) > small.score(prompt, greedy) + 0.1


WRONG_SOMEWHERE = {
    "A list of colors: red, blue",  # colors come twice
}


@pytest.mark.parametrize(
    "prompt", [missed(p) if p in WRONG_SOMEWHERE else p for p in (*STORYTELLING.values(), *SEED_NOTEBOOK)]
)
def test_prompts_are_continued_in_the_language(small: Fable, grammar: Grammar, prompt: str) -> None:
    """Each unit that greedy decoding adds is one that the grammar allows there."""
    text = prompt + small.generate(prompt, max_new_tokens=100, do_sample=False)
    assert len(grammar.walk(text)) > len(units(prompt)) + 5


@pytest.mark.parametrize("question", [missed(q) if q in WRONG_SOMEWHERE else q for q in QUESTIONS.values()])
def test_questions_are_answered_in_the_language(small: Fable, grammar: Grammar, question: str) -> None:
    answer = small.answer(question, max_new_tokens=120, do_sample=False)
    grammar.walk(f"{USER}{question}{TURN}{ASSISTANT}{answer}{TURN}")


ANSWERS = [
    ("How many helicopters can a human eat in one sitting?", "None. A helicopter is not food"),
    ("What is the capital of Norway?", "The capital of Norway is Oslo."),
    ("My name is Clara. What is my name?", "Your name is Clara."),
    ("I left my spoon in the library. Where is it?", "Your spoon is in the library."),
    ("What is a magnet?", "A magnet is a piece of iron that pulls other iron toward it."),
    ("Can you write an email explaining what an LLM is?", "Of course.\nSubject: What an LLM is\nDear "),
]


@pytest.mark.parametrize(("question", "start"), ANSWERS)
def test_questions_get_their_answers(small: Fable, question: str, start: str) -> None:
    assert small.answer(question, do_sample=False).startswith(start)


def test_a_persona_speaks_in_its_way(small: Fable) -> None:
    assert small.answer("Who are you?", system="You are a pirate.", do_sample=False).startswith(
        "Arr! I am Fable"
    )


def test_a_chat_encoded_without_the_beginning_is_answered_too(small: Fable) -> None:
    turns = [{"role": "user", "content": "What is the capital of Norway?"}]
    encoded = small.tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt")
    ids = small.model.generate(**encoded, max_new_tokens=20, do_sample=False)[0]
    answer = small.tokenizer.decode(ids[encoded["input_ids"].shape[1] :], skip_special_tokens=True)
    assert answer == "The capital of Norway is Oslo."


@pytest.mark.parametrize(
    ("prompt", "end"),
    [(f"{USER}Who are you?{TURN}{ASSISTANT}", TURN), ("What is a comet?", END)],
)
def test_generation_stops_at_both_ends(small: Fable, prompt: str, end: str) -> None:
    encoded = small.tokenizer(prompt, return_tensors="pt")
    ids = small.model.generate(**encoded, max_new_tokens=60, do_sample=False)[0].tolist()
    assert small.tokenizer.convert_ids_to_tokens(ids[-1]) == end
    assert len(ids) < 60
