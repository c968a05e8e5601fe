"""The formats in which layers and models can be written, and what runs a written file."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


class Runner(ABC):
    """Runs a written file in a runtime of its own, for `check`.

    Attributes:
        takes_state: the file takes an initial state and returns the final one, so chunks can be run one by one.
        takes_lengths: the file takes the lengths of the sequences.
        time: the axis of the steps in inputs and outputs.
    """

    takes_state: bool
    takes_lengths: bool
    time: int = 0

    @property
    def can_stream(self) -> bool:
        """True if `run_chunks` can run the chunks of a sequence one by one."""
        return self.takes_state

    @abstractmethod
    def run(
        self, inputs: Sequence[Tensor], state: Sequence[Tensor] | None = None, lengths: Tensor | None = None
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Run the file.

        Args:
            inputs: as the module takes them; of a layer, its input in the layer's own layout.
            state: the tensors of the initial state in the shapes and the order of the layer; None to begin from the
                layer's own initial state.
            lengths: the number of steps of each sequence, (B,).

        Returns:
            The outputs, and the tensors of the final state if the file returns it, in the layouts of the module.
        """

    def run_chunks(
        self, inputs: Sequence[Tensor], sizes: Sequence[int], state: Sequence[Tensor] | None = None
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Run a sequence in chunks one after another, each from the state after the one before.

        Args:
            inputs: as of `run`, one tensor.
            sizes: steps of the chunks.
            state: as of `run`.

        Returns:
            As `run`: the outputs of all steps, and the state after the last.
        """
        pieces, final = [], state
        for chunk in inputs[0].split(list(sizes), self.time):
            outputs, final = self.run((chunk,), final)
            pieces.append(outputs)
        return [torch.cat(values, self.time) for values in zip(*pieces, strict=True)], list(final or ())

    def expected(self, outputs: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return those of the tensors that a model returns which the file computes: all of them."""
        return outputs


@dataclass(frozen=True)
class Format:
    """A format: its name, as in `--format`, and the file of this package that writes and loads it.

    Attributes:
        name: of the format and of its function in `elman.export`.
        suffix: of the files.
        home: the module with the functions `write` and `load`.
    """

    name: str
    suffix: str
    home: str

    @property
    def write(self) -> Callable[..., Any]:
        """Write a module to a path: `write(module, path, ...)`."""
        return import_module(self.home).write  # type: ignore[no-any-return]

    @property
    def load(self) -> Callable[[Path, nn.Module], Runner]:
        """Load what `write` has written: `load(path, module)`."""
        return import_module(self.home).load  # type: ignore[no-any-return]


#: every format by its name
FORMATS = {
    entry.name: entry
    for entry in (
        Format("onnx", ".onnx", "elman.export._onnx"),
        Format("c", ".c", "elman.export._c"),
        Format("torch_export", ".pt2", "elman.export._torch_export"),
        Format("rtneural", ".json", "elman.export._rtneural"),
    )
}


def format_of(path: Path) -> Format:
    """Return the format of a file, by its suffix.

    Raises:
        ValueError: for an unknown suffix.
    """
    for entry in FORMATS.values():
        if path.name.endswith(entry.suffix):
            return entry
    suffixes = ", ".join(entry.suffix for entry in FORMATS.values())
    raise ValueError(f"{path}: expected a file name that ends with {suffixes}, got {path.suffix or 'no suffix'!r}")
