# syntax=docker/dockerfile:1
# The gRPC server, shopintent-server. From the checkout:
#   docker build -f deploy/docker/server.Dockerfile -t shopintent-server .
# It holds protos/ and server/ only: no training code, no torch.

FROM python:3.11-slim-bookworm AS build
WORKDIR /src
RUN python -m venv /opt/shopintent
COPY pyproject.toml requirements.lock README.md ./
COPY protos protos
COPY server server
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/shopintent/bin/pip install '.[server]' -c requirements.lock

FROM python:3.11-slim-bookworm
# A named volume mounted on either folder takes over its owner.
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin shopintent \
    && install --directory --owner 10001 --group 10001 /srv/releases /srv/state
COPY --from=build /opt/shopintent /opt/shopintent
ENV PATH=/opt/shopintent/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    SHOPINTENT_RELEASES=/srv/releases \
    SHOPINTENT_STATE_PATH=/srv/state \
    SHOPINTENT_LISTEN=0.0.0.0:50051
USER 10001
EXPOSE 50051 9464
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["shopintent-server", "health"]
ENTRYPOINT ["shopintent-server"]
CMD ["serve"]
