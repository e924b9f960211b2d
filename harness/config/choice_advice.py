"""What somebody may have meant by a choice that does not exist: another tool's name, a file, a prompt."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from importlib.util import find_spec

from harness.config.suggest import did_you_mean

# Names whose nearest spelling is another choice.
_ALSO_CALLED = {
    ("decoding", "sample"): ("temperature", "top_p", "min_p"),
    ("decoding", "do_sample"): ("temperature", "top_p", "min_p"),
    ("decoding", "beam_search"): ("beam",),
    ("decoding", "nucleus"): ("top_p",),
    ("backend", "transformers"): ("hf",),
    ("backend", "llamacpp"): ("llama_cpp",),
    ("backend", "oobabooga"): ("text_generation_webui",),
    ("backend", "server"): ("openai",),
    ("decoding", "watermark"): ("kgw", "synthid", "gumbel_watermark"),
}

FILES = (".txt", ".jsonl", ".json", ".csv", ".tsv", ".parquet")
"""The kinds of prompt files."""

_STORED_QUANTIZED = "quantization=none runs a checkpoint that is stored quantized as it is"
_SPECULATION = "it changes no sample: add speculation.draft=MODEL or speculation.prompt_lookup=true"
_SELECTION = "samples are chosen by compare.select: generation.samples=8 'compare.select=[majority,mbr]'"
# By group: a pattern of what is written, and the choices or the advice that it gets; the first that fits.
_MEANT: dict[str, tuple[tuple[str, tuple[str, ...] | str], ...]] = {
    "decoding": (
        (r"specul|assist|draft|lookup|early_exit", _SPECULATION),
        (r"best_of|major|vot(e|ing)|^mbr|self_c|rerank", _SELECTION),
        (r"beam.*sampl|sampl.*beam", ("beam_sample",)),
        (r"stochastic|^sbs$|replacement", ("stochastic_beam", "temperature")),
        (r"constrain|force|^dba$", ("constrained_beam",)),
        (r"sampl|random|multinomial|^(true|on|yes)$", ("temperature", "top_p", "min_p")),
        (r"nucleus", ("top_p",)),
        (r"group|divers|^dbs$", ("diverse_beam",)),
        (r"beam", ("beam", "beam_sample", "diverse_beam", "constrained_beam")),
        (r"arg_?max|determinis|^(none|null|off|no|false)$", ("greedy",)),
        (r"^t$|^temp", ("temperature",)),
        (r"ngram|n_gram", ("no_repeat_ngram",)),
        (r"json|schema", ("json",)),
        (r"struct|guided|grammar|lark|gbnf|ebnf", ("grammar", "json", "regex", "choices")),
        (r"reg_?exp?|pattern", ("regex",)),
        (r"choice|select|classif|enum", ("choices",)),
        (r"repet|penalt", ("repetition_penalty", "no_repeat_ngram")),
        (r"cfg|classifier|negative|guidance", ("cfg",)),
        (r"^cad$|context", ("context_aware",)),
        (r"contrastive_dec|amateur|^cd$", ("contrastive_decoding",)),
        (r"layer", ("dola",)),
        (r"cot|chain|thought", ("cot",)),
        (r"contrastive|simctg", ("contrastive_search", "contrastive_decoding")),
    ),
    "quantization": (
        (r"gguf|^i?q\d", "a GGUF file is model.id=FILE.gguf, with quantization=none"),
        (r"gptq|awq|exl|fp8|mxfp4|compressed", _STORED_QUANTIZED),
        (r"4", ("bnb_nf4", "bnb_fp4", "torchao_int4_weight_only")),
        (r"8", ("bnb_int8", "torchao_int8_weight_only")),
        (r"^(bnb|bitsandbytes|on|true|yes)", ("bnb_nf4", "bnb_int8")),
        (r"torchao|^ao$", ("torchao_int8_weight_only", "torchao_int4_weight_only")),
        (r"^b.*16", ("bf16",)),
        (r"16|half", ("fp16", "bf16")),
        (r"32|full|single", ("fp32",)),
        (r"^(off|no|false|default|auto)", ("none",)),
    ),
    "cache": (
        (r"4", ("quantized_int4",)),
        (r"fp8", ("quantized_fp8",)),
        (r"8", ("quantized_int8", "quantized_fp8")),
        (r"^(none|off|no|false|dynamic|auto)", ("default",)),
    ),
    "timing": (
        (r"^(on|true|yes|fast|default)", ("quick",)),
        (r"^(none|no|false)", ("off",)),
        (r"full|long|accurate|exact|slow", ("thorough",)),
    ),
    "tracking": (
        (r"^(none|no|false)", ("off",)),
        (r"^(on|true|yes)", ("mlflow",)),
    ),
    "backend": ((r"transformers|hugging", ("hf",)),),
}


def choice_advice(group: str, wrong: str, known: Sequence[str]) -> str:
    """Return `; ...` with what to write instead of a choice that does not exist; empty if nothing is near.

    Args:
        group: the config group.
        wrong: what was written for it.
        known: the choices that there are.
    """
    if group == "prompts":
        if wrong.lower().endswith(FILES):
            return f"; a file is {shlex.quote(f'prompts.file={wrong}')}"
        if re.search(r"[^\w.-]", wrong.strip()):
            return f"; a prompt is {prompt_override(wrong)}"
    if group == "model" and ("/" in wrong or wrong.startswith((".", "~")) or wrong.endswith(".gguf")):
        return f"; a folder, a GGUF file or a model of the hub is {shlex.quote(f'model.id={wrong}')}"
    also = _ALSO_CALLED.get((group, wrong.lower().replace("-", "_")))
    advice = (("", also),) if also else _MEANT.get(group, ())
    is_word = also or any(re.fullmatch(pattern, wrong.lower()) for pattern, _ in advice)
    if not is_word and (hint := did_you_mean(wrong, known)):
        return hint
    for pattern, meant in advice:
        if re.search(pattern, wrong.lower()):
            if isinstance(meant, str):
                return f"; {meant}"
            there = [choice for choice in meant if choice in known]
            there = [choice for choice in there if _can_run(choice)] or there
            if there:
                return f"; use {_or([f'{group}={choice}' for choice in there])}"
    inside = [choice for choice in known if len(wrong) > 2 and wrong.lower() in choice.lower()]
    if group == "prompts" and not inside and wrong.strip():
        return f"; a prompt is {prompt_override(wrong)}"
    return f"; did you mean {_or(inside[:3])}?" if inside else ""


def _can_run(choice: str) -> bool:
    """Whether the package that a choice needs is there; of those that not everybody has."""
    return not choice.startswith("torchao") or find_spec("torchao") is not None


def prompt_override(text: str) -> str:
    """Return the override that gives one prompt, quoted for the shell."""
    from hydra.core.override_parser.types import Quote, QuotedString

    item = QuotedString(text=text.replace("${", "\\${"), quote=Quote.double).with_quotes()
    return shlex.quote(f"prompts.items=[{item}]")


def _or(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
