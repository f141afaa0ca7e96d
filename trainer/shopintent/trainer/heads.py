"""Everything that is fitted after the network: the heads that turn state and features into answers.

Gradient descent learns the network from next products and next actions; the heads are then fitted
to what it says at request moments, by methods that suit each. They are exported with the network in
one graph.

B requests, D width of the state, X structured features, A actions, H horizons
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from shopintent.behavior.vocabulary import FIRST
from shopintent.trainer.action_head import ActionHead, fit_action_head
from shopintent.trainer.features import n_features, structured_features
from shopintent.trainer.prefixes import Prefixes
from shopintent.trainer.purchase_head import PurchaseHead, PurchaseRequests, fit_purchase_head


@dataclass(frozen=True)
class HeadsConfig:
    """What the heads read and answer; saved with the run."""

    event_types: tuple[str, ...]
    """The words of the tokenizer's event types, in order of their ids."""
    n_actions: int
    n_horizons: int
    d_model: int
    session_gap_s: int

    @property
    def n_types(self) -> int:
        """How many ids event types have."""
        return FIRST + len(self.event_types)

    @property
    def n_inputs(self) -> int:
        """How many numbers the heads see of a request: state and structured features."""
        return self.d_model + n_features(self.n_types)


class HeadAnswers(NamedTuple):
    """What the heads say of B requests."""

    next_actions: Tensor  # [B, A] probabilities
    visit_purchase: Tensor  # [B, 1] probability of a purchase later in this visit
    purchases: Tensor  # [B, H] probabilities, never falling with the horizon


class IntentHeads(nn.Module):
    """State and structured features of a request to calibrated answers.

    Its tensors are buffers, since no gradient fits them.
    """

    def __init__(self, config: HeadsConfig) -> None:
        super().__init__()
        self.config = config
        self.action = ActionHead(config.n_inputs, config.n_actions)
        self.purchase = PurchaseHead(config.n_inputs, 1 + config.n_horizons)

    def features(self, events: Tensor, event_times: Tensor, request_time: Tensor) -> Tensor:
        """[B, T, 8], [B, T] and [B, 1] to [B, X]: the structured features of each request."""
        n_seen = (events[:, :, 0] != 0).sum(1, keepdim=True)
        return structured_features(
            events,
            event_times,
            n_seen,
            request_time,
            n_types=self.config.n_types,
            session_gap_s=self.config.session_gap_s,
        ).squeeze(1)

    def forward(self, inputs: Tensor) -> HeadAnswers:
        """[B, D + X], state and structured features, to answers."""
        purchases = self.purchase(inputs)
        return HeadAnswers(self.action(inputs), purchases[:, :1], rising(purchases[:, 1:]))

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes over a saved `state_dict`. How large some tensors are was decided by the fit."""
        for name, tensor in tensors.items():
            owner, _, leaf = name.rpartition(".")
            setattr(self.get_submodule(owner), leaf, torch.empty_like(tensor))
        self.load_state_dict(tensors)


def rising(probabilities: Tensor) -> Tensor:
    """Returns [..., H] in which a longer horizon is at least as likely as a shorter one.

    The horizons are fitted one by one, so that noise could turn them around.
    """
    columns = list(probabilities.unbind(-1))
    for horizon in range(1, len(columns)):
        columns[horizon] = torch.maximum(columns[horizon], columns[horizon - 1])
    return torch.stack(columns, dim=-1)


def fit_heads(heads: IntentHeads, prefixes: Prefixes, inputs: NDArray[np.float32]) -> None:
    """Fits every head to prefixes and the [N, D + X] inputs seen after them."""
    fit_action_head(heads.action, inputs, prefixes.next_actions, prefixes.request_times)
    fit_purchase_head(heads.purchase, PurchaseRequests.of(prefixes, inputs))
