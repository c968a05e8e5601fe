"""The parts of a trained model that `elman export` writes: modules of tensors, with their names and shapes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from elman.export._modules import ModuleChain
from elman.layers import Stack
from elman.layers._layer_call import LETTERS

Sizes = Mapping[str, int]  # of free axes, by name
BATCH, STEPS = "batch", "steps"  # names of free axes that all tasks share
EXAMPLE_BATCH, EXAMPLE_SIZE = 2, 3  # of the example that a part is traced with, which no size of a model equals


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """An input or an output of a part.

    Attributes:
        name: the name of the tensor.
        shape: sizes, and the names of free axes.
        dtype: the dtype.
        about: a noun for what it holds, for export.json.
        low: the smallest value of an input of integers, and the smallest length.
        high: one more than the largest value of an input of integers.
        lengths_of: for lengths, the axis that they measure.
        final: for the initial value of a state, the output that has its final value.
        draw: draws a value for these sizes; None: integers from `low` to `high`, or normally distributed numbers.
    """

    name: str
    shape: tuple[int | str, ...]
    dtype: torch.dtype = torch.float32
    about: str = ""
    low: int = 0
    high: int = 0
    lengths_of: str = ""
    final: str = ""
    draw: Callable[[Sizes, torch.Generator], Tensor] | None = None

    def random(self, sizes: Sizes, generator: torch.Generator, ragged: bool) -> Tensor:
        """Draw a value of an input.

        Args:
            sizes: of the free axes.
            generator: the random number generator.
            ragged: whether lengths may be less than the size of their axis.
        """
        if self.draw:
            return self.draw(sizes, generator)
        shape = [sizes[axis] if isinstance(axis, str) else axis for axis in self.shape]
        if self.lengths_of:
            longest = sizes[self.lengths_of]
            return torch.randint(max(self.low, 1) if ragged else longest, longest + 1, shape, generator=generator)
        if self.dtype.is_floating_point:
            return torch.randn(shape, generator=generator).to(self.dtype)
        return torch.randint(self.low, self.high, shape, generator=generator)

    def to_dict(self) -> dict[str, Any]:
        """Return the name, shape, dtype and meaning, for export.json."""
        optional = {"about": self.about, "lengths_of": self.lengths_of, "final": self.final}
        kind = str(self.dtype).removeprefix("torch.")
        return {"name": self.name, "shape": list(self.shape), "dtype": kind} | {k: v for k, v in optional.items() if v}


@dataclass(frozen=True, kw_only=True)
class ExportPart:
    """A part of a trained model: a module whose inputs and outputs are tensors.

    Attributes:
        name: the name of its files, without a suffix.
        about: a sentence, for export.json.
        module: in evaluation mode; takes the inputs in order, and returns a tensor, or a tuple in the order of outputs.
        inputs: specifications of the inputs.
        outputs: specifications of the outputs.
        layers: layers that map the first input to the first output, from states of zeros, for formats of layers alone.
        not_layers: what else the module computes, if there are none, for a message.
        sizes: smallest sizes of free axes other than 1.
    """

    name: str
    about: str
    module: nn.Module
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    layers: ModuleChain | None = None
    not_layers: str = ""
    sizes: Mapping[str, int] = field(default_factory=dict)

    @cached_property
    def axes(self) -> list[str]:
        """The names of the free axes."""
        return list(dict.fromkeys(axis for spec in self.inputs for axis in spec.shape if isinstance(axis, str)))

    def example(self) -> dict[str, Tensor]:
        """Return inputs to trace the module with, by name."""
        sizes = {
            axis: EXAMPLE_BATCH if axis == BATCH else self.size(axis, EXAMPLE_SIZE + i)
            for i, axis in enumerate(self.axes)
        }
        return self.random(sizes, torch.Generator().manual_seed(0))

    def size(self, axis: str, wanted: int) -> int:
        """Return a size that an axis can have: the one that is wanted, or the smallest."""
        return max(wanted, self.sizes.get(axis, 1))

    @property
    def states(self) -> dict[str, str]:
        """The outputs with the final values of states, by the inputs with their initial values."""
        return {spec.name: spec.final for spec in self.inputs if spec.final}

    def random(self, sizes: Sizes, generator: torch.Generator, ragged: bool = False) -> dict[str, Tensor]:
        """Draw inputs for these sizes, by name; without `ragged`, all lengths are those of their axes."""
        return {spec.name: spec.random(sizes, generator, ragged) for spec in self.inputs}

    def run(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run the module; return its outputs by name."""
        with torch.inference_mode():
            outputs = self.module(*(inputs[spec.name] for spec in self.inputs))
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        return {spec.name: output for spec, output in zip(self.outputs, outputs, strict=True)}

    def to_dict(self, of_layers: bool) -> dict[str, Any]:
        """Return the signature, for export.json.

        Args:
            of_layers: of a program that runs `layers` on one stream and keeps its state, rather than of the module.
        """
        inputs, outputs = self.inputs, self.outputs
        if of_layers:
            inputs, outputs = (_of_stream(inputs[0]),), (_of_stream(outputs[0]),)
        sides = {"inputs": inputs, "outputs": outputs}
        return {"about": self.about} | {side: [spec.to_dict() for spec in specs] for side, specs in sides.items()}


def _of_stream(spec: TensorSpec) -> TensorSpec:
    """Return the specification of a tensor without its batch, of float or int32_t."""
    shape = tuple(axis for axis in spec.shape if axis != BATCH)
    return replace(spec, shape=shape, dtype=torch.float32 if spec.dtype.is_floating_point else torch.int32)


@dataclass(frozen=True)
class Exportable:
    """The parts of a trained model and what else its export needs.

    Attributes:
        parts: the parts of the model.
        settings: what a program must know beside, by name, for export.json: labels, sizes, defaults of decoding.
        files: further files, by name: a tokenizer.
    """

    parts: Sequence[ExportPart]
    settings: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)


def states_of(layers: Stack) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Return the initial and the final states of recurrent layers, h and h_out, c and c_out."""
    with torch.inference_mode():
        _, state = layers(torch.zeros(1, 1, layers.input_size))
    tensors = as_tensors(state)
    pairs = [(name, (len(value), BATCH, value.shape[2])) for name, value in zip(LETTERS, tensors, strict=False)]
    initial = (
        TensorSpec(name=name, shape=shape, final=f"{name}_out", about="initial state; zeros to begin with")
        for name, shape in pairs
    )
    final = (TensorSpec(name=f"{name}_out", shape=shape, about="final state") for name, shape in pairs)
    return tuple(initial), tuple(final)


def as_state(tensors: Sequence[Tensor]) -> Any:
    """Return states as recurrent layers take them: one tensor, or a tuple of several."""
    return tensors[0] if len(tensors) == 1 else tuple(tensors)


def as_tensors(state: Any) -> tuple[Tensor, ...]:
    """Return the states of recurrent layers as a tuple."""
    return state if isinstance(state, tuple) else (state,)
