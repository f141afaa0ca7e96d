"""What is measured: Triton asked directly, PredictIntent, Recommend, and a call of no content."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
from grpc_health.v1 import health_pb2
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2, service_pb2_grpc

from deploy.bench.load import Target, grpc_target
from deploy.bench.visitors import Visitor
from shopintent.artifacts import signature
from shopintent.behavior import Behavior, BehaviorTokenizer
from shopintent.client import ShopIntentClient, calls
from shopintent.v1.product_pb2 import PRODUCT_VIEW_FULL
from shopintent.v1.recommendation_service_pb2 import PredictIntentResponse, RecommendResponse

TRITON = "triton"
PREDICT_INTENT = "predict_intent"
RECOMMEND = "recommend"
HEALTH = "health"
MODEL_INFER = "inference.GRPCInferenceService/ModelInfer"
SERVICE = "shopintent.v1.RecommendationService"
PAGE_SIZE = 20
PAGE: Any = {"page_size": PAGE_SIZE, "view": PRODUCT_VIEW_FULL}
PATIENCE_S = 30.0

Answer = PredictIntentResponse | RecommendResponse


@dataclass(frozen=True, eq=False)
class DirectModel:
    """The intent model as a client of Triton would call it: one behavior a call, nothing between.

    It is given the same tokens as the server gives it, and asked for the same outputs.
    """

    address: str
    stub: Any
    model_name: str
    tokenizer: BehaviorTokenizer

    def request(self, visitor: Visitor, *, request_time: int) -> bytes:
        """Returns the serialized ModelInferRequest of a visitor."""
        behavior = self.window(visitor)
        inputs: dict[str, NDArray[Any]] = {
            signature.EVENTS: behavior.tokens[None],
            signature.EVENT_TIMES: behavior.event_times[None],
            signature.REQUEST_TIME: np.array([[request_time]], dtype=np.int64),
        }
        request = service_pb2.ModelInferRequest(
            model_name=self.model_name,
            inputs=[
                service_pb2.ModelInferRequest.InferInputTensor(
                    name=name, datatype=array.dtype.name.upper(), shape=array.shape
                )
                for name, array in inputs.items()
            ],
            outputs=[
                service_pb2.ModelInferRequest.InferRequestedOutputTensor(name=name)
                for name in OUTPUTS
            ],
            raw_input_contents=[array.tobytes() for array in inputs.values()],
        )
        return bytes(request.SerializeToString())

    def window(self, visitor: Visitor) -> Behavior:
        """Returns the tokens of a visitor, padded as the server pads them."""
        behavior = self.tokenizer.encode(visitor.events)
        length = signature.sequence_length(len(behavior), self.tokenizer.max_events)
        return self.tokenizer.window(behavior, length)

    def ask(self, visitor: Visitor, *, request_time: int) -> dict[str, NDArray[np.float32]]:
        """Returns every output for a visitor, without the batch dimension."""
        request = service_pb2.ModelInferRequest.FromString(
            self.request(visitor, request_time=request_time)
        )
        answer = self.stub.ModelInfer(request, timeout=PATIENCE_S)
        return {
            output.name: np.frombuffer(content, dtype=np.float32)
            for output, content in zip(answer.outputs, answer.raw_output_contents, strict=True)
        }

    def target(self, visitors: Sequence[Visitor], *, request_time: int) -> Target:
        """Returns the target that asks for the visitors in turn."""
        requests = [self.request(visitor, request_time=request_time) for visitor in visitors]
        return grpc_target(TRITON, self.address, MODEL_INFER, requests, never_cut_short=True)


OUTPUTS = (
    signature.NEXT_ACTION_PROBABILITIES,
    signature.PURCHASE_PROBABILITIES,
    signature.BEHAVIOR_EMBEDDING,
    *signature.OPTIONAL_ANSWERS,
)


@contextmanager
def open_direct_model(
    address: str, model_name: str, tokenizer: BehaviorTokenizer
) -> Iterator[DirectModel]:
    """Connects to Triton."""
    with grpc.insecure_channel(address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        yield DirectModel(address, stub, model_name, tokenizer)


def health_target(address: str) -> Target:
    """Returns the target that makes a server do nothing: what any call to it costs."""
    answer = health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)
    return grpc_target(
        HEALTH,
        address,
        "grpc.health.v1.Health/Check",
        [health_pb2.HealthCheckRequest().SerializeToString()],
        answer=answer.SerializeToString(),
    )


def predict_intent_target(address: str, visitors: Sequence[Visitor]) -> Target:
    """Returns the target that asks a server for the intents of the visitors in turn."""
    requests = [calls.predict_intent(each.visitor_id).request for each in visitors]
    messages = [request.SerializeToString() for request in requests]
    return grpc_target(PREDICT_INTENT, address, f"{SERVICE}/PredictIntent", messages)


def recommend_target(address: str, visitors: Sequence[Visitor]) -> Target:
    """Returns the target that asks a server for a page for each of the visitors in turn."""
    requests = [calls.recommend(each.visitor_id, **PAGE).request for each in visitors]
    messages = [request.SerializeToString() for request in requests]
    return grpc_target(RECOMMEND, address, f"{SERVICE}/Recommend", messages)


def ask_predict_intent(client: ShopIntentClient, visitor: Visitor) -> PredictIntentResponse:
    """Makes the call that is measured."""
    return client.predict_intent(visitor.visitor_id, timeout_s=PATIENCE_S)


def ask_recommend(client: ShopIntentClient, visitor: Visitor) -> RecommendResponse:
    """Makes the call that is measured: a page of products with all that is shown of them."""
    return client.recommend(visitor.visitor_id, timeout_s=PATIENCE_S, **PAGE)
