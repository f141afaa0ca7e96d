"""What a shopper's past orders say of the next one, inside the exported graph.

An order is all that is bought at one time. How much was bought, how often, and what lies in the
cart are what the heads of time and quantity read besides the state.
"""

from __future__ import annotations

import torch
from torch import Tensor

from shopintent.behavior.tokenizer import EVENT_FIELDS, QUANTITY

N_ORDER_FEATURES = 15
UNITS = EVENT_FIELDS.index(QUANTITY)

# B behaviors, T events


def order_features(
    events: Tensor,  # [B, T, 9] int
    event_times: Tensor,  # [B, T] int64, unix seconds
    request_time: Tensor,  # [B, 1] int64, unix seconds
    *,
    purchase: int,
    add_to_cart: int,
    remove_from_cart: int,
) -> Tensor:
    """Returns [B, N_ORDER_FEATURES] of behaviors padded behind; all 0 without orders and cart.

    `purchase`, `add_to_cart` and `remove_from_cart` are ids of event types, -1 where there is none.
    """
    kinds = events[:, :, 0]
    bought = kinds == purchase
    units = events[:, :, UNITS].float()
    starts, order_units = orders(bought, units, event_times)
    log_units = torch.where(starts, order_units.clamp(min=1.0).log(), 0.0)
    n_orders = starts.float().sum(1, keepdim=True)
    mean_log = log_units.sum(1, keepdim=True) / n_orders.clamp(min=1.0)
    spread = torch.where(starts, (log_units - mean_log).abs(), 0.0).sum(1, keepdim=True)
    mean_units = torch.where(starts, order_units, 0.0).sum(1, keepdim=True) / n_orders.clamp(min=1)
    lines = bought.float().sum(1, keepdim=True) / n_orders.clamp(min=1)

    last, previous = last_two(starts)
    last_time, previous_time = (event_times.gather(1, row) for row in (last, previous))
    first_time = event_times.gather(1, starts.long().argmax(1, keepdim=True))
    has_one, has_two = (n_orders > 0).float(), (n_orders > 1).float()
    between = (last_time - first_time).float() / (n_orders - 1).clamp(min=1.0)
    since = (request_time - last_time).clamp(min=0).float() * has_one
    left = (between - since).clamp(min=0.0) * has_two

    in_cart = (event_times > last_time) | (has_one == 0)
    added = torch.where(in_cart & (kinds == add_to_cart), units, 0.0)
    removed = torch.where(in_cart & (kinds == remove_from_cart), units, 0.0)
    cart = (added.sum(1, keepdim=True) - removed.sum(1, keepdim=True)).clamp(min=0.0)
    cart_lines = (added > 0).float().sum(1, keepdim=True)
    logs = [
        n_orders,
        mean_units,
        lines,
        between * has_two,
        (last_time - previous_time).float() * has_two,
        since,
        left,
        cart,
        cart_lines,
    ]
    as_they_are = [
        mean_log,
        log_units.gather(1, last),
        log_units.amax(1, keepdim=True),
        spread / n_orders.clamp(min=1.0),
        has_one,
        has_two,
    ]
    return torch.cat([*(each.log1p() for each in logs), *as_they_are], dim=1)


def orders(bought: Tensor, units: Tensor, event_times: Tensor) -> tuple[Tensor, Tensor]:
    """Returns which events [B, T] are the first of an order, and the units of each one's order."""
    same = bought.unsqueeze(1) & bought.unsqueeze(2)
    same = same & (event_times.unsqueeze(1) == event_times.unsqueeze(2))  # [B, T, T]
    earlier = torch.ones_like(same[0]).tril(-1)
    starts = bought & ~(same & earlier).any(2)
    return starts, (same.float() @ units.unsqueeze(2)).squeeze(2)


def last_two(starts: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the rows [B, 1] of the last order and of the one before it; 0 where there is none."""
    position = torch.arange(starts.shape[1], device=starts.device)
    last = torch.where(starts, position, 0).amax(1, keepdim=True)
    before = starts & (position < last)
    return last, torch.where(before, position, 0).amax(1, keepdim=True)
