"""The key that guards loading and unloading models, and how requests carry it."""

import os
import re
import secrets

from deploy.triton.terminal import LaunchError

KEY_VARIABLE = "SHOPINTENT_TRITON_MODEL_CONTROL_KEY"
KEY_HEADER = "shopintent-model-control"
# Triton checks gRPC metadata under this prefix, and HTTP headers under the bare name.
GRPC_KEY_HEADER = f"triton-grpc-protocol-{KEY_HEADER}"
RESTRICTED = "model-repository,shared-memory,trace,logging"


def model_control_key(given: str | None) -> str:
    key = given or os.environ.get(KEY_VARIABLE) or secrets.token_urlsafe(24)
    if not re.fullmatch(r"[A-Za-z0-9_-]{16,}", key):
        raise LaunchError(f"{KEY_VARIABLE}: use 16 or more letters, digits, '-' or '_'")
    return key
