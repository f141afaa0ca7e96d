"""The purchase head says what its stacks say, each fitted to the labels of its own column."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from shopintent.trainer import stack as stacking
from shopintent.trainer.logistic import sigmoid
from shopintent.trainer.purchase_head import PurchaseHead, PurchaseRequests, fit_purchase_head
from shopintent.trainer.stack import fit_stack

WIDTH, N_FEATURES = 2, 4


@pytest.fixture(autouse=True)
def few_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacking, "TREE_COUNTS", (10, 40))
    monkeypatch.setattr(stacking, "TREE_SHAPES", ((7, 0.01),))


def random_requests(n: int, *, seed: int) -> PurchaseRequests:
    """Returns requests whose first column a state tells, the second a crossing of features."""
    rng = np.random.default_rng(seed)
    readable = rng.normal(size=(n, WIDTH + N_FEATURES)).astype(np.float32)
    crossed = (readable[:, 2] * readable[:, 3] > 0) ^ (rng.random(n) < 0.1)
    bought = np.stack([readable[:, 0] + rng.normal(size=n) > 1, crossed], axis=1)
    return PurchaseRequests(
        readable,
        readable[:, WIDTH:],
        bought,
        np.ones((n, 2), bool),
        rng.integers(0, n // 5, n),
        rng.integers(0, 1000, n),
        np.ones(n, bool),
    )


def test_it_says_what_the_stack_of_each_column_says() -> None:
    requests = random_requests(1500, seed=1)
    head = PurchaseHead(WIDTH + N_FEATURES, 2)
    fit_purchase_head(head, requests)
    said = head(torch.tensor(requests.readable), torch.tensor(requests.features)).numpy()
    for column in range(2):
        stack = fit_stack(requests.of_column(column))
        log_odds = stack.linear.log_odds(requests.readable)
        if stack.booster is not None:
            raw = stack.booster.predict(
                requests.features, raw_score=True, num_iteration=stack.n_trees
            )
            log_odds = log_odds + stack.tree_weight * np.asarray(raw)
        assert said[:, column] == pytest.approx(sigmoid(log_odds), abs=1e-5)
    assert head.weight[0].abs().argmax() == 0
    assert float(head.tree_weight[1]) > 0


def test_labels_that_are_not_known_do_not_count() -> None:
    requests = random_requests(900, seed=2)
    # Labels that are not known are lies: whoever counts them finds the opposite.
    requests.known[:450, 0] = False
    requests.bought[:450, 0] = requests.readable[:450, 0] < 0
    head = PurchaseHead(WIDTH + N_FEATURES, 2)
    fit_purchase_head(head, requests)
    assert float(head.weight[0, 0]) > 0.5
