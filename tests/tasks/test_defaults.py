"""What a training begins with, where little is said; and what options can be in Python."""

import math
import re
from typing import Any

import numpy as np
import pytest
import torch

from elman.cells import REGISTRY
from elman.options import checked
from elman.tasks.forecast.options import ForecastOptions
from elman.tasks.registry import TASKS, options_of, patience_of, training_of
from elman.training.module import TaskModule
from elman.training.options import TrainingOptions
from tests.test_convergence import Points


@pytest.mark.parametrize("task", TASKS)
def test_what_is_not_said_is_the_tasks(task: str) -> None:
    module = options_of(task)
    found = training_of(module, {"seed": 3})
    assert found["seed"] == 3
    assert found.items() >= module.TRAINING.items() - {("patience", module.TRAINING.get("patience"))}
    assert (found["schedule"], found["patience"], found["minutes"]) == ("plateau", patience_of(module), 60.0)
    assert training_of(module, {"seed": 3, "epochs": 2.0}) == module.TRAINING | {"seed": 3, "epochs": 2.0}


@pytest.mark.parametrize(
    ("given", "lr"), [({}, 3e-3), ({"optimizer": "adam"}, 3e-3), ({"optimizer": "sgd"}, None), ({"lr": 1.0}, 1.0)]
)
def test_a_learning_rate_belongs_to_its_optimizer(given: dict[str, Any], lr: float | None) -> None:
    assert training_of(options_of("image"), given).get("lr") == lr


@pytest.mark.parametrize(
    ("options", "decay"),
    [({}, 0.1), ({"optimizer": "adam"}, 0.0), ({"optimizer": "sgd", "weight_decay": 0.2}, 0.2), ({"lr": 1.0}, 0.1)],
)
def test_the_weight_decay_of_the_optimizer(options: dict[str, Any], decay: float) -> None:
    training = TrainingOptions(**training_of(options_of("text"), options))
    optimizer = TaskModule(Points(), training).configure_optimizers()
    assert optimizer.param_groups[0]["weight_decay"] == decay


def test_a_run_of_earlier_versions_keeps_its_weight_decay() -> None:
    optimizer = TaskModule(Points(), TrainingOptions(epochs=1)).configure_optimizers()
    assert optimizer.param_groups[0]["weight_decay"] == torch.optim.AdamW([torch.ones(1)]).defaults["weight_decay"]


def test_a_bound_that_is_said_is_the_only_one() -> None:
    assert "minutes" not in training_of(options_of("image"), {"epochs": 2.0})


def test_names_may_be_a_list_in_python() -> None:
    assert checked(ForecastOptions, "fit", {"covariates": ["wind", "rain"]}).covariates == "wind,rain"


def test_numbers_of_arrays_and_names_in_any_case() -> None:
    values = {"hidden": np.int64(8), "layers": torch.tensor(2), "dropout": np.float32(0.5), "cell": "Peephole-LSTM"}
    options = checked(ForecastOptions, "fit", values)
    assert (options.hidden, options.layers, options.dropout, options.cell) == (8, 2, 0.5, "peephole_lstm")
    assert {type(options.hidden), type(options.layers), type(options.dropout)} == {int, float}


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("hidden", "12", "fit: hidden: expected an integer of at least 1, got '12'"),
        ("hidden", True, "fit: hidden: expected an integer of at least 1, got True"),
        ("hidden", 2**31, "fit: hidden: expected an integer of at least 1 and at most 2147483647, got 2147483648"),
        ("dropout", False, "fit: dropout: expected a number from 0 to 1, got False"),
        ("dropout", math.nan, "fit: dropout: expected a number from 0 to 1, got nan"),
        ("cell", "ltsm", f"fit: cell: expected one of {', '.join(REGISTRY)}; got 'ltsm'; did you mean lstm?"),
        ("decimal", ";", "fit: decimal: expected . or ,; got ';'"),
        ("step", 1, "fit: step: expected a text, got 1"),
        ("covariates", 5, "fit: covariates: expected a text or a list, got 5"),
        ("encoding", None, "fit: encoding: expected a text, got None"),
        ("horizon", 2.5, "fit: horizon: expected an integer of at least 1, got 2.5"),
        ("skip_bad", "yes", "fit: skip_bad: expected true or false, got 'yes'"),
    ],
)
def test_a_value_that_an_option_cannot_have_in_python(option: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        checked(ForecastOptions, "fit", {option: value})
