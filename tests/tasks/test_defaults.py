"""What a training begins with, where little is said."""

from typing import Any

import pytest

from elman.tasks import TASKS, options_of, training_of


@pytest.mark.parametrize("task", TASKS)
def test_what_is_not_said_is_the_tasks(task: str) -> None:
    module = options_of(task)
    found = training_of(module, {"seed": 3})
    assert found["seed"] == 3
    assert found.items() >= module.TRAINING.items()
    assert ("epochs" in found) != ("minutes" in found)


@pytest.mark.parametrize(
    ("given", "lr"), [({}, 4e-3), ({"optimizer": "adam"}, 4e-3), ({"optimizer": "sgd"}, None), ({"lr": 1.0}, 1.0)]
)
def test_a_learning_rate_belongs_to_its_optimizer(given: dict[str, Any], lr: float | None) -> None:
    assert training_of(options_of("image"), given).get("lr") == lr


def test_a_bound_that_is_said_is_the_only_one() -> None:
    assert "minutes" not in training_of(options_of("image"), {"epochs": 2.0})
