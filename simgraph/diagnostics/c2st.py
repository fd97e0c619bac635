"""Classifier two-sample test: how well a classifier tells two sets of draws apart.

0.5 means that it cannot, 1.0 that it always can.

References:
    Lopez-Paz and Oquab, "Revisiting classifier two-sample tests" (2017), section 3.
    Lueckmann et al., "Benchmarking simulation-based inference" (2021), appendix: the classifier, its
    sizes and the cross-validation that ``classifier="mlp"`` follows.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from simgraph.diagnostics.standard import standardised
from simgraph.errors import DeclarationError, MissingExtraError

__all__ = ["c2st"]


def c2st(reference: Any, samples: Any, *, classifier: Literal["mlp", "rf"] = "mlp", seed: int = 1) -> float:
    """Returns the cross-validated accuracy of a classifier between two sets of draws.

    Both sets are standardised by the mean and standard deviation of the reference.

    Args:
        reference: Draws (count, dimensions), or (count,) for one dimension.
        samples: Draws (count, dimensions).
        classifier: ``"mlp"``, sbibm's two hidden layers of 10 units per dimension, or ``"rf"``, a random forest.
        seed: Seed of the folds and the classifier.

    Returns:
        Accuracy over five folds.

    Raises:
        ShapeError: If the two sets have different dimensions.
        MissingExtraError: If scikit-learn is not installed.
    """
    try:
        from sklearn.ensemble import RandomForestClassifier
        from sklearn.model_selection import KFold, cross_val_score
        from sklearn.neural_network import MLPClassifier
    except ImportError:
        raise MissingExtraError("sklearn", "diagnostics", "c2st()") from None
    first, second = standardised(reference, samples)
    data = np.concatenate([first, second])
    labels = np.concatenate([np.zeros(len(first)), np.ones(len(second))])
    if classifier == "mlp":
        width = 10 * first.shape[1]
        judge = MLPClassifier(
            activation="relu", hidden_layer_sizes=(width, width), max_iter=10_000, solver="adam", random_state=seed
        )
    elif classifier == "rf":
        judge = RandomForestClassifier(random_state=seed)
    else:
        raise DeclarationError(f"classifier={classifier!r} is not known; choose 'mlp' or 'rf'.")
    folds = KFold(n_splits=5, shuffle=True, random_state=seed)
    return float(np.mean(cross_val_score(judge, data, labels, cv=folds, scoring="accuracy")))
