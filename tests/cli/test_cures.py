"""Every cure works as it is printed: it is read from the message by rule, and checked in the same folder."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.cli.main import main

Check = Callable[[Sequence[str]], tuple[int, str]]

# What comes before a cure that is overrides or a command, and what ends it.
_OVERRIDES = re.compile(
    r"(?:; use|; write|, or use|or use|; set(?: it to null:)?|; quote it:|; add|: add|, or sample with"
    r"|turn it off use|1e-4, use"
    r"|; a prompt is|; a file is|model of the hub is|; for both:|sampling use|leave the word out:|come first:"
    r"|or brackets:|in the sweep:|a mapping;|each text;) (.+)"
)
_END = re.compile(r" \(choices: | \(at |; else |; quote a value|; in a file")
_MEANT = re.compile(r"did you mean (.+?)\?")
_ONE_OF = re.compile(r"(?:name|use) one of (.+)")


def cures(words: Sequence[str], line: str) -> list[list[str]]:
    """The commands that a message advises instead of `words`, as a shell reads them."""
    key = line.partition(": ")[0]
    wrong = next((word for word in words if word == key), None) or next(
        (word for word in words if word.partition("=")[0] == key.partition("=")[0]), ""
    )
    if meant := _MEANT.search(line):
        return [_instead(words, wrong, _whole(wrong, shlex.split(meant[1])[0], line))]
    if one_of := _ONE_OF.search(line):
        name = wrong.partition("=")[0]
        values = shlex.split(one_of[1].replace(", ", " "))
        return [_instead(words, wrong, f"{name}={value}") for value in values]
    found = []
    rest = line
    while advice := _OVERRIDES.search(rest):
        text = _END.split(advice[1])[0]
        rest = advice[1]
        command = text.startswith(("harness ", "-m", "'", "prompts.", "cases=")) or " or " not in text
        for one in [text] if command else re.split(r", or use | or use |, or sample with | or |, ", text):
            given = shlex.split(one)
            if given[0] == "harness":
                found.append([word for word in given[1:] if word != "plan"])
            elif all("=" in word or word == "-m" for word in given):
                found.append(_with(words, wrong, given, line))
    return found


def _whole(wrong: str, meant: str, line: str) -> str:
    """The word that is meant: an override, a key for the value that there was, or a value for the key."""
    name, equals, value = wrong.partition("=")
    if "=" in meant or not equals:
        return meant
    return f"{meant}={value}" if "no such key" in line else f"{name}={meant}"


def _instead(words: Sequence[str], wrong: str, right: str) -> list[str]:
    return [right if word == wrong else word for word in words]


def _with(words: Sequence[str], wrong: str, given: Sequence[str], line: str) -> list[str]:
    """The words with those of the cure, in place of what sets the same, and of a choice that there is not."""
    keys = {word.partition("=")[0] for word in given}
    if re.search("no such choice|no such key; (?:a prompt|use)|cannot be parsed|must be", line):
        keys.add(wrong.partition("=")[0])
    return [*(word for word in words if word.lstrip("~").partition("=")[0] not in keys), *given]


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Check:
    """`check(words)`: exit status and first line printed, in a folder with a model, prompts and a metric."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.jsonl").write_text(json.dumps({"prompt": "It was", "reference": "a night"}) + "\n")
    (tmp_path / "mine.py").write_text(
        "def length(generated):\n    return len(generated.output)\n"
        "def halved(input_ids, scores):\n    return scores / 2\n"
        "def loop(model, prompts, max_new_tokens, seeds, settings):\n    return [[5] for _ in prompts]\n"
        "class Boost:\n    def __init__(self, boost=1.0):\n        self.boost = boost\n"
        "    def __call__(self, input_ids, scores):\n        return scores * self.boost\n"
    )

    def run(words: Sequence[str]) -> tuple[int, str]:
        commands = ("run", "sweep", "inspect")
        status = main(list(words) if words[0] in commands or words[-1] == "plan" else ["check", *words])
        printed = capsys.readouterr()
        return status, next(iter((printed.err + printed.out).splitlines()), "")

    return run


MISTAKES = [
    # prompts, files and models
    'prompts="Tell me a story"',
    'prompts="Tell me, if you can: a story"',
    """prompts="It's a \\$HOME of \\`mine\\`" """,
    "prompts=mine.jsonl",
    "prompts.items=Tell",
    "'prompts.items=[a,b:c'",
    "'prompts.items=[it'\\''s, two]'",
    "prompts.file=mine.jsnl",
    "prompts.file=min.jsonl",
    "model=./model prompts.file=mine.jsonl",
    "model.id=./modl prompts.file=mine.jsonl",
    "model.id=modl prompts.file=mine.jsonl",
    "model.id=fable_tyni",
    "model=fable",
    # choices
    "decoding=gredy",
    "decoding=sampling",
    "decoding=sample",
    "decoding=nucleus",
    "decoding=top_p=0.8",
    "quantization=4bit",
    "quantization=half",
    "cache=default decoding=none",
    "quantization=int8",
    "timing=none",
    "tracking=false",
    "timing=true",
    "experiments=dmo",
    # keys
    "greedy",
    "decoding=temperature temperature=0.7",
    "decoding=temperature decoding.temprature=0.7",
    "decoding.max_new_tokens=9",
    "~decoding.top_p",
    "prompts.system=5 prompts=questions",
    # keys without an effect
    "decoding.top_p=0.9",
    "decoding=temperature decoding.temperature=0",
    "generation.samples=2",
    "decoding=top_k decoding.top_k=0",
    "decoding=eta decoding.eta_cutoff=3",
    "decoding=temperature decoding.xtc_threshold=0.2",
    "decoding=temperature decoding.mirostat_tau=3",
    "decoding=temperature decoding.top_p_decay=0.9",
    "decoding.dry_base=2",
    "decoding.negative_prompt=dull",
    "decoding.contrastive_beta=0.5",
    "decoding=cfg decoding.context_alpha=1",
    "decoding=cfg cache=quantized_fp8",
    "decoding=beam decoding.guidance_scale=2",
    "decoding=contrastive_decoding decoding.amateur=fable_tyni",
    "speculation.draft=fable_tyni",
    "speculation.draft=[fable_tiny,fable_tiny]",
    "-m speculation.draft=fable_tiny,fable_small decoding=greedy,top_p",
    "-m speculation.prompt_lookup=true,false decoding=greedy,top_p",
    "model=fable_tiny speculation.early_exit=2",
    "speculation.num_assistant_tokens=[]",
    "speculation.num_assistant_tokens=3",
    "speculation.max_matching_ngram_size=3",
    "decoding.penalty_alpha=0.6",
    "decoding=contrastive_search decoding.top_k=1",
    "decoding=contrastive_search decoding.do_sample=true",
    "decoding=temperature decoding.penalty_alpha=0.6",
    "decoding=beam decoding.penalty_alpha=0.6",
    "decoding=contrastive_search decoding.num_beams=4",
    "decoding=contrastive_search decoding.temperature=0.7",
    "decoding=contrastive_search decoding.sampler_order=[top_k]",
    "decoding=contrastive_search decoding.guidance_scale=2",
    "decoding=contrastive_search cache=quantized_fp8",
    "decoding=contrastive_search generation.samples=3",
    "decoding=contrastive",
    "inspect model=fable_tiny prompt=It steps=2 decoding=contrastive_search",
    "inspect model=fable_tiny prompt=It steps=2 decoding.penalty_alpha=0.6 decoding.top_k=4",
    "decoding.num_beam_groups=4",
    "decoding.diversity_penalty=0.5",
    "decoding=beam decoding.diversity_penalty=0.5",
    "decoding=beam decoding.num_beam_groups=5",
    "decoding=diverse_beam decoding.num_beam_groups=4",
    "decoding=diverse_beam decoding.do_sample=true",
    "decoding=diverse_beam decoding.dry_multiplier=0.8",
    "decoding=diverse_beam cache=quantized_fp8",
    "decoding=diverse_beam generation.samples=7",
    "decoding.force_words=[fox]",
    "decoding=constrained_beam decoding.do_sample=true",
    "decoding=constrained_beam decoding.force_words=[fox,fox]",
    "decoding=constrained_beam 'decoding.force_words=[the old king went away]' generation.max_new_tokens=3",
    "decoding=constrained_beam decoding.num_beam_groups=2 decoding.diversity_penalty=1.0",
    "decoding=constrained_beam decoding.dry_multiplier=0.8",
    "decoding=constrained_beam generation.samples=2",
    "decoding=constrained_beam decoding.temperature=0.7",
    "decoding=constrained_beam decoding.gumbel_key=3",
    "decoding=diverse_beam decoding.top_p=0.9",
    "decoding=top_p decoding.force_words=[fox]",
    "decoding=top_p decoding.force_words=[fox] decoding.num_beams=6",
    "decoding=stochastic_beam decoding.do_sample=false",
    "decoding=stochastic_beam decoding.do_sample=false decoding.temperature=null",
    "decoding=beam decoding.generate=mine.py:loop",
    "decoding=constrained_beam decoding.generate=mine.py:loop",
    "decoding=diverse_beam decoding.generate=mine.py:loop",
    "decoding=greedy decoding.num_beams=4 decoding.generate=mine.py:loop",
    "decoding=stochastic_beam decoding.generate=mine.py:loop",
    "decoding=stochastic_beam decoding.length_penalty=2",
    "decoding=contrastive_search decoding.early_stopping=true",
    "decoding=cot generation.samples=3 decoding.force_words=[fox]",
    "decoding=kgw decoding.generate=mine.py:loop",
    "decoding=kgw decoding.gumbel_key=3",
    "decoding=greedy decoding.gumbel_key=3",
    "decoding=stochastic_beam decoding.kgw_bias=2",
    "decoding=beam decoding.kgw_bias=2",
    "decoding=constrained_beam decoding.force_words=[]",
    "decoding=greedy generation.samples=3 decoding.generate=mine.py:loop",
    "decoding=stochastic_beam decoding.num_beams=4",
    "decoding=stochastic_beam decoding.mirostat_mode=2",
    "decoding=stochastic_beam cache=quantized_fp8",
    "inspect model=fable_tiny prompt=It steps=2 decoding=stochastic_beam",
    "decoding=beam generation.samples=2",
    "decoding=group_beam",
    "inspect model=fable_tiny prompt=It steps=2 decoding=diverse_beam",
    "decoding=cot generation.samples=11",
    "decoding=cot generation.samples=3 decoding.do_sample=true",
    "decoding=temperature generation.samples=3 decoding.cot_branches=3",
    "decoding=cot generation.samples=3 decoding.top_p=0.9",
    "decoding=contrastive_search decoding.cot_branches=3",
    "decoding=chain_of_thought generation.samples=10",
    "inspect model=fable_tiny prompt=It steps=2 decoding=cot generation.samples=10",
    "decoding.penalty_last_n=64",
    "decoding=beam_search",
    "decoding=nucleus decoding.top_p=0.8",
    "quantization.bnb_4bit_quant_type=nf4",
    "timing.new_tokens=1",
    "decoding.eta_cutoff=0.001",
    "decoding.repeat_penalty=1.1",
    "decoding=temperature decoding.tfs_z=0.9",
    "decoding=temperature generation.n=3",
    "decoding=beam decoding.num_beams=1",
    "decoding=beam_sample decoding.num_beams=1",
    "prompt=Hello",
    "prompts=Hello",
    # lists, decimal commas and values given twice
    "-m decoding=greedy,top_p compare.pareto=chrf,itl",
    "decoding=greedy generation.stop_strings=a,b",
    "decoding=temperature decoding.suppress_tokens=1,2",
    "decoding=top_p decoding.top_p=0,7",
    "-m decoding=top_p decoding.top_p=0,75",
    "-m decoding=greedy,greedy",
    "-m decoding=top_p decoding.top_p=0.5,0.6,0.5",
    # processors of one's own
    "decoding.processors=mine.py:Boost",
    "'decoding.processors=[mine.py:Bost]'",
    "'decoding.processors=[mein.py:Boost]'",
    "'decoding.processors=[{path: mine.py:Boost, boots: 2.5}]'",
    "'decoding.processors=[mine.py:halved, {path: mine.py:Boost, boost: 2, plaice: after}]'",
    "'decoding.processors=[mine.py:halved, {path: mine.py:Boost, boost: 2, place: afterwards}]'",
    "decoding=beam 'decoding.processors=[mine.py:Boost]'",
    # sweeps
    "decoding=greedy,top_p",
    "quantization=fp32 quantization=bnb_nf4",
    "-m quantization=fp32,bf16 quantization=bnb_nf4",
    "quantization=bnb_nf4",
    "generation.seed=1 generation.seed=2",
    "run decoding=greedy",
    "sweep decoding=greedy,top_p",
    "decoding=greedy plan",
    "--multirum decoding=greedy,top_p",
    "-m 'cases=[[decoding=greedy,generation.max_new_tokens=8]]'",
    "-m 'cases=[[decoding=greedy],[decoding=beam,decoding.num_beams=2]]'",
    "-m 'cases=[decoding=greedy, decoding.suppress_tokens=[1,2]]'",
    "cases=decoding=beam",
    # what is compared
    "-m decoding=greedy,top_p compare.baseline=gredy",
    "-m decoding=greedy,top_p model=fable_tiny,fable_small compare.baseline=greedy",
    "-m decoding=top_p decoding.top_p=0.5,0.6 compare.baseline=top_p",
    "-m decoding=top_p decoding.top_p=0.5,0.6 'compare.baseline=top_p top_p=0.55'",
    "-m decoding=greedy,top_p generation.samples=2 'compare.select=[best_off]'",
    "-m decoding=greedy,top_p generation.samples=2 'compare.select=[mbr,majorty]'",
    "-m decoding=greedy,top_p generation.samples=2 compare.select=best_of",
    "-m decoding=greedy,top_p generation.samples=2 compare.select=best_of,mbr",
    "-m decoding=greedy,top_p generation.samples=2 'compare.select=[mbr,mbr]'",
    "-m decoding=greedy,top_p generation.samples=2 compare.selct=[mbr]",
    "-m decoding=greedy,top_p 'compare.select=[mbr]'",
    "decoding=greedy 'compare.select=[mbr]'",
    "decoding=top_p generation.samples=2 'compare.select=[first_valid]'",
    "decoding=top_p generation.samples=2 'compare.select=[mbr,first_valid]'",
    "decoding=top_p generation.samples=2 compare.answer_pattern=night",
    "decoding=top_p generation.samples=2 'compare.select=[mbr]' compare.answer_pattern=night",
    """decoding=top_p generation.samples=2 'compare.select=[majority]' 'compare.answer_pattern="a(b"'""",
    """decoding=top_p generation.samples=2 'compare.select=[majority]' 'compare.answer_pattern="a\\"'""",
    "compare.goal=chrff",
    "compare.goal=quality/chrff",
    "compare.goal=own/lenght 'compare.metrics=[mine.py:length]'",
    "decoding=temperature decoding.regex=3",
    "decoding=temperature decoding.choices=yes",
    "decoding=temperature decoding.regex=a decoding.grammar=b",
    "decoding=beam decoding.regex=a",
    "decoding=beam decoding.dry_multiplier=0.8",
    "decoding=beam decoding.tfs=0.9",
    "decoding=beam_sample decoding.xtc_probability=0.5",
    "decoding=beam decoding.encoder_repetition_penalty=1.2",
    "decoding=schema",
    "decoding=regexp",
    "decoding=temperature decoding.regex=a generation.ignore_eos=true",
    "drift.reference=fp32",
    "-m quantization=fp16,bf16 drift.reference=fp23",
    "-m quantization=bf16,fp32 drift.reference=fp64",
]


@pytest.mark.thinned(8)
@pytest.mark.parametrize("command", MISTAKES)
def test_a_cure_works_as_it_is_printed(
    check: Check, command: str, tmp_path: Path, small_model: Callable[..., Path]
) -> None:
    if "./mod" in command or "=modl" in command:
        (tmp_path / "model").symlink_to(small_model("llama"))
    if re.search(r"regex|schema|choices=yes", command):
        pytest.importorskip("llguidance")
    words = shlex.split(command)
    status, line = check(words)
    assert status == 2 or "no effect" in line or line.startswith("hint ")
    advised = cures(words, line)
    assert advised, line
    for cure in advised:
        found: Any = check(cure)
        assert found[0] == 0, f"{line}\n{shlex.join(cure)}\n{found[1]}"
        assert "no effect" not in found[1]


@pytest.mark.parametrize(
    ("command", "cure"),
    [
        ("-m decoding=greedy,top_p compare.pareto=chrf,itl", """'compare.pareto=["chrf","itl"]'"""),
        ("decoding.top_p=0.9", "use decoding=top_p"),
        ("decoding.typical_p=0.9", "use decoding=typical"),
        ("decoding=beam decoding.num_beams=1", "decoding.num_beams=1: one beam is no beam search"),
        ("-m quantization=bf16,fp32 drift.reference=fp64", "; use drift.reference=fp32"),
        ("prompts=Hello", """'prompts.items=["Hello"]'"""),
        ("decoding=top_p decoding.top_p=0,7", "write decoding.top_p=0.7"),
        ("-m decoding=greedy,greedy", "names greedy twice"),
    ],
)
def test_the_cure_is_the_one_that_is_meant(check: Check, command: str, cure: str) -> None:
    status, line = check(shlex.split(command))
    assert status == 2
    assert cure in line


def test_a_prompt_that_the_shell_divided_is_one_mistake(check: Check) -> None:
    status, line = check(shlex.split("inspect model=fable_tiny prompt=It was a steps=2"))
    assert status == 2
    assert line == "prompt=It: 2 more words come after it; quote it: 'prompt=It was a'"


@pytest.mark.parametrize("word", ["plan", "check", "run"])
def test_outputs_that_name_a_file_are_refused_before_anything(
    check: Check,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    word: str,
) -> None:
    (tmp_path / "taken").write_text("")
    for name in ("taken", "taken/below"):
        monkeypatch.setenv("HARNESS_OUTPUTS", name)
        assert main([*([] if word == "run" else [word]), "model=fable_tiny"]) == 2
        assert "taken is a file; set HARNESS_OUTPUTS to a folder" in capsys.readouterr().err


@pytest.mark.parametrize("port", ["abc", "0", "65536", "-1", "5000.5"])
def test_a_wrong_port_of_the_ui_is_one_line(
    check: Check, capsys: pytest.CaptureFixture[str], port: str
) -> None:
    assert main(["ui", f"--port={port}"]) == 2
    assert capsys.readouterr().err == f"--port {port}: must be a port from 1 to 65535, as in --port 5001\n"
