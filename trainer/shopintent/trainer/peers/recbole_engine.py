"""RecBole's SASRec (https://github.com/RUCAIBox/RecBole) as an engine."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.config import Config
from recbole.data import create_dataset
from recbole.data.utils import get_dataloader
from recbole.model.sequential_recommender import SASRec
from recbole.trainer import Trainer
from recbole.utils import init_seed

from shopintent.trainer.peers.engine import ROWS_AT_ONCE, Step, ndcg_at_10
from shopintent.trainer.peers.exchange import Embeddings, EngineConfig, Histories, Task

NAME = "histories"


class Stopped(Exception):
    """Ends an epoch of RecBole's trainer."""


class RecBoleEngine:
    """SASRec as RecBole trains it: every prefix a sample of its own, softmax over all products."""

    def __init__(self, task: Task, config: EngineConfig) -> None:
        """Writes RecBole's input, and whatever it writes itself, into the current folder."""
        warnings.filterwarnings("ignore")
        self.task, self.config = task, config
        write_interactions(Path(NAME) / f"{NAME}.inter", task.training)
        sys.argv = sys.argv[:1]  # RecBole would read them
        settings = Config(model="SASRec", dataset=NAME, config_dict=self.settings())
        init_seed(config.seed, True)
        self.dataset = create_dataset(settings)
        training = self.dataset.build()[0]
        self.loader = get_dataloader(settings, "train")(settings, training, None, shuffle=True)
        self.model = SASRec(settings, training)
        self.trainer = Trainer(settings, self.model)
        self.kept: dict[str, torch.Tensor] = {}

    def settings(self) -> dict[str, Any]:
        """Returns RecBole's configuration."""
        config = self.config
        return {
            "data_path": ".",
            "USER_ID_FIELD": "user_id",
            "ITEM_ID_FIELD": "item_id",
            "TIME_FIELD": "timestamp",
            "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
            "eval_args": {
                "split": {"RS": [1, 0, 0]},
                "order": "TO",
                "group_by": "none",
                "mode": "full",
            },
            "MAX_ITEM_LIST_LENGTH": config.max_length,
            "n_layers": config.n_blocks,
            "n_heads": config.n_heads,
            "hidden_size": config.width,
            "inner_size": 4 * config.width,
            "hidden_dropout_prob": config.dropout,
            "attn_dropout_prob": config.dropout,
            "loss_type": "CE",
            "train_neg_sample_args": None,
            "train_batch_size": config.batch_targets,
            "learning_rate": config.learning_rate,
            "enable_amp": config.precision == "bfloat16",
            "use_gpu": False,
            "seed": config.seed,
            "reproducibility": True,
            "show_progress": False,
            "state": "ERROR",
            "checkpoint_dir": "saved",
        }

    @property
    def versions(self) -> tuple[str, ...]:
        """Name and version of what does the work."""
        return f"recbole {version('recbole')}", f"torch {torch.__version__}"

    def train(self, goes_on: Callable[[Step], bool]) -> None:
        """Trains through the epochs of RecBole's trainer."""
        epoch = 0
        try:
            while True:
                self.trainer._train_epoch(Steps(self.loader, goes_on), epoch)
                epoch += 1
        except Stopped:
            return

    def validate(self) -> float:
        """Returns NDCG@10 of the task's validation as of now."""
        return ndcg_at_10(self.embed(self.task.validation), self.task)

    @torch.no_grad()
    def embed(self, histories: Histories) -> Embeddings:
        """Returns embeddings by the network as it is now."""
        training = self.model.training
        self.model.eval()
        names = self.dataset.field2id_token["item_id"][1:]  # behind one for padding
        rows = names.astype(np.int64)
        own_ids = np.zeros(self.task.n_products + 1, np.int64)
        own_ids[rows + 1] = np.arange(1, len(rows) + 1)
        length = self.config.max_length
        sizes = torch.from_numpy(np.diff(histories.offsets)).clamp(1, length)
        padded = torch.from_numpy(own_ids[histories.padded(length)])
        # RecBole pads behind the products.
        position = (torch.arange(length) - sizes[:, None]) % length
        padded = padded.gather(1, position)
        queries = [
            self.model(part, size).float()
            for part, size in zip(
                torch.split(padded, ROWS_AT_ONCE), torch.split(sizes, ROWS_AT_ONCE), strict=True
            )
        ]
        products = np.zeros((self.task.n_products, self.config.width), np.float32)
        products[rows] = self.model.item_embedding.weight[1:].numpy()
        self.model.train(training)
        return Embeddings(products, own_ids[1:] > 0, torch.cat(queries).numpy())

    def remember(self) -> None:
        """Keeps the network as it is now."""
        self.kept = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}

    def recall(self) -> None:
        """Goes back to the network that was kept last."""
        self.model.load_state_dict(self.kept)


class Steps:
    """RecBole's loader, which tells of every batch once it is learned from."""

    def __init__(self, loader: Any, goes_on: Callable[[Step], bool]) -> None:
        self.loader, self.goes_on = loader, goes_on
        self.shuffle = True

    def __iter__(self) -> Iterator[Any]:
        """Raises Stopped when the training is not to go on."""
        n_batches = len(self.loader)
        for n, batch in enumerate(self.loader):
            yield batch
            if not self.goes_on(Step(len(batch), n + 1 == n_batches)):
                raise Stopped


def write_interactions(path: Path, histories: Histories) -> None:
    """Writes RecBole's table of the histories; their order stands for time."""
    sizes = np.diff(histories.offsets)
    position = np.arange(len(histories.products)) - np.repeat(histories.offsets[:-1], sizes)
    shopper = np.repeat(np.arange(len(histories)), sizes)
    path.parent.mkdir(exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        file.write("user_id:token\titem_id:token\ttimestamp:float\n")
        for row in zip(shopper, histories.products, position, strict=True):
            file.write("\t".join(map(str, row)) + "\n")
