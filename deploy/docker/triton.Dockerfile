# syntax=docker/dockerfile:1
# Triton with its native ONNX Runtime backend, serving the models of the current release.
#   docker build -f deploy/docker/triton.Dockerfile -t shopintent-triton .
#   docker run --rm -v "$PWD/releases:/srv/releases:ro" shopintent-triton              # CPU
#   docker run --rm --gpus all -v "$PWD/releases:/srv/releases:ro" shopintent-triton   # GPU
# The image is the same for both: a model whose config.pbtxt names no instance_group runs on the
# GPUs that the container is given, and on the CPU when it is given none.

ARG TRITON_TAG=25.06-py3
FROM nvcr.io/nvidia/tritonserver:${TRITON_TAG}
COPY --chmod=755 deploy/docker/triton-entrypoint.sh /usr/local/bin/triton-entrypoint
ENV SHOPINTENT_RELEASES=/srv/releases
# The user that NVIDIA's image creates, with uid 1000.
USER triton-server
EXPOSE 8000 8001 8002
HEALTHCHECK --interval=10s --timeout=5s --start-period=180s --retries=3 \
    CMD ["curl", "--fail", "--silent", "http://127.0.0.1:8000/v2/health/ready"]
# NVIDIA's own entrypoint first: it finds the CUDA libraries that fit the driver.
ENTRYPOINT ["/opt/nvidia/nvidia_entrypoint.sh", "triton-entrypoint"]
