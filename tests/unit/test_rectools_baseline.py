import numpy as np

from shopintent.trainer.evaluation.baselines.rectools import (
    learned_histories,
    request_histories,
    tuning_task,
)
from shopintent.trainer.evaluation.next_product import NextProductTask


def task(split: str) -> NextProductTask:
    """Shoppers who met 0 1 2 3, nothing known, and 4 5 6; each one's last is asked for."""
    products = np.array([0, 1, 2, 3, -1, 4, 5, 6])
    offsets = np.array([0, 4, 5, 8])
    learned = np.array([True, True, False, False, False, True, False, False])
    if split == "time":
        learned = np.array([True, True, True, False, False, True, True, False])
    return NextProductTask(
        split=split,
        n_products=7,
        offsets=offsets,
        products=products,
        event_times=np.arange(8) * 10,
        learned=learned,
        shoppers=np.array([0, 2]),
        ends=np.array([3, 7]),
        request_times=np.array([30, 70]),
        targets=np.array([3, 6]),
    )


def test_requests_tell_all_that_was_seen_before_them() -> None:
    seen = request_histories(task("leave-one-out"))
    assert seen.products.tolist() == [0, 1, 2, 4, 5]
    assert seen.offsets.tolist() == [0, 3, 5]


def test_leaving_one_out_tunes_on_the_product_before_it_which_is_not_learned() -> None:
    tuned_on = tuning_task(task("leave-one-out"))
    assert tuned_on.targets.tolist() == [2, 5]
    assert tuned_on.request_times.tolist() == [20, 60]
    assert request_histories(tuned_on).products.tolist() == [0, 1, 4]
    assert learned_histories(tuned_on).products.tolist() == [0, 1, 4]
    assert learned_histories(tuned_on).offsets.tolist() == [0, 2, 3]


def test_a_time_split_tunes_on_nothing_that_is_held_out() -> None:
    tuned_on = tuning_task(task("time"))
    assert tuned_on.targets.tolist() == [2, 5]
    assert learned_histories(tuned_on).products.tolist() == [0, 1, 4]
