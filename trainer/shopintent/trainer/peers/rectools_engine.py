"""RecTools' SASRec (https://github.com/MobileTeleSystems/RecTools) as an engine."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from pytorch_lightning import Callback, Trainer, seed_everything
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel
from rectools.models.nn.transformers.lightning import TransformerLightningModule
from torch import Tensor

from shopintent.trainer.peers.engine import ROWS_AT_ONCE, Step, ndcg_at_10
from shopintent.trainer.peers.exchange import Embeddings, EngineConfig, Histories, Task

FOREVER = 1_000_000
"""Epochs; the worker stops the training."""


class LossOnTargets(TransformerLightningModule):  # type: ignore[misc]
    """The same softmax loss, without scoring the padding that RecTools scores and throws away.

    On short histories that is most of the work: RecTools' own extension point lets the baseline
    have several times as many epochs in the same time.
    """

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Returns the mean loss over the targets of a batch."""
        products = self.torch_model.item_model.get_all_embeddings()
        states = self.torch_model.encode_sessions(batch, products)
        asked = batch["y"] != 0
        loss = F.cross_entropy(states[asked] @ products.T, batch["y"][asked])
        self.log(self.train_loss_name, loss, on_step=False, on_epoch=True)
        return loss


class Steps(Callback):  # type: ignore[misc]
    """Tells of every batch, and stops the training when told to."""

    def __init__(self, goes_on: Callable[[Step], bool]) -> None:
        self.goes_on = goes_on

    def __deepcopy__(self, memo: dict[int, Any]) -> Steps:
        """RecTools copies its trainer; whom to tell stays the same."""
        return self

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: dict[str, Tensor], batch_idx: int
    ) -> None:
        """Called by Lightning."""
        n_targets = int((batch["y"] != 0).sum())
        if not self.goes_on(Step(n_targets, batch_idx + 1 == trainer.num_training_batches)):
            trainer.should_stop = True


class RecToolsEngine:
    """SASRec as RecTools trains it: blocks of the paper, softmax over all products, Adam."""

    def __init__(self, task: Task, config: EngineConfig, *, loss_on_targets: bool) -> None:
        """Raises ValueError when no history holds two products."""
        warnings.filterwarnings("ignore")
        seed_everything(config.seed)
        self.task, self.config = task, config
        self.data = interactions(task.training)
        mean_targets = len(self.data) / len(task.training) - 1
        if mean_targets <= 0:
            raise ValueError("no history to train on holds two products")
        self.batch_size = max(1, round(config.batch_targets / mean_targets))
        self.module = LossOnTargets if loss_on_targets else TransformerLightningModule
        self.model: Any = None
        self.kept: dict[str, Tensor] = {}

    @property
    def versions(self) -> tuple[str, ...]:
        """Name and version of what does the work."""
        return f"rectools {version('rectools')}", f"torch {torch.__version__}"

    def train(self, goes_on: Callable[[Step], bool]) -> None:
        """Trains through RecTools' own `fit`."""
        config = self.config

        def trainer() -> Any:
            return Trainer(
                max_epochs=FOREVER,
                accelerator="cpu",
                precision="bf16-mixed" if config.precision == "bfloat16" else "32-true",
                logger=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                enable_checkpointing=False,
                callbacks=[Steps(goes_on)],
            )

        self.model = SASRecModel(
            n_blocks=config.n_blocks,
            n_heads=config.n_heads,
            n_factors=config.width,
            dropout_rate=config.dropout,
            session_max_len=config.max_length,
            loss="softmax",
            lr=config.learning_rate,
            batch_size=self.batch_size,
            lightning_module_type=self.module,
            get_trainer_func=trainer,
        )
        self.model.fit(Dataset.construct(self.data))

    def validate(self) -> float:
        """Returns NDCG@10 of the task's validation as of now."""
        return ndcg_at_10(self.embed(self.task.validation), self.task)

    @torch.no_grad()
    def embed(self, histories: Histories) -> Embeddings:
        """Returns embeddings by the network as it is now."""
        network = self.model.lightning_model.torch_model
        training = network.training
        network.eval()
        vectors = network.item_model.get_all_embeddings()
        # RecTools counts products as it meets them in training, behind one for padding.
        rows = self.model.data_preparator.get_known_item_ids().astype(np.int64)
        own_ids = np.zeros(self.task.n_products + 1, np.int64)
        own_ids[rows + 1] = np.arange(1, len(rows) + 1)
        known = own_ids[1:] > 0
        histories = only(histories, known)
        padded = torch.from_numpy(own_ids[histories.padded(self.config.max_length)])
        queries = [
            network.encode_sessions({"x": part}, vectors)[:, -1].float()
            for part in torch.split(padded, ROWS_AT_ONCE)
        ]
        products = np.zeros((self.task.n_products, vectors.shape[1]), np.float32)
        products[rows] = vectors[1:].float().numpy()
        network.train(training)
        return Embeddings(products, known, torch.cat(queries).numpy())

    def remember(self) -> None:
        """Keeps the network as it is now."""
        state = self.model.lightning_model.torch_model.state_dict()
        self.kept = {name: tensor.clone() for name, tensor in state.items()}

    def recall(self) -> None:
        """Goes back to the network that was kept last."""
        self.model.lightning_model.torch_model.load_state_dict(self.kept)


def interactions(histories: Histories) -> pd.DataFrame:
    """Returns RecTools' table of the histories; their order stands for time."""
    sizes = np.diff(histories.offsets)
    position = np.arange(len(histories.products)) - np.repeat(histories.offsets[:-1], sizes)
    return pd.DataFrame(
        {
            Columns.User: np.repeat(np.arange(len(histories)), sizes),
            Columns.Item: histories.products.astype(np.int64),
            Columns.Weight: 1.0,
            Columns.Datetime: pd.to_datetime(position, unit="s"),
        }
    )


def only(histories: Histories, known: np.ndarray[Any, np.dtype[np.bool_]]) -> Histories:
    """Returns the histories without products that training does not know, as RecTools does."""
    keep = known[histories.products]
    kept_before = np.concatenate([[0], np.cumsum(keep)])
    return Histories(histories.products[keep], kept_before[histories.offsets])


def as_shipped(task: Task, config: EngineConfig) -> RecToolsEngine:
    """Returns RecTools as it is installed."""
    return RecToolsEngine(task, config, loss_on_targets=False)


def loss_on_targets(task: Task, config: EngineConfig) -> RecToolsEngine:
    """Returns RecTools with a loss that does not score padding."""
    return RecToolsEngine(task, config, loss_on_targets=True)
