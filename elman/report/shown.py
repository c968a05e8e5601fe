"""What a task gives to the report of its runs. Imports nothing heavy."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from elman.flow import Recording


class Missing(NamedTuple):
    """Stands where a part would be that a run does not have, and says why in one sentence."""

    why: str


class Sample(NamedTuple):
    """Something that the model made, and how it was asked for."""

    title: str
    text: str


class Recorded(NamedTuple):
    """A backward pass, and in words what it went through."""

    recording: "Recording"
    of: str


@dataclass(frozen=True)
class Shown:
    """What the page about a run shows that only its task can tell.

    Args:
        title: of the model, as in the scores.
        weights: how many the model has.
        loss: the key of the loss among the scores; its words are the unit: "nats_per_token".
        samples: what the model writes, predicts, draws.
        flow: a backward pass through the trained model.
        units: of the numbers in config.json that are the task's own, by key.
        pictures: PNG files of the run, by name: what each shows, in a sentence.
    """

    title: str
    weights: int
    loss: str
    samples: tuple[Sample, ...] | Missing
    flow: Recorded | Missing
    units: Mapping[str, str] = field(default_factory=dict)
    pictures: Mapping[str, str] = field(default_factory=dict)

    @property
    def unit(self) -> str:
        """Of the loss, in words."""
        return self.loss.replace("_", " ")
