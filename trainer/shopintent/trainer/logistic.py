"""The one kind of fit that the intent heads share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler


@dataclass(frozen=True, eq=False)
class Linear:
    """Log odds that are linear in the inputs."""

    weights: NDArray[np.float64]  # [I]
    bias: float

    def log_odds(self, inputs: NDArray[np.float32]) -> NDArray[np.float64]:
        """[N, I] to [N]."""
        found: NDArray[np.float64] = inputs @ self.weights + self.bias
        return found


def regression(penalty: float) -> Pipeline:
    """Returns an unfitted logistic regression on standardized inputs.

    `penalty` is the inverse strength of the L2 penalty, sklearn's C.
    """
    return make_pipeline(
        StandardScaler(), LogisticRegression(C=penalty, solver="newton-cholesky", max_iter=100)
    )


def folded(fitted: Pipeline) -> Linear:
    """Returns a fitted regression of two classes without its scaler, which is linear too."""
    scaler, regressed = fitted.named_steps.values()
    weights = regressed.coef_[0] / scaler.scale_
    return Linear(weights, float(regressed.intercept_[0] - weights @ scaler.mean_))


def fit_platt(log_odds: NDArray[np.float64], labels: NDArray[np.bool_]) -> tuple[float, float]:
    """Returns slope and intercept that make sigmoid(slope * log odds + intercept) a probability.

    Platt 1999, without his smoothing of the labels; a slope that turns the order around is noise.
    """
    fitted = LogisticRegression(C=1e6).fit(log_odds[:, None], labels)
    slope, intercept = float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
    return (slope, intercept) if slope > 0.1 else (1.0, 0.0)


def fit_intercept(log_odds: NDArray[np.float64], labels: NDArray[np.bool_]) -> float:
    """Returns what must be added to log odds for them to hold as many positives as the labels."""
    return float(brentq(lambda shift: sigmoid(log_odds + shift).mean() - labels.mean(), -30, 30))


def sigmoid(log_odds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log odds to probabilities."""
    probabilities: NDArray[np.float64] = expit(log_odds)
    return probabilities
