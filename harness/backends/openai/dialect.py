"""What a server with OpenAI's API takes, ignores and returns: a dialect.

`dialects.py` has one a server. Names of fields are those of `Decoding`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from harness.config.point import DialectName

LogprobKind = Literal["raw", "unknown"]
"""What a server's logprobs are of: the model's own distribution, or one of which that is not known."""


@dataclass(frozen=True)
class Dialect:
    """What is known of a server.

    Attributes:
        name: as in `backend.dialect`.
        fields: the key of a request for each field of `Decoding` that it takes as it is.
        special: further fields that it takes in another form, which `translate` writes.
        neutral: keys that are sent in every request unless a field sets them, since a server fills in what is
            left out.
        always: keys of every request beside those.
        forced: fields with a value that acts whenever it samples and cannot be switched off.
        ignore_eos: what makes it generate past EOS; None where nothing does.
        timed: what makes it generate as many tokens as asked for, where the texts do not matter.
        most_stops: stop strings at most; None for any number.
        alternatives: per token, at most; None for any number; 0 where it returns no logprobs.
        logprobs: what they are of.
        fixed_order: its samplers act in an order of its own that no request changes.
        keeps_stops: stop strings are part of its texts.
        streams_usage: it takes `stream_options`.
        seeds: what `seed` is good for, where that needs a word.
        lists_models: its list of models is complete, so that another name is a mistake.
        priced: its answers cost money.
        notes: what its users should know, one line each.
    """

    name: DialectName
    fields: Mapping[str, str]
    special: tuple[str, ...] = ()
    neutral: Mapping[str, Any] = field(default_factory=dict)
    always: Mapping[str, Any] = field(default_factory=dict)
    forced: Mapping[str, Any] = field(default_factory=dict)
    ignore_eos: Mapping[str, Any] | None = None
    timed: Mapping[str, Any] = field(default_factory=dict)
    most_stops: int | None = None
    alternatives: int | None = 20
    logprobs: LogprobKind = "unknown"
    fixed_order: bool = True
    keeps_stops: bool = False
    streams_usage: bool = True
    seeds: str = ""
    lists_models: bool = True
    priced: bool = False
    notes: tuple[str, ...] = ()

    @property
    def takes(self) -> tuple[str, ...]:
        """The fields of `Decoding` that it takes."""
        return (*self.fields, *self.special)
