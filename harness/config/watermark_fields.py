"""The fields of a decoding strategy that mark its texts, so that a detector finds them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from harness.config.base import SENSIBLE_SIZE, Choice, Natural, Positive
from harness.config.decoding_field import DecodingField, MarkKey


class WatermarkFields(Choice):
    """Watermarks: KGW, SynthID and the Gumbel watermark; one of them at most."""

    kgw_bias: Annotated[
        Annotated[float, Field(ge=0), SENSIBLE_SIZE] | None, DecodingField("watermark", 0.0)
    ] = Field(
        None, description="KGW watermark: added to the logits of the green tokens, which the last one chooses"
    )
    kgw_greenlist_ratio: Annotated[
        float | None, Field(gt=0, lt=1), DecodingField("watermark", 0.25, "kgw_bias")
    ] = Field(None, description="share of the vocabulary that is green")
    kgw_hashing_key: Annotated[MarkKey | None, DecodingField("watermark", 15485863, "kgw_bias")] = Field(
        None, description="the secret of the KGW watermark, which its detector must have"
    )
    kgw_seeding_scheme: Annotated[
        Literal["lefthash", "selfhash"] | None, DecodingField("watermark", "lefthash", "kgw_bias")
    ] = Field(
        None,
        description="what chooses the green tokens: the last token, or the last ones and the next itself",
    )
    kgw_context_width: Annotated[
        int | None, Field(ge=1, le=64), DecodingField("watermark", 1, "kgw_bias")
    ] = Field(None, description="tokens that selfhash looks at, the next one among them")
    synthid_keys: Annotated[
        Annotated[tuple[MarkKey, ...], Field(min_length=1, max_length=64)] | None,
        DecodingField("watermark", None),
    ] = Field(
        None,
        description="SynthID watermark: its secret, a number for each round of the tournament; 10 to 30",
    )
    synthid_ngram_len: Annotated[
        int | None, Field(ge=2, le=64), DecodingField("watermark", 5, "synthid_keys")
    ] = Field(None, description="the tokens that decide the rounds: the next one and those before it")
    synthid_context_history_size: Annotated[
        Positive | None, DecodingField("watermark", 1024, "synthid_keys")
    ] = Field(None, description="a context among the latest so many is not marked again")
    synthid_sampling_table_seed: Annotated[Natural | None, DecodingField("watermark", 0, "synthid_keys")] = (
        Field(None, description="seed of the table of random bits")
    )
    synthid_sampling_table_size: Annotated[
        int | None, Field(ge=2, le=2**24), DecodingField("watermark", 65536, "synthid_keys")
    ] = Field(None, description="entries of the table of random bits")
    synthid_skip_first_ngram_calls: Annotated[
        bool | None, DecodingField("watermark", False, "synthid_keys")
    ] = Field(None, description="do not mark the first synthid_ngram_len - 1 tokens")
    gumbel_key: Annotated[MarkKey | None, DecodingField("watermark", None)] = Field(
        None,
        description="Gumbel watermark: its secret; the noise that tokens are drawn with is a hash of it and "
        "the last tokens, so samples of a prompt are equal until a context comes again",
    )
    gumbel_context_width: Annotated[
        int | None, Field(ge=1, le=64), DecodingField("watermark", 4, "gumbel_key")
    ] = Field(None, description="the last tokens that the noise of the Gumbel watermark depends on")
