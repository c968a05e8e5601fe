"""Sequences that a recurrent model continues step by step; several of them together, each as if it were alone."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from typing_extensions import override

from elman.decoding.sampling import Sampling, choose_rows, generator_of
from elman.engine.executor import MAX_STEP_ROWS
from elman.errors import Failure

BLOCK = 1024  # steps of a prompt that are fed to the model at once
Step = TypeVar("Step")


class Sampler(ABC, Generic[Step]):
    """Samples a sequence step by step, and keeps the states of the model and of the random numbers between calls.

    Args:
        model: in evaluation mode. Its method `hidden` maps inputs (T, B, ...) and a state to outputs (T, B, H) and the
            next state, tensors (L, B, ...) in tuples.
        seed: the same seed gives the same sequence; None: a different one each time.
        pending: steps that the model has not read yet.
    """

    def __init__(self, model: Any, seed: int | None, pending: Sequence[Any] = ()) -> None:
        self.model, self.generator = model, generator_of(seed)
        self.device = next(model.parameters()).device
        self.state: Any = None
        self.pending = list(pending)

    @abstractmethod
    def stacked(self, steps: Sequence[Any]) -> Tensor:
        """Return steps as inputs (N, ...) for the model."""

    @abstractmethod
    def draw(self, hidden: Tensor, sampling: Sampling) -> Any:
        """Draw a step, as the model reads it, given an output (1, H) of `hidden`."""

    @abstractmethod
    def to_step(self, drawn: Any) -> Step | None:
        """Return a step that the model reads as `sample` yields it; None: the sequence has ended."""

    @classmethod
    def draw_each(cls, samplers: "Sequence[Any]", hidden: Sequence[Tensor], samplings: Sequence[Sampling]) -> list[Any]:
        """Draw a step for each of several samplers; see `draw`. An exception in the place of a step is its failure."""
        return [sampler.draw(*of_row) for sampler, *of_row in zip(samplers, hidden, samplings, strict=True)]

    def sample(self, length: int, **sampling: Any) -> Iterator[Step]:
        """Yield sampled steps that continue the pending ones, of which there must be one at least.

        Args:
            length: the largest number of steps.
            sampling: `temperature`, `top_k` and `top_p`, as for `elman.decoding.sampling.choose`.
        """
        how = Sampling(**sampling)
        for _ in range(length):
            [step] = advance([self], [how])
            if step is None:
                return
            if isinstance(step, Exception):
                raise step
            yield step


class TokenSampler(Sampler[int]):
    """Samples tokens from a model with a linear layer `output`.

    Args:
        model: as for `Sampler`.
        seed: as for `Sampler`.
        pending: as for `Sampler`.
        never: a token that is never sampled.
        end: a token that ends a sequence.
    """

    def __init__(
        self,
        model: Any,
        seed: int | None = None,
        pending: Sequence[int] = (),
        never: int | None = None,
        end: int | None = None,
    ) -> None:
        super().__init__(model, seed, pending)
        self._never, self._end = never, end

    @override
    def stacked(self, steps: Sequence[int]) -> Tensor:
        return torch.tensor(steps, device=self.device)

    @override
    def draw(self, hidden: Tensor, sampling: Sampling) -> Any:
        [token] = self.draw_each([self], [hidden], [sampling])
        return token

    @override
    def to_step(self, drawn: int) -> int | None:
        return None if drawn == self._end else drawn

    @override
    @classmethod
    def draw_each(
        cls, samplers: "Sequence[TokenSampler]", hidden: Sequence[Tensor], samplings: Sequence[Sampling]
    ) -> list[Any]:
        # The output layer takes the rows one by one: the rounding of torch's product depends on the number of rows.
        logits = torch.cat([sampler.model.output(row) for sampler, row in zip(samplers, hidden, strict=True)])
        for i, sampler in enumerate(samplers):
            if sampler._never is not None:
                logits[i, sampler._never] = -torch.inf
        tokens = choose_rows(logits, samplings, [sampler.generator for sampler in samplers]).tolist()
        return [Failure("expected numbers from the model, got nan") if token < 0 else token for token in tokens]


def advance(samplers: Sequence[Sampler[Step]], samplings: Sequence[Sampling]) -> list[Step | Exception | None]:
    """Sample the next step of several sequences of one model, up to 32 of them by one step of the model.

    A sequence gets the steps that it gets alone: its random numbers are its own, and so are its numbers, bit for bit,
    where those of a step do not depend on the other rows of the batch, as on the native executor. Pending steps after
    the first, such as a prompt, are read apart.

    Args:
        samplers: of one class and one model.
        samplings: how to sample each.

    Returns:
        For each sequence the next step, None if it has ended, or why it has failed; then nothing else has.
    """
    with torch.inference_mode():
        hidden = _read(samplers)
        steps: list[Any] = list(hidden)
        readable = [i for i, row in enumerate(hidden) if isinstance(row, Tensor)]
        kind = type(samplers[0])
        drawn = kind.draw_each(
            [samplers[i] for i in readable], [hidden[i] for i in readable], [samplings[i] for i in readable]
        )
        for i, step in zip(readable, drawn, strict=True):
            if isinstance(step, Exception):
                steps[i] = step
            else:
                samplers[i].pending = [step]
                steps[i] = samplers[i].to_step(step)
    return steps


def _read(samplers: Sequence[Sampler[Any]]) -> list[Any]:
    """Feed the pending steps to the model; returns for each sequence its last output (1, H), or why there is none."""
    results: list[Any] = [None] * len(samplers)
    ready = [i for i, s in enumerate(samplers) if len(samplers) > 1 and len(s.pending) == 1 and s.state is not None]
    for begin in range(0, len(ready), MAX_STEP_ROWS):
        together = ready[begin : begin + MAX_STEP_ROWS]
        rows = [samplers[i] for i in together]
        inputs = rows[0].stacked([row.pending[0] for row in rows]).unsqueeze(0)
        outputs, state = rows[0].model.hidden(inputs, _joined([row.state for row in rows]))
        for i, output, row_state in zip(together, outputs[-1].split(1), _parts(state), strict=True):
            samplers[i].state, results[i] = row_state, output
    for i, sampler in enumerate(samplers):
        if results[i] is None:
            try:
                results[i] = _read_alone(sampler)
            except Exception as error:
                results[i] = error
    return results


def _read_alone(sampler: Sampler[Any]) -> Tensor:
    while True:
        block = sampler.stacked(sampler.pending[:BLOCK]).unsqueeze(1)
        outputs, sampler.state = sampler.model.hidden(block, sampler.state)
        if len(sampler.pending) <= BLOCK:
            last: Tensor = outputs[-1]
            return last
        sampler.pending = sampler.pending[BLOCK:]


def _joined(states: Sequence[Any]) -> Any:
    """Return the states of several rows as that of a batch."""
    if isinstance(states[0], Tensor):
        return torch.cat([*states], 1)
    return tuple(map(_joined, zip(*states, strict=True)))


def _parts(state: Any) -> list[Any]:
    """Return the state of each row of a batch, in memory of its own: a row may outlive the batch."""
    if isinstance(state, Tensor):
        return [part.clone() for part in state.split(1, 1)]
    return list(zip(*map(_parts, state), strict=True))
