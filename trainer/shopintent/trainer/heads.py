"""Everything that is fitted after the network: the heads that turn state and features into answers.

Gradient descent learns the network from next products and next actions; the heads are then fitted
to what it says at request moments, by methods that suit each. They are exported with the network in
one graph.

B requests, D width of the state, X structured features, O order features, A actions, H horizons
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from shopintent.artifacts import signature
from shopintent.behavior.events import ADD_TO_CART, PURCHASE, REMOVE_FROM_CART
from shopintent.behavior.vocabulary import FIRST
from shopintent.trainer.action_head import ActionHead, fit_action_head
from shopintent.trainer.expectation_head import ExpectationHead, fit_expectation
from shopintent.trainer.features import feature_names, structured_features
from shopintent.trainer.order_features import N_ORDER_FEATURES, order_features
from shopintent.trainer.orders import in_window, next_orders
from shopintent.trainer.prefixes import Prefixes
from shopintent.trainer.purchase_head import PurchaseHead, PurchaseRequests, fit_purchase_head
from shopintent.trainer.quantiles import Quantiles, fit_quantiles
from shopintent.trainer.sequences import Sequences


@dataclass(frozen=True)
class HeadsConfig:
    """What the heads read and answer; saved with the run."""

    event_types: tuple[str, ...]
    """The words of the tokenizer's event types, in order of their ids."""
    n_actions: int
    n_horizons: int
    d_model: int
    session_gap_s: int
    purchase_window_s: int
    """The expected time to purchase is that of a purchase which comes this soon."""

    def type_id(self, event_type: str) -> int:
        """Returns the id of an event type, -1 where the log has none of it."""
        known = event_type in self.event_types
        return FIRST + self.event_types.index(event_type) if known else -1

    @cached_property
    def feature_names(self) -> list[str]:
        """The names of the X structured features."""
        return feature_names(self.event_types)

    @property
    def n_inputs(self) -> int:
        """How many numbers the heads of actions and purchases see: state, structured features."""
        return self.d_model + len(self.feature_names)


class HeadAnswers(NamedTuple):
    """What the heads say of B requests."""

    next_actions: Tensor  # [B, A] probabilities
    visit_purchase: Tensor  # [B, 1] probability of a purchase later in this visit
    purchases: Tensor  # [B, H] probabilities, never falling with the horizon
    time_to_purchase_s: Tensor  # [B, 1], given that there is a purchase
    quantity: Tensor  # [B, 1] units of the next order, given that there is one


class IntentHeads(nn.Module):
    """State and structured features of a request to calibrated answers.

    Its tensors are buffers, since no gradient fits them.
    """

    def __init__(self, config: HeadsConfig) -> None:
        super().__init__()
        self.config = config
        self.quantiles = Quantiles(len(config.feature_names))
        self.action = ActionHead(config.n_inputs, config.n_actions)
        self.purchase = PurchaseHead(config.n_inputs, 1 + config.n_horizons)
        self.time = ExpectationHead(config.d_model, len(config.feature_names) + N_ORDER_FEATURES)
        self.quantity = ExpectationHead(
            config.d_model, len(config.feature_names) + N_ORDER_FEATURES
        )

    @property
    def answers(self) -> tuple[str, ...]:
        """Those of signature.OPTIONAL_ANSWERS that mean something."""
        given = {
            signature.VISIT_PURCHASE_PROBABILITY: self.config.type_id(PURCHASE) > 0,
            signature.EXPECTED_TIME_TO_PURCHASE_S: bool(self.time.given),
            signature.EXPECTED_QUANTITY: bool(self.quantity.given),
        }
        return tuple(name for name in signature.OPTIONAL_ANSWERS if given[name])

    def features(self, events: Tensor, event_times: Tensor, request_time: Tensor) -> Tensor:
        """[B, T, 9], [B, T] and [B, 1] to [B, X + O]: what is counted of each request."""
        structured = structured_features(
            events,
            event_times,
            request_time,
            event_types=self.config.event_types,
            session_gap_s=self.config.session_gap_s,
        )
        ordered = order_features(
            events,
            event_times,
            request_time,
            purchase=self.config.type_id(PURCHASE),
            add_to_cart=self.config.type_id(ADD_TO_CART),
            remove_from_cart=self.config.type_id(REMOVE_FROM_CART),
        )
        return torch.cat([structured, ordered], dim=1)

    def forward(self, inputs: Tensor) -> HeadAnswers:
        """[B, D + X + O], state, structured and order features, to answers."""
        readable, features = self.read(inputs)
        purchases = self.purchase(readable, features)
        return HeadAnswers(
            next_actions=self.action(readable),
            visit_purchase=purchases[:, :1],
            purchases=rising(purchases[:, 1:]),
            time_to_purchase_s=self.time(inputs),
            quantity=self.quantity(inputs),
        )

    def read(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Returns what is linear in purchases, [B, D + X], and the structured features [B, X].

        The former are the state and the normal scores of the latter.
        """
        state = inputs[:, : self.config.d_model]
        features = inputs[:, self.config.d_model : self.config.n_inputs]
        return torch.cat([state, self.quantiles(features)], dim=1), features

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


def fit_heads(
    heads: IntentHeads,
    sequences: Sequences,
    prefixes: Prefixes,
    inputs: NDArray[np.float32],
    *,
    fresh_from: int,
    observed_until: int,
) -> None:
    """Fits every head to prefixes and the [N, D + X + O] inputs seen after them.

    The network was fitted to what happened before `fresh_from`; what happened from
    `observed_until` on is not looked at. Both are unix seconds.
    """
    fit_quantiles(heads.quantiles, inputs[:, heads.config.d_model : heads.config.n_inputs])
    readable, features = (each.numpy() for each in heads.read(torch.tensor(inputs)))
    fit_action_head(heads.action, readable, prefixes.next_actions, prefixes.request_times)
    requests = PurchaseRequests.of(prefixes, readable, features, fresh_from)
    fit_purchase_head(heads.purchase, requests)
    orders = next_orders(sequences, prefixes, observed_before=observed_until)
    window_s = heads.config.purchase_window_s
    soon = in_window(orders, prefixes, window_s=window_s, observed_until=observed_until)
    fit_expectation(heads.time, inputs[soon], orders.seconds[soon], prefixes.shoppers[soon])
    found = orders.units > 0
    fit_expectation(heads.quantity, inputs[found], orders.units[found], prefixes.shoppers[found])
