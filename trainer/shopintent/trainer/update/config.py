"""What an update is made of; saved with its report."""

from __future__ import annotations

from dataclasses import dataclass


class UpdateError(ValueError):
    """A release cannot be updated; nothing was written that could be published. Says why."""


@dataclass(frozen=True)
class UpdateConfig:
    """Every knob of `shopintent-trainer update`."""

    seed: int = 7
    replay_ratio: float = 1.0
    """Old events learned from again for each new one; they are drawn by shopper."""
    learning_rate: float = 5e-4
    max_epochs: int = 20
    patience: int = 3
    """Epochs without a better validation before training stops."""
    max_minutes: float = 4.0
    holdout_share: float = 0.2
    """The newest share of the new events, which only judges."""
    validation_share: float = 0.1
    """The newest share of the other new events, which only tells when to stop."""
    max_old_loss: float = 0.02
    """How much worse the old slice may become, as a share of what the serving release reaches."""
