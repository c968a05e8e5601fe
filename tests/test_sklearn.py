"""Estimators for scikit-learn: its own checks, and what these do not ask."""

import pickle
from contextlib import suppress
from typing import Any
from unittest import SkipTest

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator

from elman.sklearn import Forecaster, SequenceClassifier, SequenceRegressor

QUICK: dict[str, Any] = {"hidden": 4, "epochs": 2, "random_state": 0}
LEARNS: dict[str, Any] = {"hidden": 16, "epochs": 25, "lr": 0.1, "random_state": 0}
LEARNED = ("check_classifiers_train", "check_classifiers_classes", "check_regressors_train")  # ask for a score
# A check that skips itself without an environment variable, and two whose second half does so without pandas.
UNAVAILABLE = "check_array_api_input"
HALVES = ("check_classifier_data_not_an_array", "check_regressor_data_not_an_array")


def checks() -> dict[str, tuple[type, Any]]:
    """All checks of scikit-learn that apply, by name, with the class of the estimator."""
    found: dict[str, tuple[type, Any]] = {}
    for kind in (SequenceClassifier, SequenceRegressor):
        for _, check in estimator_checks_generator(kind()):
            arguments = [f"{name}={value}" for name, value in check.keywords.items()]
            if check.func.__name__ != UNAVAILABLE:
                found["-".join([kind.__name__, check.func.__name__, *arguments])] = kind, check
    return found


CHECKS = checks()


@pytest.mark.sample(12)
@pytest.mark.parametrize("name", CHECKS)
def test_checks_of_scikit_learn(name: str) -> None:
    kind, check = CHECKS[name]
    with suppress(*[SkipTest] if check.func.__name__ in HALVES else []):
        if check.func.__name__ not in LEARNED:
            check(kind(**QUICK))
        else:  # a regressor has to find out which of ten steps counts
            check(kind(**LEARNS | {"epochs": 8 if kind is SequenceClassifier else 25}))


def waves(count: int = 60, seed: int = 0) -> tuple[list[NDArray[Any]], list[str]]:
    """Sequences of 5 to 12 steps with two numbers each: one of them is a slow or a fast wave."""
    draw = np.random.default_rng(seed)
    labels = ["slow", "fast"] * (count // 2)
    steps = [np.arange(draw.integers(5, 13)) for _ in labels]
    waves = [np.sin(t * (0.5 if label == "slow" else 2.0)) for t, label in zip(steps, labels, strict=True)]
    return [np.stack([wave, draw.normal(size=len(wave))], 1) for wave in waves], labels


def test_sequences_of_different_lengths() -> None:
    X, y = waves()
    model = SequenceClassifier(**LEARNS).fit(X, y)
    other, labels = waves(seed=1)
    assert model.score(other, labels) > 0.9
    assert model.n_features_in_ == 2
    assert model.classes_.tolist() == ["fast", "slow"]
    P = model.predict_proba(other)
    np.testing.assert_allclose(P.sum(1), 1)
    for i, x in enumerate(other[:5]):  # a ragged batch equals its sequences run one by one
        np.testing.assert_allclose(model.predict_proba([x])[0], P[i])
    np.testing.assert_allclose(model.predict_proba(np.array(other, object)), P)
    assert len(model.loss_curve_) == 25
    assert model.loss_curve_[-1] < model.loss_curve_[0] / 2


def test_the_three_forms_of_x_are_one() -> None:
    draw = np.random.default_rng(0)
    table, y = draw.normal(size=(20, 6)), draw.normal(size=(20, 2))
    model = SequenceRegressor(**QUICK).fit(table, y)
    expected = model.predict(table)
    assert expected.shape == (20, 2)
    assert model.n_features_in_ == 6
    for X in (table[:, :, None], list(table), list(table[:, :, None]), table.tolist(), table[:, :, None].tolist()):
        np.testing.assert_allclose(model.predict(X), expected)
        np.testing.assert_allclose(SequenceRegressor(**QUICK).fit(X, y).predict(X), expected)
    assert model.predict([table[0, :3], table[1]]).shape == (2, 2)
    with pytest.raises(ValueError, match="X has 5 features, but SequenceRegressor is expecting 6 features"):
        model.predict(table[:, :5])
    longer = SequenceRegressor(**QUICK).fit(table[:, :, None], y)
    assert longer.predict(draw.normal(size=(3, 9))).shape == (3, 2)  # a table of another width, after no table


def test_random_state_decides_and_no_other_random_numbers_change() -> None:
    X, y = waves(20)
    options = QUICK | {"dropout": 0.5, "layers": 2, "bidirectional": True}
    first = SequenceClassifier(**options).fit(X, y).predict_proba(X)
    before = torch.get_rng_state()
    torch.manual_seed(7)
    np.testing.assert_array_equal(SequenceClassifier(**options).fit(X, y).predict_proba(X), first)
    torch.manual_seed(0)
    assert bool((torch.get_rng_state() == before).all())
    assert bool((SequenceClassifier(**options | {"random_state": 1}).fit(X, y).predict_proba(X) != first).any())


@pytest.mark.slow
def test_grid_search_pipeline_and_pickle() -> None:
    X, y = waves(24)
    search = GridSearchCV(SequenceClassifier(**QUICK), {"cell": ["gru", "lstm"], "hidden": [2, 3]}, cv=2).fit(X, y)
    assert search.best_estimator_.get_params()["cell"] in ("gru", "lstm")
    copy = pickle.loads(pickle.dumps(search))
    np.testing.assert_array_equal(copy.predict_proba(X), search.predict_proba(X))
    assert not hasattr(clone(search.best_estimator_), "model_")
    table = np.random.default_rng(0).normal(size=(20, 4))
    scores = cross_val_score(make_pipeline(StandardScaler(), SequenceRegressor(**QUICK)), table, table.sum(1), cv=2)
    assert scores.shape == (2,)


REFUSED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "widths": ([np.zeros((3, 2)), np.zeros((4, 1))], {}, r"X: expected steps \(D,\) of one D, got D = 1, 2"),
    "depth": ([np.zeros((3, 2, 2))] * 2, {}, "Found array with dim 3"),
    "empty": ([np.zeros(3), np.zeros(0)], {}, r"Found array with 0 sample\(s\)"),
    "NaN": ([np.zeros(3), np.full(2, np.nan)], {}, r"Input X\[1\] contains NaN"),
    "cell": (np.zeros((2, 3)), {"cell": "ltsm"}, "SequenceClassifier: cell: expected .* got 'ltsm'; did you mean lstm"),
    "hidden": (np.zeros((2, 3)), {"hidden": 0}, "SequenceClassifier: hidden: expected an integer of at least 1"),
    "epochs": (np.zeros((2, 3)), {"epochs": 0}, "SequenceClassifier: epochs: expected an integer of at least 1"),
    "lr": (np.zeros((2, 3)), {"lr": 1e30, "epochs": 5}, "SequenceClassifier: the loss is nan in epoch .; pass a lower"),
}


@pytest.mark.parametrize(("X", "options", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_used_is_refused(X: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SequenceClassifier(**QUICK | options).fit(X, ["a", "b"])


def tide(steps: int = 120, series: int = 1) -> NDArray[Any]:
    noise = np.random.default_rng(0).normal(0, 0.1, (steps, series))
    return 10 * np.arange(1, series + 1) + np.sin(np.arange(steps) * np.pi / 6)[:, None] + noise


FORECASTS: dict[str, Any] = {"horizon": 6, "season": 12, "hidden": 4, "epochs": 4, "random_state": 0}


def test_forecasts_of_several_series() -> None:
    y = tide(series=3)
    model = Forecaster(**FORECASTS).fit(y[:108])
    median, interval = model.predict(), model.predict_interval()
    assert median.shape == (6, 3)
    assert interval.shape == (6, 3, 2)
    assert (interval[..., 0] < median).all()
    assert (median < interval[..., 1]).all()
    assert np.abs(median - y[108:114]).mean() < 0.2
    np.testing.assert_array_equal(model.predict(2), median[:2])
    assert np.abs(model.predict(y=y[:114]) - y[114:]).mean() < 0.2
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict(), median)
    np.testing.assert_array_equal(clone(model).fit(y[:108]).predict(), median)


def test_intervals_have_the_share_that_was_asked_for() -> None:
    """White noise: the share of later values inside the interval of the next one."""
    y = np.random.default_rng(0).normal(size=400)
    for coverage in (0.5, 0.9):
        model = Forecaster(coverage=coverage, hidden=4, epochs=15, random_state=0).fit(y[:300])
        intervals = np.array([model.predict_interval(y=y[:i])[0] for i in range(300, 400)])
        inside = (intervals[:, 0] < y[300:]) & (y[300:] < intervals[:, 1])
        assert abs(inside.mean() - coverage) < 0.12


def test_what_cannot_be_forecast_is_refused() -> None:
    with pytest.raises(ValueError, match=r"y: expected at least 30 steps \(context and horizon\), got 29"):
        Forecaster(**FORECASTS).fit(tide(29))
    with pytest.raises(ValueError, match="context: expected an integer of at least 12, got 3"):
        Forecaster(**FORECASTS, context=3).fit(tide())
    with pytest.raises(ValueError, match="coverage: expected a number between 0 and 1, got 80"):
        Forecaster(**FORECASTS, coverage=80).fit(tide())
    model = Forecaster(**FORECASTS).fit(tide())
    with pytest.raises(ValueError, match=r"fh: expected at most 6 steps \(the horizon\), got 7"):
        model.predict(7)
    with pytest.raises(ValueError, match="y: expected at least 24 steps of 1 series, got 24 of 2"):
        model.predict(y=tide(series=2))
