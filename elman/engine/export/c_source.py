"""Writes plans as a C99 file and its header: no allocation, no dependency but functions of math.h."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.fx import Node

from elman.engine.compiled.eager_graph import build_function
from elman.engine.export.c_functions import functions_called, library_functions
from elman.engine.export.c_lowering import number
from elman.engine.export.c_stage import (
    Function,
    WeightArray,
    in_reading_order,
    is_quantized,
    pointer_name,
    write_stage,
)
from elman.engine.plan.ir import Program
from elman.engine.plan.planner import Plan

ALIGNMENT = 8  # numbers that a vector has: temporary values begin at multiples of it
NUMBERS_PER_LINE = 8
LARGEST_INT8 = 127


@dataclass(frozen=True)
class CellSource:
    """A planned cell, to be written in C.

    Attributes:
        plan: of the cell.
        parameters: values of the plan's parameters, in order.
        initial: the values of each initial state (H,); None for zeros.
        equations: what to write above the functions: the docstring of the cell.
        is_stateless: it is a function of x, whose output stands for a state that is not kept.
    """

    plan: Plan
    parameters: Sequence[Tensor]
    initial: Sequence[Tensor | None]
    equations: str
    is_stateless: bool = False

    @property
    def first(self) -> int:
        """The number of outputs in front of the states that the step reads."""
        return int(bool(self.plan.step.output))

    @property
    def output_size(self) -> int:
        """The width of the output."""
        return self.plan.widths[0]

    @property
    def programs(self) -> tuple[Program, ...]:
        """The programs of a step, in order."""
        return self.plan.before, self.plan.inference


class ModelSource(NamedTuple):
    """A model, to be written in C.

    Attributes:
        name: the prefix of everything it defines.
        parts: run one after the other; a part has one cell, or two for the two directions over the same input.
        input_size: the width of x.
        embedding: (V, D), whose rows the input chooses; None: the input has D numbers.
        about: what the model is, for the header.
    """

    name: str
    parts: Sequence[Sequence[CellSource]]
    input_size: int
    embedding: Tensor | None
    about: str

    @property
    def output_size(self) -> int:
        """The width of the output."""
        return sum(cell.output_size for cell in self.parts[-1])

    @property
    def reads_whole(self) -> bool:
        """True if a part reads the sequence from its end, so that there is no step."""
        return any(len(part) > 1 for part in self.parts)


class CFiles(NamedTuple):
    """The text of a C file and its header, and the weights to be loaded, if they are not in it."""

    source: str
    header: str
    blob: bytes | None


def write_c(model: ModelSource, stem: str, dtype: str, weights_inside: bool) -> CFiles:
    """Write a model in C.

    Args:
        model: what to write.
        stem: of the names of the files, which differ in their suffix.
        dtype: of matrices and of the embedding, "float32" or "int8".
        weights_inside: write the weights into the file, rather than beside it.
    """
    return _Writer(model, stem, dtype, weights_inside).write()


class _Array(NamedTuple):
    """An array of weights: its name, its values, and, in 8 bits, the scale of each row or column."""

    name: str
    values: NDArray[Any]


class _Writer:
    def __init__(self, model: ModelSource, stem: str, dtype: str, weights_inside: bool) -> None:
        self.model, self.stem, self.dtype, self.inside = model, stem, dtype, weights_inside
        self.name, self.macro = model.name, model.name.upper()
        self.arrays: list[_Array] = []
        self.fields: list[str] = []  # of the state
        self.resets: list[str] = []
        self.scratch = 0

    def write(self) -> CFiles:
        model, name = self.model, self.name
        embedding = None if model.embedding is None else model.embedding.detach().double().numpy()
        if embedding is not None:
            self._add_array(f"{name}_embedding", embedding, quantized=self.dtype == "int8", axis=1)
        cells: list[str] = []
        for p, part in enumerate(model.parts):
            for k, cell in enumerate(part):
                cells += self._cell(self._label(p, k), cell)
        entry = self._whole_run() if model.reads_whole else self._step_and_run()
        body = "\n".join([*cells, *self._reset(), *entry])
        if not self.inside:
            body = "\n".join([*self._load(), body])
        body = "\n".join([*self._arrays(), body])
        functions = [line for text in functions_called(body) for line in [*text.splitlines(), ""]]
        head = [
            f"/* {model.about}; written by elman. {self.stem}.h says how to use it. */",
            "",
            f'#include "{self.stem}.h"',
            "",
        ]
        declarations = library_functions(body)
        if declarations:
            head += ["/* of math.h */", *declarations, ""]
        source = "\n".join([*head, *functions, body]) + "\n"
        return CFiles(source, "\n".join(self._header()) + "\n", None if self.inside else self._blob())

    def _label(self, part: int, direction: int) -> str:
        """Return the name of a cell: of a part, and of a direction of it."""
        label = f"part{part + 1}" if len(self.model.parts) > 1 else "model"
        return label + (("_forward", "_reverse")[direction] if len(self.model.parts[part]) > 1 else "")

    # Weights.

    def _add_array(self, name: str, values: NDArray[Any], quantized: bool, axis: int, blocks: bool = False) -> None:
        """Add an array; in 8 bits, with a scale for each row (axis 1) or each column (axis 0)."""
        arrange = in_reading_order if blocks else np.asarray
        if quantized:
            scale = np.abs(values).max(axis=axis) / LARGEST_INT8
            scale[scale == 0] = 1.0
            rounded = np.rint(values / (scale[:, None] if axis == 1 else scale)).astype(np.int8)
            self.arrays.append(_Array(name, arrange(rounded)))
            self.arrays.append(_Array(f"{name}_scale", scale.astype(np.float32)))
        else:
            self.arrays.append(_Array(name, arrange(values.astype(np.float32))))

    def _weights(self, label: str, cell: CellSource, functions: Sequence[Function]) -> dict[WeightArray, str]:
        """Compute the arrays that functions read; returns their names."""
        weights = list(dict.fromkeys(weight for function in functions for weight in function.weights))
        nodes = list(dict.fromkeys(weight.node for weight in weights))
        names: dict[WeightArray, str] = {}
        if not nodes:
            return names
        with torch.no_grad():
            compute = build_function(cell.plan.parameters, nodes, torch.float64)
            results = compute(*(value.detach().double() for value in cell.parameters))
        values: dict[Node, Tensor] = {node: v for node, v in zip(nodes, results, strict=True) if v is not None}
        for weight in weights:
            array = values[weight.node].detach()
            array = array.t() if weight.transposed else array
            base = f"{self.name}_{label}_{weight.node.name}"
            taken = {other.name for other in self.arrays}
            candidates = chain([base], (f"{base}_{k}" for k in count(2)))
            names[weight] = next(candidate for candidate in candidates if candidate not in taken)
            quantized = is_quantized(weight, self.dtype)
            blocks = weight.matrix and not weight.by_rows
            self._add_array(names[weight], array.contiguous().numpy(), quantized, int(weight.by_rows), blocks)
        return names

    def _arrays(self) -> Iterator[str]:
        if not self.inside:
            yield f"static const float *{self.name}_floats;"
            offset = 0
            for array in self._floats():
                yield f"#define {array.name} ({self.name}_floats + {offset})"
                offset += array.values.size
            if any(array.values.dtype == np.int8 for array in self.arrays):
                yield f"static const int8_t *{self.name}_integers;"
            offset = 0
            for array in self._integers():
                yield f"#define {array.name} ({self.name}_integers + {offset})"
                offset += array.values.size
            yield ""
            return
        for array in self.arrays:
            kind = "int8_t" if array.values.dtype == np.int8 else "float"
            write = str if kind == "int8_t" else number
            yield f"static const {kind} {array.name}[{max(array.values.size, 1)}] = {{"
            values = array.values.ravel().tolist() or [0]
            for k in range(0, len(values), NUMBERS_PER_LINE):
                yield f"    {', '.join(map(write, values[k : k + NUMBERS_PER_LINE]))},"
            yield "};"
            yield ""

    def _floats(self) -> list[_Array]:
        return [array for array in self.arrays if array.values.dtype != np.int8]

    def _integers(self) -> list[_Array]:
        return [array for array in self.arrays if array.values.dtype == np.int8]

    def _data(self) -> bytes:
        floats = b"".join(array.values.astype("<f4").tobytes() for array in self._floats())
        return floats + b"".join(array.values.tobytes() for array in self._integers())

    def _mark(self) -> bytes:
        """Return what tells the weights of this model from others."""
        shapes = repr([(array.name, array.values.shape, str(array.values.dtype)) for array in self.arrays])
        return b"elman\0" + hashlib.sha256(shapes.encode() + self._data()).digest()[:10]

    def _blob(self) -> bytes:
        return self._mark() + self._data()

    def _load(self) -> Iterator[str]:
        floats = sum(array.values.size for array in self._floats())
        mark = self._mark()
        yield f"int {self.name}_load(const void *data, size_t size)"
        yield "{"
        yield f"    static const unsigned char mark[{len(mark)}] = {{{', '.join(map(str, mark))}}};"
        yield "    const unsigned char *bytes = (const unsigned char *)data;"
        yield "    int i;"
        yield f"    if (size != {len(self._blob())})"
        yield "        return -1;"
        yield f"    for (i = 0; i < {len(mark)}; ++i)"
        yield "        if (bytes[i] != mark[i])"
        yield "            return -1;"
        yield f"    {self.name}_floats = (const float *)data + {len(mark) // 4};"
        if self._integers():
            yield f"    {self.name}_integers = (const int8_t *)({self.name}_floats + {floats});"
        yield "    return 0;"
        yield "}"
        yield ""

    # Cells.

    def _cell(self, label: str, cell: CellSource) -> Iterator[str]:
        """Write the functions of a cell: one for each stage, and one that calls them."""
        stages = [stage for program in cell.programs for stage in program.stages]
        functions = [
            write_stage(f"{self.name}_{label}_stage{k + 1}", stage, self.dtype) for k, stage in enumerate(stages)
        ]
        names = self._weights(label, cell, functions)
        yield from _comment(cell.equations)
        for function in functions:
            yield from [*function.lines, ""]
        yield from self._call(label, cell, functions, names)

    def _call(
        self, label: str, cell: CellSource, functions: Sequence[Function], names: Mapping[WeightArray, str]
    ) -> Iterator[str]:
        places = self._places(label, cell)
        copies = self._state_copies(cell, places)
        unused = not copies and not any("state->" in places[pointer_name(b)] for f in functions for b in f.buffers)
        yield f"static void {self.name}_{label}({self.name}_state *state, const float *restrict x, float *restrict y)"
        yield "{"
        if copies:
            yield "    int i;"
        if unused:
            yield "    (void)state;"
        if not any(buffer.name == "x" for function in functions for buffer in function.buffers):
            yield "    (void)x;"
        for function in functions:
            arguments = [places[pointer_name(buffer)] for buffer in function.buffers]
            for weight in function.weights:
                arguments.append(names[weight])
                if is_quantized(weight, self.dtype):
                    arguments.append(f"{names[weight]}_scale")
            if function.sums:
                arguments.append(self._temporary(function.sums))
            yield f"    {function.name}({', '.join(arguments)});"
        for size, target, source in copies:
            yield f"    for (i = 0; i < {size}; ++i)"
            yield f"        {target}[i] = {_element(source)};"
        yield "}"
        yield ""

    def _places(self, label: str, cell: CellSource) -> dict[str, str]:
        """Return where each buffer is, by the name of the pointer to it."""
        places: dict[str, str] = {}
        self._used = 0
        prefix = "" if label == "model" else f"{label}_"
        buffers = [buffer for program in cell.programs for buffer in program.buffers()]
        for buffer in dict.fromkeys(buffers):
            if buffer.name == "x":
                places[pointer_name(buffer)] = "x"
            elif pointer_name(buffer) == "new_state0":
                places[pointer_name(buffer)] = "y"
            elif not pointer_name(buffer).startswith("state"):
                places[pointer_name(buffer)] = self._temporary(buffer.width)
        for i, width in enumerate(cell.plan.widths):
            if i < cell.first or cell.is_stateless:
                continue
            field = f"{prefix}state{i - cell.first}"
            places[f"state{i}"] = f"state->{field}"
            initial = cell.initial[i - cell.first]
            self.fields.append(f"float {field}[{width}];")
            value = "0.0f"
            if initial is not None:
                self._add_array(f"{self.name}_{field}", initial.detach().double().numpy(), False, 0)
                value = f"{self.name}_{field}[i]"
            self.resets += [f"for (i = 0; i < {width}; ++i)", f"    state->{field}[i] = {value};"]
        return places

    def _temporary(self, size: int) -> str:
        """Return temporary memory, which the functions of a cell share with those of other cells."""
        begin = self._used
        self._used += -(-size // ALIGNMENT) * ALIGNMENT
        self.scratch = max(self.scratch, self._used)
        return f"&state->scratch[{begin}]" if begin else "state->scratch"

    def _state_copies(self, cell: CellSource, places: Mapping[str, str]) -> list[tuple[int, str, str]]:
        if cell.is_stateless:
            return []
        return [
            (width, places[f"state{i}"], places[f"new_state{i}"])
            for i, width in enumerate(cell.plan.widths)
            if i >= cell.first
        ]

    # Entry points.

    @property
    def _input(self) -> str:
        return "float" if self.model.embedding is None else "int32_t"

    def _reset(self) -> Iterator[str]:
        yield f"void {self.name}_reset({self.name}_state *state)"
        yield "{"
        yield "    int i;" if self.resets else "    (void)state;"
        yield from (f"    {line}" for line in self.resets)
        yield "}"
        yield ""

    def _row(self, x: str) -> tuple[list[str], str]:
        """Return the lines that look up the row of a token, and where it is."""
        if self.model.embedding is None:
            return [], x
        D, table = self.model.input_size, f"{self.name}_embedding"
        if self.dtype != "int8":
            return [], f"{table} + (size_t)*{x} * {D}"
        lines = [
            f"for (i = 0; i < {D}; ++i)",
            f"    state->row[i] = {table}_scale[*{x}] * (float){table}[(size_t)*{x} * {D} + (size_t)i];",
        ]
        return lines, "state->row"

    def _step_and_run(self) -> Iterator[str]:
        name, D, V = self.name, self.model.input_size, self.model.output_size
        lines, row = self._row("x")
        yield f"void {name}_step({name}_state *state, const {self._input} *x, float *y)"
        yield "{"
        if lines:
            yield "    int i;"
        yield from (f"    {line}" for line in lines)
        yield f"    {name}_model(state, {row}, y);"
        yield "}"
        yield ""
        yield f"void {name}_run({name}_state *state, const {self._input} *x, int steps, float *y)"
        yield "{"
        yield "    int t;"
        yield "    for (t = 0; t < steps; ++t) {"
        yield f"        {name}_step(state, x, y);"
        yield f"        x += {1 if self.model.embedding is not None else D};"
        yield f"        y += {V};"
        yield "    }"
        yield "}"

    def _whole_run(self) -> Iterator[str]:
        """Write the function that runs all parts, one after the other over the whole sequence."""
        name, parts = self.name, self.model.parts
        widths = [sum(cell.output_size for cell in part) for part in parts]
        lines, row = self._row("tokens")
        yield f"void {name}_run({name}_state *state, const {self._input} *x, int steps, float *y, float *workspace)"
        yield "{"
        yield f"    int {'i, ' if lines else ''}t;"
        if len(parts) > 2:
            yield f"    float *other = workspace + (size_t)steps * {self._workspace_widths()[0]};"
        elif len(parts) == 1:
            yield "    (void)workspace;"
        yield f"    {name}_reset(state);"
        for p, (part, width) in enumerate(zip(parts, widths, strict=True)):
            source = "x" if p == 0 else self._memory_of(p - 1)
            target = "y" if p == len(parts) - 1 else self._memory_of(p)
            depth = widths[p - 1] if p else self.model.input_size
            column = 0
            for k, cell in enumerate(part):
                loop = "t = steps - 1; t >= 0; --t" if k else "t = 0; t < steps; ++t"
                yield f"    for ({loop}) {{"
                if p == 0 and self.model.embedding is not None:
                    yield "        const int32_t *tokens = x + t;"
                    yield from (f"        {line}" for line in lines)
                    at = row
                else:
                    at = f"{source} + (size_t)t * {depth}"
                offset = f" + {column}" if column else ""
                yield f"        {name}_{self._label(p, k)}(state, {at}, {target} + (size_t)t * {width}{offset});"
                yield "    }"
                column += cell.output_size
        yield "}"

    def _memory_of(self, part: int) -> str:
        """Return where the outputs of a part are that is not the last: parts use two memories in turn."""
        return "other" if part % 2 else "workspace"

    def _workspace_widths(self) -> tuple[int, int]:
        """Return the numbers for each step in the two memories."""
        widths = [sum(cell.output_size for cell in part) for part in self.model.parts[:-1]]
        return max(widths[::2], default=0), max(widths[1::2], default=0)

    def _header(self) -> Iterator[str]:
        name, macro, model = self.name, self.macro, self.model
        inputs = 1 if model.embedding is not None else model.input_size
        yield f"/* {model.about}; written by elman."
        yield " *"
        yield f" * {name}_state has all memory that the model needs. Call {name}_reset before the first step of a"
        yield " * sequence."
        yield " */"
        yield f"#ifndef {macro}_H"
        yield f"#define {macro}_H"
        yield ""
        yield "#include <stddef.h>"
        yield "#include <stdint.h>"
        yield ""
        yield f"#define {macro}_INPUTS {inputs} /* numbers of x in a step */"
        yield f"#define {macro}_OUTPUTS {model.output_size} /* numbers of y in a step */"
        if model.embedding is not None:
            yield f"#define {macro}_TOKENS {len(model.embedding)} /* x is from 0 to this - 1 */"
        if model.reads_whole:
            yield f"#define {macro}_WORKSPACE(steps) ((size_t)(steps) * {max(sum(self._workspace_widths()), 1)})"
        if not self.inside:
            yield f"#define {macro}_WEIGHTS_SIZE {len(self._blob())} /* bytes of {self.stem}.bin */"
        yield ""
        yield "#ifdef __cplusplus"
        yield 'extern "C" {'
        yield "#endif"
        yield ""
        yield "typedef struct {"
        fields = list(self.fields)
        if model.embedding is not None and self.dtype == "int8":
            fields.append(f"float row[{model.input_size}];")
        if self.scratch:
            fields.append(f"float scratch[{self.scratch}]; /* of a step; not to be kept between steps */")
        yield from (f"    {field}" for field in fields or ["float unused[1];"])
        yield f"}} {name}_state;"
        yield ""
        if not self.inside:
            yield f"/* Use the weights in {self.stem}.bin, read into memory aligned to 4 bytes, which must stay there."
            yield " * Returns 0, or -1 if these are not the weights of this model. */"
            yield f"int {name}_load(const void *data, size_t size);"
            yield ""
        yield "/* Begin a sequence. */"
        yield f"void {name}_reset({name}_state *state);"
        yield ""
        yield from self._entry_declarations()
        yield ""
        yield "#ifdef __cplusplus"
        yield "}"
        yield "#endif"
        yield ""
        yield "#endif"

    def _entry_declarations(self) -> Iterator[str]:
        name, macro = self.name, self.macro
        if self.model.reads_whole:
            yield "/* A whole sequence: from x, a row for each step, to y, a row for each step; begins by itself."
            yield f" * workspace has memory for {macro}_WORKSPACE(steps) numbers. */"
            yield f"void {name}_run("
            yield f"    {name}_state *state, const {self._input} *x, int steps, float *y, float *workspace);"
            return
        yield f"/* One step: from x, {macro}_INPUTS numbers, to y, {macro}_OUTPUTS numbers. */"
        yield f"void {name}_step({name}_state *state, const {self._input} *x, float *y);"
        yield ""
        yield "/* Several steps: from x, a row for each step, to y, a row for each step. */"
        yield f"void {name}_run({name}_state *state, const {self._input} *x, int steps, float *y);"


def _element(place: str) -> str:
    """Return element i of memory at a place."""
    return f"{place.removeprefix('&').removesuffix(']')} + i]" if place.startswith("&") else f"{place}[i]"


def _comment(text: str) -> Iterator[str]:
    """Write a comment."""
    lines = text.replace("*/", "* /").replace("/*", "/ *").splitlines()
    yield "/*"
    yield from (f" * {line}".rstrip() for line in lines)
    yield " */"
