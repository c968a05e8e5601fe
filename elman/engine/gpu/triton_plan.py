"""A plan as Triton kernels: runs them over a sequence, forward and backward.

The matrix products before and after the loop, and the sums over all rows, are torch's.
"""

import functools
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
import triton.language as tl
from torch import Tensor
from triton.runtime.errors import OutOfResources
from typing_extensions import override

from elman.engine.compiled.backend import CompiledLoop
from elman.engine.compiled.eager_graph import Gradients, build_function
from elman.engine.compiled.records import BackwardInputs, Forward, PlanInputs
from elman.engine.compiled.rows import MAX_CACHED_SHAPES, StepRows, rows_of
from elman.engine.gpu import source_files
from elman.engine.gpu.codegen import KernelSpec, generate
from elman.engine.gpu.functions import INTERPRETED
from elman.engine.gpu.names import memory_name, parameter_name
from elman.engine.gpu.pass_writer import ROWS
from elman.engine.gpu.step_graph import StepGraphs
from elman.engine.plan.ir import BufferColumns, BufferKind, Pointwise, Product, Program
from elman.engine.plan.planner import Plan, Reduction

# Of Triton's compiler. There are few programs, so one of them may have all registers of a multiprocessor: left to
# itself, the assembler spills some to make room for more programs.
OPTIONS = {"num_warps": 4, "enable_fp_fusion": True}
if torch.version.hip is None:
    OPTIONS["maxnreg"] = 255
ALIGNMENT = 16  # bytes: other addresses would need another kernel
# Bytes of the matrices of a loop up to which one program walks through all steps: it reads them all at every step, at
# about 100 GB/s, and a launch takes some 2 us in a graph, and 20 us from Python, as for ragged batches. These are
# estimates: nothing has been measured on a GPU.
MAX_WHOLE_BYTES, MAX_WHOLE_BYTES_RAGGED = 1 << 16, 1 << 20


def options_of(dtype: torch.dtype) -> dict[str, Any]:
    """Return the options of Triton's compiler for kernels of a dtype; of the wide one, fewer tiles are loaded ahead."""
    return {**OPTIONS, "num_stages": 2 if dtype == torch.float64 else 3}


class TritonPlan(CompiledLoop):
    """A plan compiled for one dtype.

    Args:
        plan: what to run.
        key: of the plan; equal plans have equal keys.
        dtype: of the inputs and parameters. In half precision, tiles and states are computed in single precision.
        device_type: of the tensors.
        description: of the plan, for readers of the source.
    """

    def __init__(self, plan: Plan, key: str, dtype: torch.dtype, device_type: str, description: str = "") -> None:
        self.plan, self.dtype, self.device_type = plan, dtype, device_type
        self.source = generate(plan, key, description)
        self.path, self.functions = source_files.load(key, self.source.text)
        self._graphs = StepGraphs()
        self.gradients = Gradients(plan, dtype, device_type)
        programs = (plan.before, plan.inference, plan.forward, plan.backward, plan.after)
        stages = [stage for program in programs for stage in program.stages]
        used = [stage.weight for stage in stages if isinstance(stage, Product)]
        used += [node for stage in stages if isinstance(stage, Pointwise) for node in stage.parameters()]
        index = {node: i for i, node in enumerate(plan.parameters)}
        self._parameters = [(parameter_name(node), index[node]) for node in dict.fromkeys(used) if node in index]
        computed = [node for node in dict.fromkeys(used) if node not in index]
        self._computed_names = [parameter_name(node) for node in computed]
        self._compute = build_function(plan.parameters, computed, dtype, device_type) if computed else None
        self.real, self._options = real_dtype(dtype), options_of(dtype)
        self._real = getattr(tl, str(self.real).removeprefix("torch."))

    def form(self, program: Program, ragged: bool = False) -> str:
        """Return the form in which a loop runs: "whole" or "step"."""
        numel = sum(stage.depth * stage.width for stage in program.stages if isinstance(stage, Product))
        most = MAX_WHOLE_BYTES_RAGGED if ragged else MAX_WHOLE_BYTES
        return "whole" if numel * self.dtype.itemsize <= most else "step"

    @override
    def forward(self, inputs: PlanInputs, save: bool) -> Forward:
        with _on(inputs.x):
            return self._forward(inputs, save)

    @override
    def backward(
        self, call_inputs: BackwardInputs, arriving: Sequence[Tensor] = ()
    ) -> tuple[Tensor | None, list[Tensor], list[Tensor | None]]:
        with _on(call_inputs.inputs.x):
            return self._backward(call_inputs, arriving)

    def _forward(self, inputs: PlanInputs, save: bool) -> Forward:
        x, states, parameters, draws, sizes = inputs
        plan, rows = self.plan, rows_of(x, states, sizes)
        name = "forward" if save else "inference"
        loop = plan.forward if save else plan.inference
        memory = self._memory(rows, x, parameters, draws)
        lead = x.shape[:-1]
        saved = [x.new_empty(*lead, plan.saved_width)] if save else []
        if save:
            memory["saved"] = saved[0]
        states = [state.to(self.real) for state in states]
        finals: list[functools.partial[Tensor]] = []
        for i, (state, size) in enumerate(zip(states, plan.widths, strict=True)):
            if i == 0 or (save and plan.sequences[i]):
                sequence = x.new_empty(*lead, size, dtype=self.real)
                memory[f"state{i}"], memory[f"state{i}_before"] = sequence, _aligned(state)
                finals.append(functools.partial(rows.last, sequence, state))
                if save and plan.sequences[i] and (i or self.real != x.dtype):
                    saved.append(sequence)
            else:
                memory[f"state{i}"] = self._halves(rows, size, state, 0, like=x)
                finals.append(functools.partial(rows.last_of_halves, memory[f"state{i}"]))
        self._run_rows("before", plan.before, rows, memory, x)
        self._run_loop(name, loop, rows, memory, x)
        return Forward(memory["state0"].to(x.dtype), [final().to(x.dtype) for final in finals], saved)

    def _backward(
        self, call_inputs: BackwardInputs, arriving: Sequence[Tensor]
    ) -> tuple[Tensor | None, list[Tensor], list[Tensor | None]]:
        (dy, d_finals), (x, states, parameters, draws, sizes), outputs, saved, wanted = call_inputs
        plan, rows = self.plan, rows_of(x, states, sizes)
        memory = self._memory(rows, x, parameters, draws)
        memory["saved"] = saved[0]
        states = [state.to(self.real) for state in states]
        sequences = iter(saved[1:])
        d_states: list[Tensor] = []
        for i, (state, size) in enumerate(zip(states, plan.widths, strict=True)):
            if plan.sequences[i]:
                sequence = outputs if i == 0 and self.real == x.dtype else next(sequences)
                memory[f"state{i}"], memory[f"state{i}_before"] = _aligned(sequence), _aligned(state)
            d_states.append(self._halves(rows, size, d_finals[i], rows.T % 2, like=x))
            memory[f"d_state{i}"] = d_states[-1]
        memory["dy"], dy_stride = _cotangent(dy, x, plan.widths[0])
        after = bool(plan.after.stages) and (wanted.x or (wanted.parameters and plan.sums_need_after))
        dx = torch.empty_like(x) if plan.dx is not None and (wanted.x or after or plan.loop_makes_dx) else None
        if dx is not None:
            memory["dx"] = dx
        memory |= {f"gradient{i}": gradient for i, gradient in enumerate(arriving)}
        self._run_loop("backward", plan.backward, rows, memory, x, dy_stride, last=-1 if wanted.states else 0)
        if after:
            self._run_rows("after", plan.after, rows, memory, x)
        sums = (
            [self._sum(r, k, rows, memory, states) for k, r in enumerate(plan.reductions)] if wanted.parameters else []
        )
        if wanted.x and dx is None:
            dx = torch.zeros_like(x)
        d_parameters = self.gradients(parameters, sums) if wanted.parameters else []
        return dx, [halves[0].to(x.dtype) for halves in d_states] if wanted.states else [], d_parameters

    def _halves(self, rows: StepRows, size: int, initial: Tensor | None, half: int, like: Tensor) -> Tensor:
        """Return two halves (2, B, size), which successive states use in turn.

        Args:
            rows: of the call.
            size: the width of the state.
            initial: copied into one half, or into both if rows are ragged; None: zeros.
            half: the half that gets the initial value.
            like: a tensor on the device of the new one.
        """
        if initial is None:
            return like.new_zeros(2, rows.B, size, dtype=self.real)
        halves = like.new_empty(2, rows.B, size, dtype=self.real)
        halves[slice(None) if rows.packed else half] = initial
        return halves

    def _memory(
        self, rows: StepRows, x: Tensor, parameters: Sequence[Tensor], draws: Sequence[Tensor]
    ) -> dict[str, Tensor]:
        """Return the memory of the inputs, by the names that kernels have for it."""
        memory = {"x": _aligned(x), "begins": _begins(rows, x.device)}
        memory |= {f"draw{i}": _aligned(draw) for i, draw in enumerate(draws)}
        memory |= {name: _aligned(parameters[i]) for name, i in self._parameters}
        if self._compute is not None:
            for name, value in zip(self._computed_names, self._compute(*parameters), strict=True):
                assert value is not None
                memory[name] = _aligned(value.to(x.dtype))
        return memory

    def _run_loop(
        self,
        name: str,
        program: Program,
        rows: StepRows,
        memory: dict[str, Tensor],
        x: Tensor,
        dy_stride: int = 0,
        last: int = -1,
    ) -> None:
        """Run a loop over all steps."""
        for buffer in program.buffers():
            if buffer.kind in (BufferKind.BLOCK, BufferKind.CHUNK):
                is_block = buffer.kind is BufferKind.BLOCK
                shape, dtype = (rows.B if is_block else rows.N, buffer.width), self.real if is_block else x.dtype
                memory.setdefault(memory_name(buffer), x.new_empty(shape, dtype=dtype))
        numbers = {"T": rows.T, "B": rows.B, "last": last, "dy_stride": dy_stride}
        programs = -(-rows.B // ROWS)
        if self.form(program, rows.packed) == "whole":
            self._launch(self.source.whole[name], (programs,), memory, numbers)
            return
        specs, steps = self.source.step[name], range(rows.T)

        def launch(memory: Mapping[str, Tensor]) -> None:
            for t in reversed(steps) if name == "backward" else steps:
                for spec in specs:
                    if t != last or not spec.only_for_next:
                        self._launch(spec, (programs, spec.tiles), memory, numbers | {"t": t})

        if rows.packed:  # lengths hardly ever come again
            launch(memory)
            return
        written = {memory_name(columns.buffer) for spec in specs for columns in spec.writes}
        pointers = dict.fromkeys(pointer for spec in specs for pointer in spec.pointers)
        reads, writes = ([n for n in pointers if (n in written) is flag] for flag in (False, True))
        self._graphs.run((name, *numbers.values(), _precision()), launch, memory, reads, writes)

    def _run_rows(self, name: str, program: Program, rows: StepRows, memory: dict[str, Tensor], x: Tensor) -> None:
        """Run a program on the rows of all steps at once."""
        for buffer in program.buffers():
            if buffer.kind in (BufferKind.BLOCK, BufferKind.CHUNK):
                memory.setdefault(memory_name(buffer), x.new_empty(rows.N, buffer.width))
        specs = iter(self.source.rows[name])
        for stage in program.stages:
            if isinstance(stage, Pointwise):
                for spec in next(specs):
                    self._launch(spec, (-(-rows.N // ROWS), spec.tiles), memory, {"N": rows.N})
                continue
            a, c = _columns(memory, stage.a, stage.depth).to(x.dtype), _columns(memory, stage.c, stage.width)
            weight = memory[parameter_name(stage.weight)]
            weight = weight.t() if stage.transposed else weight
            if stage.add:
                torch.addmm(c, a, weight, out=c)
            else:
                torch.mm(a, weight, out=c)

    def _sum(
        self, r: Reduction, k: int, rows: StepRows, memory: Mapping[str, Tensor], states: Sequence[Tensor]
    ) -> Tensor:
        """Return a sum over all rows, in the shape that the gradients of the parameters are computed from."""

        def matrix(columns: BufferColumns, size: int) -> Tensor:
            if columns.buffer.kind is not BufferKind.PREVIOUS:
                return _columns(memory, columns, size).to(self.dtype)
            i = int(columns.buffer.name.removeprefix("state"))
            previous = rows.previous_states(0, rows.T, memory[columns.buffer.name], states[i])
            return previous[: rows.N, columns.offset : columns.offset + size].to(self.dtype)

        d = matrix(r.d, r.size)
        total = d.sum(0) if r.x is None else d.t() @ matrix(r.x, r.x_size)
        return total.view(self.gradients.shapes[k])

    def _launch(
        self, spec: KernelSpec, grid: tuple[int, ...], memory: Mapping[str, Tensor], numbers: Mapping[str, int]
    ) -> None:
        arguments = [*(memory[name] for name in spec.pointers), *(numbers[name] for name in spec.integers)]
        try:
            with _interpreted() if INTERPRETED else nullcontext():
                self.functions[spec.name][grid](*arguments, REAL=self._real, PRECISION=_precision(), **self._options)
        except OutOfResources as error:
            needed = f"{error.required} {'bytes of ' * (error.name == 'shared memory')}{error.name}"
            raise RuntimeError(
                f"the triton executor: kernel {spec.name} of {self.path.name} needs {needed}, "
                f"the GPU has {error.limit}; use executor='loop'"
            ) from None


def real_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of tiles and states for inputs of a dtype: at least single precision."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def _on(tensor: Tensor) -> AbstractContextManager[Any]:
    """A context in which kernels are launched on the device of a tensor."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()


_interpreter = threading.Lock()


@contextmanager
def _interpreted() -> Iterator[None]:
    """A context for launches in the interpreter, which runs one at a time.

    The interpreter replaces functions of `triton.language` during a launch, and has one grid position for all threads.
    It would warn of what it computes in elements that are masked out.
    """
    with _interpreter, np.errstate(all="ignore"):
        yield


def _precision() -> str:
    """Return the precision of products of float32 that torch's own switch allows."""
    return "tf32" if torch.backends.cuda.matmul.fp32_precision == "tf32" else "ieee"


def _aligned(tensor: Tensor) -> Tensor:
    """Return a contiguous tensor whose address is as aligned as that of new memory."""
    tensor = tensor.detach().contiguous()
    return tensor.clone() if tensor.data_ptr() % ALIGNMENT else tensor


def _columns(memory: Mapping[str, Tensor], columns: BufferColumns, size: int) -> Tensor:
    """Return columns of a buffer, for the rows of all steps."""
    rows = memory[memory_name(columns.buffer)].view(-1, columns.buffer.width)
    return rows[:, columns.offset : columns.offset + size]


def _cotangent(dy: Tensor | None, x: Tensor, size: int) -> tuple[Tensor, int]:
    """Return the cotangent of the outputs, with rows (N, size), and the stride from row to row."""
    if dy is None:
        return x.new_zeros(size), 0
    rows = dy.stride()[:-1]
    if not any(rows):  # the gradient of a sum, say: one row of it is enough
        return _aligned(dy[(0,) * (dy.dim() - 1)]), 0
    return _aligned(dy), size


def _begins(rows: StepRows, device: torch.device) -> Tensor:
    """Return the row at which each step begins, and that after the last, (T + 1,)."""
    return _uniform_begins(rows.T, rows.B, device) if not rows.packed else _as_tensor(rows).to(device)


@functools.lru_cache(maxsize=MAX_CACHED_SHAPES)
def _uniform_begins(T: int, B: int, device: torch.device) -> Tensor:
    return torch.arange(0, (T + 1) * max(B, 1), max(B, 1), device=device)


def _as_tensor(rows: StepRows) -> Tensor:
    return torch.from_numpy(rows.begins[: rows.T + 1].copy())
