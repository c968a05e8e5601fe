"""Results of a task for the reports of its runs. Imports nothing heavy."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from elman.flow import Recording


class Missing(NamedTuple):
    """Placeholder for a part that a run does not have, with the reason in one sentence."""

    why: str


class Scores(dict[str, dict[str, float]]):
    """Metrics by name, for the model first, then for each baseline, by title.

    Attributes:
        margins: half the width of the 95 % confidence interval of each metric, by title and name. Metrics without one
            are left out.
        counted: what the metrics were computed on: "180 images".
        by_label: metrics of the model for each label, or type of span, by its name; of tasks that have them.
    """

    def __init__(
        self,
        rows: Mapping[str, dict[str, float]] = MappingProxyType({}),
        margins: Mapping[str, dict[str, float]] = MappingProxyType({}),
        counted: str = "",
        by_label: Mapping[str, dict[str, float]] = MappingProxyType({}),
    ) -> None:
        super().__init__(rows)
        self.margins = dict(margins)
        self.counted = counted
        self.by_label = dict(by_label)


class Sample(NamedTuple):
    """An output of the model, and a title that describes how it was produced."""

    title: str
    text: str


class Recorded(NamedTuple):
    """A recorded backward pass, and a description of its batch."""

    recording: "Recording"
    batch: str


@dataclass(frozen=True)
class Shown:
    """Task-specific content of the report page.

    Args:
        title: name of the model in the scores.
        weights: number of weights of the model.
        loss: key of the loss in the scores, which is also its unit, such as "nats_per_token".
        samples: outputs of the model.
        flow: a backward pass of the trained model.
        units: units of the task's own numbers in config.json, by key.
        pictures: a sentence that describes each PNG file of the run, by file name.
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
        """Unit of the loss, in words."""
        return self.loss.replace("_", " ")
