"""The models of a release on a Triton Inference Server, asked over gRPC or over HTTP.

`calls.py` says what both ways have in common. The generated stubs that tritonclient ships are used
directly: its numpy helpers cost more than the call.
"""

from __future__ import annotations

from shopintent.server.inference.triton.behavior_model import TritonBehaviorModel
from shopintent.server.inference.triton.calls import ModelCalls
from shopintent.server.inference.triton.content_encoder import MAX_TEXTS, TritonContentEncoder
from shopintent.server.inference.triton.grpc_calls import CHANNEL_OPTIONS, GrpcCalls
from shopintent.server.inference.triton.http_calls import HttpCalls
from shopintent.server.inference.triton.repository import KEY_HEADER, TritonRepository

__all__ = [
    "CHANNEL_OPTIONS",
    "KEY_HEADER",
    "MAX_TEXTS",
    "GrpcCalls",
    "HttpCalls",
    "ModelCalls",
    "TritonBehaviorModel",
    "TritonContentEncoder",
    "TritonRepository",
]
