"""Search spaces: those of the tasks, and those of --space."""

from types import SimpleNamespace
from typing import Any

import pytest

from elman.errors import BadInput
from elman.options import checked
from elman.tasks.registry import NAMES, options_of
from elman.tasks.supervised_options import SupervisedOptions
from elman.tune.options import TuneOptions, seconds
from elman.tune.space import Choices, Interval, default_space, defaults, description, parse, searchable, space_of
from tests.small import Command
from tests.test_bad_input import refused

TEXT = options_of("text")


@pytest.mark.parametrize("task", NAMES)
def test_every_task_has_a_space_around_its_defaults(task: str) -> None:
    module = options_of(task)
    space = default_space(module)
    assert "SPACE" in vars(module)
    assert {"lr", "hidden", "dropout"} <= space.keys()
    assert isinstance(space["lr"], Interval)
    assert space["lr"].is_log
    for name, value in defaults(module, {}, space).items():
        assert value in space[name], (name, value)


def test_word_vectors_set_the_size_of_embeddings() -> None:
    module = options_of("classify")
    assert space_of(module, (), ["vectors"]).keys() == default_space(module).keys() - {"embed"}


@pytest.mark.parametrize("task", NAMES)
def test_a_space_can_be_read_again(task: str) -> None:
    module = options_of(task)
    space = default_space(module)
    assert parse([f"{name}={values}" for name, values in description(space).items()], module) == space


@pytest.mark.parametrize("task", NAMES)
def test_what_cannot_be_compared_is_an_option_of_the_task(task: str) -> None:
    module = options_of(task)
    assert set(getattr(module, "INCOMPARABLE", ())) <= module.OPTIONS.model_fields.keys()
    assert not {"seed", "devices", "validation", "encoding", "beam", "skip_bad"} & searchable(module).keys()


def test_a_task_without_a_space() -> None:
    module: Any = SimpleNamespace(OPTIONS=SupervisedOptions, TRAINING={"lr": 4e-3})
    assert description(default_space(module)) == {
        "lr": "0.0004..0.012:log", "hidden": "64,128,256", "layers": "1,2", "dropout": "0..0.5"
    }  # fmt: skip


def test_texts() -> None:
    space = parse(["lr=1e-4..1e-1:log hidden=32,64", "layers=1..3", "cell=GRU,Peephole-LSTM", "DropOut=0..0.5"], TEXT)
    assert space == {
        "lr": Interval(1e-4, 0.1, True, False),
        "hidden": Choices((32, 64)),
        "layers": Interval(1, 3, False, True),
        "cell": Choices(("gru", "peephole_lstm")),
        "dropout": Interval(0.0, 0.5, False, False),
    }
    assert parse(["word-dropout=0.1,0.2", "word_dropout=1,0"][:1], options_of("classify")).keys() == {"word_dropout"}


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("lr", ["expected an option and its values, as in lr="]),
        ("lr=", ["expected an option and its values"]),
        ("hiden=3,4", ["expected one of", "hidden", "got hiden; did you mean hidden?"]),
        ("lr=0.1", ["expected a range or several values, got one; to fix it, pass --lr 0.1"]),
        ("lr=0.1,0.1", ["expected a range or several values, got one"]),
        ("lr=1..0.1", ["expected a range from a number to a larger one, got 1..0.1"]),
        ("lr=1e-3..x", ["expected a number greater than 0", "got 'x'"]),
        ("lr=0..1", ["expected a number greater than 0", "got '0'"]),
        ("dropout=0..1:log", ["expected a range of numbers greater than 0 with :log, got 0..1"]),
        ("dropout=0..1:sqrt", ["expected :log, got :sqrt"]),
        ("dropout=0..2", ["expected a number from 0 to 1, got '2'"]),
        ("hidden=1.5,2", ["expected an integer of at least 1, got '1.5'"]),
        ("hidden=8..64..128", ["expected an integer of at least 1, got '64..128'"]),
        ("cell=gru..lstm", ["expected values separated by commas, got the range gru..lstm"]),
        ("cell=gru,elmo", ["expected one of", "got 'elmo'"]),
        ("seed=1,2", ["seed cannot be searched, since another value would change what the validation loss measures"]),
        ("tokens=char,word", ["tokens cannot be searched", "expected one of"]),
        ("hidden=1,2 hidden=3,4", ["expected hidden once, got it twice"]),
    ],
)
def test_texts_that_are_no_space(elman: Command, text: str, parts: list[str]) -> None:
    refused(elman("tune", "text", "a.txt", "--space", text), "--space", *parts)


def test_what_is_fixed_is_not_searched() -> None:
    assert space_of(TEXT, (), ["lr", "cell", "seed"]).keys() == default_space(TEXT).keys() - {"lr", "cell"}
    with pytest.raises(BadInput, match="--space lr: expected an option that is not fixed, got --lr too"):
        space_of(TEXT, ["lr=0.1,0.2"], ["lr"])
    with pytest.raises(BadInput, match="all options of the default space are fixed"):
        space_of(TEXT, (), default_space(TEXT))


def test_numbers_are_drawn_with_few_digits_within_their_range() -> None:
    interval = Interval(0.00012342, 0.2, True, False)
    assert [interval.rounded(value) for value in (0.00012343, 0.0123456, 0.1999999)] == [0.00012342, 0.01235, 0.2]
    assert Interval(1, 9, False, True).rounded(3) == 3


def test_times() -> None:
    assert [seconds(text) for text in ("90s", "10m", "2h", "1d", "0.5m", "7")] == [90, 600, 7200, 86400, 30, 7]
    assert TuneOptions(timeout=30).timeout == 30
    assert checked(TuneOptions, "search", {"timeout": "2h"}).timeout == 7200


@pytest.mark.parametrize(("time", "part"), [("soon", "such as 90s, 10m or 2h"), ("-3m", "such as"), ("0", "than 0")])
def test_times_that_are_none(elman: Command, time: str, part: str) -> None:
    refused(elman("tune", "text", "a.txt", f"--timeout={time}"), "--timeout", part)


def test_the_help_shows_the_space(elman: Command) -> None:
    said = elman("tune", "tag", "--help")
    assert said.code == 0
    for word in ("--trials", "--space", "characters=32,64,128", "--timeout", "--ray", "--lr", "--word-dropout"):
        assert word in said.out
    assert "--resume" not in said.out
