"""The tensors that cross from trainer to server: names, types and shapes of every model."""

from __future__ import annotations

from dataclasses import dataclass

from shopintent.behavior.tokenizer import EVENT_FIELDS, PRODUCT_FIELDS

ANY = -1
"""A dimension that differs from request to request."""

# intent_<release>
EVENTS = "events"
EVENT_TIMES = "event_times"
REQUEST_TIME = "request_time"
NEXT_ACTION_PROBABILITIES = "next_action_probabilities"
PURCHASE_PROBABILITIES = "purchase_probabilities"
BEHAVIOR_EMBEDDING = "behavior_embedding"
VISIT_PURCHASE_PROBABILITY = "visit_purchase_probability"
EXPECTED_TIME_TO_PURCHASE_S = "expected_time_to_purchase_s"
EXPECTED_QUANTITY = "expected_quantity"
# text_encoder_<release>
INPUT_IDS = "input_ids"
ATTENTION_MASK = "attention_mask"
TEXT_EMBEDDING = "text_embedding"
# product_encoder_<release>
PRODUCT_TOKENS = "product_tokens"
PRODUCT_EMBEDDING = "product_embedding"

OPTIONAL_ANSWERS = (VISIT_PURCHASE_PROBABILITY, EXPECTED_TIME_TO_PURCHASE_S, EXPECTED_QUANTITY)
"""Outputs that every intent model has and that mean something where Manifest.answers names them."""

MAX_BATCH = 64
"""Rows of one call: every exported model takes as many, and the server sends no more."""

SHORTEST_SEQUENCE = 8
"""Events that the shortest window sent to the intent model has room for."""

FINGERPRINT_PARAMETER = "behavior_fingerprint"
"""The parameter of config.pbtxt that holds the fingerprint of the model's own tokenizer."""


@dataclass(frozen=True)
class Tensor:
    """One input or output, without the batch dimension that every tensor starts with."""

    name: str
    dtype: str
    """As Triton writes it: "INT32", "INT64", "FP32"."""
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Signature:
    """What a model reads and writes."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


def sequence_length(n_events: int, max_events: int) -> int:
    """Returns how long a window is that so many events are sent in: 8, 16, 24, 32, 48, 64, 96 ..

    It is `max_events` at most. The intent model takes windows of any length and answers the same
    whatever the padding; few lengths let requests of unlike visitors share a batch.
    """
    length = SHORTEST_SEQUENCE
    while length < n_events:
        length *= 2
    between = length - length // 4
    if between % SHORTEST_SEQUENCE == 0 and n_events <= between:
        length = between
    return min(length, max_events)


def intent_signature(*, n_actions: int, n_horizons: int, embedding_size: int) -> Signature:
    """The intent model: windowed behavior and the time of the request (unix seconds) to answers.

    Windows of one batch are padded behind to one length, see `sequence_length`.
    """
    return Signature(
        inputs=(
            Tensor(EVENTS, "INT32", (ANY, len(EVENT_FIELDS))),
            Tensor(EVENT_TIMES, "INT64", (ANY,)),
            Tensor(REQUEST_TIME, "INT64", (1,)),
        ),
        outputs=(
            Tensor(NEXT_ACTION_PROBABILITIES, "FP32", (n_actions,)),
            Tensor(PURCHASE_PROBABILITIES, "FP32", (n_horizons,)),
            Tensor(BEHAVIOR_EMBEDDING, "FP32", (embedding_size,)),
            *(Tensor(name, "FP32", (1,)) for name in OPTIONAL_ANSWERS),
        ),
    )


def text_encoder_signature(*, text_embedding_size: int) -> Signature:
    """The text encoder: word pieces to an L2-normalized embedding."""
    return Signature(
        inputs=(Tensor(INPUT_IDS, "INT64", (ANY,)), Tensor(ATTENTION_MASK, "INT64", (ANY,))),
        outputs=(Tensor(TEXT_EMBEDDING, "FP32", (text_embedding_size,)),),
    )


def product_encoder_signature(*, text_embedding_size: int, embedding_size: int) -> Signature:
    """The product tower: id, content and text embedding to an L2-normalized product embedding."""
    return Signature(
        inputs=(
            Tensor(PRODUCT_TOKENS, "INT32", (len(PRODUCT_FIELDS),)),
            Tensor(TEXT_EMBEDDING, "FP32", (text_embedding_size,)),
        ),
        outputs=(Tensor(PRODUCT_EMBEDDING, "FP32", (embedding_size,)),),
    )
