# syntax=docker/dockerfile:1
# The harness for NVIDIA GPUs.
# Build: docker build -t decoding-harness .
# Run:   docker run --rm --gpus all -v harness-outputs:/outputs -v harness-models:/models decoding-harness experiments=demo
# Any runtime image of PyTorch from 2.8 on will do: --build-arg BASE=pytorch/pytorch:TAG, as the driver of the machine wants it.
ARG BASE=pytorch/pytorch:2.9.1-cuda12.8-cudnn9-runtime

FROM ${BASE} AS wheel
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY conf conf
COPY experiments experiments
COPY harness harness
RUN --mount=type=cache,target=/root/.cache/pip \
    PIP_BREAK_SYSTEM_PACKAGES=1 python -m pip wheel --no-deps --wheel-dir /wheels .

FROM ${BASE}
# Optional parts, by the names of pyproject.toml.
ARG EXTRAS=grammar,gguf
# PyTorch is the image's: pip finds it and leaves it, and adds the rest beside it. The version is the wheel's.
# hadolint ignore=DL3013
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    --mount=type=cache,target=/root/.cache/pip \
    set -- /wheels/*.whl && PIP_BREAK_SYSTEM_PACKAGES=1 python -m pip install "$1[${EXTRAS}]"

# New volumes take the owner that their folder has here.
RUN useradd --create-home --uid 10001 --user-group harness \
    && install --directory --owner harness --group harness /models /outputs /work
ENV HF_HOME=/models \
    HARNESS_OUTPUTS=/outputs
VOLUME ["/models", "/outputs"]

USER 10001:10001
# Prompt files, metrics and experiments of yours: -v "$PWD:/work".
WORKDIR /work
EXPOSE 5000
ENTRYPOINT ["harness"]
CMD ["--help"]
