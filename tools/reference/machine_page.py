"""The page of what a machine sees of the harness: exit statuses and environment variables."""

from __future__ import annotations

from tools.reference.markdown import code, prose, sentence, table

EXIT = {
    "0": "all points are done, and what was expected was found",
    "1": "some points failed, or an expectation was missed; everything else is done and kept",
    "2": "the command or the config is wrong, each mistake in one line; nothing was loaded",
    "130": "interrupted by Ctrl-C; batches that were done are kept",
    "143": "ended by SIGTERM; batches that were done are kept",
}
VARIABLES = {
    "HARNESS_OUTPUTS": "folder of the store; without it `outputs` in the working folder",
    "HARNESS_LOCKS": "kind of the store's locks: auto, fcntl or files; auto: the kernel's, where those hold",
    "MLFLOW_TRACKING_URI": "MLflow's store where tracking.uri is null; a password in it is written nowhere",
    "HYDRA_FULL_ERROR": "1 shows the traceback of an unexpected error",
    "OMP_NUM_THREADS": "CPU threads with engine.threads=auto; else what affinity, cgroup and SLURM leave",
    "SLURM_CPUS_PER_TASK": "bounds engine.threads=auto; SLURM sets it",
    "CUDA_VISIBLE_DEVICES": "the GPUs that hydra/launcher=local_gpus shares out",
    "OMP_WAIT_POLICY": "how OpenMP's threads wait; where it is set, the next two are left alone",
    "GOMP_SPINCOUNT": "set to 5000 where it is not set: threads wait in a loop for 0.2 ms, then asleep",
    "KMP_BLOCKTIME": "the same of LLVM's OpenMP: set to 1 ms",
    "NO_COLOR": "no colours on the terminal",
    "COLUMNS": "width of the terminal's tables",
    "TERM": "which terminal it is: links are left out where it cannot show them",
    "TERM_PROGRAM": "the same",
    "HF_HOME": "where the hub's files are kept; huggingface_hub reads it",
    "HF_TOKEN": "for gated models of the hub; huggingface_hub reads it",
    "HF_HUB_OFFLINE": "1: nothing is fetched from the hub",
    "VLLM_USE_V2_MODEL_RUNNER": "with backend=vllm: which of vLLM's model runners; 0 unless you set it",
    "VLLM_BATCH_INVARIANT": "1: vLLM's answer to kernels that depend on the batch",
    "VLLM_LOGGING_LEVEL": "with backend=vllm: set to ERROR unless you set it",
    "OPENROUTER_API_KEY": "key of backend=openrouter; backend.api_key_env names the variable of any server",
}
_HEAD = """\
# Exit status and environment

## Exit status

"""


def machine_page() -> str:
    """Return the page."""
    statuses = table(
        ("status", "means"), ((code(name), prose(sentence(text))) for name, text in EXIT.items())
    )
    variables = ((code(name), prose(sentence(text))) for name, text in VARIABLES.items())
    return f"{_HEAD}{statuses}\n\n## Environment variables\n\n{table(('variable', 'is'), variables)}"
