"""A small training with a checkpoint, for tests that stop it: `python resumable.py FOLDER EPOCHS`
says a line after every step, and leaves the weights in FOLDER/weights.safetensors.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from shopintent.behavior.vocabulary import FIRST
from shopintent.trainer.batches import Batches, cut_windows
from shopintent.trainer.checkpoint import Checkpoint
from shopintent.trainer.config import TrainConfig
from shopintent.trainer.data.progress import Progress
from shopintent.trainer.learn import learn
from shopintent.trainer.model import IntentNetwork
from shopintent.trainer.splits import between
from shopintent.trainer.training_log import TrainingLog
from support.learning import (
    CART,
    GAP_S,
    N_PRODUCTS,
    TINY,
    VIEW,
    Did,
    make_network,
    make_sampler,
    sequences_of,
)

CONFIG = replace(TINY, max_epochs=3, learning_rate=0.01, dropout=0.1)
WEIGHTS_FILE = "weights.safetensors"


def shoppers_who_view_and_buy(*, seed: int, n: int) -> Batches:
    """Returns batches of shoppers who put into the cart what they have viewed."""
    rng = np.random.default_rng(seed)
    shoppers = []
    for _ in range(n):
        product, events = int(rng.integers(N_PRODUCTS)), []
        for step in range(4):
            token = FIRST + (product + step) % N_PRODUCTS
            events += [Did(1000 + 20 * step, VIEW, token), Did(1010 + 20 * step, CART, token)]
        shoppers.append(events)
    sequences = sequences_of(shoppers)
    span = between(sequences, 0, 10**9)
    return Batches(sequences, cut_windows(sequences, span, 16), span, GAP_S, batch_events=128)


def run(
    config: TrainConfig,
    on_progress: Progress,
    checkpoint: Checkpoint | None = None,
    log: TrainingLog | None = None,
) -> tuple[IntentNetwork, list[dict[str, float]], int]:
    """Trains with dropout and sampled negatives, so that random numbers matter everywhere."""
    torch.manual_seed(config.seed)
    network = make_network(random=False, dropout=0.1, id_dropout=0.1)
    history, best = learn(
        network,
        make_sampler(full_softmax_up_to=1),
        shoppers_who_view_and_buy(seed=1, n=60),
        shoppers_who_view_and_buy(seed=2, n=8),
        config,
        on_progress,
        checkpoint=checkpoint,
        log=log,
    )
    return network, history, best


def main() -> None:
    folder, epochs = Path(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(1)

    def tell(description: str, done: int, total: int) -> None:
        print("step", flush=True)
        time.sleep(0.01)

    config = replace(CONFIG, max_epochs=epochs)
    network, _, _ = run(config, tell, Checkpoint(folder, save_every_s=0.0))
    save_file(network.state_dict(), folder / WEIGHTS_FILE)


if __name__ == "__main__":
    main()
