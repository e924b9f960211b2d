"""The commands: what each calls with what, and the message for a wrong one."""

import json
import shlex
import sys
import types

import pytest


def test_no_arguments_run_one_default_point(harness):
    done = harness()
    ((word, points, name),) = done.calls
    assert (word, name, len(points)) == ("run", "sweep", 1)
    assert done.labels == ["fable_small/none/greedy"]
    assert done.err == ""


def test_a_sweep_is_one_call_with_all_points(harness):
    done = harness("-m", "decoding=greedy,top_p", "quantization=fp32,bnb_nf4")
    assert done.labels == [
        "fable_small/fp32/greedy",
        "fable_small/bnb_nf4/greedy",
        "fable_small/fp32/top_p",
        "fable_small/bnb_nf4/top_p",
    ]


@pytest.mark.parametrize("word", ["plan", "check"])
def test_plan_and_check_take_the_same_arguments(harness, word):
    done = harness(word, "-m", "decoding=greedy,top_p")
    ((called, points, name),) = done.calls
    assert called == word
    assert len(points) == 2
    assert name == "sweep"


def test_flags_may_be_anywhere(harness):
    assert len(harness("decoding=min_p,top_p", "-m", "generation.seed=1,2").calls[0][1]) == 4


def test_the_exit_status_is_the_sweeps(harness):
    assert harness(status=1).status == 1
    assert harness("-m", "decoding=greedy,top_p", status=1).status == 1


def test_choices_that_yaml_would_read_as_booleans(harness):
    (point,) = harness("timing=off", "tracking=off", "quantization=none").calls[0][1]
    assert (point.timing.name, point.timing.enabled) == ("off", False)
    assert (point.tracking.name, point.tracking.enabled) == ("off", False)
    assert point.quantization.name == "none"


def test_a_demo_of_both_models(harness):
    ((_, points, name),) = harness("experiments=demo").calls
    assert name == "demo"
    assert {point.model.name for point in points} == {"fable_small", "fable_tiny"}
    assert {point.quantization.name for point in points} == {"fp32", "bnb_nf4"}
    assert len({point.decoding.name for point in points}) >= 6
    assert all(len(point.prompts.items) == 8 for point in points)
    assert len({point.label for point in points}) == len(points)


def test_the_seed_notebook_is_three_cases(harness):
    assert harness("experiments=seed_notebook").labels == [
        "qwen2_0_5b/fp32/greedy max_new_tokens=20",
        "qwen2_0_5b/fp32/beam max_new_tokens=30",
        "qwen2_0_5b/fp32/beam_repetition_penalty max_new_tokens=38",
    ]


def test_mistral_expects_the_ids_of_its_prompt(harness):
    ((_, points, _),) = harness("experiments=mistral_4bit").calls
    assert [point.record.prompt_logprobs for point in points] == [True] * 4
    (expected,) = points[0].expect
    assert expected.prompt == points[0].prompts.items[0]["id"]
    assert " ".join(map(str, expected.prompt_ids_start)) == "1 2418 368 3324 396 4927 20400 767 396 16704"


def test_an_experiment_with_another_model(harness):
    assert all(
        label.startswith("gpt2/fp32/") for label in harness("experiments=seed_notebook", "model=gpt2").labels
    )


def test_an_experiment_of_the_working_folder(harness, tmp_path):
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "mine.yaml").write_text(
        "# @package _global_\n# Mine.\nhydra:\n  sweeper:\n    params:\n      decoding: greedy,beam\n"
        "cases:\n  - [decoding=temperature, decoding.temperature=0.3]\n  - [decoding=greedy]\n"
    )
    done = harness("plan", "experiments=mine")
    assert done.labels == ["fable_small/none/greedy", "fable_small/none/beam", "fable_small/none/temperature"]
    assert done.calls[0][2] == "mine"


CUSTOM = "prompts.file=mine.txt"


def prompts_of(done):
    ((_, points, _),) = done.calls
    return [(p.prompts.name, p.prompts.file, p.prompts.chat, len(p.prompts.items or ())) for p in points]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([CUSTOM], [("mine", "mine.txt", "auto", 0)]),
        ([CUSTOM, "prompts=custom"], [("mine", "mine.txt", "auto", 0)]),
        # Beside a choice, the rest of that choice stays, as of `model=gpt2 model.id=...`.
        (["prompts=questions", CUSTOM], [("mine", "mine.txt", True, 0)]),
        (["prompts.items=[a,b]"], [("custom", None, "auto", 2)]),
        (["prompts=questions", "prompts.items=[a,b]"], [("custom", None, True, 2)]),
        (["experiments=demo", "-m", CUSTOM, "model=gpt2", "quantization=fp32", "decoding=greedy"],
         [("mine", "mine.txt", "auto", 0)]),
        (["-m", "prompts.file=a/x.txt,y.csv"], [("x", "a/x.txt", "auto", 0), ("y", "y.csv", "auto", 0)]),
        (["-m", "prompts.file=null,mine.txt"],
         [("storytelling", None, False, 8), ("mine", "mine.txt", "auto", 0)]),
        (["cases=[['prompts.file=mine.txt'],['prompts=questions']]"],
         [("mine", "mine.txt", "auto", 0), ("questions", None, True, 6)]),
        ([CUSTOM, "cases=[['decoding=greedy'],['prompts=questions']]"],
         [("mine", "mine.txt", "auto", 0), ("questions", None, True, 6)]),
    ],
)  # fmt: skip
def test_custom_prompts_replace_a_choice(harness, words, expected):
    assert prompts_of(harness(*words)) == expected


def test_a_custom_model_replaces_a_choice(harness):
    for words in (
        ["model.id=a/mine"],
        ["model=custom", "model.id=a/mine"],
        ["model=gpt2", "model.id=a/mine"],
    ):
        (point,) = harness(*words).calls[0][1]
        assert (point.model.name, point.model.id) == ("mine", "a/mine")
    labels = harness("-m", "model.id=a/mine,b/other", "prompts.file=mine.txt,your.txt").labels
    assert labels == [f"{m}/none/greedy/{p}" for m in ("mine", "other") for p in ("mine", "your")]


@pytest.fixture
def experiment(tmp_path):
    """`experiment("prompts: {file: a.txt}")` writes ./experiments/mine.yaml."""

    def write(body):
        (tmp_path / "experiments").mkdir(exist_ok=True)
        (tmp_path / "experiments" / "mine.yaml").write_text(f"# @package _global_\n# Mine.\n{body}\n")

    return write


@pytest.mark.parametrize(
    ("body", "words", "expected"),
    [
        ("prompts: {file: a.txt}", [], [("a", "a.txt", "auto", 0)]),
        ("prompts: {file: a.txt, chat: true}", [CUSTOM], [("mine", "mine.txt", True, 0)]),
        ("defaults: [override /prompts: questions]\nprompts: {file: a.txt}", [], [("a", "a.txt", True, 0)]),
        ("defaults: [override /prompts: questions]", [CUSTOM], [("mine", "mine.txt", "auto", 0)]),
        ("prompts: {items: [a, b]}", [CUSTOM], [("mine", "mine.txt", "auto", 0)]),
        ("prompts: {items: [a, b]}", ["prompts=questions", "prompts.items=[c]"], [("custom", None, True, 1)]),
        ("prompts: {file: a.txt}", ["prompts=questions", "prompts.file=null"],
         [("questions", None, True, 6)]),
        ("hydra: {sweeper: {params: {prompts.file: 'a.txt,b.txt'}}}", [],
         [("a", "a.txt", "auto", 0), ("b", "b.txt", "auto", 0)]),
    ],
)  # fmt: skip
def test_an_experiment_sets_them_as_the_command_line_does(harness, experiment, body, words, expected):
    experiment(body)
    assert prompts_of(harness("experiments=mine", *words)) == expected
    assert prompts_of(harness("hydra.mode=MULTIRUN", "experiments=mine", *words)) == expected


@pytest.mark.parametrize("mode", ["RUN", "MULTIRUN"])
@pytest.mark.parametrize(
    ("body", "word", "key"),
    [
        ("prompts: {file: a.txt}", "prompts=questions", "prompts.file"),
        ("model: {id: a/b}", "model=gpt2", "model.id"),
    ],
)
def test_a_choice_that_an_experiment_would_override_is_a_mistake(harness, experiment, mode, body, word, key):
    experiment(body)
    done = harness(f"hydra.mode={mode}", "experiments=mine", word)
    cure = f"which has precedence; give {key} too, or remove it from the experiment"
    assert (done.status, done.lines) == (2, [f"{word}: experiments=mine sets {key}, {cure}"])


def test_groups_of_the_user(harness, tmp_path):
    for group, name, text in (
        ("decoding", "wild", "do_sample: true\ntemperature: 2\n"),
        ("preset", "short", "# @package _global_\ngeneration:\n  max_new_tokens: 7\n"),
    ):
        (tmp_path / "my" / group).mkdir(parents=True)
        (tmp_path / "my" / group / f"{name}.yaml").write_text(text)
        (tmp_path / "my" / group / "plain.yaml").write_text(
            "# @package _global_\n" if group == "preset" else "{}\n"
        )
    (point,) = harness("--config-dir", "my", "decoding=wild", "preset=short").calls[0][1]
    assert (point.decoding.name, point.decoding.temperature) == ("wild", 2.0)
    assert point.generation.max_new_tokens == 7
    assert harness("--config-dir", "my", "-m", "preset=short,plain").labels == [
        "fable_small/none/greedy max_new_tokens=7",
        "fable_small/none/greedy max_new_tokens=64",
    ]
    cases = "cases=[['preset=short'],['+decoding=wild','+decoding.top_k=3']]"
    assert harness("--config-dir", "my", cases).labels == [
        "fable_small/none/greedy max_new_tokens=7",
        "fable_small/none/wild max_new_tokens=64",
    ]


def test_a_typo_in_a_file_of_the_user(harness, tmp_path):
    (tmp_path / "my" / "decoding").mkdir(parents=True)
    (tmp_path / "my" / "decoding" / "wild.yaml").write_text("temprature: 2\n")
    done = harness("--config-dir=my", "decoding=wild")
    assert done.status == 2
    assert done.lines == [
        "decoding/wild.yaml: decoding.temprature: no such key; did you mean decoding.temperature?"
    ]


@pytest.mark.parametrize("word", ["decoding.max_time=2.5", "+decoding.max_time=2.5", "max_time=2.5"])
def test_a_time_limit_is_refused_wherever_it_is_set(harness, tmp_path, word):
    advice = "no such key; not supported: a sample must not depend on the speed of the machine; "
    advice += "limit it with generation.max_new_tokens"
    assert harness(word).lines == [f"{word}: {advice}"]
    (tmp_path / "my" / "decoding").mkdir(parents=True)
    (tmp_path / "my" / "decoding" / "hasty.yaml").write_text("max_time: 2.5\n")
    done = harness("--config-dir=my", "decoding=hasty")
    assert (done.status, done.lines) == (2, [f"decoding/hasty.yaml: decoding.max_time: {advice}"])


def test_a_broken_file_of_the_user(harness, tmp_path):
    (tmp_path / "my" / "decoding").mkdir(parents=True)
    (tmp_path / "my" / "decoding" / "wild.yaml").write_text("a: [1\nb: 2\n")
    done = harness("--config-dir=my", "decoding=wild")
    assert done.status == 2
    (line,) = done.lines
    assert "wild.yaml" in line
    assert "line 2" in line


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["engine.replay=true"], "engine.replay=true: no such key; the feature was removed"),
        (["plann"], "plann: unknown command; did you mean plan?"),
        (["-m", "plan"], "plan: a command must come first: harness plan -m"),
        (["decoding=greedy,top_p"], "decoding=greedy,top_p: several values make a sweep: add -m"),
        (["--config-dir", "nowhere"], "--config-dir nowhere: no such folder"),
        (["--config-dir"], "--config-dir: needs a value after it"),
        (["--config-name", "x"], "--config-name: the harness has its own config"),
        (["--multirum"], "--multirum: no such flag; did you mean --multirun?"),
        (["hydra.nope=1"], "hydra.nope"),
        (["hydra.mode=WALK"], "hydra.mode=WALK"),
        (["decoding.top_p=${nope}", "decoding=top_p"], "decoding.top_p: Interpolation key 'nope' not found"),
        (["model=custom"], "model.id: must be given: model.id=HUB-ID-OR-FOLDER"),
        (["decoding.top_p=0.5"], "decoding.top_p=0.5: no effect without do_sample=true"),
        (["decoding=temperature", "decoding.temperature=0"], "use decoding=greedy"),
        (["generation.samples=2"], "all samples would be equal"),
        (["doctor", "now"], "now: expected key=value"),
        (["help", "decodin"], "metric or command of this name; did you mean decoding?"),
        (["sync", "a", "b"], "b: `harness sync` takes no more arguments"),
        (["inspect"], "prompt: must be given"),
        (["inspect", "prompt=x", "steps=0"], "steps=0: must be a whole number from 1"),
        (["inspect", "prompt=x", f"steps={'9' * 5000}"], "must be a whole number from 1 to 999999999"),
        (["inspect", "prompt=x", "prompt=y"], "prompt=y: prompt is given twice"),
        (["--config-dir", ".", "--config-dir=.."], "--config-dir: given twice"),
        (["inspect", "prompt=x", "decoding=greedy,beam"], "one value only"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(harness, words, line):
    done = harness(*words)
    assert done.status == 2
    assert done.calls == []
    assert len(done.lines) == 1
    assert line in done.lines[0]


def test_a_suggested_command_can_be_copied(harness):
    words = ["model=fable_tiny", "prompt=It's a $HOME [of]", "steps=2"]
    (line,) = harness(*words, "inspect").lines
    assert shlex.split(line.partition("first: ")[2]) == ["harness", "inspect", *words]


def test_wrong_names_and_values_are_shown_together(harness):
    done = harness(
        "decoding=temperature", "model=gpt3", "decoding.top_p=7", "generation.samples=none", "record.topk=3"
    )
    assert done.status == 2
    assert [line.partition(":")[0] for line in done.lines] == [
        "model=gpt3",
        "record.topk=3",
        "decoding.top_p=7",
        "generation.samples=none",
    ]


def test_a_wrong_name_makes_no_second_mistake_of_its_own(harness):
    """With the choice unknown, it is not guessed what it would have required."""
    done = harness("decoding=top_pp", "decoding.top_p=0.9", "generation.samples=3")
    assert len(done.lines) == 1


def test_a_mistake_of_some_points_names_them(harness):
    done = harness("-m", "decoding=greedy,top_p", "decoding.min_new_tokens=5,70")
    assert "min_new_tokens=70" in done.lines[0]
    cases = "cases=[['decoding=greedy','decoding.top_p=0.5'],['decoding=top_p']]"
    assert harness(cases).lines[0].endswith("(at fable_small/none/greedy)")


def test_a_traceback_only_when_requested(harness, monkeypatch):
    assert "Traceback" not in harness("model=gpt3").err
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    assert "Traceback" in harness("model=gpt3").err


@pytest.mark.parametrize("words", [[], ["-m", "decoding=greedy,top_p"]])
def test_a_defect_is_one_line_and_status_1(harness, words):
    done = harness(*words, raises=ValueError("odd\nthing"))
    assert done.status == 1
    assert done.lines == ["unexpected ValueError: odd thing (HYDRA_FULL_ERROR=1 shows where)"]


@pytest.mark.parametrize("words", [[], ["-m", "decoding=greedy,top_p"]])
def test_an_error_of_the_sweep_keeps_its_status(harness, words):
    from harness.errors import ConfigError, HarnessError

    assert harness(*words, raises=HarnessError("the disk is full")).status == 1
    done = harness(*words, raises=ConfigError.of("prompts", "too long"))
    assert (done.status, done.lines) == (2, ["prompts: too long"])


@pytest.mark.parametrize("words", [[], ["-m", "decoding=greedy,top_p"]])
def test_ctrl_c_is_130(harness, words):
    done = harness(*words, raises=KeyboardInterrupt())
    assert done.status == 130
    assert "interrupted" in done.err


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["run", "decoding=greedy"], ["harness", "decoding=greedy"]),
        (["run"], ["harness"]),
        (["sweep", "decoding=greedy"], ["harness", "-m", "decoding=greedy"]),
        (["run", "decoding=greedy,beam"], ["harness", "-m", "decoding=greedy,beam"]),
        (["run", "prompts.items=[a,b]"], ["harness", "prompts.items=[a,b]"]),
        (["sweep", "-m", "decoding=greedy,beam"], ["harness", "-m", "decoding=greedy,beam"]),
        (["sweep", "experiments=demo"], ["harness", "experiments=demo"]),
    ],
)
def test_a_word_of_other_tools_is_to_be_left_out(harness, words, meant):
    done = harness(*words)
    (line,) = done.lines
    assert done.status == 2
    assert shlex.split(line.partition("leave the word out: ")[2]) == meant


def test_version(harness):
    from harness import __version__

    assert __version__ in harness("--version").out


def test_hydra_shows_the_config(harness):
    done = harness("--cfg", "job", "experiments=demo")
    assert done.status == 0
    assert "max_new_tokens: 48" in done.out
    assert done.calls == []


@pytest.fixture
def stub(monkeypatch):
    """`stub("harness.cli.doctor", "doctor")` replaces a function by a recorder of its arguments."""

    def make(module, name):
        calls = []

        def called(*args, **kwargs):
            calls.append((args, kwargs))
            return 0

        fake = types.ModuleType(module)
        setattr(fake, name, called)
        monkeypatch.setitem(sys.modules, module, fake)
        return calls

    return make


def test_inspect_takes_the_prompt_as_it_is(harness, stub):
    calls = stub("harness.cli.inspect", "inspect")
    prompt = "It's a = b, {c}: [d] ${e} it's"
    done = harness("inspect", "model=gpt2", f"prompt={prompt}", "steps=3", "top_k=4", "--json", "chat=true")
    assert done.status == 0
    (((point, arguments), kwargs),) = calls
    assert arguments.prompt == prompt
    assert point.model.id == "openai-community/gpt2"
    assert (arguments.steps, arguments.top_k, arguments.as_json) == (3, 4, True)
    assert point.prompts.chat is True
    assert not kwargs


@pytest.mark.parametrize(
    ("words", "module", "name", "args"),
    [
        (["doctor"], "harness.cli.doctor", "doctor", ()),
        (["ui", "--port", "5001"], "harness.cli.ui", "serve", (["--port", "5001"],)),
        (["worker", "it", "--group", "0"], "harness.cli.worker", "worker", (["it", "--group", "0"],)),
        (["sync"], "harness.tracking.sync", "sync", (None,)),
        (["sync", "demo-12"], "harness.tracking.sync", "sync", ("demo-12",)),
    ],
)
def test_the_other_commands_call_their_function(harness, stub, words, module, name, args):
    calls = stub(module, name)
    assert harness(*words).status == 0
    assert calls == [(args, {})]


@pytest.mark.parametrize(("words", "name"), [(["report"], None), (["report", "demo-12"], "demo-12")])
def test_report_reads_feedback_first(harness, stub, words, name):
    feedback = stub("harness.tracking.assessments", "update_feedback")
    written = stub("harness.report", "write")
    assert harness(*words).status == 0
    assert feedback == [((name,), {})]
    assert written == [((name,), {"llm_perf": False})]
    assert harness(*words, "--llm-perf").status == 0
    assert written[1:] == [((name,), {"llm_perf": True})]


@pytest.mark.parametrize("kind", ["ValueError", "HarnessError"])
def test_an_interrupt_in_the_midst_of_a_library_is_an_interrupt(harness, kind):
    """OmegaConf, for instance, fails in the clean-up after one, and its error is explained as a mistake."""
    from harness.errors import HarnessError

    error = {"ValueError": ValueError, "HarnessError": HarnessError}[kind]("'NoneType' object")
    error.__cause__ = AttributeError("'NoneType' object")
    error.__cause__.__context__ = KeyboardInterrupt()
    done = harness(raises=error)
    assert done.status == 130
    assert done.err == "\ninterrupted\n"


def test_report_brings_votes_home_to_their_sweep(harness, stub, tmp_path, monkeypatch):
    from fake_points import make_sweep

    from harness.store.votes import known_votes

    monkeypatch.setenv("HARNESS_OUTPUTS", str(tmp_path / "outputs"))
    sweep = make_sweep(tmp_path / "outputs", models=("m",))
    make_sweep(tmp_path / "outputs", models=("n",))  # the last one
    stub("harness.tracking.assessments", "update_feedback")
    written = stub("harness.report", "write")
    vote = {"prompt_id": "chat", "sample": 0, "left": "m/fp32/greedy", "right": "m/fp32/top_p"}
    ballot = {"sweep_id": sweep.sweep_id, "ballot": "b", "votes": [vote | {"choice": "tie"}]}
    file = tmp_path / "votes.json"
    file.write_text(json.dumps(ballot), encoding="utf-8")
    assert harness("report", f"votes={file}").status == 0
    assert written == [((sweep.folder.name,), {"llm_perf": False})]
    assert [one.choice for one in known_votes(sweep.folder)] == ["tie"]
    done = harness("report", f"votes={tmp_path}/none.json")
    assert done.status == 2
    assert "not found" in done.err
    assert len(done.err.splitlines()) == 1
