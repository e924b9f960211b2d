"""The token walk's server: who is answered, and whether the numbers are those of a plain forward pass."""

from __future__ import annotations

import http.client
import json
import re
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from forked import Forked
from sampled import sampled
from scipy.special import log_softmax
from scipy.stats import entropy

import harness.models.fable
from harness.cli.inspect_page import WalkServer, opened_server
from harness.cli.main import main
from harness.cli.token_walk import TokenWalk
from harness.cli.walk_answers import WalkAnswers
from harness.config import hydra_app
from harness.config.groups import ConfigGroups
from harness.config.point import Prompts
from harness.errors import HarnessError
from harness.models.load import LoadedModel, load
from harness.prompts import prepare_prompts

PROMPT = "It was a dark and stormy"
FABLE = Path(harness.models.fable.__file__).parent / "fable_small"
MODEL = hydra_app.one_point(["model=fable_small"]).model
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\u202e\x1b[8m\x00 ${x} {{7*7}}"


@pytest.fixture(scope="module")
def loaded(one_thread: None) -> LoadedModel:
    return load(MODEL, hydra_app.one_point(["model=fable_small"]).quantization)


@pytest.fixture(scope="module")
def reference() -> tuple[Any, Any]:
    """The model and its tokenizer as transformers loads them."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(FABLE).eval(), AutoTokenizer.from_pretrained(FABLE)


def walk_of(loaded: LoadedModel, text: str = PROMPT, **options: Any) -> TokenWalk:
    prompts = Prompts(name="inspect", items=({"prompt": text},), chat=False)
    (prompt,) = prepare_prompts(prompts, loaded.files, loaded.tokenizer, 1).prompts
    return TokenWalk(loaded, prompt, **options)


@contextmanager
def serving(walk: TokenWalk, loaded: LoadedModel, *overrides: str, top_k: int = 20) -> Iterator[WalkServer]:
    point = hydra_app.one_point(["model=fable_small", *overrides])
    with opened_server(WalkAnswers(walk, loaded, point, top_k, ConfigGroups())) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def walk(loaded: LoadedModel) -> TokenWalk:
    return walk_of(loaded)


@pytest.fixture(scope="module")
def server(walk: TokenWalk, loaded: LoadedModel) -> Iterator[WalkServer]:
    with serving(walk, loaded) as server:
        yield server


class Reply:
    """A response: its status, headers and body."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.body)

    @property
    def lines(self) -> list[str]:
        return self.json["mistakes"]


JSON = {"Content-Type": "application/json"}


def send(
    server: WalkServer, method: str, path: str, body: Any = None, headers: Mapping[str, str] = JSON
) -> Reply:
    """Send a request as it is; a body that is no text or bytes is sent as JSON."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    sent = body if body is None or isinstance(body, (str, bytes)) else json.dumps(body)
    try:
        connection.request(method, path, sent, dict(headers))
        return Reply(connection.getresponse())
    finally:
        connection.close()


def ask(server: WalkServer, name: str, **request: Any) -> dict[str, Any]:
    reply = send(server, "POST", f"/{server.token}/{name}", request)
    assert reply.status == 200, reply.body
    return reply.json


def wrong(server: WalkServer, name: str, **request: Any) -> list[str]:
    reply = send(server, "POST", f"/{server.token}/{name}", request)
    assert reply.status == 400, reply.body
    return reply.lines


class TestWhoIsAnswered:
    @pytest.mark.parametrize(
        "path", ["", "index.html", "{wrong}/", "{wrong}/step", "favicon.ico", "..", "%2e/"]
    )
    @pytest.mark.parametrize("method", ["GET", "POST"])
    def test_nobody_without_the_token(self, server: WalkServer, method: str, path: str) -> None:
        for wrong_token in (server.token[:-1], server.token + "a", server.token.swapcase()):
            reply = send(server, method, f"/{path.format(wrong=wrong_token)}", "{}")
            assert reply.status == 403
            assert b"night" not in reply.body
            assert server.token.encode() not in reply.body

    @pytest.mark.parametrize("target", [b"*", b"/\xc3\xa9/", b"http://a.example/", b"//", b"/%00/"])
    def test_no_path_at_all(self, server: WalkServer, target: bytes) -> None:
        host = f"127.0.0.1:{server.server_port}".encode()
        with socket.create_connection(("127.0.0.1", server.server_port), timeout=60) as connection:
            connection.sendall(b"GET " + target + b" HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
            assert connection.recv(100).split()[1] == b"403"

    def test_the_token_cannot_be_guessed(
        self, server: WalkServer, loaded: LoadedModel, walk: TokenWalk
    ) -> None:
        with serving(walk, loaded) as another:
            assert another.token != server.token
            assert len(another.token) >= 32

    def test_other_host_names_are_refused(self, server: WalkServer) -> None:
        page = f"/{server.token}/"
        port = server.server_port
        for host, status in (
            (f"127.0.0.1:{port}", 200),
            (f"localhost:{port}", 200),
            (f"attacker.example:{port}", 403),
            ("127.0.0.1", 403),
            (f"127.0.0.1:{port}.attacker.example", 403),
            ("", 403),
        ):
            assert send(server, "GET", page, headers={"Host": host}).status == status, host
            posted = send(server, "POST", f"{page}step", {"tokens": []}, {**JSON, "Host": host})
            assert posted.status == status, host

    def test_other_origins_are_refused(self, server: WalkServer) -> None:
        path, body = f"/{server.token}/step", {"tokens": []}
        for headers, status in (
            ({"Origin": f"http://127.0.0.1:{server.server_port}"}, 200),
            ({"Origin": "https://attacker.example"}, 403),
            ({"Origin": "null"}, 403),
            ({"Sec-Fetch-Site": "same-origin"}, 200),
            ({"Sec-Fetch-Site": "cross-site"}, 403),
            ({"Sec-Fetch-Site": "same-site"}, 403),
        ):
            assert send(server, "POST", path, body, {**JSON, **headers}).status == status, headers

    def test_a_form_cannot_ask(self, server: WalkServer) -> None:
        """Another origin may send these kinds without asking the server first."""
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
            reply = send(server, "POST", f"/{server.token}/step", "{}", {"Content-Type": kind})
            assert reply.status == 415
        assert (
            send(server, "OPTIONS", f"/{server.token}/step", headers={"Origin": "https://a.example"}).status
            == 501
        )

    def test_headers(self, server: WalkServer) -> None:
        for method, path, body in (
            ("GET", "", None),
            ("POST", "step", {"tokens": []}),
            ("GET", "../x", None),
        ):
            headers = send(server, method, f"/{server.token}/{path}", body).headers
            assert not [name for name in headers if name.lower().startswith("access-control")]
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["Referrer-Policy"] == "no-referrer"
            assert headers["Cache-Control"] == "no-store"
            policy = headers["Content-Security-Policy"]
            assert policy.startswith("default-src 'none'; script-src 'sha256-")
            assert "unsafe" not in policy
            assert "connect-src 'self'" in policy
            assert "frame-ancestors 'none'" in policy

    def test_it_listens_on_this_machine_only(self, server: WalkServer) -> None:
        assert server.server_address[0] == "127.0.0.1"
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/[\w-]{32,}/", server.address)


class TestHostileRequests:
    @pytest.mark.parametrize(
        ("body", "status"),
        [
            ("", 400), ("{", 400), ("[]", 400), ("[" * 100_000, 400), ("\xff", 400), ('{"tokens": 1}', 400),
            (b" " * (2**20 + 1), 413),
        ],
    )  # fmt: skip
    def test_bodies(self, server: WalkServer, body: str | bytes, status: int) -> None:
        sent = body.encode("latin-1") if isinstance(body, str) else body
        reply = send(server, "POST", f"/{server.token}/step", sent)
        assert reply.status == status
        (line,) = reply.lines
        assert "\n" not in line

    @pytest.mark.parametrize("tokens", [[-1], [2048], [True], [1.5], ["1"], None, {"a": 1}, [[1]], [10**30]])
    def test_ids_that_are_none(self, server: WalkServer, tokens: Any) -> None:
        assert wrong(server, "step", tokens=tokens) == ["tokens: must be a list of token ids from 0 to 2047"]
        assert wrong(server, "score", tokens=tokens)
        assert wrong(server, "continue", tokens=tokens, count=1)
        assert wrong(server, "step", tokens=[], show=tokens)

    def test_other_fields(self, server: WalkServer) -> None:
        for count in (0, -1, 65, 1.5, True, None, "8"):
            assert wrong(server, "continue", tokens=[], count=count)[0].endswith(
                "a whole number from 1 to 64"
            )
        for decoding in ([], "top_p", {"top_p": 0.9}, {"top_p": None}):
            assert wrong(server, "step", decoding=decoding) == ["decoding: must map keys to values as typed"]
        for seed in ("-1", "x", "9" * 19, "9" * 5000, "1.5", ""):
            assert wrong(server, "continue", tokens=[], count=1, seed=seed)[0].startswith("generation.seed=")
        for text in ("", None, 1, "\ud800"):
            assert wrong(server, "encode", tokens=[], text=text)[0].startswith("text: ")
        assert wrong(server, "__init__") == ["__init__: no such request"]
        assert send(server, "GET", f"/{server.token}/step").status == 404

    def test_hostile_texts_stay_data(self, loaded: LoadedModel) -> None:
        with serving(walk_of(loaded, HOSTILE), loaded) as server:
            html = send(server, "GET", f"/{server.token}/").body.decode()
            assert "<script>alert" not in html
            assert "<img" not in html
            assert "\x1b" not in html
            found = json.loads(re.search(r'id="data">(.*?)</script>', html, re.S).group(1))
            assert "".join(token["text"] for token in found["prompt"][1:]) == HOSTILE
            tokens = ask(server, "encode", tokens=[], text=HOSTILE)["tokens"]
            scored = ask(server, "score", tokens=tokens)["tokens"]
            assert "".join(token["text"] for token in scored) == HOSTILE


def plain_logits(reference: tuple[Any, Any], tokens: list[int]) -> np.ndarray:
    """The logits after prompt and tokens by one forward pass of transformers."""
    model, tokenizer = reference
    ids = torch.tensor([[*tokenizer(PROMPT)["input_ids"], *tokens]])
    with torch.no_grad():
        return model(ids).logits[0, -1].double().numpy()


class TestNumbers:
    def test_a_step_is_a_plain_forward_pass(self, server: WalkServer, reference: tuple[Any, Any]) -> None:
        first = plain_logits(reference, [])
        likeliest, second = np.argsort(-first)[:2].tolist()
        for tokens in ([], [likeliest], [likeliest, 5], [second], [second, 7, 9], [likeliest, 5, 6]):
            logits = plain_logits(reference, tokens)
            log_p = log_softmax(logits)
            step = ask(server, "step", tokens=tokens)
            top = np.argsort(-logits, kind="stable")[:20]
            rows = step["rows"]
            assert [row["id"] for row in rows][:20] == top.tolist()
            np.testing.assert_allclose([row["logit"] for row in rows], logits[top], atol=2e-4)
            np.testing.assert_allclose([row["logprob"] for row in rows], log_p[top], atol=2e-4)
            assert [row["rank"] for row in rows] == list(range(1, 21))
            assert step["entropy"] == pytest.approx(entropy(np.exp(log_p)), abs=1e-4)
            assert (step["kept"], step["kept_mass"]) == (len(logits), pytest.approx(1))
            assert [row["warped_logprob"] for row in rows] == [row["logprob"] for row in rows]

    def test_a_walk_is_scored_token_by_token(self, server: WalkServer, reference: tuple[Any, Any]) -> None:
        tokens = [9, 300, 12, 12, 2047]
        scored = ask(server, "score", tokens=tokens)["tokens"]
        for position, token in enumerate(scored):
            log_p = log_softmax(plain_logits(reference, tokens[:position]))
            assert token["id"] == tokens[position]
            assert token["logprob"] == pytest.approx(log_p[token["id"]], abs=2e-4)
            assert token["rank"] == 1 + (log_p > log_p[token["id"]]).sum()
        assert (
            scored[0]["text"] + scored[1]["text"]
            == reference[1].decode([0, 9, 300])[len(reference[1].decode([0])) :]
        )

    @pytest.mark.thinned(2)
    @pytest.mark.parametrize(
        "overrides",
        [
            ["decoding=top_p", "decoding.temperature=1.3", "generation.seed=4"],
            ["decoding=typical", "decoding.typical_p=0.3"],
            ["decoding=repetition_penalty", "decoding.repetition_penalty=3.0"],
            ["decoding=greedy"],
        ],
        ids=lambda words: words[0],
    )
    def test_they_are_those_of_inspect_json(
        self, walk: TokenWalk, loaded: LoadedModel, overrides: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        words = [
            "inspect",
            "model=fable_small",
            f"prompt={PROMPT}",
            "steps=5",
            "top_k=20",
            "--json",
            *overrides,
        ]
        assert main(words) == 0
        printed = json.loads(capsys.readouterr().out)
        with serving(walk, loaded, *overrides) as server:
            html = send(server, "GET", f"/{server.token}/").body.decode()
            start = json.loads(re.search(r'id="data">(.*?)</script>', html, re.S).group(1))
            assert [token["id"] for token in start["prompt"]] == [token["id"] for token in printed["tokens"]]
            samples = hydra_app.one_point(["model=fable_small", *overrides]).decoding.do_sample
            seed = start["seed"] if samples else None
            done = ask(server, "continue", tokens=[], decoding=start["values"], count=5, seed=seed)
            chosen = [step["chosen"]["id"] for step in printed["steps"]]
            assert done["tokens"] == chosen
            for position, expected in enumerate(printed["steps"]):
                step = ask(server, "step", tokens=chosen[:position], decoding=start["values"])
                rows = step["rows"][:20]
                assert step["entropy"] == pytest.approx(expected["entropy"], abs=1e-5)
                assert [row["id"] for row in rows] == [one["id"] for one in expected["candidates"]]
                assert [row["text"] for row in rows] == [one["token"] for one in expected["candidates"]]
                for row, one in zip(rows, expected["candidates"], strict=True):
                    warped = -np.inf if row["warped_logprob"] is None else row["warped_logprob"]
                    assert row["logit"] == pytest.approx(one["logit"], abs=1e-4)
                    assert np.exp(row["logprob"]) == pytest.approx(one["probability"], abs=1e-6)
                    assert np.exp(warped) == pytest.approx(one["warped_probability"], abs=1e-6)


KNOBS: list[dict[str, str]] = [
    {"temperature": "1.7", "top_k": "3"},
    {"top_k": "5"},
    {"top_p": "0.8"},
    {"min_p": "0.05"},
    {"typical_p": "0.5"},
    {"epsilon_cutoff": "0.01"},
    {"eta_cutoff": "0.02"},
    {"temperature": "1.5", "top_k": "40", "top_p": "0.9", "min_p": "0.01"},
]


class TestKnobs:
    @pytest.mark.parametrize("knobs", KNOBS, ids=str)
    def test_what_is_kept_is_what_a_sweep_keeps(
        self, server: WalkServer, reference: tuple[Any, Any], knobs: dict[str, str]
    ) -> None:
        """`decoding/samplers.py`, which a sweep uses, on the logits of a plain forward pass."""
        logits = torch.tensor(plain_logits(reference, [42])[None], dtype=torch.float32)
        values = {key: int(text) if key == "top_k" else float(text) for key, text in knobs.items()}
        warped = dict(enumerate(sampled(logits, **values)[0].log_softmax(-1).tolist()))
        kept_ids = {id_ for id_, value in warped.items() if value > -np.inf}
        step = ask(server, "step", tokens=[42], decoding=knobs)
        assert step["kept"] == len(kept_ids)
        p = np.exp(log_softmax(logits[0].double().numpy()))
        assert step["kept_mass"] == pytest.approx(sum(p[id_] for id_ in kept_ids), abs=1e-5)
        for row in step["rows"]:
            assert row["kept"] == (row["id"] in kept_ids)
            if row["kept"]:
                assert row["warped_logprob"] == pytest.approx(warped[row["id"]], abs=1e-4)
            else:
                assert row["warped_logprob"] is None
        probabilities = np.exp([value for value in warped.values() if value > -np.inf])
        assert step["warped_entropy"] == pytest.approx(entropy(probabilities), abs=1e-4)

    def test_penalties_read_the_walk(self, server: WalkServer) -> None:
        """With bigrams banned, what followed a token before is removed after it."""
        tokens = [42, 77, 42]
        row = next(
            row
            for row in ask(server, "step", tokens=tokens, decoding={"no_repeat_ngram_size": "2"}, show=[77])[
                "rows"
            ]
            if row["id"] == 77
        )
        assert not row["kept"]
        scored = ask(server, "score", tokens=[*tokens, 77], decoding={"no_repeat_ngram_size": "2"})["tokens"]
        assert [token["warped_logprob"] is None for token in scored] == [False, False, False, True]

    def test_a_turned_knob_costs_no_forward_pass(self, server: WalkServer, walk: TokenWalk) -> None:
        tokens = [11, 12, 13]
        ask(server, "step", tokens=tokens)
        ask(server, "score", tokens=tokens)
        before = walk.forward_passes
        for knobs in KNOBS:
            ask(server, "step", tokens=tokens, decoding=knobs)
            ask(server, "score", tokens=tokens, decoding=knobs)
        ask(server, "step", tokens=tokens[:1])
        assert walk.forward_passes == before

    def test_a_bad_value_is_the_command_s_line(
        self, server: WalkServer, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["check", "model=fable_small", "decoding=top_p", "decoding.top_p=1.5"]) == 2
        assert wrong(server, "step", decoding={"top_p": "1.5"}) == capsys.readouterr().err.splitlines()

    def test_the_overrides_are_stated(self, server: WalkServer) -> None:
        found = ask(server, "step", decoding={"top_p": "0.9", "temperature": "0.5"})["overrides"]
        composed = hydra_app.one_point(["model=fable_small", *found]).decoding
        assert (composed.do_sample, composed.top_p, composed.temperature) == (True, 0.9, 0.5)

    def test_the_overrides_of_all_tokens_draw_from_all(self, walk: TokenWalk, loaded: LoadedModel) -> None:
        """Untouched, the page shows the full distribution, of which greedy decoding would take one token."""
        with serving(walk, loaded, "decoding=greedy") as server:
            step = ask(server, "step", decoding={})
        composed = hydra_app.one_point(["model=fable_small", *step["overrides"]]).decoding
        assert step["kept_mass"] == pytest.approx(1.0)
        assert composed.do_sample
        assert composed.temperature in (None, 1.0)
        assert composed.top_p in (None, 1.0)


class TestWalks:
    def test_greedy_is_the_likeliest_after_penalties(
        self, server: WalkServer, reference: tuple[Any, Any]
    ) -> None:
        model, tokenizer = reference
        prompt = tokenizer(PROMPT, return_tensors="pt")
        stock = model.generate(**prompt, do_sample=False, max_new_tokens=12, repetition_penalty=1.4)
        knobs = {"repetition_penalty": "1.4", "temperature": "3", "top_p": "0.5"}
        done = ask(server, "continue", tokens=[], decoding=knobs, count=12, seed=None)
        assert done["tokens"] == stock[0, prompt["input_ids"].shape[1] :].tolist()

    def test_a_seed_gives_the_same_tokens_in_one_go_or_two(self, server: WalkServer) -> None:
        one = ask(server, "continue", tokens=[], decoding={"top_k": "30"}, count=10, seed="7")["tokens"]
        half = ask(server, "continue", tokens=[], decoding={"top_k": "30"}, count=4, seed="7")["tokens"]
        assert (
            ask(server, "continue", tokens=half, decoding={"top_k": "30"}, count=6, seed="7")["tokens"] == one
        )
        assert (
            ask(server, "continue", tokens=[], decoding={"top_k": "30"}, count=10, seed="8")["tokens"] != one
        )

    def test_an_end_of_text_ends_a_walk(self, server: WalkServer, walk: TokenWalk) -> None:
        end = walk.eos_ids[0]
        assert ask(server, "step", tokens=[5, end])["ended"]
        done = ask(server, "continue", tokens=[5, end], count=3)
        assert (done["tokens"], done["ended"]) == ([5, end], True)
        assert ask(server, "score", tokens=[5, end])["tokens"][1]["special"]

    def test_what_does_not_fit_is_one_line(self, loaded: LoadedModel) -> None:
        config = {**loaded.files.config, "max_position_embeddings": 12}
        short = replace(loaded, files=replace(loaded.files, config=config))
        assert short.files.context_length == 12
        with serving(walk_of(short), short) as server:
            room = 12 - 7  # tokens of the prompt
            done = ask(server, "continue", tokens=[5], count=20)
            assert (len(done["tokens"]), done["full"]) == (room, True)
            assert ask(server, "step", tokens=done["tokens"])["rows"]
            for name in ("step", "score", "continue"):
                (line,) = wrong(server, name, tokens=[*done["tokens"], 5], count=1)
                assert "7 tokens + 6 new ones > the model's 12; go back" in line
            (line,) = wrong(server, "encode", tokens=done["tokens"], text=" night")
            assert "> the model's 12" in line

    def test_kept_logits_are_bounded(self, loaded: LoadedModel, reference: tuple[Any, Any]) -> None:
        walk = walk_of(loaded, kept_bytes=0)
        tokens = list(range(100, 140))
        with serving(walk, loaded) as server:
            scored = ask(server, "score", tokens=tokens)["tokens"]
        assert len(walk._kept) == 16
        assert walk.forward_passes <= 5  # not one a token
        for position in (0, 20, 39):
            log_p = log_softmax(plain_logits(reference, tokens[:position]))
            assert scored[position]["logprob"] == pytest.approx(log_p[tokens[position]], abs=2e-4)

    def test_a_model_whose_cache_is_not_used(self, loaded: LoadedModel, reference: tuple[Any, Any]) -> None:
        walk = walk_of(loaded)
        walk._caches = False
        for tokens in ([3], [3, 4], [5]):
            found = walk.logits(tokens)[0].double().numpy()
            np.testing.assert_allclose(found, plain_logits(reference, tokens), atol=2e-4)

    def test_requests_at_once(self, server: WalkServer) -> None:
        walks = [[n, n + 1, n + 2] for n in range(200, 208)]
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda tokens: ask(server, "step", tokens=tokens), walks))
        assert found == [ask(server, "step", tokens=tokens) for tokens in walks]


class TestCommand:
    def test_it_prints_its_address_and_ends_with_ctrl_c(self, forked: Callable[..., Forked]) -> None:
        words = ["inspect", "model=fable_tiny", f"prompt={PROMPT}", "--page"]
        process = forked(*words)
        process.until(lambda: "\n" in process.stdout)
        (line,) = process.stdout.splitlines()
        found = re.fullmatch(r"Inspecting at http://127\.0\.0\.1:(\d+)(/[\w-]+/) \(Ctrl-C to stop\)", line)
        assert found, process.stderr
        connection = http.client.HTTPConnection("127.0.0.1", int(found[1]), timeout=60)
        connection.request("GET", found[2])
        assert b"fable_tiny" in connection.getresponse().read()
        process.send(signal.SIGINT)
        assert process.wait() == 0
        assert process.stderr == ""

    def test_a_port_in_use(self, walk: TokenWalk, loaded: LoadedModel) -> None:
        answers = WalkAnswers(walk, loaded, hydra_app.one_point(["model=fable_small"]), 20, ConfigGroups())
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            with pytest.raises(HarnessError, match=rf"--page={port}: cannot be used .*; --page takes a port"):
                opened_server(answers, port)

    @pytest.mark.parametrize(
        ("words", "line"),
        [
            (["--page=0"], "--page=0: must be a port from 1 to 65535"),
            (["--page=65536"], "--page=65536: must be a port"),
            (["--page=x"], "--page=x: must be a port"),
            (["--page", "--json"], "--json: not with --page"),
            (["--page", "steps=3"], "steps=3: no effect with --page"),
        ],
    )
    def test_arguments(self, words: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["inspect", "model=fable_tiny", "prompt=x", *words]) == 2
        (printed,) = capsys.readouterr().err.splitlines()
        assert printed.startswith(line)
