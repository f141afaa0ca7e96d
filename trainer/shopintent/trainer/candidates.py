"""The products that a batch's next products are told from: all of them, or a corrected sample."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from shopintent.behavior.vocabulary import FIRST
from shopintent.trainer.losses import log_inclusion


@dataclass(frozen=True, eq=False)
class Candidates:
    """C products and which of them each of N targets is."""

    tokens: Tensor  # [C, 7]
    text_embeddings: Tensor  # [C, E]
    log_inclusion: Tensor  # [C]
    targets: Tensor  # [N], columns


@dataclass(frozen=True, eq=False)
class CandidateSampler:
    """Every product the tokenizer knows, in the order of its ids."""

    tokens: Tensor  # [P, 7]
    text_embeddings: Tensor  # [P, E]
    shares: Tensor  # [P], how large a share of all events each product has
    n_negatives: int
    full_softmax_up_to: int

    def draw(self, target_ids: Tensor) -> Candidates:
        """Returns candidates for targets given as product token ids [N], each known."""
        targets = target_ids.long() - FIRST
        n_products = len(self.tokens)
        if n_products <= self.full_softmax_up_to:
            none = torch.zeros(n_products, device=targets.device)
            return Candidates(self.tokens, self.text_embeddings, none, targets)
        uniform = torch.randint(n_products, (self.n_negatives,), device=targets.device)
        rows, columns = torch.unique(torch.cat([targets, uniform]), return_inverse=True)
        corrected = log_inclusion(self.shares[rows], len(targets), self.n_negatives, n_products)
        chosen = self.tokens[rows], self.text_embeddings[rows]
        return Candidates(*chosen, corrected, columns[: len(targets)])
