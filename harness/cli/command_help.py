"""What `harness WORD --help` tells of each command: what it does, what it takes, and examples."""

from __future__ import annotations

DETAILS: dict[str, str] = {
    "plan": """\
Takes the arguments of a run and loads no model: the points of the sweep, what each still needs, the groups
that share a loaded model with their memory by estimate, how many tokens are to come at most, and what the
command sets without an effect on some of its points.

  harness plan -m decoding=greedy,top_p
  harness plan experiments=demo""",
    "check": """\
Takes the arguments of a run and reports every mistake in one line each, with its cure: unknown names, values
out of range, keys without an effect, prompts that do not fit, files that are missing. Nothing is loaded.
Exit status 0: the same arguments will run; 2: they will not.

  harness check -m model=fable_small decoding=greedy,top_p decoding.top_p=0.8,0.9""",
    "inspect": """\
Prints the tokens of a prompt, and the most likely next tokens with their logits and probabilities. The prompt
is taken as it is, without quotes of Hydra's. Tokens are drawn as by a sweep and by `harness generate`.

  prompt="..."    the prompt; or prompt_id alone
  prompt_id=ID    the row of prompts=... with this id; beside prompt=, the id of that text
  steps=N         continue token by token, N tables [1]
  top_k=K         rows of a table [10]
  chat=true       through the model's chat template
  --json          for machines
  --page[=PORT]   a page in the browser to walk through, until Ctrl-C
  key=value       anything else as for a run; decoding=top_p shows what truncation leaves

  harness inspect model=fable_small prompt="It was a dark and stormy"
  harness inspect model=fable_small prompt="It was a" decoding=top_p steps=5 --json""",
    "generate": """\
Streams the text of one prompt to the terminal and stores nothing. The prompt is taken as it is, without
quotes of Hydra's. Tokens are coloured by the model's probability; a last line on standard error tells how
many came, what ended the text, and how fast. Standard output gets the text alone, with marks for hidden
characters.

  prompt="..."    the prompt; or prompt_id alone
  prompt_id=ID    the row of prompts=... with this id; beside prompt=, the id of that text
  chat=true       through the model's chat template
  --no-color      no colours; nor with NO_COLOR set, or where the output is no terminal
  --json          one object a line as tokens come: sample, position, token_id, token, text (what is certain
                  now; all join to the output), logprob, warped_logprob, rank, entropy, warped_entropy, kept,
                  kept_mass; then one a sample: prompt_id, finish_reason (eos, stop_string, length,
                  interrupted), text, prompt_tokens, output_tokens, mean_logprob, sequence_score, seed,
                  ttft_ms, decode_ms, tokens_per_s
  key=value       anything else as for a run; generation.samples=3 gives three texts, one after the other

The text is the one that a sweep with the same settings stores. Random numbers depend on generation.seed, the
sample's index and the prompt's id. An id is made of the text, as for rows without one; where prompts=NAME or
prompts.file=FILE is given, a row with the same text, or of prompt_id, is taken with its id and fields.
A stop string is shown whole or not yet; beam searches show their text at the end.
Ctrl-C ends it, exit status 130.

  harness generate model=fable_small prompt="It was a dark and stormy" decoding=top_p
  harness generate prompt_id=stormy decoding=min_p generation.seed=3 generation.samples=2
  harness generate model=fable_tiny prompt="Once upon a time" 'generation.stop_strings=["."]' --json""",
    "replay": """\
Computes from what is stored of a point what another decoding would have kept at each step, how likely its
samples would have been, and where another token would have been chosen with the same random numbers. No
model is loaded. What the recorded alternatives cannot decide is reported as undecided; record.top_k=20
decides most.

  POINT           label of a point of the last sweep, SWEEP/LABEL, or a point's id
  decoding...     another strategy, or keys of it: temperature, top_k, top_p, min_p, eta_cutoff, ...
  --json          for machines

  harness replay fable_small/none/top_p decoding.top_p=0.8
  harness replay "fable_small/none/top_p top_p=0.9" decoding=greedy""",
    "report": """\
Writes the comparison of a sweep again from the store (compare.html, summary.csv, comparison.csv), with the
feedback that people left in MLflow, and prints its table. Decodes nothing.

  SWEEP           folder, title or id of a sweep, or the beginning of one; the last one when none is named

  harness report
  harness report demo""",
    "sync": """\
Sends MLflow what it lacks of a sweep, from the store alone: after a server was away, or with tracking.uri
set to another one since.

  SWEEP           folder, title or id of a sweep, or the beginning of one; the last one when none is named

  harness sync
  MLFLOW_TRACKING_URI=http://localhost:5000 harness sync demo""",
    "ui": """\
Serves the MLflow UI on this project's store until Ctrl-C. Other options are passed to `mlflow server`.

  --port N        [5000]
  --host HOST     [127.0.0.1]

  harness ui --port 5001""",
    "doctor": """\
Tells what this machine offers: devices, memory, versions, and which quantizations and caches really work here
(each is tried on a small model).

  harness doctor""",
    "worker": """\
Runs one group of a sweep that a run with a launcher has planned, and writes what becomes of its points. You
need it only to see why a worker fails, or to write a launcher. It plans the sweep anew and refuses where
samples would differ: other versions, another kind of device. What it tells is JSON, one object a line.

  SWEEP           the sweep's folder, or its name in the store
  --group K       number of the group, from 0, in the order in which `harness plan` lists them
  --shard I/N     a share of it, where N workers run the group: number of this one, from 0
  --without I,J   points to leave out, by number
  --cores I,J     CPU cores to keep to
  --shared FILE   locks of a device that others use too: latency is measured alone on it
  --lines FILE    where it tells how far it is, in place of standard output; for jobs of a batch system

  harness worker outputs/sweeps/demo-0123456789 --group 0""",
    "help": """\
Lists a group's choices and keys, or finds whatever has a name: a choice, a key with its type and default, a
command, a metric by its key or as it is displayed, a plug-in; `metrics` lists all metrics.

  harness help decoding
  harness help top_p
  harness help chrf
  harness help rep-4
  harness help metrics""",
}


def describe_command(command: str, usage: str) -> str:
    """Return the text of `harness COMMAND --help`.

    Args:
        command: its name.
        usage: its line in `harness --help`: arguments, two spaces, what it does.
    """
    arguments, gap, summary = usage.rpartition("  ")
    head = f"harness {command} {arguments.strip()}".rstrip() if gap else f"harness {command}"
    return f"{head}\n{summary}\n\n{DETAILS[command]}"
