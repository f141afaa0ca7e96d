"""The whole network: a causal transformer over events, and a product tower in the same space.

The transformer follows SASRec (Kang and McAuley 2018, https://arxiv.org/abs/1808.09781) with blocks
that normalize first; products are compared by cosine, so training and the index agree. What is
asked of its states is answered by heads (heads.py), which are fitted afterwards.

B batch, T events, S = T + 1 states (the first has seen nothing), K requests, A actions, D width and
embedding size, E text embedding size
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shopintent.behavior.tokenizer import PRODUCT_FIELDS
from shopintent.trainer.product_tower import ProductTower

N_GAPS = 26
"""Buckets of elapsed time, each twice as long as the one before; the last starts at ~ 200 days."""


@dataclass(frozen=True)
class ModelConfig:
    """The shape of the network; saved with its weights."""

    field_sizes: dict[str, int]
    """How many ids each field of an event has, BehaviorTokenizer.sizes."""
    n_actions: int
    text_embedding_size: int
    session_gap_s: int
    max_events: int
    d_model: int
    n_layers: int
    n_heads: int
    dropout: float
    id_dropout: float


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

    def forward(self, states: Tensor, sees: Tensor | None) -> Tensor:
        """[B, S, D] to [B, S, D]."""
        states = states + self.attend(states, sees)
        fed: Tensor = self.feed_forward(states)
        return states + fed

    def attend(self, states: Tensor, sees: Tensor | None) -> Tensor:
        """[B, S, D] to [B, S, D]; a state sees itself and those before, or what `sees` says."""
        batch, length, width = states.shape
        heads = self.qkv(self.attention_norm(states)).view(batch, length, 3, self.n_heads, -1)
        query, key, value = heads.permute(2, 0, 3, 1, 4)  # each [B, heads, S, D / heads]
        mixed = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=None if sees is None else sees.unsqueeze(1),
            is_causal=sees is None,
            dropout_p=self.dropout if self.training else 0.0,
        )
        joined = mixed.transpose(1, 2).reshape(batch, length, width)
        return F.dropout(self.project(joined), self.dropout, self.training)


class IntentNetwork(nn.Module):
    """Events and request times to states and behavior embeddings."""

    gap_edges: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        width = config.d_model
        self.n_types = config.field_sizes["event_type"]
        self.products = ProductTower(
            config.field_sizes, config.text_embedding_size, width, config.id_dropout
        )
        self.event_type = nn.Embedding(self.n_types, width)
        self.position = nn.Embedding(config.max_events + 1, width)
        self.gap = nn.Embedding(N_GAPS, width)
        self.hour = nn.Embedding(24, width)
        self.weekday = nn.Embedding(7, width)
        self.request_gap = nn.Embedding(N_GAPS + 1, width)
        self.request_hour = nn.Embedding(24, width)
        self.start = nn.Parameter(torch.zeros(width))
        for embedding in (self.event_type, self.position):
            nn.init.normal_(embedding.weight, std=0.02)
        # Products are what tells most; times start silent and earn their weight.
        for embedding in (self.gap, self.hour, self.weekday, self.request_gap, self.request_hour):
            nn.init.zeros_(embedding.weight)
        self.blocks = nn.ModuleList(
            Block(width, config.n_heads, config.dropout) for _ in range(config.n_layers)
        )
        self.norm = nn.LayerNorm(width)
        self.register_buffer("gap_edges", 2 ** torch.arange(N_GAPS - 1))
        self.act = nn.Linear(width, config.n_actions)
        self.behavior = nn.Linear(width, width)
        nn.init.zeros_(self.behavior.weight)
        self.look_for = nn.Linear(width, width)
        self.looks = nn.Linear(width, width)
        self.fading = nn.Parameter(torch.tensor(1.0))
        self.log_temperature = nn.Parameter(torch.tensor(0.07).log())

    def observe(
        self, events: Tensor, event_times: Tensor, n_seen: Tensor, request_times: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Returns states [B, K, D] and behavior embeddings [B, K, D], L2-normalized, of K requests.

        `events` [B, T, 8] and `event_times` [B, T] as BehaviorTokenizer.window makes them, `n_seen`
        [B, K] how many events each request knows, `request_times` [B, K] when it is asked.
        """
        slots, times = F.pad(events, (0, 0, 1, 0)), F.pad(event_times, (1, 0))
        places = torch.arange(times.shape[1], device=events.device).unsqueeze(0)  # [1, S]
        described = self.describe(slots)
        states = self.encode(slots, times, places, described, None)
        state = states.gather(1, n_seen.unsqueeze(-1).expand(-1, -1, states.shape[-1]))
        state = state + self.encode_request(times.gather(1, n_seen), n_seen, request_times)
        since = n_seen.unsqueeze(-1) - places.unsqueeze(1)  # [B, K, S], 0 for the last event
        seen = (since >= 0) & (places > 0).unsqueeze(1)
        return state, self.embed(state, described, since, seen)

    def observe_all(
        self,
        events: Tensor,
        event_times: Tensor,
        n_seen: Tensor,
        owners: Tensor,
        request_times: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Returns states [R, S, D] and embeddings [R, S, D] of all moments of packed windows.

        This is `observe` for training, see batches.Batch: every slot is a request, which sees
        itself and the slots before it that have the same owner.
        """
        described = self.describe(events)
        n_slots = owners.shape[1]
        before = torch.ones(n_slots, n_slots, dtype=torch.bool, device=owners.device).tril()
        sees = (owners.unsqueeze(2) == owners.unsqueeze(1)) & before  # [R, S, S]
        states = self.encode(events, event_times, n_seen, described, sees)
        state = states + self.encode_request(event_times, n_seen, request_times)
        since = n_seen.unsqueeze(2) - n_seen.unsqueeze(1)
        return state, self.embed(state, described, since, sees & (n_seen > 0).unsqueeze(1))

    def describe(self, events: Tensor) -> Tensor:
        """Returns [B, S, D]: what the events say about their products."""
        return self.products.describe(events[..., 1 : 1 + len(PRODUCT_FIELDS)])

    def embed(self, state: Tensor, described: Tensor, since: Tensor, seen: Tensor) -> Tensor:
        """Returns [B, K, D]: where in the product space the next product is expected."""
        recalled = self.recall(state, F.normalize(described, dim=-1), since, seen)
        return F.normalize(self.behavior(state) + recalled, dim=-1)

    def recall(self, state: Tensor, products: Tensor, since: Tensor, seen: Tensor) -> Tensor:
        """Returns [B, K, D]: the mean of the products seen, weighed by what the state looks for.

        The user model `u = sum a_i h_i` over products [B, S, D], with weights that fade with the
        number of events since [B, K, S]. It starts as "similar to what was seen last", which
        training then refines.
        """
        interest = self.look_for(state) @ self.looks(products).transpose(1, 2)
        fading = F.softplus(self.fading) * (since.clamp(min=0) + 1).float().log()
        weights = (interest - fading).masked_fill(~seen, -1e9).softmax(-1)
        recalled: Tensor = (weights * seen) @ products
        return recalled

    def encode(
        self,
        events: Tensor,
        event_times: Tensor,
        n_seen: Tensor,
        described: Tensor,
        sees: Tensor | None,
    ) -> Tensor:
        """Returns [B, S, D], the state after each event.

        `events` [B, S, F] with their products [B, S, D]; `n_seen` [B, S] or [1, S], which event of
        its behavior each is, 0 for the slot before the first; `sees` [B, S, S], or None where a
        slot sees all before it.
        """
        since = F.pad(event_times[:, 1:] - event_times[:, :-1], (1, 0))
        happened = (
            self.event_type(events[..., 0])
            + described
            + self.gap(self.gap_bucket(torch.where(n_seen > 1, since, 0)))
            + self.hour(event_times // 3600 % 24)
            + self.weekday(event_times // 86_400 % 7)
        )
        states = torch.where((n_seen > 0).unsqueeze(-1), happened, self.start)
        states = states + self.position(n_seen)
        states = F.dropout(states, self.config.dropout, self.training)
        for block in self.blocks:
            states = block(states, sees)
        encoded: Tensor = self.norm(states)
        return encoded

    def encode_request(self, last_times: Tensor, n_seen: Tensor, request_times: Tensor) -> Tensor:
        """Returns [B, K, D]: how long ago the last event [B, K] was, and the request's hour."""
        gap = self.gap_bucket((request_times - last_times).clamp(min=0))
        gap = torch.where(n_seen > 0, gap, N_GAPS)
        asked: Tensor = self.request_gap(gap) + self.request_hour(request_times // 3600 % 24)
        return asked

    def gap_bucket(self, gap_s: Tensor) -> Tensor:
        """Seconds to buckets by comparison of integers, which every runtime does alike."""
        bucket: Tensor = (gap_s.unsqueeze(-1) >= self.gap_edges).sum(-1)
        return bucket

    def queries(self, behavior_embedding: Tensor) -> Tensor:
        """Returns [N, D], whose dot products with product embeddings are logits of the next."""
        temperature = self.log_temperature.exp().clamp(min=0.02)
        return behavior_embedding / temperature
