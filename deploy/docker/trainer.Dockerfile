# syntax=docker/dockerfile:1
# The trainer, shopintent-trainer. From the checkout, for the CPU or for CUDA:
#   docker build -f deploy/docker/trainer.Dockerfile -t shopintent-trainer .
#   docker build -f deploy/docker/trainer.Dockerfile -t shopintent-trainer \
#     --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130 .

FROM python:3.11-slim-bookworm AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /src
RUN python -m venv /opt/shopintent
COPY pyproject.toml requirements.lock README.md ./
# First and by itself: the build of torch comes from the index of its hardware, the rest from PyPI.
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/shopintent/bin/pip install torch -c requirements.lock --no-deps --index-url "$TORCH_INDEX"
COPY server/shopintent/artifacts server/shopintent/artifacts
COPY server/shopintent/behavior server/shopintent/behavior
COPY trainer trainer
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/shopintent/bin/pip install '.[trainer]' -c requirements.lock

FROM python:3.11-slim-bookworm
# LightGBM runs on OpenMP, which torch brings for itself only.
RUN apt-get update && apt-get install --yes --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/*
# A named volume mounted on /srv/releases takes over its owner.
RUN useradd --uid 10001 --create-home --shell /usr/sbin/nologin shopintent \
    && install --directory --owner 10001 --group 10001 /srv/releases
COPY --from=build /opt/shopintent /opt/shopintent
ENV PATH=/opt/shopintent/bin:$PATH \
    PYTHONUNBUFFERED=1
WORKDIR /home/shopintent
USER 10001
ENTRYPOINT ["shopintent-trainer"]
CMD ["--help"]
