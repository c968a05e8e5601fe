"""Recurrent networks as scikit-learn estimators: `SequenceClassifier`, `SequenceRegressor` and `Forecaster`.

They run in pipelines, cross-validation and grid searches, and write no files. For sequences of any kind with baselines,
a report and checkpoints, there is `elman.tasks`.

>>> import numpy as np
>>> X = np.random.default_rng(0).normal(size=(80, 12))        # 80 sequences of 12 steps
>>> y = np.where(X.sum(1) > 0, "up", "down")
>>> model = SequenceClassifier(epochs=20, random_state=0).fit(X, y)
>>> model.score(X, y) > 0.9
True
>>> model.predict_proba([X[0, :5], X[1, :9]]).shape           # sequences of other lengths
(2, 2)
"""

from elman.sklearn._forecaster import Forecaster
from elman.sklearn._sequences import SequenceClassifier, SequenceRegressor

__all__ = ["Forecaster", "SequenceClassifier", "SequenceRegressor"]
