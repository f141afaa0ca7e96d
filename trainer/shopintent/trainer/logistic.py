"""The one kind of fit that the intent heads share."""

from __future__ import annotations

from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler


def regression(penalty: float) -> Pipeline:
    """Returns an unfitted logistic regression on standardized inputs.

    `penalty` is the inverse strength of the L2 penalty, sklearn's C.
    """
    return make_pipeline(StandardScaler(), LogisticRegression(C=penalty, max_iter=500))
