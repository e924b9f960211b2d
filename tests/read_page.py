"""Reading a written page back: its policy, its script and the data in it."""

from __future__ import annotations

import base64
import gzip
import json
import struct
from html.parser import HTMLParser
from typing import Any


class Page(HTMLParser):
    """The elements of a page, as a browser's parser finds them."""

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

    def chunk(self, ref: list[int]) -> bytes:
        """Return a chunk, decompressed."""
        offset, length = ref
        return gzip.decompress(base64.b64decode(self.scripts[3][offset : offset + length]))

    def json(self, ref: list[int]) -> Any:
        return json.loads(self.chunk(ref))

    def vocabulary(self, ref: list[int]) -> list[tuple[int, str]]:
        return list(zip(*self.json(ref), strict=True))

    @property
    def prompts(self) -> list[dict[str, Any]]:
        """Each prompt with its texts and, where the page has them, its steps by (point, sample)."""
        found = []
        vocabulary = self.vocabulary(self.data["vocabulary"])
        for name, title, disagreement, first, texts, tokens, ends in self.json(self.data["prompts"]):
            prompt = {"id": name, "title": title, "disagreement": disagreement, "first": first, "ends": ends}
            prompt |= self.json(texts)
            blocks = read_columns(self.chunk(tokens), vocabulary) if tokens else []
            prompt["steps"] = {(block["point"], block["sample"]): block for block in blocks}
            found.append(prompt)
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


def read_columns(raw: bytes, vocabulary: list[tuple[int, str]]) -> list[dict[str, Any]]:
    """Return the blocks of a chunk of columns, read byte by byte: their facts, and each column as a list.

    `k` is the number of alternatives; tokens are (id, text), None where there is none.
    """
    line, _, rest = raw.partition(b"\n")
    header = json.loads(line)
    at = 0

    def take(count: int, width: int) -> list[bytes]:
        nonlocal at
        planes = [rest[at + i * count : at + (i + 1) * count] for i in range(width)]
        at += count * width
        return [bytes(plane[i] for plane in planes) for i in range(count)]

    def column(name: str, kind: str, count: int) -> list[Any]:
        if kind == "f16":
            return [struct.unpack("<e", value)[0] for value in take(count, 2)]
        if kind == "f24":
            return [struct.unpack("<f", b"\0" + value)[0] for value in take(count, 3)]
        assert kind == "u24"
        values = [int.from_bytes(value, "little") for value in take(count, 3)]
        if name.endswith(("token", "top_tokens")):
            return [None if value == 0xFFFFFF else vocabulary[value] for value in values]
        return values

    found = []
    for block in header["blocks"]:
        columns = header["columns"][block["columns"]]
        read = {name: column(name, kind, block["steps"] * width) for name, kind, width in columns}
        found.append(
            {**block, "k": {n: w for n, _, w in columns if "top_" in n}.get("top_tokens", 0), **read}
        )
    assert at == len(rest)
    return found
