"""Public docstrings are complete, and the check of that finds what is missing. Their examples run as doctests."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.docstrings import lacks, method_lacks, package_docstrings, public_methods, public_objects, repetitions

OBJECTS, METHODS = public_objects(), public_methods()


def test_the_public_names_are_complete() -> None:
    expected = {
        "elman.LSTM", "elman.describe", "elman.bptt.Truncated", "elman.cells.SLSTM", "elman.engine.run",
        "elman.flow.plots.credit", "elman.sklearn.Forecaster", "elman.tasks.Trained", "elman.tasks.image.fit",
        "elman.weights.to_keras", "elman.flow.diagnosis.Verdict",
    }  # fmt: skip
    assert expected <= OBJECTS.keys()
    assert "elman.tasks.api.Trained.predict" in METHODS
    assert "elman.layers.stack.Stack.step" in METHODS


@pytest.mark.parametrize("name", OBJECTS)
def test_of_classes_and_functions(name: str) -> None:
    assert lacks(name, OBJECTS[name]) == []


@pytest.mark.parametrize("name", METHODS)
def test_of_methods(name: str) -> None:
    assert method_lacks(*METHODS[name]) == []


def test_no_docstring_of_the_package_repeats_a_section() -> None:
    docstrings = package_docstrings()
    assert len(docstrings) > 1000
    assert {name: problems for name, text in docstrings.items() if (problems := repetitions(text))} == {}


class Complete:
    """A class.

    Args:
        a: a number.

    Raises:
        ValueError: for a negative number.

    >>> number = Complete(1)
    """

    def __init__(self, a: int) -> None:
        _check(a)

    def method(self, b: int) -> int:
        """Return b."""
        return b


class Incomplete:
    """A class.

    Args:
        b: a number.
    """

    def __init__(self, a: int) -> None:
        _check(a)

    def method(self, b: int) -> int:
        """Do something."""
        return b


def _check(a: int) -> None:
    if a < 0:
        raise ValueError(a)


def _numbers(n: int) -> Iterator[int]:
    """Count.

    Args:
        n: the number of numbers.

    >>> list(_numbers(2))
    [0, 1]
    """
    yield from range(n)


@pytest.mark.parametrize(
    ("value", "missing"),
    [
        (Complete, []),
        (
            Incomplete,
            ["parameters not documented: a", "parameters that do not exist: b",
             "exceptions not documented: ValueError", "no example"],
        ),
        (_numbers, ["no Returns"]),
        (_check, ["no docstring"]),
    ],
)  # fmt: skip
def test_the_check_finds_what_is_missing(value: Any, missing: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_check, "__module__", "elman")
    assert lacks("name", value) == missing


def test_the_check_finds_what_is_missing_of_a_method(monkeypatch: pytest.MonkeyPatch) -> None:
    for cls in (Complete, Incomplete):
        monkeypatch.setattr(cls.method, "__module__", "elman")
    assert method_lacks(Complete, "method") == []
    assert method_lacks(Incomplete, "method") == ["parameters not documented: b", "no Returns"]


def test_the_check_finds_repetitions() -> None:
    once = "Do it.\n\nArgs:\n    a: a number.\n    b: a number.\n\nReturns:\n    A number."
    assert repetitions(once) == []
    assert repetitions(f"{once}\n\nArgs:\n    c: a number.") == ["Args twice"]
    assert repetitions(once.replace("b:", "a:")) == ["Args: a twice"]
