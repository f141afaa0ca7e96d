"""The graph that serves says what the trained network, the features and the trees say."""

from __future__ import annotations

from pathlib import Path

import lightgbm
import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from shopintent.behavior.tokenizer import EVENT_FIELDS
from shopintent.behavior.vocabulary import FIRST
from shopintent.trainer.features import feature_names, structured_features
from shopintent.trainer.onnx_export import export_onnx
from shopintent.trainer.order_features import order_features
from shopintent.trainer.served.features import ORDER_FEATURES, LeanFeatures, Moments
from shopintent.trainer.served.network import LeanNetwork
from shopintent.trainer.served.trees import Grown, LeanTrees
from shopintent.trainer.trees import Trees, grow, load_trees
from support.learning import FIELD_SIZES, GAP_S, MODEL, make_network

WORDS = ("view-product", "add-to-cart", "purchase", "search", "remove-from-cart")
PAUSES = (0, 0, 1, 59, GAP_S, GAP_S + 1, 3_600, 3_601, 86_400, 864_000, 30 * 86_400)
PLACES = torch.arange(1, MODEL.max_events + 1, dtype=torch.int32)


def random_requests(seed: int, n_types: int) -> tuple[Tensor, Tensor, Tensor]:
    """Returns windows of every length, with strangers, unknown types and equal times."""
    rng = np.random.default_rng(seed)
    events = np.zeros((40, MODEL.max_events, len(EVENT_FIELDS)), np.int32)
    times = np.zeros(events.shape[:2], np.int64)
    asked = np.full((len(events), 1), 1_700_000_000)
    sizes = [FIRST + n_types, *list(FIELD_SIZES.values())[1:], 9]
    for row in range(len(events)):
        n = int(rng.integers(0, MODEL.max_events + 1))
        for field, size in enumerate(sizes):
            events[row, :n, field] = rng.integers(1 if field in (0, 2, 3, 4) else 0, size, n)
        events[row, :n, 2:5] *= rng.integers(0, 2, (n, 1))  # some have no text, so no codes
        events[row, :n, 1] = rng.choice([*range(5), FIELD_SIZES["product"] - 1, -5, -6], n)
        times[row, :n] = 1_700_000_000 + rng.choice(PAUSES, n).cumsum()
        pause = rng.choice([0, 5, GAP_S, GAP_S + 1, 86_400, 500 * 86_400])
        asked[row] = max(1_700_000_000, times[row].max()) + pause
    return torch.tensor(events), torch.tensor(times), torch.tensor(asked)


@pytest.mark.parametrize("words", [WORDS, ("view-product",), ("purchase", "view-product")])
@pytest.mark.parametrize("seed", range(8))
def test_every_feature_is_the_one_that_was_learned_from(words: tuple[str, ...], seed: int) -> None:
    events, times, asked = random_requests(seed, len(words))
    lean = LeanFeatures(words, GAP_S, MODEL.max_events)
    found = lean(Moments.of(events, times, asked, PLACES))

    def type_id(word: str) -> int:
        return FIRST + words.index(word) if word in words else -1

    expected = torch.cat(
        [
            structured_features(
                events.long(), times, asked, event_types=words, session_gap_s=GAP_S
            ),
            order_features(
                events.long(),
                times,
                asked,
                purchase=type_id("purchase"),
                add_to_cart=type_id("add-to-cart"),
                remove_from_cart=type_id("remove-from-cart"),
            ),
        ],
        dim=1,
    )
    for n, name in enumerate((*feature_names(words), *ORDER_FEATURES)):
        assert torch.allclose(found[:, n], expected[:, n], rtol=1e-5, atol=1e-5), name


def test_times_beyond_32_bits_are_no_matter() -> None:
    """Padding has the time 0, which from 2038 on is longer ago than 32 bits of seconds hold."""
    lean = LeanFeatures(WORDS, GAP_S, MODEL.max_events)
    events, times, asked = random_requests(2, len(WORDS))
    weeks = 52 * 20 * 7 * 86_400
    later = torch.where(events[:, :, 0] > 0, times + weeks, 0)
    before = lean(Moments.of(events, times, asked, PLACES))
    assert torch.equal(lean(Moments.of(events, later, asked + weeks, PLACES)), before)


@pytest.mark.parametrize("n_layers", [1, 3])
def test_states_and_embeddings_are_those_of_the_network(n_layers: int) -> None:
    network = make_network(n_layers=n_layers).eval()
    with torch.no_grad():
        tower = network.products
        tower.centroids[:, 1:].normal_()
        for table in (tower.own, *tower.fields):
            table.weight[0] = 0.0  # as it is and stays in training
    events, times, asked = random_requests(1, 3)
    n_seen = (events[:, :, 0] > 0).sum(1, keepdim=True)
    with torch.no_grad():
        expected = network.observe(events.long(), times, n_seen, asked)
        found = LeanNetwork(network)(Moments.of(events, times, asked, PLACES), times)
    for wanted, got in zip(expected, found, strict=True):
        assert torch.allclose(got, wanted.squeeze(1), atol=1e-5)
    assert float(found[0].std(0).min()) > 1e-2


class Sums(nn.Module):
    """Two outputs from three forests, of which one says nothing and one is a single leaf."""

    def __init__(self, forests: list[Trees]) -> None:
        super().__init__()
        self.trees = LeanTrees([Grown(forests[0], 0, 2.0), *self._rest(forests)], 2)

    def _rest(self, forests: list[Trees]) -> list[Grown]:
        return [Grown(forests[1], 1, 1.0), Grown(Trees(), 1, 1.0), Grown(forests[2], 0, 1.0)]

    def forward(self, features: Tensor) -> Tensor:
        said: Tensor = self.trees(features)
        return said


def forest(features: np.ndarray, labels: np.ndarray, n_leaves: int) -> Trees:
    grown = grow(features, labels, n_trees=7, n_leaves=n_leaves, leaf_share=0.01)
    assert isinstance(grown, lightgbm.Booster)
    trees = Trees()
    load_trees(trees, grown, 7)
    return trees


def test_trees_walk_where_their_dense_form_does(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    features = rng.normal(size=(600, 5)).astype(np.float32)
    labels = features[:, 0] + features[:, 1] ** 2 > rng.normal(size=600)
    nothing = np.zeros((600, 5), np.float32)
    forests = [
        forest(features, labels, 31),
        forest(features, labels, 4),
        forest(nothing, labels, 7),
    ]
    export_onnx(
        Sums(forests),
        (torch.ones(2, 5),),
        tmp_path / "trees.onnx",
        inputs=["features"],
        outputs=["said"],
        dynamic_axes=((0,),),
    )
    session = onnxruntime.InferenceSession(str(tmp_path / "trees.onnx"))
    # Thresholds themselves go left, too.
    asked = np.concatenate(
        [features, forests[0].thresholds.flatten().numpy()[:50].repeat(5).reshape(-1, 5)]
    )
    (found,) = session.run(None, {"features": asked})
    first, second, third = (each(torch.tensor(asked)).numpy() for each in forests)
    assert found == pytest.approx(np.stack([2 * first + third, second], 1), abs=1e-5)
    assert found.std(0).min() > 0.05
