"""Everything that a step of training changes, so that training can go on where it was."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from shopintent.trainer.config import TrainConfig
from shopintent.trainer.model import IntentNetwork

WARM_UP_STEPS = 100


class TrainingState:
    """A network in training. Batches are not part of it: seed and epoch decide them."""

    def __init__(self, network: IntentNetwork, config: TrainConfig) -> None:
        self.network = network
        self.optimizer = torch.optim.AdamW(
            network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self.warm_up = torch.optim.lr_scheduler.LinearLR(
            self.optimizer, 0.01, total_iters=WARM_UP_STEPS
        )
        self.epoch = 0
        self.n_steps = 0
        """In all epochs."""
        self.losses: list[Tensor] = []
        """Of every step of this epoch so far, each [2]."""
        self.elapsed_s = 0.0
        self.history: list[dict[str, float]] = []
        self.best_epoch = 0
        self.best_score: float | None = None
        self.best_weights = deepcopy(network.state_dict())

    @property
    def learning_rate(self) -> float:
        """Of the next step."""
        rate: float = self.optimizer.param_groups[0]["lr"]
        return rate

    def step(self, total: Tensor, losses: Tensor) -> None:
        """Goes a step down the gradient of `total`; `losses` [2] are remembered."""
        self.optimizer.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.warm_up.step()
        self.n_steps += 1
        self.losses.append(losses.detach())

    def judge(self, line: dict[str, float], score: float) -> None:
        """Ends an epoch: remembers its line of the history, and its weights if it is the best."""
        self.history.append(line)
        if self.best_score is None or score > self.best_score:
            self.best_epoch, self.best_score = self.epoch, score
            self.best_weights = deepcopy(self.network.state_dict())
        self.epoch += 1
        self.losses = []

    def tensors(self) -> dict[str, Tensor]:
        """Returns all that is large, by name, on the CPU."""
        device = self.best_weights["start"].device
        tensors = {f"network.{name}": each for name, each in self.network.state_dict().items()}
        tensors |= {f"best.{name}": each for name, each in self.best_weights.items()}
        for parameter, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{parameter}.{name}": each for name, each in moments.items()}
        tensors["random.cpu"] = torch.random.get_rng_state()
        if device.type == "cuda":
            tensors["random.cuda"] = torch.cuda.get_rng_state(device)
        tensors["losses"] = torch.stack(self.losses) if self.losses else torch.zeros(0, 2)
        return {name: each.detach().cpu().clone() for name, each in tensors.items()}

    def numbers(self) -> dict[str, Any]:
        """Returns the rest, as JSON has it."""
        return {
            "epoch": self.epoch,
            "n_steps": self.n_steps,
            "elapsed_s": self.elapsed_s,
            "history": self.history,
            "best_epoch": self.best_epoch,
            "best_score": self.best_score,
            "warm_up": self.warm_up.state_dict(),
            "param_groups": self.optimizer.state_dict()["param_groups"],
        }

    def restore(self, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        """Goes back to what `tensors` and `numbers` returned, the random numbers included."""
        device = self.best_weights["start"].device
        self.network.load_state_dict(under("network.", tensors))
        self.best_weights = {
            name: each.to(device) for name, each in under("best.", tensors).items()
        }
        moments: dict[int, dict[str, Tensor]] = {}
        for name, each in under("optimizer.", tensors).items():
            parameter, _, moment = name.partition(".")
            moments.setdefault(int(parameter), {})[moment] = each
        groups = numbers["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        self.warm_up.load_state_dict(numbers["warm_up"])
        self.epoch, self.n_steps = numbers["epoch"], numbers["n_steps"]
        self.losses = list(tensors["losses"].to(device))
        self.elapsed_s = numbers["elapsed_s"]
        self.history = numbers["history"]
        self.best_epoch, self.best_score = numbers["best_epoch"], numbers["best_score"]
        torch.random.set_rng_state(tensors["random.cpu"])
        if "random.cuda" in tensors and device.type == "cuda":
            torch.cuda.set_rng_state(tensors["random.cuda"], device)


def under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Returns the tensors whose names begin with the prefix, without it."""
    return {
        name.removeprefix(prefix): each for name, each in tensors.items() if name.startswith(prefix)
    }
