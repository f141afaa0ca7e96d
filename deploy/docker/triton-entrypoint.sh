#!/bin/sh
# Serve the models of the current release with tritonserver; arguments are passed on to it.
#
# SHOPINTENT_RELEASES                   the releases root (default /srv/releases)
# SHOPINTENT_RELEASE                    the release to serve (default: the serving one of routing.json)
# SHOPINTENT_TRITON_MODEL_CONTROL_KEY   needed to load and unload models; without it nobody can
set -eu

root=${SHOPINTENT_RELEASES:-/srv/releases}
routing=$root/routing.json
if [ ! -r "$routing" ] && [ -z "${SHOPINTENT_RELEASE:-}" ]; then
    echo "triton-entrypoint: $routing does not exist: publish a release first, or set" \
        "SHOPINTENT_RELEASE" >&2
    exit 1
fi
release=${SHOPINTENT_RELEASE:-$(sed -n 's/^  "serving": "\([a-z0-9-]*\)",\{0,1\}$/\1/p' "$routing")}
key=${SHOPINTENT_TRITON_MODEL_CONTROL_KEY:-$(od -An -N24 -tx1 /dev/urandom | tr -d '[:space:]')}

set -- "$@" \
    --model-repository="$root/model_repository" \
    --model-control-mode=explicit \
    --strict-readiness=false
for model in intent text_encoder product_encoder; do
    set -- "$@" --load-model="${model}_$release"
done
# Models change only by those who hold the key; so do shared memory, trace and log settings.
restricted="model-repository,shared-memory,trace,logging:shopintent-model-control=$key"
echo "triton-entrypoint: serving release $release" >&2
exec tritonserver "$@" \
    --grpc-restricted-protocol="$restricted" --http-restricted-api="$restricted"
