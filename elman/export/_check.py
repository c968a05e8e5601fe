"""`check`: compares what was written with the module that it was written from."""

from collections.abc import Sequence
from math import inf
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from elman.engine.torch_private import tree_leaves, tree_structure, tree_unflatten
from elman.errors import Failure
from elman.export._formats import Runner, format_of
from elman.export._modules import evaluating, example_input, flat_outputs, is_layer
from elman.layers._layer import Layer

STEPS, BATCH = 13, 4  # of the random input of a layer; no batch size that cells are captured with
MAX_CHUNK = 5  # steps
TOLERANCE = 1e-5


class CheckResult(NamedTuple):
    """The largest differences between a file and its module, relative to the numbers where these exceed 1.

    Attributes:
        whole: on whole sequences.
        chunked: on the same sequences in random chunks, with the state fed back or kept by the file; None for a file
            without a state, and for two directions.
        ragged: on sequences of several lengths, among them zero; None for a file without lengths.

    >>> CheckResult(whole=1e-7, chunked=None, ragged=3e-7).largest
    3e-07
    """

    whole: float
    chunked: float | None
    ragged: float | None

    @property
    def largest(self) -> float:
        """The largest of all differences."""
        return max(value for value in self if value is not None)


def check(
    path: str | PathLike[str], module: nn.Module, inputs: Any = None, *, tolerance: float = TOLERANCE
) -> CheckResult:
    """Load an exported file in its own runtime and compare it with the module.

    Args:
        path: the file; its suffix tells the format.
        module: what it was written from. It is compared in evaluation mode, and its mode is left as it is.
        inputs: of the module, a tensor or a tuple of tensors. None for a layer with a known input size: random numbers.
        tolerance: the largest difference that is accepted.

    Returns:
        The largest differences on whole, chunked and ragged input.

    Raises:
        ValueError: for an unknown suffix, or without inputs where they are needed.
        elman.errors.Failure: if a difference is larger than the tolerance.

    >>> import elman, tempfile
    >>> layer = elman.GRU(3, 5)
    >>> path = Path(tempfile.mkdtemp()) / "gru.onnx"
    >>> elman.export.onnx(layer, path, lengths=True)
    >>> elman.export.check(path, layer).largest < 1e-5
    True
    """
    path = Path(path)
    runner = format_of(path).load(path, module)
    generator = torch.Generator().manual_seed(0)
    if inputs is None:
        inputs = example_input(module, STEPS, BATCH, generator)
    inputs = inputs if isinstance(inputs, tuple | list) else (inputs,)
    with torch.no_grad(), evaluating(module):
        if is_layer(module):
            result = _compare_layer(runner, module, inputs[0], generator)
        else:
            result = _compare_model(runner, module, inputs, generator)
    for name, value in result._asdict().items():
        if value is not None and not value <= tolerance:
            raise Failure(
                f"{path}: expected the numbers of {type(module).__name__} within {tolerance:g}, got a difference of "
                f"{value:.3g} on {name} input; export the module again"
            )
    return result


def _compare_model(runner: Runner, model: nn.Module, inputs: Sequence[Any], generator: torch.Generator) -> CheckResult:
    expected = runner.expected(tree_leaves(model(*inputs)))
    whole, chunked = difference(runner.run(inputs)[0], expected), None
    if runner.can_stream:
        sizes = random_sizes(inputs[0].shape[runner.time], generator)
        chunked = difference(runner.run_chunks(inputs, sizes)[0], expected)
    return CheckResult(whole, chunked, None)


def _compare_layer(runner: Runner, layer: Layer, x: Tensor, generator: torch.Generator) -> CheckResult:
    time = int(layer.batch_first)
    T, B = x.shape[time], x.shape[1 - time]
    start, structure = None, layer(x)[1]
    if runner.takes_state:  # positive numbers: some cells divide by a state
        start = [torch.rand(s.shape, generator=generator).to(s.dtype) + 0.5 for s in tree_leaves(structure)]

    def compare(outputs: list[Tensor], states: Sequence[Tensor], lengths: Tensor | None = None) -> float:
        state = None if start is None else tree_unflatten(start, tree_structure(structure))
        expected, final = layer(x, state, lengths=lengths)
        return difference([*outputs, *states], flat_outputs(expected) + (tree_leaves(final) if states else []))

    whole = compare(*runner.run((x,), start))
    chunked = ragged = None
    if runner.can_stream and not getattr(layer, "bidirectional", False):
        chunked = compare(*runner.run_chunks((x,), random_sizes(T, generator), start))
    if runner.takes_lengths:
        lengths = torch.randint(0, T + 1, (B,), generator=generator)
        lengths[-1], lengths[0] = 0, T
        ragged = compare(*runner.run((x,), start, lengths), lengths)
    return CheckResult(whole, chunked, ragged)


def random_sizes(T: int, generator: torch.Generator) -> list[int]:
    """Random sizes of chunks, at least 1 each, that add up to T."""
    sizes: list[int] = []
    while rest := T - sum(sizes):
        sizes.append(int(torch.randint(1, min(rest, MAX_CHUNK) + 1, (), generator=generator)))
    return sizes


def difference(actual: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """The largest difference, relative to expected numbers beyond 1; infinite for other shapes, or NaN on one side."""
    largest = 0.0
    for a, b in zip(actual, expected, strict=True):
        if a.shape != b.shape:
            return inf
        differences = (a.double() - b.double()).abs() / b.double().abs().clamp_min(1)
        differences[(a == b) | (a.isnan() & b.isnan())] = 0
        if differences.numel():
            largest = max(largest, differences.nan_to_num(nan=inf).max().item())
    return largest
