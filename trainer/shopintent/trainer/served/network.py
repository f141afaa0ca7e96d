"""The network for serving: one state and one behavior embedding of each request.

All that an event says is looked up in one table and added up. The last block works out the state of
the request alone: its query is carried through keys and values back to the events themselves, so
that neither is made for any of them.

B behaviors, T events, S = T + 1 slots, D width, N heads
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shopintent.behavior.codebook import LEVELS
from shopintent.behavior.tokenizer import PRODUCT_FIELDS
from shopintent.behavior.vocabulary import UNKNOWN
from shopintent.trainer.features import DAY_S, HOUR_S, TYPE
from shopintent.trainer.model import N_GAPS, Block, IntentNetwork
from shopintent.trainer.served.features import WEEK_S, Moments

UNSEEN = -1e9


class LeanNetwork(nn.Module):
    """Moments to states [B, D] and behavior embeddings [B, D], as `IntentNetwork.observe` does."""

    products: Tensor
    products_at: Tensor
    happenings: Tensor
    happenings_at: Tensor
    requests: Tensor
    requests_at: Tensor
    positions: Tensor
    ahead: Tensor
    slots: Tensor
    recall: Tensor
    recall_bias: Tensor
    fading: Tensor
    gap_edges: Tensor

    @torch.no_grad()
    def __init__(self, network: IntentNetwork) -> None:
        super().__init__()
        self.config = network.config
        blocks = [block for block in network.blocks if isinstance(block, Block)]
        self.blocks = nn.ModuleList(LeanBlock(block) for block in blocks[:-1])
        self.last_block = LastBlock(blocks[-1])
        self.norm, self.behavior = network.norm, network.behavior
        tables = {
            "products": product_tables(network),
            "happenings": [network.event_type.weight, hours_of_week(network), network.gap.weight],
            "requests": [network.request_gap.weight, network.request_hour.weight],
        }
        for name, parts in tables.items():
            self.register_buffer(name, torch.cat(parts).clone())
            starts = torch.tensor([0, *(len(part) for part in parts[:-1])]).cumsum(0)
            self.register_buffer(f"{name}_at", starts.to(torch.int32).unsqueeze(1))
        # The first slot has seen nothing: no table says anything of it.
        positions = network.position.weight.clone()
        positions[0] += network.start
        self.register_buffer("positions", positions)
        n = len(positions)
        self.register_buffer("ahead", torch.full((n, n), UNSEEN).triu(1))
        self.register_buffer("recall", network.look_for.weight.T @ network.looks.weight)
        self.register_buffer("recall_bias", network.look_for.bias @ network.looks.weight)
        fading = F.softplus(network.fading) * torch.arange(1, n + 1).log()
        # By how many events came since, from one that is still to come on.
        self.register_buffer("fading", torch.cat([torch.full((n,), UNSEEN), -fading]).unsqueeze(1))
        self.register_buffer("slots", torch.arange(n, dtype=torch.int32))
        self.register_buffer("gap_edges", network.gap_edges.to(torch.int32).unsqueeze(1))

    def forward(self, moments: Moments, event_times: Tensor) -> tuple[Tensor, Tensor]:
        """Returns [B, D] twice."""
        described = self.describe(moments)  # [B, T, D]
        hours = hour_of(event_times, WEEK_S).unsqueeze(1)
        happened = [moments.field(TYPE), hours, self.gap_bucket(moments.gaps)]
        told = described + look_up(self.happenings, torch.cat(happened, 1) + self.happenings_at)
        length = told.shape[1] + 1
        states = F.pad(told, (0, 0, 1, 0)) + self.positions[:length]
        for block in self.blocks:
            states = block(states, self.ahead[:length, :length])
        since = moments.n_seen - moments.places  # [B, 1, T], 0 for the last event
        fading = F.embedding(since + len(self.positions), self.fading).squeeze(3)
        behind = moments.n_seen - self.slots[:length]  # [B, 1, S]
        unseen, is_last = (behind < 0).float() * UNSEEN, (behind == 0).float()
        state = self.norm(self.last_block(states, is_last @ states, unseen))
        state = state.squeeze(1) + self.describe_request(moments)
        sizes = described.norm(dim=2, keepdim=True).clamp(min=1e-12)
        products = described / sizes
        wanted = (state @ self.recall + self.recall_bias).unsqueeze(1)  # [B, 1, D]
        weights = (wanted @ products.transpose(1, 2) + fading).softmax(-1)
        recalled = (weights @ products).squeeze(1)
        return state, F.normalize(self.behavior(state) + recalled, dim=-1)

    def describe(self, moments: Moments) -> Tensor:
        """Returns [B, T, D]: what events say about their products.

        A product without text has no code of any level.
        """
        fields = moments.fields[:, 1 : 1 + len(PRODUCT_FIELDS)]
        ids = fields[:, :1]
        codes = torch.where(ids > UNKNOWN, 0, fields[:, 1 : 1 + LEVELS])
        strangers = torch.where(ids < 0, UNKNOWN, ids)
        tokens = torch.cat([strangers, codes, fields[:, 1 + LEVELS :]], 1)
        return look_up(self.products, tokens + self.products_at)

    def describe_request(self, moments: Moments) -> Tensor:
        """Returns [B, D]: how long ago the last event was, and the request's hour."""
        last = moments.places == moments.n_seen
        age = torch.where(last, moments.raw_ages, 0).sum(2, keepdim=True, dtype=torch.int32)
        gap = torch.where(moments.n_seen > 0, self.gap_bucket(age), N_GAPS)
        hour = hour_of(moments.request_time, DAY_S).unsqueeze(1)
        return look_up(self.requests, torch.cat([gap, hour], 1) + self.requests_at).squeeze(1)

    def gap_bucket(self, gaps: Tensor) -> Tensor:
        """Seconds [B, 1, T] to buckets [B, 1, T]."""
        return (gaps >= self.gap_edges).to(torch.int32).sum(1, keepdim=True, dtype=torch.int32)


class LeanBlock(nn.Module):
    """A block of the network; attention is scaled in its weights."""

    @torch.no_grad()
    def __init__(self, block: Block) -> None:
        super().__init__()
        self.n_heads = block.n_heads
        self.attention_norm, self.project = block.attention_norm, block.project
        self.feed_forward = block.feed_forward
        width = block.project.in_features
        self.qkv = nn.Linear(width, 3 * width)
        self.qkv.load_state_dict(block.qkv.state_dict())
        for parameter in (self.qkv.weight, self.qkv.bias):
            parameter[:width] /= math.sqrt(width / block.n_heads)

    def forward(self, states: Tensor, ahead: Tensor) -> Tensor:
        """[B, S, D] to [B, S, D]; `ahead` [S, S] keeps a slot from what comes after it."""
        batch, length, width = states.shape
        heads = self.qkv(self.attention_norm(states)).view(batch, length, 3, self.n_heads, -1)
        query, key, value = heads.permute(2, 0, 3, 1, 4).unbind(0)  # [B, N, S, D / N]
        weights = (query @ key.transpose(2, 3) + ahead).softmax(-1)
        mixed = (weights @ value).transpose(1, 2).reshape(batch, length, width)
        states = states + self.project(mixed)
        fed: Tensor = self.feed_forward(states)
        return states + fed


class LastBlock(nn.Module):
    """A block of which only one state of each behavior is wanted.

    A key is `K x` and a value `V x` of a normalized state x, so `q K` is compared with x itself,
    and V is applied to the one sum of states.
    """

    ask: Tensor
    ask_bias: Tensor
    answer: Tensor
    answer_bias: Tensor

    @torch.no_grad()
    def __init__(self, block: Block) -> None:
        super().__init__()
        self.n_heads, self.attention_norm = block.n_heads, block.attention_norm
        self.feed_forward = block.feed_forward
        width = block.project.in_features
        size = width // block.n_heads
        query, key, value = block.qkv.weight.view(3, block.n_heads, size, width)
        query_bias, _, value_bias = block.qkv.bias.view(3, block.n_heads, size)
        out = block.project.weight.view(width, block.n_heads, size)
        # A key's bias adds the same to all slots, which no softmax sees.
        ask = torch.einsum("nij,nik->jnk", query, key) / math.sqrt(size)
        ask_bias = torch.einsum("ni,nik->nk", query_bias, key) / math.sqrt(size)
        self.register_buffer("ask", ask.reshape(width, -1))
        self.register_buffer("ask_bias", ask_bias.reshape(-1))
        answer = torch.einsum("onj,njk->nko", out, value)
        self.register_buffer("answer", answer.reshape(-1, width))
        joined = torch.einsum("onj,nj->o", out, value_bias)
        self.register_buffer("answer_bias", joined + block.project.bias)

    def forward(self, states: Tensor, state: Tensor, unseen: Tensor) -> Tensor:
        """[B, S, D] and the one of them asked for, [B, 1, D], to [B, 1, D].

        `unseen` [B, 1, S] is far below 0 where a slot is not seen.
        """
        seen = self.attention_norm(states)
        asked = self.attention_norm(state) @ self.ask + self.ask_bias  # [B, 1, N * D]
        asked = asked.view(states.shape[0], self.n_heads, states.shape[2])
        weights = (asked @ seen.transpose(1, 2) + unseen).softmax(-1)  # [B, N, S]
        mixed = (weights @ seen).view(states.shape[0], 1, -1)
        state = state + mixed @ self.answer + self.answer_bias
        fed: Tensor = self.feed_forward(state)
        return state + fed


def look_up(table: Tensor, rows: Tensor) -> Tensor:
    """[B, F, T] rows of a table to [B, T, D], the sum of them."""
    return F.embedding(rows, table).sum(1)


def hour_of(times: Tensor, cycle_s: int) -> Tensor:
    """Returns the hour of int64 unix times in a day or a week; times in one are exact in FP32."""
    return ((times % cycle_s).float() / HOUR_S).to(torch.int32)


def hours_of_week(network: IntentNetwork) -> Tensor:
    """Returns [168, D]: weekday and hour of unix time, added."""
    added = network.weekday.weight.unsqueeze(1) + network.hour.weight.unsqueeze(0)
    return added.flatten(0, 1)


def product_tables(network: IntentNetwork) -> list[Tensor]:
    """Returns what each of PRODUCT_FIELDS adds to an event, its texts' codes projected."""
    tower = network.products
    codes = tower.centroids @ tower.text.weight.T  # [LEVELS, K + 1, D]
    codes[0, 1:] += tower.text.bias
    fields = [field.weight for field in tower.fields if isinstance(field, nn.Embedding)]
    return [tower.own.weight, *codes.unbind(0), *fields]
