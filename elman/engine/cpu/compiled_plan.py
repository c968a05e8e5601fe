"""A compiled plan: runs its kernels over a sequence, forward and backward."""

import functools
import threading
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from typing_extensions import override

from elman.engine.compiled.backend import CompiledLoop
from elman.engine.compiled.eager_graph import Gradients
from elman.engine.compiled.records import BackwardInputs, Forward, PlanInputs
from elman.engine.compiled.rows import rows_of
from elman.engine.cpu import codegen, jit, library, openmp, steps
from elman.engine.cpu.arguments import PlanArguments, Word, address, total
from elman.engine.cpu.invocation import CallLayout, Invocation, state_arguments
from elman.engine.cpu.signatures import SIGNATURES, full_name
from elman.engine.plan.planner import Plan


class KernelLibrary:
    """The functions that compiled plans call: products, sums, threads; for a dtype, as in `Host.real`."""

    def __init__(self, dtype: str) -> None:
        machine = jit.this_machine()
        self.real = machine.real(dtype)
        write = functools.partial(library.write, real=self.real)
        names = [full_name(name, self.real) for name in SIGNATURES]
        self.code = jit.compile_module(machine, f"products-{dtype}", dtype, write, names)
        self.functions = {name: self.code[name] for name in names}
        alone, self._team = (self.functions[full_name(name, self.real)] for name in ("alone", "team"))
        self.alone = jit.callable_at(alone)
        self.copy_rows = self.functions[full_name("copy_rows", self.real)]
        self.lay_out_rows = steps.callable_layout(self.functions[full_name("lay_out_rows", self.real)])

    def run(self, data: int, threads: int) -> None:
        """Call a function on some threads; its address is the first of the arguments at `data`."""
        if threads == 1:
            self.alone(data)
        else:
            openmp.parallel(self._team, data, threads)


@functools.cache
def library_for(dtype: torch.dtype) -> KernelLibrary:
    """The library for a dtype, one per process."""
    return KernelLibrary(str(dtype).removeprefix("torch."))


class PlanFunctions(dict[str, dict[str, int]]):
    """The addresses of the functions of a plan, by the loop that they run and by name.

    A loop is compiled when it is asked for first: most programs never run one or two of the three.
    """

    def __init__(self, plan: Plan, key: str, kernels: KernelLibrary, arguments: PlanArguments) -> None:
        super().__init__()
        self._plan, self._key, self._kernels, self._arguments = plan, key, kernels, arguments
        self._modules: list[jit.CompiledModule] = []  # keep the code in memory
        self._lock = threading.Lock()

    def __missing__(self, loop: str) -> dict[str, int]:
        with self._lock:
            if loop not in self:
                real = self._kernels.real
                module = jit.compile_module(
                    jit.this_machine(), f"{loop}-{real.dtype}", self._key,
                    lambda module: codegen.write(module, self._plan, loop, real, self._arguments),
                    codegen.FUNCTIONS[loop], self._kernels.functions,
                )  # fmt: skip
                self._modules.append(module)
                self[loop] = {name: module[name] for name in codegen.FUNCTIONS[loop]}
        return self[loop]


class CompiledPlan(CompiledLoop):
    """A plan compiled for one dtype.

    Args:
        plan: what to run.
        key: of the plan; equal plans have equal keys.
        dtype: torch.float32, torch.float64, or torch.bfloat16 for products that round their factors; all memory is
            then float32.
    """

    def __init__(self, plan: Plan, key: str, dtype: torch.dtype) -> None:
        kernels, arguments = library_for(dtype), PlanArguments(plan)
        self.real, self.arguments = kernels.real, arguments
        self.plan, self.dtype = plan, getattr(torch, self.real.name)
        self.functions = PlanFunctions(plan, key, kernels, arguments)
        self.layouts = {
            "inference": CallLayout(plan, plan.inference, plan.before, self.real, arguments),
            "forward": CallLayout(plan, plan.forward, plan.before, self.real, arguments),
            "backward": CallLayout(plan, plan.backward, plan.after, self.real, arguments),
        }
        self.gradients = Gradients(plan, self.dtype)
        find, states = arguments.find, range(len(plan.widths))
        self.x, self.saved, self.dx = (find(address(name)) for name in ("x", "saved", "dx"))
        self.draws = [find(address(f"draw{i}")) for i in range(len(plan.step.draws))]
        self.states = [state_arguments(arguments, f"state{i}") for i in states]
        self.d_states = [state_arguments(arguments, f"d_state{i}") for i in states]
        self.arriving = [find(address(f"gradient{i}")) for i in states]
        self.sums = [arguments[total(reduction.nodes[0])] for reduction in plan.reductions]
        self.run, self.run_alone = kernels.run, kernels.alone
        self.copy_rows, self.lay_out_rows = kernels.copy_rows, kernels.lay_out_rows

    @override
    def forward(self, inputs: PlanInputs, save: bool) -> Forward:
        x, states, parameters, draws, sizes = inputs
        plan, rows = self.plan, rows_of(x, states, sizes)
        loop = "forward" if save else "inference"
        call, function = Invocation(self.layouts[loop], self.run, rows, x, parameters), self.functions[loop]
        lead = x.shape[:-1]
        outputs = x.new_empty(*lead, plan.widths[0])
        self._put_inputs(call, x, draws)
        saved = []
        if save:
            saved.append(x.new_empty(*lead, plan.saved_width))
            call.put_rows(self.saved, saved[0])
        finals: list[Callable[[], Tensor]] = []
        for i, (state, size) in enumerate(zip(states, plan.widths, strict=True)):
            if i == 0 or (save and plan.sequences[i]):
                sequence = x.new_empty(*lead, size) if i else outputs
                call.put_state(self.states[i], sequence, state)
                finals.append(functools.partial(rows.last, sequence, state))
                saved += [sequence] if i else []
            else:
                finals.append(
                    functools.partial(rows.last_of_halves, call.allocate_halves(self.states[i], size, state, 0))
                )
        call.run(function["pack_forward"])
        for begin, end in call.chunks:
            call.move(begin, end)
            if plan.before.stages:
                call.run(function["before"])
            call.run(function[loop])
        call.release()
        return Forward(outputs, [final() for final in finals], saved)

    @override
    def backward(
        self, call_inputs: BackwardInputs, arriving: Sequence[Tensor] = ()
    ) -> tuple[Tensor | None, list[Tensor], list[Tensor | None]]:
        (dy, d_finals), (x, states, parameters, draws, sizes), outputs, saved, wanted = call_inputs
        plan, rows = self.plan, rows_of(x, states, sizes)
        call = Invocation(self.layouts["backward"], self.run, rows, x, parameters)
        function = self.functions["backward"]
        sequences = iter((outputs, *saved[1:]))
        self._put_inputs(call, x, draws)
        call.put_rows(self.saved, saved[0])
        d_states: list[Tensor] = []
        for i, (state, size) in enumerate(zip(states, plan.widths, strict=True)):
            if i == 0 or plan.sequences[i]:
                call.put_state(self.states[i], next(sequences), state)
            d_states.append(call.allocate_halves(self.d_states[i], size, d_finals[i], rows.T % 2))
        call.put_cotangent(dy if dy is not None else x.new_zeros([1] * x.dim()).expand(*x.shape[:-1], plan.widths[0]))
        after = plan.after.stages and (wanted.x or (wanted.parameters and plan.sums_need_after))
        dx = torch.empty_like(x) if plan.dx is not None and (wanted.x or after or plan.loop_makes_dx) else None
        if dx is not None:
            call.put_rows(self.dx, dx)
        for place, gradient in zip(self.arriving, arriving, strict=False):
            call.put_rows(place, gradient)
        sums = [x.new_empty(shape) for shape in self.gradients.shapes] if wanted.parameters else []
        for place, value in zip(self.sums, sums, strict=False):
            call.put(place, value)
        call.data[Word.LAST] = -1 if wanted.states else 0
        call.run(function["pack_backward"])
        if after:
            call.run(function["pack_after"])
        for k, (begin, end) in enumerate(reversed(call.chunks)):
            call.move(begin, end, add=k > 0)
            call.run(function["backward"])
            if after:
                call.run(function["after"])
            if sums:
                call.run(function["reduce"])
        call.release()
        if wanted.x and dx is None:
            dx = torch.zeros_like(x)
        d_parameters = self.gradients(parameters, sums) if wanted.parameters else []
        return dx, [halves[0] for halves in d_states] if wanted.states else [], d_parameters

    def _put_inputs(self, call: Invocation, x: Tensor, draws: Sequence[Tensor]) -> None:
        call.put_rows(self.x, x)
        for place, draw in zip(self.draws, draws, strict=True):
            call.put_rows(place, draw)
