"""What a product is, as a vector: its identity and its content. Events and the index share it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shopintent.behavior.codebook import LEVELS
from shopintent.behavior.tokenizer import PRODUCT_FIELDS
from shopintent.behavior.vocabulary import FIRST, UNKNOWN

CONTENT_FIELDS = PRODUCT_FIELDS[1 + LEVELS :]
"""The fields beside id and codes: category, brand, price bucket."""
SAME_TEXT = 1e-3
"""Texts nearer to their mean than this, on average, tell nothing apart."""


class ProductTower(nn.Module):
    """Product tokens [..., 7], and the text embedding where there is one, to vectors [..., D].

    A product is its text, projected, and what its id adds: nothing for one that training does not
    know. Hiding ids in training keeps the text telling. After training, the texts of known products
    are folded into the vectors of their ids, so that serving looks them up.
    """

    centroids: Tensor
    known_texts: Tensor | None

    def __init__(
        self, field_sizes: dict[str, int], text_embedding_size: int, width: int, id_dropout: float
    ) -> None:
        super().__init__()
        self.id_dropout = id_dropout
        self.own = field_embedding(field_sizes["product"], width)
        self.fields = nn.ModuleList(
            field_embedding(field_sizes[name], width) for name in CONTENT_FIELDS
        )
        self.text = nn.Linear(text_embedding_size, width)
        shape = (LEVELS, field_sizes["code_1"], text_embedding_size)
        self.register_buffer("centroids", torch.zeros(shape))
        self.register_buffer("known_texts", None, persistent=False)

    @torch.no_grad()
    def unfold(self, text_embeddings: Tensor, centroids: Tensor) -> None:
        """Makes ready for training: texts start as their principal components, of mean length 1.

        `text_embeddings` [P, E] are those of the known products, in the order of their ids, zeros
        where there is no text; `centroids` [LEVELS, K, E] those of the tokenizer's codebook.
        """
        self.centroids[:, 1:] = centroids
        self.known_texts = F.pad(text_embeddings, (0, 0, FIRST, 0))
        texts = text_embeddings[text_embeddings.abs().sum(1) > 0]
        if len(texts) < 2:
            return
        mean = texts.mean(0)
        centered = (texts - mean).double()
        if centered.norm(dim=1).mean() < SAME_TEXT:
            return
        size = min(self.text.out_features, self.text.in_features)
        directions = torch.linalg.eigh(centered.T @ centered).eigenvectors.flip(1)[:, :size].T
        length = (centered @ directions.T).norm(dim=1).mean()
        self.text.weight.zero_()
        self.text.weight[:size] = (directions / length).float()
        self.text.bias.copy_(-self.text.weight @ mean)

    @torch.no_grad()
    def fold(self) -> None:
        """Ends training: the vector of every known id takes its text in."""
        if self.known_texts is not None:
            self.own.weight += self.project(self.known_texts)
            self.known_texts = None

    @torch.no_grad()
    def unfold_again(self, texts_then: Tensor, texts_now: Tensor) -> None:
        """Goes back to training: known ids give back the texts that `fold` had them take in.

        `texts_then` [K, E] are the text embeddings of the products known when it was folded,
        `texts_now` [P, E] those of all that are known now, in the order of their ids.
        """
        self.own.weight[FIRST : FIRST + len(texts_then)] -= self.project(texts_then)
        self.known_texts = F.pad(texts_now, (0, 0, FIRST, 0))

    def describe(self, tokens: Tensor, text_embeddings: Tensor | None = None) -> Tensor:
        """Returns [..., D]. Without text embeddings, texts are what the codes say of them."""
        ids, codes = tokens[..., 0], tokens[..., 1 : 1 + LEVELS]
        ids = torch.where(ids < 0, UNKNOWN, ids)  # strangers differ in nothing but their content
        if self.training:
            hidden = torch.rand(ids.shape, device=ids.device) < self.id_dropout
            ids = torch.where(hidden & (ids > UNKNOWN), UNKNOWN, ids)
        told = self.decode(codes) if text_embeddings is None else self.project(text_embeddings)
        known = (ids > UNKNOWN).unsqueeze(-1)
        if self.known_texts is None:
            told = torch.where(known, 0.0, told)
        elif text_embeddings is None:
            told = torch.where(known, self.project(self.known_texts[ids]), told)
        described: Tensor = self.own(ids) + told
        for position, field in enumerate(self.fields, start=1 + LEVELS):
            described = described + field(tokens[..., position])
        return described

    def project(self, text_embeddings: Tensor) -> Tensor:
        """[..., E] to [..., D]; no text stays zeros."""
        told = (text_embeddings.abs().sum(-1, keepdim=True) > 0).to(text_embeddings.dtype)
        projected: Tensor = self.text(text_embeddings) * told
        return projected

    def decode(self, codes: Tensor) -> Tensor:
        """Returns [..., D], the text that codes [..., LEVELS] stand for, projected."""
        projected = self.centroids @ self.text.weight.T  # [LEVELS, K + 1, D]
        parts = [projected[level][codes[..., level]] for level in range(LEVELS)]
        told = (codes[..., :1] > 0).to(projected.dtype)
        return (torch.stack(parts).sum(0) + self.text.bias) * told

    def forward(self, tokens: Tensor, text_embeddings: Tensor) -> Tensor:
        """[..., 7] tokens and [..., E] text embeddings to [..., D], L2-normalized embeddings."""
        return F.normalize(self.describe(tokens, text_embeddings), dim=-1)


def field_embedding(size: int, width: int) -> nn.Embedding:
    """Returns a small random embedding whose id 0, "none", is and stays all zeros."""
    weight = torch.randn(size, width) * 0.05
    weight[0] = 0.0
    return nn.Embedding(size, width, padding_idx=0, _weight=weight)
