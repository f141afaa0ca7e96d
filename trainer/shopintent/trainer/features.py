"""Structured features of a behavior at the time of a request, inside the exported graph.

They are the X of `p = sigmoid(W^T [H b + X A])`: how often each type of event happened, over all,
in this visit, lately, and with the product or category at hand, and how long ago it happened
last.
"""

from __future__ import annotations

import torch
from torch import Tensor

from shopintent.behavior.tokenizer import EVENT_FIELDS

RECENT_S = (3_600, 86_400)
N_MASKS = 4 + len(RECENT_S)
PRODUCT = EVENT_FIELDS.index("product")
CATEGORY = EVENT_FIELDS.index("category")

# B batch, K requests of a behavior, T events, Y event types


def n_features(n_types: int) -> int:
    """Returns how many numbers `structured_features` gives."""
    return (N_MASKS + 3) * n_types + 4


def structured_features(
    events: Tensor,  # [B, T, 9] int
    event_times: Tensor,  # [B, T] int64, unix seconds
    n_seen: Tensor,  # [B, K] how many events each request can see
    request_times: Tensor,  # [B, K] int64, unix seconds
    *,
    n_types: int,
    session_gap_s: int,
) -> Tensor:
    """Returns [B, K, n_features]; padding and events behind the request do not count."""
    n_events = events.shape[1]
    position = torch.arange(n_events, device=events.device)
    seen = position < n_seen.unsqueeze(-1)  # [B, K, T]
    last = (n_seen - 1).clamp(min=0)  # [B, K]
    age = (request_times.unsqueeze(-1) - event_times.unsqueeze(1)).clamp(min=0)  # [B, K, T]
    session = session_numbers(event_times, session_gap_s)  # [B, T]
    last_session = session.gather(1, last).unsqueeze(-1)
    still_here = age.gather(2, last.unsqueeze(-1)) <= session_gap_s  # [B, K, 1]
    in_session = seen & (session.unsqueeze(1) == last_session) & still_here
    masks = [seen, in_session]
    masks += [seen & (age <= seconds) for seconds in RECENT_S]
    masks += [seen & same_as_last(events[:, :, field], last) for field in (PRODUCT, CATEGORY)]

    types = torch.arange(n_types, device=events.device)
    is_type = (events[:, :, :1] == types).float()  # [B, T, Y]
    counts = [mask.float() @ is_type for mask in masks]  # each [B, K, Y]
    freshness, elapsed = latest(is_type, seen, age)  # each [B, K, Y]
    n_all = counts[0].sum(-1, keepdim=True)
    n_sessions = torch.where(n_seen > 0, last_session.squeeze(-1) + 1, 0).unsqueeze(-1).float()
    n_in_session = counts[1].sum(-1, keepdim=True)
    span = torch.where(seen, age, 0).amax(-1, keepdim=True).float()
    scalars = [n_all, n_sessions, n_in_session, span]
    shares = counts[0] / n_all.clamp(min=1.0)
    logs = [torch.log1p(each) for each in [*counts, *scalars, elapsed]]
    return torch.cat([*logs, shares, freshness], dim=-1)


def session_numbers(event_times: Tensor, session_gap_s: int) -> Tensor:
    """Returns [B, T]: 0 for the events of the first visit, 1 for those of the next, and so on."""
    gaps = event_times[:, 1:] - event_times[:, :-1]
    starts = torch.nn.functional.pad((gaps > session_gap_s).long(), (1, 0))
    return starts.cumsum(1)


def same_as_last(field: Tensor, last: Tensor) -> Tensor:
    """Returns [B, K, T]: whether an event has the known value [B, T] of the last one seen."""
    last_value = field.gather(1, last).unsqueeze(-1)
    return (field.unsqueeze(1) == last_value) & (last_value > 1)


def latest(is_type: Tensor, seen: Tensor, age: Tensor) -> tuple[Tensor, Tensor]:
    """Returns two [B, K, Y] of the last event of each type: freshness, and seconds since.

    Freshness is 1 when it happened just now and near 0 long after; both are 0 when it never did.
    """
    elapsed = torch.where(seen, age, 0).float()  # [B, K, T]
    freshness = torch.where(seen, 1.0 / (1.0 + elapsed / 60.0), 0.0)
    freshest = (freshness.unsqueeze(-1) * is_type.unsqueeze(1)).amax(2)
    seconds = torch.where(freshest > 0, 60.0 / freshest.clamp(min=1e-9) - 60.0, 0.0)
    return freshest, seconds.clamp(min=0.0)
