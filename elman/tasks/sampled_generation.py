"""Outputs that a recurrent model samples step by step."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Generic, Self

from typing_extensions import override

from elman.decoding import sampler
from elman.decoding.sampler import Sampler, Step
from elman.decoding.sampling import Sampling
from elman.tasks.task import Generation


class SampledGeneration(Generation, Generic[Step]):
    """An output whose steps a sampler draws; those of several outputs by shared steps of the model.

    Args:
        sampler: the sampler.
    """

    def __init__(self, sampler: Sampler[Step]) -> None:
        self.sampler = sampler

    @abstractmethod
    def to_json(self, step: Step) -> dict[str, Any]:
        """Return a step as a JSON object. It is called once for each step, in their order."""

    def begin(self) -> None:
        """Get ready for the next step."""

    @override
    @classmethod
    def advance(
        cls, generations: Sequence[Self], samplings: Sequence[dict[str, Any]]
    ) -> list[dict[str, Any] | Exception | None]:
        for generation in generations:
            generation.begin()
        hows = [Sampling(**sampling) for sampling in samplings]
        steps = sampler.advance([generation.sampler for generation in generations], hows)
        return [
            step if step is None or isinstance(step, Exception) else generation.to_json(step)
            for generation, step in zip(generations, steps, strict=True)
        ]

    @override
    def steps(self, length: int, **sampling: Any) -> Iterator[dict[str, Any]]:
        self.begin()
        return map(self.to_json, self.sampler.sample(length, **sampling))
