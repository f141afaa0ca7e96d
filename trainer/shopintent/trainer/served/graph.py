"""The whole graph that serves, to be exported."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from shopintent.trainer.heads import IntentHeads
from shopintent.trainer.model import IntentNetwork
from shopintent.trainer.served.features import LeanFeatures, Moments
from shopintent.trainer.served.heads import LeanHeads
from shopintent.trainer.served.network import LeanNetwork


class ServedAnswers(NamedTuple):
    """The outputs of the graph that serves, in the order of `signature.intent_signature`."""

    next_actions: Tensor  # [B, A]
    purchases: Tensor  # [B, H]
    behavior_embedding: Tensor  # [B, D], L2-normalized
    visit_purchase: Tensor  # [B, 1]
    time_to_purchase_s: Tensor  # [B, 1]
    quantity: Tensor  # [B, 1]


class LeanIntent(nn.Module):
    """[B, T, 9], [B, T] and [B, 1] to answers: what `export.ServedIntent` says, made to be served.

    In PyTorch it says nothing by its trees; exported it does.
    """

    places: Tensor

    def __init__(self, network: IntentNetwork, heads: IntentHeads) -> None:
        super().__init__()
        self.network, self.heads = LeanNetwork(network), LeanHeads(heads)
        max_events = network.config.max_events
        self.features = LeanFeatures(
            heads.config.event_types, heads.config.session_gap_s, max_events
        )
        places = torch.arange(1, max_events + 1, dtype=torch.int32)
        self.register_buffer("places", places)
        self.eval()

    def forward(self, events: Tensor, event_times: Tensor, request_time: Tensor) -> ServedAnswers:
        """See artifacts.signature."""
        moments = Moments.of(events, event_times, request_time, self.places)
        state, embedding = self.network(moments, event_times)
        answers = self.heads(state, self.features(moments))
        return ServedAnswers(
            next_actions=answers.next_actions,
            purchases=answers.purchases,
            behavior_embedding=embedding,
            visit_purchase=answers.visit_purchase,
            time_to_purchase_s=answers.time_to_purchase_s,
            quantity=answers.quantity,
        )
