"""Reading a written page back: its policy, its script and the data in it."""

from __future__ import annotations

import base64
import gzip
import json
import struct
from html.parser import HTMLParser
from typing import Any


class Page(HTMLParser):
    """What a page holds, as a browser's parser would cut it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.title = ""
        self.policy = ""
        self.addresses: list[str] = []
        self.scripts: list[str] = []
        self.styles: list[str] = []
        self._within: str | None = None
        self.feed(html)
        self.close()

    @property
    def data(self) -> dict[str, Any]:
        return json.loads(self.scripts[0])

    def piece(self, place: list[int]) -> bytes:
        """A packed piece, opened."""
        start, length = place
        return gzip.decompress(base64.b64decode(self.scripts[3][start : start + length]))

    def json(self, place: list[int]) -> Any:
        return json.loads(self.piece(place))

    @property
    def vocabulary(self) -> list[tuple[int, str]]:
        return list(zip(*self.json(self.data["vocabulary"]), strict=True))

    @property
    def prompts(self) -> list[dict[str, Any]]:
        """Each prompt with its texts and, where the page holds them, its steps by (point, sample)."""
        found = []
        for name, start, disagreement, first, texts, tokens in self.json(self.data["prompts"]):
            prompt = {"id": name, "start": start, "disagreement": disagreement, "first": first}
            prompt |= self.json(texts)
            prompt["steps"] = self._steps(self.piece(tokens)) if tokens else {}
            found.append(prompt)
        return found

    def _steps(self, raw: bytes) -> dict[tuple[int, int], dict[str, Any]]:
        """A piece of tokens, read byte by byte; tokens as (id, text)."""
        line, _, rest = raw.partition(b"\n")
        words = self.vocabulary
        at = 0

        def take(count: int, width: int) -> list[bytes]:
            nonlocal at
            planes = [rest[at + i * count : at + (i + 1) * count] for i in range(width)]
            at += count * width
            return [bytes(plane[i] for plane in planes) for i in range(count)]

        def whole(count: int) -> list[int]:
            return [int.from_bytes(value, "little") for value in take(count, 3)]

        def half(count: int) -> list[float]:
            return [struct.unpack("<e", value)[0] for value in take(count, 2)]

        def named(places: list[int]) -> list[tuple[int, str] | None]:
            return [None if place == 0xFFFFFF else words[place] for place in places]

        found = {}
        for point, sample, count, k in json.loads(line):
            steps: dict[str, Any] = {"k": k, "token": named(whole(count)), "rank": whole(count)}
            steps["kept"] = whole(count)
            for name in ("logprob", "warped_logprob", "entropy", "warped_entropy", "cut"):
                steps[name] = half(count)
            steps["tops"] = named(whole(count * k))
            steps["top_logprobs"], steps["top_warped_logprobs"] = half(count * k), half(count * k)
            found[point, sample] = steps
        assert at == len(rest)
        return found

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        self.tags.append(tag)
        self._within = tag
        if tag == "meta" and known.get("http-equiv") == "Content-Security-Policy":
            self.policy = known["content"] or ""
        if tag == "script":
            self.scripts.append("")
        if tag == "style":
            self.styles.append("")
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "action", "data")]

    def handle_endtag(self, tag: str) -> None:
        self._within = None

    def handle_data(self, data: str) -> None:
        if self._within == "script":
            self.scripts[-1] += data
        elif self._within == "style":
            self.styles[-1] += data
        elif self._within == "title":
            self.title += data
