"""`c`: layers and models as a C99 file and its header, and what runs them."""

import ctypes
import re
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from elman.engine import CellSpec
from elman.engine.export.c_lowering import COMBINE, LOWERING
from elman.engine.export.c_source import CellSource, ModelSource, write_c
from elman.engine.export.c_stage import C_KEYWORDS
from elman.engine.export.forward_step import planned_step
from elman.engine.torch_private import tree_leaves
from elman.errors import Failure
from elman.export._formats import Runner
from elman.export._modules import ModuleChain, as_module, evaluating, is_layer
from elman.export._step_model import step_model
from elman.io.files import replacing
from elman.layers._layer import Layer

WHERE = "elman.export.c"
DTYPES = ("float32", "int8")
PLACES = ("inside", "file")
IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
KEYWORDS = C_KEYWORDS | {  # and those of C++, which may include the header
    "asm", "bool", "catch", "class", "delete", "explicit", "export", "false", "friend", "mutable", "namespace",
    "new", "operator", "private", "protected", "public", "template", "this", "throw", "true", "try", "typename",
    "using", "virtual",
}  # fmt: skip
COMPILERS = ("cc", "gcc", "clang")


def write(
    module: nn.Module | Sequence[nn.Module],
    path: str | PathLike[str],
    inputs: Any = None,
    *,
    name: str | None = None,
    weights: str = "inside",
    dtype: str = "float32",
) -> None:
    """Write a layer or a model as one C99 file and its header.

    The file allocates no memory and needs nothing but functions of math.h; of those, most models call none. It defines
    `NAME_reset(state *)`, which begins a sequence, `NAME_step(state *, const float *x, float *y)` for one step, and
    `NAME_run(state *, const float *x, int steps, float *y)` for several. A model that begins with an `nn.Embedding`
    takes tokens, `const int32_t *x`. The type `NAME_state` has all memory that a stream needs. A model with two
    directions has no step, and `NAME_run` reads a whole sequence, with memory that the caller passes.

    A model is a layer; or a module, also a list or an `nn.Sequential` of modules, in which layers pass their outputs
    on. All that lies between its layers must compute each step from that step alone, as `nn.Linear`, `nn.LayerNorm`
    and activations do. It is written as it computes in evaluation mode; its own mode does not change.

    Args:
        module: the layer or model.
        path: of the file, which ends with ".c"; the header, and the weights in a file of their own, lie beside it.
        inputs: an example input, (T, B, D), or tokens (T, B); needed only if the model does not tell its width.
        name: the prefix of all that the file defines. None: the name of the file.
        weights: "inside", in the C file; or "file", in a file that ends with ".bin", which the program loads and
            passes to `NAME_load`.
        dtype: of matrices and embeddings: "float32", or "int8" with a scale for each row, a quarter of the size.

    Raises:
        ValueError: for a cell that is not a fixed graph of operations on rows, a model whose steps depend on each
            other outside its layers, or an impossible option. Nothing is written.
        OSError: if a file cannot be written. Nothing is written then either.

    >>> import elman, tempfile
    >>> path = Path(tempfile.mkdtemp()) / "gru.c"
    >>> elman.export.c(elman.GRU(3, 5), path)
    >>> [line for line in path.with_suffix(".h").read_text().splitlines() if line.startswith("void gru_step")]
    ['void gru_step(gru_state *state, const float *x, float *y);']
    """
    path = Path(path)
    if path.suffix != ".c":
        raise ValueError(f"{WHERE}: path: expected a file name that ends with .c, got {path.name!r}")
    if dtype not in DTYPES:
        raise ValueError(f"{WHERE}: dtype: expected 'float32' or 'int8', got {dtype!r}")
    if weights not in PLACES:
        raise ValueError(f"{WHERE}: weights: expected 'inside' or 'file', got {weights!r}")
    source = _model_source(as_module(module, WHERE), inputs, _checked_name(path, name))
    files = write_c(source, path.stem, dtype, weights == "inside")
    contents = {path: files.source.encode(), path.with_suffix(".h"): files.header.encode()}
    if files.blob is not None:
        contents[path.with_suffix(".bin")] = files.blob
    with ExitStack() as stack:
        temporaries = [stack.enter_context(replacing(file)) for file in contents]
        for temporary, data in zip(temporaries, contents.values(), strict=True):
            temporary.write(data)


def _checked_name(path: Path, name: str | None) -> str:
    checked = path.stem if name is None else name
    if not isinstance(checked, str) or not IDENTIFIER.fullmatch(checked) or checked in KEYWORDS:
        hint = "; pass name=" if name is None else ""
        raise ValueError(f"{WHERE}: name: expected an identifier of C that is no keyword, got {checked!r}{hint}")
    return checked


def _model_source(module: nn.Module, inputs: Any, name: str) -> ModelSource:
    with torch.no_grad(), evaluating(module):
        model = step_model(module, inputs, WHERE)
        parts = [
            [
                _cell_source(spec, initial, part.equations)
                for spec, initial in zip(part.specs, part.initial, strict=True)
            ]
            for part in model.parts
        ]
    named = module.parts if isinstance(module, ModuleChain) else [module]
    about = ", ".join(type(part).__name__ for part in named)
    return ModelSource(name, parts, model.input_size, model.embedding, about)


def _cell_source(spec: CellSpec, initial: Sequence[Tensor | None], equations: str) -> CellSource:
    plan, parameters = planned_step(spec, "c", LOWERING.keys() | COMBINE.keys())
    return CellSource(plan, parameters, initial, equations, is_stateless=not initial)


def load(path: Path, module: nn.Module) -> "CRunner":
    """Compile an exported file in a temporary folder and load it."""
    return CRunner(path, module)


class CRunner(Runner):
    """Runs an exported file, compiled by the system's C compiler, for each row of a batch alone.

    Args:
        path: of the C file.
        module: that it was written from.

    Raises:
        ValueError: for a file that `write` has not written, or with the weights of another model.
        elman.errors.Failure: without a C compiler, or if it reports an error.
    """

    takes_lengths = True

    def __init__(self, path: Path, module: nn.Module) -> None:
        header = path.with_suffix(".h").read_text()
        self.name, self.has_step = _name_in(path), "_step(" in header
        self.is_token = f"{self.name.upper()}_TOKENS" in header
        self.output_size = int(re.findall(rf"{self.name.upper()}_OUTPUTS (\d+)", header)[0])
        self.module, self.layer = module, module if is_layer(module) else None
        self.takes_state = self.has_step and self.layer is not None
        self.time = int(any(part.batch_first for part in module.modules() if isinstance(part, Layer)))
        self._library = compile_library([path])
        self._memory = bytearray(self._call("sizeof"))
        self._state = (ctypes.c_char * len(self._memory)).from_buffer(self._memory)
        if "_load(" in header:
            blob = path.with_suffix(".bin")
            self._blob = blob.read_bytes()
            if self._call("load", self._blob, ctypes.c_size_t(len(self._blob))):
                raise ValueError(f"{blob}: expected the weights of {path.name}, got those of another model")

    def run(
        self, inputs: Sequence[Tensor], state: Sequence[Tensor] | None = None, lengths: Tensor | None = None
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Run the file; the arguments and results are those of `Runner.run`."""
        return self._run_rows(inputs, None, state, lengths)

    @property
    def can_stream(self) -> bool:
        """True if the file keeps the state from step to step: it does not with two directions."""
        return self.has_step

    def run_chunks(
        self, inputs: Sequence[Tensor], sizes: Sequence[int], state: Sequence[Tensor] | None = None
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Run the chunks of each row from the state that the file keeps."""
        return self._run_rows(inputs, list(sizes), state, None)

    def _run_rows(
        self,
        inputs: Sequence[Tensor],
        sizes: list[int] | None,
        state: Sequence[Tensor] | None,
        lengths: Tensor | None,
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Run each row of a batch, in chunks of these sizes; None: whole."""
        (x,) = inputs
        rows = x.transpose(0, 1) if self.time else x
        T, B = rows.shape[:2]
        like = self.module(x)
        outputs = torch.zeros(T, B, self.output_size)
        finals = [torch.empty_like(value) for value in tree_leaves(like[1])] if self.takes_state else []
        for b in range(B):
            steps = T if lengths is None else int(lengths[b])
            self.reset()
            if state is not None:
                self._write_states(self._of_row(state, b))
            chunks = rows[:steps, b].split(sizes or [steps])
            outputs[:steps, b] = torch.cat([self.run_row(chunk) for chunk in chunks])
            places = self._of_row(finals, b)
            for place, value in zip(places, self._read_states(places), strict=True):
                place.copy_(value)
        outputs = (outputs.transpose(0, 1) if self.time else outputs).to(_dtype(self.module))
        return _split_by_name(outputs, like[0] if self.layer is not None else outputs), finals

    def expected(self, outputs: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return the first of the tensors that a model returns: its output."""
        return outputs[:1]

    def reset(self) -> None:
        """Begin a sequence."""
        self._call("reset", self._state)

    def run_row(self, x: Tensor) -> Tensor:
        """Run the steps of one sequence, (T, D) or tokens (T,), from the present state; returns (T, outputs)."""
        x = x.detach().to(torch.int32 if self.is_token else torch.float32).contiguous()
        y = torch.full((len(x), self.output_size), torch.nan)
        memory = [] if self.has_step else [torch.full((self._call("workspace", len(x)),), torch.nan)]
        x_at, y_at, *memory_at = (ctypes.c_void_p(tensor.data_ptr()) for tensor in (x, y, *memory))
        self._call("run", self._state, x_at, len(x), y_at, *memory_at)
        return y

    def _call(self, function: str, *arguments: Any) -> int:
        return int(getattr(self._library, f"{self.name}_{function}")(*arguments))

    def _of_row(self, states: Sequence[Tensor], b: int) -> list[Tensor]:
        """Return the states of a row of the batch in the order of the file: layer by layer."""
        if self.layer is not None and self.layer._state_lead():
            return [value[k, b] for k in range(self.layer._state_lead()[0]) for value in states]
        return [value[b] for value in states]

    def _write_states(self, values: Sequence[Tensor]) -> None:
        flat = torch.cat([value.float() for value in values]).contiguous()
        ctypes.memmove(self._state, flat.data_ptr(), 4 * flat.numel())

    def _read_states(self, like: Sequence[Tensor]) -> Sequence[Tensor]:
        sizes = [len(value) for value in like]
        return torch.frombuffer(self._memory, dtype=torch.float32)[: sum(sizes)].split(sizes) if sizes else []


def _name_in(path: Path) -> str:
    """Return the prefix of what a file defines."""
    match = re.search(r"^void (\w+)_reset\(", path.with_suffix(".h").read_text(), re.MULTILINE)
    if match is None:
        raise ValueError(f"{path}: expected a file that {WHERE} has written")
    return match.group(1)


def _dtype(module: nn.Module) -> torch.dtype:
    return next((value.dtype for value in module.parameters() if value.is_floating_point()), torch.float32)


def _split_by_name(outputs: Tensor, like: Any) -> list[Tensor]:
    """Split the outputs into those by name, if a layer returns such, which lie side by side in the file."""
    if not isinstance(like, dict):
        return [outputs]
    parts = outputs.split([value[0, 0].numel() for value in like.values()], -1)
    return [part.reshape(value.shape) for part, value in zip(parts, like.values(), strict=True)]


def compile_library(paths: Sequence[Path], options: Sequence[str] = ("-O2",)) -> ctypes.CDLL:
    """Compile exported files with the system's C compiler, and load the library.

    Args:
        paths: of the C files.
        options: of the compiler.

    Returns:
        The library, with two more functions for each file: NAME_sizeof, of the state, and NAME_workspace.
    """
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None:
        raise Failure(f"{paths[0]}: expected a C compiler, {', '.join(COMPILERS)}, to check the file; install one")
    with TemporaryDirectory() as folder:
        sizes, library = Path(folder) / "sizes.c", Path(folder) / "library.so"
        sizes.write_text("\n".join(map(_sizes, paths)))
        files = map(str, (*paths, sizes))
        command = [compiler, "-std=c99", *options, "-shared", "-fPIC", "-o", str(library), *files, "-lm"]
        result = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        if result.returncode:
            raise Failure(f"{paths[0]}: expected C that {compiler} compiles, got: {result.stderr.strip()}")
        return ctypes.CDLL(str(library))


def _sizes(path: Path) -> str:
    """Return functions that tell the sizes in the header of a file."""
    header, name = path.with_suffix(".h").resolve(), _name_in(path)
    macro = f"{name.upper()}_WORKSPACE"
    size = f"(int){macro}(steps)" if macro in header.read_text() else "0 * steps"
    return (
        f'#include "{header}"\n'
        f"int {name}_sizeof(void);\n"
        f"int {name}_sizeof(void) {{ return (int)sizeof({name}_state); }}\n"
        f"int {name}_workspace(int steps);\n"
        f"int {name}_workspace(int steps) {{ return {size}; }}\n"
    )
