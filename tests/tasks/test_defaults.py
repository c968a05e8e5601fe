"""What a training begins with, where little is said; and what options can be in Python."""

import re
from typing import Any

import pytest

from elman.options import checked
from elman.tasks.forecast.options import ForecastOptions
from elman.tasks.registry import TASKS, options_of, patience_of, training_of


@pytest.mark.parametrize("task", TASKS)
def test_what_is_not_said_is_the_tasks(task: str) -> None:
    module = options_of(task)
    found = training_of(module, {"seed": 3})
    assert found["seed"] == 3
    assert found.items() >= module.TRAINING.items() - {("patience", module.TRAINING.get("patience"))}
    assert (found["schedule"], found["patience"], found["minutes"]) == ("plateau", patience_of(module), 60.0)
    assert training_of(module, {"seed": 3, "epochs": 2.0}) == module.TRAINING | {"seed": 3, "epochs": 2.0}


@pytest.mark.parametrize(
    ("given", "lr"), [({}, 4e-3), ({"optimizer": "adam"}, 4e-3), ({"optimizer": "sgd"}, None), ({"lr": 1.0}, 1.0)]
)
def test_a_learning_rate_belongs_to_its_optimizer(given: dict[str, Any], lr: float | None) -> None:
    assert training_of(options_of("image"), given).get("lr") == lr


def test_a_bound_that_is_said_is_the_only_one() -> None:
    assert "minutes" not in training_of(options_of("image"), {"epochs": 2.0})


def test_names_may_be_a_list_in_python() -> None:
    assert checked(ForecastOptions, "fit", {"covariates": ["wind", "rain"]}).covariates == "wind,rain"


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("step", 1, "fit: step: expected a text or null, got 1"),
        ("covariates", 5, "fit: covariates: expected a text or null, got 5"),
        ("encoding", None, "fit: encoding: expected a text, got None"),
        ("horizon", 2.5, "fit: horizon: expected a whole number from 1 up; got '2.5'"),
        ("skip_bad", "yes", "fit: skip_bad: expected true or false, got 'yes'"),
    ],
)
def test_a_value_that_an_option_cannot_have_in_python(option: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        checked(ForecastOptions, "fit", {option: value})
