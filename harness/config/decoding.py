"""A decoding strategy as a config has it: its fields, and what is known of each beside its type.

Names are GenerationConfig's where it has the field, else those that llama.cpp or text-generation-webui have.
What a sampler computes stands in `harness/decoding`, its source beside it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from harness.config.base import SENSIBLE_SIZE, Natural, Positive, PositiveReal
from harness.config.decoding_field import (
    DecodingField,
    Penalty,
    SamplerName,
    Share,
    Window,
    stock_field,
)
from harness.config.watermark_fields import WatermarkFields


class Decoding(WatermarkFields):
    """A decoding strategy.

    A field left null has its neutral value; nothing is inherited from the model's own generation_config.json.
    """

    do_sample: Annotated[bool | None, stock_field("method", False)] = Field(
        None, description="draw each token at random; false: take the most likely one"
    )
    num_beams: Annotated[int | None, Field(ge=1, le=1024), stock_field("method", 1)] = Field(
        None, description="sequences that beam search follows; 1: no beam search"
    )
    penalty_alpha: Annotated[float | None, Field(ge=0, le=1), stock_field("method", None)] = Field(
        None,
        description="contrastive search: how much the likeness of a candidate to the text so far counts "
        "against its probability, among top_k candidates",
    )
    cot_branches: Annotated[int | None, Field(ge=2, le=1024), DecodingField("method", None)] = Field(
        None,
        description="chain-of-thought decoding: sample n begins with the nth likeliest token and goes on "
        "greedily; the most samples that there may be",
    )
    stochastic_beams: Annotated[bool | None, DecodingField("method", False)] = Field(
        None, description="the samples of a prompt all differ: drawn without replacement, by as many beams"
    )

    guidance_scale: Annotated[float | None, Field(ge=0, le=100), stock_field("guidance", None)] = Field(
        None,
        description="classifier-free guidance: how far from the negative prompt's distribution; 1: none",
    )
    negative_prompt: Annotated[str | None, DecodingField("guidance", None, "guidance_scale")] = Field(
        None,
        description="what guidance leads away from, where a row has no `negative_prompt`: a whole prompt, "
        "of a chat the system turn; null: the prompt's last token alone",
    )
    context_alpha: Annotated[float | None, Field(ge=0, le=100), DecodingField("guidance", 0.0)] = Field(
        None,
        description="context-aware decoding: how much more the row's `context` counts than without it",
    )
    amateur: Annotated[str | None, Field(min_length=1), DecodingField("guidance", None)] = Field(
        None,
        description="contrastive decoding: a smaller model with the same tokenizer, which is subtracted",
    )
    amateur_temperature: Annotated[PositiveReal | None, DecodingField("guidance", 1.0, "amateur")] = Field(
        None, description="the amateur's logits are divided by it"
    )
    contrastive_alpha: Annotated[Share | None, DecodingField("guidance", 0.1, "amateur")] = Field(
        None, description="keep tokens at least this many times as likely as the model's likeliest one"
    )
    contrastive_beta: Annotated[
        Annotated[float, Field(ge=0), SENSIBLE_SIZE] | None, DecodingField("guidance", None, "amateur")
    ] = Field(
        None,
        description="(1 + beta) logits - beta amateur's logits; null: the difference of log-probabilities",
    )
    dola_layers: Annotated[
        Literal["low", "high"] | tuple[Natural, ...] | None, stock_field("guidance", None)
    ] = Field(
        None,
        description="DoLa: contrast with the most different layer of low, high or a list (0: embeddings)",
    )

    temperature: Annotated[PositiveReal | None, stock_field("temperature", 1.0)] = Field(
        None, description="logits are divided by it: below 1 sharpens the distribution, above 1 flattens it"
    )
    dynatemp_range: Annotated[
        Annotated[float, Field(ge=0), SENSIBLE_SIZE] | None, DecodingField("temperature", 0.0)
    ] = Field(
        None, description="the temperature moves this far up and down with the entropy of the distribution"
    )
    dynatemp_exponent: Annotated[PositiveReal | None, DecodingField("temperature", 1.0, "dynatemp_range")] = (
        Field(None, description="of the relative entropy that sets the dynamic temperature")
    )
    edt_theta: Annotated[
        Annotated[float, Field(ge=0), SENSIBLE_SIZE] | None, DecodingField("temperature", 0.0)
    ] = Field(None, description="temperature x edt_base^(theta / entropy): sharper where the model is sure")
    edt_base: Annotated[Share | None, DecodingField("temperature", 0.8, "edt_theta")] = Field(
        None, description="base of the entropy-dependent temperature"
    )
    smoothing_factor: Annotated[
        Annotated[float, Field(ge=0), SENSIBLE_SIZE] | None, DecodingField("temperature", 0.0)
    ] = Field(None, description="quadratic smoothing: distances from the best logit are squared and scaled")
    smoothing_curve: Annotated[
        float | None, Field(ge=1, le=3), DecodingField("temperature", 1.0, "smoothing_factor")
    ] = Field(None, description="share of a cubic term in the smoothing; 1: none")

    top_n_sigma: Annotated[PositiveReal | None, DecodingField("truncation", None)] = Field(
        None, description="keep logits within so many standard deviations of the largest"
    )
    top_h: Annotated[Share | None, stock_field("truncation", None)] = Field(
        None, description="keep the most likely tokens up to this share of the entropy"
    )
    top_k: Annotated[Positive | None, stock_field("truncation", 0)] = Field(
        None, description="keep the k most likely tokens"
    )
    top_p: Annotated[Share | None, stock_field("truncation", 1.0)] = Field(
        None, description="keep the fewest tokens with a total probability of at least this"
    )
    top_p_decay: Annotated[Share | None, DecodingField("truncation", 1.0, "top_p")] = Field(
        None, description="top_p is multiplied by it at each step (factual nucleus)"
    )
    top_p_min: Annotated[Share | None, DecodingField("truncation", 1e-6, "top_p_decay")] = Field(
        None, description="where a decaying top_p ends"
    )
    top_p_reset_ids: Annotated[
        tuple[Natural, ...] | None, DecodingField("truncation", None, "top_p_decay")
    ] = Field(None, description="token ids after which a decaying top_p starts again, as ends of sentences")
    min_p: Annotated[float | None, Field(ge=0, le=1), stock_field("truncation", None)] = Field(
        None, description="keep tokens at least this many times as likely as the most likely one"
    )
    typical_p: Annotated[Share | None, stock_field("truncation", 1.0)] = Field(
        None, description="keep the tokens with surprisal nearest the entropy, up to this total probability"
    )
    epsilon_cutoff: Annotated[float | None, Field(ge=0, lt=1), stock_field("truncation", 0.0)] = Field(
        None, description="keep tokens with at least this probability"
    )
    eta_cutoff: Annotated[float | None, Field(ge=0, lt=1), stock_field("truncation", 0.0)] = Field(
        None, description="keep tokens above a cutoff that falls with the entropy"
    )
    tfs: Annotated[Share | None, DecodingField("truncation", 1.0)] = Field(
        None,
        description="tail-free: keep tokens up to this share of the curvature of the sorted list",
    )
    top_a: Annotated[float | None, Field(ge=0, le=1), DecodingField("truncation", 0.0)] = Field(
        None, description="keep tokens at least this many times as likely as the largest probability squared"
    )
    p_less: Annotated[Literal[True, False, "norm"] | None, DecodingField("truncation", False)] = Field(
        None,
        description="keep tokens at least as likely as the sum of squares; norm: as its excess",
    )
    xtc_probability: Annotated[float | None, Field(ge=0, le=1), DecodingField("truncation", 0.0)] = Field(
        None, description="how often all but the least likely of the likely tokens are left out"
    )
    xtc_threshold: Annotated[
        float | None, Field(gt=0, le=0.5), DecodingField("truncation", 0.1, "xtc_probability")
    ] = Field(None, description="probability from which a token counts as likely")
    mirostat_mode: Annotated[Literal[1, 2] | None, DecodingField("truncation", None)] = Field(
        None, description="keep the surprisal of the output near mirostat_tau: version 1 or 2"
    )
    mirostat_tau: Annotated[PositiveReal | None, DecodingField("truncation", 5.0, "mirostat_mode")] = Field(
        None, description="wanted surprisal of a token, in bits"
    )
    mirostat_eta: Annotated[Share | None, DecodingField("truncation", 0.1, "mirostat_mode")] = Field(
        None, description="how fast mirostat corrects"
    )
    adaptive_target: Annotated[float | None, Field(ge=0, le=1), DecodingField("truncation", None)] = Field(
        None, description="prefer tokens of about this probability, averaged over the latest ones"
    )
    adaptive_decay: Annotated[
        float | None, Field(ge=0, le=0.99), DecodingField("truncation", 0.9, "adaptive_target")
    ] = Field(None, description="how slowly the average of adaptive_target forgets")
    skew: Annotated[float | None, Field(ge=-10, le=10), DecodingField("truncation", 0.0)] = Field(
        None,
        description="shift probability to less likely tokens above 0, to likelier ones below 0",
    )

    temperature_last: Annotated[bool | None, DecodingField("order", False)] = Field(
        None, description="temperature and smoothing act after the truncations"
    )
    sampler_order: Annotated[tuple[SamplerName, ...] | None, DecodingField("order", None)] = Field(
        None, description="the samplers in the order in which they act; every one that is used"
    )

    repetition_penalty: Annotated[PositiveReal | None, stock_field("penalty", 1.0)] = Field(
        None, description="divides the logits of tokens that occurred before; 1: none"
    )
    presence_penalty: Annotated[Penalty | None, DecodingField("penalty", 0.0)] = Field(
        None, description="subtracted from the logits of tokens that the output has"
    )
    frequency_penalty: Annotated[Penalty | None, DecodingField("penalty", 0.0)] = Field(
        None, description="subtracted from the logits of a token for each time that the output has it"
    )
    penalty_last_n: Annotated[Window | None, DecodingField("penalty", None)] = Field(
        None,
        description="repetition, presence and frequency penalties count the last n tokens; "
        "-1: all; null: repetition counts all, the others the output",
    )
    rep_pen_slope: Annotated[Share | None, DecodingField("penalty", 1.0, "repetition_penalty")] = Field(
        None, description="share of the repetition penalty in the older half of the window"
    )
    penalty_sustain: Annotated[Natural | None, DecodingField("penalty", None, "penalty_decay")] = Field(
        None, description="distance up to which a token has the whole repetition penalty"
    )
    penalty_decay: Annotated[Positive | None, DecodingField("penalty", None, "repetition_penalty")] = Field(
        None, description="tokens over which the repetition penalty fades after penalty_sustain"
    )
    encoder_repetition_penalty: Annotated[PositiveReal | None, stock_field("penalty", 1.0)] = Field(
        None, description="multiplies the logits of the prompt's tokens; above 1: stay with the prompt"
    )
    no_repeat_ngram_size: Annotated[int | None, Field(ge=0, le=1024), stock_field("penalty", 0)] = Field(
        None, description="no sequence of so many tokens occurs twice; 0: off"
    )
    dry_multiplier: Annotated[
        Annotated[float, Field(ge=0), SENSIBLE_SIZE] | None, DecodingField("penalty", 0.0)
    ] = Field(None, description="size of the penalty on tokens that continue a repeated sequence")
    dry_base: Annotated[
        float | None, Field(ge=1, le=100), DecodingField("penalty", 1.75, "dry_multiplier")
    ] = Field(None, description="the penalty grows by it with each token of the repeated sequence")
    dry_allowed_length: Annotated[Positive | None, DecodingField("penalty", 2, "dry_multiplier")] = Field(
        None, description="repeated sequences up to below this length have no penalty"
    )
    dry_penalty_last_n: Annotated[Window | None, DecodingField("penalty", -1, "dry_multiplier")] = Field(
        None, description="how many of the last tokens are searched; -1: all"
    )
    dry_sequence_breakers: Annotated[
        tuple[str, ...] | None, DecodingField("penalty", ("\n", ":", '"', "*"), "dry_multiplier")
    ] = Field(None, description="texts that no repeated sequence extends over")

    logit_bias: Annotated[
        dict[Natural, Annotated[float, Field(ge=-1e4, le=1e4)]] | None, DecodingField("bias", None)
    ] = Field(None, description="added to the logits of tokens, by id")
    sequence_bias: Annotated[
        tuple[tuple[tuple[Natural, ...], Annotated[float, Field(ge=-1e4, le=1e4)]], ...] | None,
        stock_field("bias", None),
    ] = Field(None, description="added to the last token's logit where it would complete a sequence of ids")

    # A score is divided by its length to this power, which must be finite.
    length_penalty: Annotated[float | None, Field(ge=-5, le=5), stock_field("beam", 1.0)] = Field(
        None,
        description="beam scores are divided by the length to this power: above 0 favours longer outputs",
    )
    early_stopping: Annotated[Literal[True, False, "never"] | None, stock_field("beam", False)] = Field(
        None, description="true: beam search ends once it has num_beams finished sequences"
    )
    num_beam_groups: Annotated[int | None, Field(ge=1, le=1024), stock_field("beam", 1)] = Field(
        None, description="diverse beam search: groups that num_beams is divided into; 1: none"
    )
    diversity_penalty: Annotated[float | None, Field(ge=0, le=100), stock_field("beam", 0.0)] = Field(
        None,
        description="subtracted from a token's log-probability for each beam of an earlier group that has "
        "just chosen it",
    )
    force_words: Annotated[tuple[str, ...] | None, DecodingField("beam", None)] = Field(
        None, description="constrained beam search: words that every output has, with a space before or not"
    )
    force_words_ids: Annotated[
        tuple[tuple[Natural, ...] | tuple[tuple[Natural, ...], ...], ...] | None, stock_field("beam", None)
    ] = Field(None, description="the same by token ids: of each word its ids, or a list of alternatives")
    min_new_tokens: Annotated[Natural | None, stock_field("length", None)] = Field(
        None, description="no end-of-text token before so many new ones"
    )
    bad_words_ids: Annotated[tuple[tuple[Natural, ...], ...] | None, stock_field("filter", None)] = Field(
        None, description="token sequences that are never generated"
    )
    suppress_tokens: Annotated[tuple[Natural, ...] | None, stock_field("filter", None)] = Field(
        None, description="token ids that are never generated"
    )
    begin_suppress_tokens: Annotated[tuple[Natural, ...] | None, stock_field("filter", None)] = Field(
        None, description="token ids that are never the first one"
    )
    exponential_decay_length_penalty: Annotated[
        tuple[Natural, Annotated[float, SENSIBLE_SIZE]] | None, stock_field("length", None)
    ] = Field(None, description="[start, factor]: from `start` on, end-of-text gets likelier by `factor`")
    json_schema: Annotated[dict[str, Any] | str | None, DecodingField("structure", None)] = Field(
        None, description="the output is JSON of this schema: a mapping, JSON text, or a .json file"
    )
    regex: Annotated[str | None, Field(min_length=1), DecodingField("structure", None)] = Field(
        None, description="all of the output matches this regular expression"
    )
    choices: Annotated[tuple[str, ...] | None, DecodingField("structure", None)] = Field(
        None, description="the output is one of these texts"
    )
    grammar: Annotated[str | None, Field(min_length=1), DecodingField("structure", None)] = Field(
        None, description="the output is of this Lark grammar: its text, or a .lark file"
    )
    renormalize_logits: Annotated[bool | None, stock_field("numerics", False)] = Field(
        None, description="make the processed scores log-probabilities again"
    )
    remove_invalid_values: Annotated[bool | None, stock_field("numerics", False)] = Field(
        None, description="replace NaN and infinity among the logits"
    )

    processors: Annotated[tuple[str | dict[str, Any], ...] | None, DecodingField("own", ())] = Field(
        None,
        description="logits processors of your own, each FILE.py:CLASS or package.module:CLASS, or a mapping "
        "{path: FILE.py:CLASS, place: before or after the samplers, NAME: VALUE of its arguments}",
    )
    generate: Annotated[str | dict[str, Any] | None, DecodingField("own", None)] = Field(
        None,
        description="a decoding loop of your own, FILE.py:FUNCTION or package.module:FUNCTION, or a mapping "
        "{path: FILE.py:FUNCTION, NAME: VALUE of its arguments}",
    )
