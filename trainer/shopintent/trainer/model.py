"""The whole network: a causal transformer over events, and a product tower in the same space.

Purchase intent is `p = sigmoid(W^T [H b + X A])`: H is the state of the sequence, X the
structured features. The transformer follows SASRec (Kang and McAuley 2018,
https://arxiv.org/abs/1808.09781) with blocks that normalize first; products are compared by
cosine, so training and the index agree.

B batch, T events, S = T + 1 states (the first has seen nothing), K requests, A actions, H horizons,
D width and embedding size, E text embedding size, X structured features
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shopintent.behavior.tokenizer import EVENT_FIELDS, PRODUCT_FIELDS
from shopintent.behavior.vocabulary import UNKNOWN
from shopintent.trainer.features import n_features, structured_features

N_GAPS = 26
"""Buckets of elapsed time, each twice as long as the one before; the last starts at ~ 200 days."""


@dataclass(frozen=True)
class ModelConfig:
    """The shape of the network; saved with its weights."""

    field_sizes: dict[str, int]
    """How many ids each of EVENT_FIELDS has."""
    n_actions: int
    n_horizons: int
    text_embedding_size: int
    session_gap_s: int
    max_events: int
    d_model: int
    n_layers: int
    n_heads: int
    dropout: float
    id_dropout: float


class Answers(NamedTuple):
    """What the heads say at every request."""

    action_logits: Tensor  # [B, K, A]
    purchase_logits: Tensor  # [B, K, H]
    behavior_embedding: Tensor  # [B, K, D], L2-normalized


class Block(nn.Module):
    """Causal self-attention and a feed-forward layer, each on a normalized residual stream."""

    def __init__(self, d_model: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.dropout = dropout
        self.attention_norm = nn.LayerNorm(d_model)
        self.qkv = nn.Linear(d_model, 3 * d_model)
        self.project = nn.Linear(d_model, d_model)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(d_model),
            nn.Linear(d_model, 4 * d_model),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(4 * d_model, d_model),
            nn.Dropout(dropout),
        )

    def forward(self, states: Tensor) -> Tensor:
        """[B, S, D] to [B, S, D]."""
        states = states + self.attend(states)
        fed: Tensor = self.feed_forward(states)
        return states + fed

    def attend(self, states: Tensor) -> Tensor:
        """[B, S, D] to [B, S, D]; a state sees itself and those before it."""
        batch, length, width = states.shape
        heads = self.qkv(self.attention_norm(states)).view(batch, length, 3, self.n_heads, -1)
        query, key, value = heads.permute(2, 0, 3, 1, 4)  # each [B, heads, S, D / heads]
        mixed = F.scaled_dot_product_attention(
            query, key, value, is_causal=True, dropout_p=self.dropout if self.training else 0.0
        )
        joined = mixed.transpose(1, 2).reshape(batch, length, width)
        return F.dropout(self.project(joined), self.dropout, self.training)


class ProductTower(nn.Module):
    """What a product is: its id and its content. Events and the index share it."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.id_dropout = config.id_dropout
        self.fields = nn.ModuleList(
            field_embedding(config.field_sizes[name], config.d_model) for name in PRODUCT_FIELDS
        )
        self.text = nn.Linear(config.text_embedding_size, config.d_model, bias=False)
        self.project = nn.Linear(config.d_model, config.d_model)

    def describe(self, tokens: Tensor) -> Tensor:
        """[..., 7] product tokens to [..., D]; what an event says about its product."""
        ids = tokens[..., 0]
        if self.training:
            hidden = torch.rand(ids.shape, device=ids.device) < self.id_dropout
            ids = torch.where(hidden & (ids > UNKNOWN), UNKNOWN, ids)
        parts = [self.fields[0](ids)]
        parts += [field(tokens[..., n]) for n, field in enumerate(self.fields) if n > 0]
        return torch.stack(parts).sum(0)

    def forward(self, tokens: Tensor, text_embeddings: Tensor) -> Tensor:
        """[..., 7] tokens and [..., E] text embeddings to [..., D] product embeddings."""
        return self.place(self.describe(tokens) + self.text(text_embeddings))

    def place(self, described: Tensor) -> Tensor:
        """[..., D] descriptions to [..., D], L2-normalized: a place in the product space."""
        return F.normalize(described + self.project(described), dim=-1)


def field_embedding(size: int, width: int) -> nn.Embedding:
    """Returns a small random embedding whose id 0, "none", is and stays all zeros."""
    weight = torch.randn(size, width) * 0.05
    weight[0] = 0.0
    return nn.Embedding(size, width, padding_idx=0, _weight=weight)


class IntentNetwork(nn.Module):
    """Events to states, states and request times to answers."""

    gap_edges: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        width = config.d_model
        self.n_types = config.field_sizes["event_type"]
        self.products = ProductTower(config)
        self.event_type = nn.Embedding(self.n_types, width)
        self.position = nn.Embedding(config.max_events + 1, width)
        self.gap = nn.Embedding(N_GAPS, width)
        self.hour = nn.Embedding(24, width)
        self.weekday = nn.Embedding(7, width)
        self.request_gap = nn.Embedding(N_GAPS + 1, width)
        self.request_hour = nn.Embedding(24, width)
        self.start = nn.Parameter(torch.zeros(width))
        for embedding in (self.event_type, self.position, self.gap, self.hour, self.weekday):
            nn.init.normal_(embedding.weight, std=0.05)
        for embedding in (self.request_gap, self.request_hour):
            nn.init.zeros_(embedding.weight)
        self.blocks = nn.Sequential(
            *(Block(width, config.n_heads, config.dropout) for _ in range(config.n_layers))
        )
        self.norm = nn.LayerNorm(width)
        size = n_features(self.n_types)
        self.register_buffer("gap_edges", 2 ** torch.arange(N_GAPS - 1))
        self.act = nn.Linear(width, config.n_actions)
        self.act_features = nn.Linear(size, config.n_actions, bias=False)
        nn.init.zeros_(self.act_features.weight)
        self.buy_state = nn.Linear(width, config.n_horizons)
        self.buy_features = nn.Linear(size, config.n_horizons, bias=False)
        self.behavior = nn.Linear(width, width)
        nn.init.zeros_(self.behavior.weight)
        self.look_for = nn.Linear(width, width)
        self.looks = nn.Linear(width, width)
        self.fading = nn.Parameter(torch.tensor(1.0))
        self.log_temperature = nn.Parameter(torch.tensor(0.07).log())

    def forward(
        self, events: Tensor, event_times: Tensor, n_seen: Tensor, request_times: Tensor
    ) -> Answers:
        """Answers K requests of every behavior.

        `events` [B, T, 8] and `event_times` [B, T] as BehaviorTokenizer.window makes them, `n_seen`
        [B, K] how many events each request knows, `request_times` [B, K] when it is asked.
        """
        state, embedding = self.observe(events, event_times, n_seen, request_times)
        features = self.features(events, event_times, n_seen, request_times)
        return Answers(
            action_logits=self.act(state) + self.act_features(features),
            purchase_logits=self.buy_state(state) + self.buy_features(features),
            behavior_embedding=embedding,
        )

    def observe(
        self, events: Tensor, event_times: Tensor, n_seen: Tensor, request_times: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Returns states [B, K, D] and behavior embeddings [B, K, D] of the requests."""
        described = self.products.describe(events[..., 1 : len(EVENT_FIELDS)])  # [B, T, D]
        states = self.encode(events, event_times, described)  # [B, S, D]
        index = n_seen.unsqueeze(-1).expand(-1, -1, states.shape[-1])
        state = states.gather(1, index) + self.encode_request(event_times, n_seen, request_times)
        wanted = self.behavior(state) + self.recall(state, self.products.place(described), n_seen)
        return state, F.normalize(wanted, dim=-1)

    def recall(self, state: Tensor, products: Tensor, n_seen: Tensor) -> Tensor:
        """Returns [B, K, D]: the mean of the products seen, weighed by what the state looks for.

        The user model `u = sum a_i h_i` over products [B, T, D], with weights that fade with the
        number of events since. It starts as "similar to what was seen last", which training then
        refines.
        """
        n_events = products.shape[1]
        position = torch.arange(n_events, device=products.device)
        since = n_seen.unsqueeze(-1) - position  # [B, K, T], 1 for the last event
        interest = self.look_for(state) @ self.looks(products).transpose(1, 2)
        fading = F.softplus(self.fading) * since.clamp(min=1).float().log()
        weights = (interest - fading).masked_fill(since < 1, -1e9).softmax(-1)
        recalled: Tensor = (weights * (since >= 1)) @ products
        return recalled

    def features(
        self, events: Tensor, event_times: Tensor, n_seen: Tensor, request_times: Tensor
    ) -> Tensor:
        """Returns [B, K, X]: the structured features of each request."""
        return structured_features(
            events,
            event_times,
            n_seen,
            request_times,
            n_types=self.n_types,
            session_gap_s=self.config.session_gap_s,
        )

    def encode(self, events: Tensor, event_times: Tensor, described: Tensor) -> Tensor:
        """[B, T, 8] events and [B, T, D] products to [B, S, D]; state n has seen n events."""
        gaps = F.pad(event_times[:, 1:] - event_times[:, :-1], (1, 0))
        happened = (
            self.event_type(events[..., 0])
            + described
            + self.gap(self.gap_bucket(gaps))
            + self.hour(event_times // 3600 % 24)
            + self.weekday(event_times // 86_400 % 7)
        )
        start = self.start.expand(events.shape[0], 1, -1)
        states = torch.cat([start, happened], dim=1)
        states = states + self.position.weight[: states.shape[1]]
        states = F.dropout(states, self.config.dropout, self.training)
        encoded: Tensor = self.norm(self.blocks(states))
        return encoded

    def encode_request(self, event_times: Tensor, n_seen: Tensor, request_times: Tensor) -> Tensor:
        """Returns [B, K, D]: how long ago the last event was, and the hour of the request."""
        last_time = event_times.gather(1, (n_seen - 1).clamp(min=0))
        gap = self.gap_bucket((request_times - last_time).clamp(min=0))
        gap = torch.where(n_seen > 0, gap, N_GAPS)
        asked: Tensor = self.request_gap(gap) + self.request_hour(request_times // 3600 % 24)
        return asked

    def gap_bucket(self, gap_s: Tensor) -> Tensor:
        """Seconds to buckets by comparison of integers, which every runtime does alike."""
        bucket: Tensor = (gap_s.unsqueeze(-1) >= self.gap_edges).sum(-1)
        return bucket

    def product_scores(self, behavior_embedding: Tensor, product_embedding: Tensor) -> Tensor:
        """[N, D] and [P, D] to [N, P] logits of the next product."""
        temperature = self.log_temperature.exp().clamp(min=0.02)
        scores: Tensor = behavior_embedding @ product_embedding.T / temperature
        return scores
