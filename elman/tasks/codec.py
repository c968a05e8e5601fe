"""The fitted part of a task, which encodes examples as batches and decodes predictions."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ConfigDict, TypeAdapter
from torch import Tensor

from elman.data.examples import Example
from elman.errors import BadInput
from elman.io.run_folder import Run
from elman.io.schema import STRICT, validated

NO_LABEL = -1  # the number of padding and of unknown labels


class Codec(ABC):
    """Base class of codecs, which are frozen dataclasses that pydantic writes to JSON, and checks when it reads them.

    A codec is fitted on the training part alone, and saved in the run folder as codec.json.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    @classmethod
    @abstractmethod
    def fit(cls, train: Sequence[Example], options: Any) -> Self:
        """Fit a codec on the training part.

        Raises:
            BadInput: if there is nothing to learn.
        """

    @abstractmethod
    def model_args(self, options: Any) -> dict[str, Any]:
        """Return the arguments of the model."""

    @abstractmethod
    def encode(self, example: Example) -> tuple[Any, int]:
        """Encode an example for `collate`, and return its number of time steps."""

    @property
    def augments(self) -> bool:
        """True if training examples are augmented: encoded by `augment` in each epoch."""
        return False

    def to_augment(self, example: Example) -> Example:
        """Return a training example as `augment` takes it, after the preprocessing that is the same in each epoch."""
        return example

    def augment(self, examples: Sequence[Example], rngs: Iterable[np.random.Generator]) -> Sequence[Any]:
        """Encode examples of the training part with random changes, for `collate`.

        Args:
            examples: the examples of a batch, from `to_augment`.
            rngs: the random number generator of each, seeded by the training, the epoch and the example.
        """
        raise NotImplementedError

    @abstractmethod
    def collate(self, encoded: Sequence[Any]) -> Any:
        """Make a batch for the model's `loss`."""

    @abstractmethod
    def predict(self, model: Any, batch: Any) -> list[Any]:
        """Run the model on a batch and decode its outputs: a prediction for each example."""

    @abstractmethod
    def to_row(self, prediction: Any) -> dict[str, Any]:
        """Return a prediction as columns."""

    def to_rows(self, number: int, name: str, example: Example, prediction: Any) -> Iterator[dict[str, Any]]:
        """Yield the rows of a prediction; by default one.

        Args:
            number: the number of the input, from 1.
            name: the name of the input.
            example: the input.
            prediction: from `predict`.
        """
        yield {"input": name, **self.to_row(prediction)}

    def check_targets(self, examples: Sequence[Example]) -> None:  # noqa: B027 - most codecs take any target
        """Check that a model can be scored on examples.

        Raises:
            BadInput: for a target that the model cannot predict.
        """

    def to_json(self) -> str:
        """Return the codec as JSON."""
        return TypeAdapter(type(self)).dump_json(self).decode()

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """Load the codec from `to_json`.

        Raises:
            ValueError, TypeError, KeyError: for anything else.
        """
        return validated(cls, text, "json")


@dataclass(frozen=True)
class LabelCodec(Codec):
    """A codec of examples whose targets are labels, or sequences of labels.

    Attributes:
        labels: in order.
    """

    labels: list[str]

    @cached_property
    def label(self) -> dict[Any, int]:
        """The number of each label."""
        return {label: i for i, label in enumerate(self.labels)}

    def label_numbers(self, labels: Iterable[Any]) -> NDArray[np.int64]:
        """Return the numbers of N labels, (N,); `NO_LABEL` for unknown labels."""
        return np.array([self.label.get(label, NO_LABEL) for label in labels], np.int64)

    def probabilities(self, prediction: Any) -> NDArray[np.float64]:
        """Return the probabilities of all labels in a prediction, (..., K); by default the prediction itself."""
        probabilities: NDArray[np.float64] = prediction
        return probabilities

    def best(self, prediction: Any) -> NDArray[np.int64]:
        """Return the numbers of the labels that are predicted, (...); by default the most probable ones."""
        return np.asarray(self.probabilities(prediction).argmax(-1))

    def top(self, probabilities: NDArray[np.float64], k: int) -> dict[str, list[Any]]:
        """Return the k most probable labels by their probabilities (K,), and the probability of each, as columns."""
        order = np.argsort(-probabilities, kind="stable")[:k]
        return {
            "labels": [self.labels[number] for number in order],
            "probabilities": [round(float(probabilities[number]), 4) for number in order],
        }

    def to_top_rows(
        self, number: int, name: str, example: Example, prediction: Any, k: int
    ) -> Iterator[dict[str, Any]]:
        """Yield the rows of a prediction with the k most probable labels; the other arguments are as in `to_rows`."""
        yield {"input": name, **self.top(self.probabilities(prediction), k)}


def check_model_args(run: Run, args: dict[str, Any], file: Path) -> None:
    """Check that the model of a run fits its options and its codec.

    Args:
        run: the run, whose config.json has the arguments of the model.
        args: the arguments by the options and the codec.
        file: the file of the codec.

    Raises:
        BadInput: if they differ.
    """
    saved, options, config = run.config["model"], run.config["options"], run.path / "config.json"
    for name in [name for name in {**args, **saved} if args.get(name) != saved.get(name)]:
        if name in options and options[name] == args.get(name):
            raise BadInput(
                f"{config}: expected model.{name} and options.{name} to be equal, got {saved.get(name)!r:.40} and "
                f"{options[name]!r:.40}"
            )
        raise BadInput(
            f"{file}: expected what the model of {config} was trained with, {name} {saved.get(name)!r:.40}; got "
            f"{args.get(name)!r:.40}"
        )


def texts_to_tensor(texts: Sequence[str]) -> Tensor:
    """Encode texts as bytes, for a safetensors file.

    >>> texts_from_tensor(texts_to_tensor(["one", "two"]))
    ['one', 'two']
    """
    return torch.tensor(list("\0".join(texts).encode()), dtype=torch.uint8)


def texts_from_tensor(tensor: Tensor) -> list[str]:
    """Decode the texts from `texts_to_tensor`."""
    return bytes(tensor.tolist()).decode().split("\0")
