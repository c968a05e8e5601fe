"""The executor `native`: compiles the programs of a plan, and conducts them over a sequence."""

import ctypes
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import llvmlite.binding as llvm
import torch
from torch import Tensor, fx

from elman.through_time.native import emit, host, pool, products
from elman.through_time.native.writer import Real
from elman.through_time.plan import Plan
from elman.through_time.schedule import Kind, Program

ROWS = 1024  # of steps times batch that are worked on together, between the loop and what comes before and after it
LINE = 64  # bytes


@functools.cache
def library(dtype: str) -> tuple[Real, host.Compiled]:
    """The matrix products for a dtype."""
    machine = host.this_machine()
    real = machine.real(dtype)
    code, _ = host.compiled(machine, f"products-{dtype}", dtype, lambda module: products.write(module, real))
    for name in products.SIGNATURES:
        full = products.full_name(name, real)
        llvm.add_symbol(full, code[full])
    return real, code


class Native:
    """A plan compiled for one dtype.

    Args:
        plan: what to run.
        key: of the plan, the same for the same plan.
        dtype: torch.float32 or torch.float64.
    """

    def __init__(self, plan: Plan, key: str, dtype: torch.dtype) -> None:
        self.plan, self.dtype = plan, dtype
        name = str(dtype).removeprefix("torch.")
        self.real, self._library = library(name)
        self.code, self.fresh = host.compiled(
            host.this_machine(), f"cell-{name}", key, lambda module: emit.write(module, plan, self.real)
        )
        self.number = emit.slots(plan)
        self._alone = host.callable_at(self._library[products.full_name("alone", self.real)])
        self._team = self._library[products.full_name("team", self.real)]

    def entry(self, data: Any, threads: int) -> None:
        """Call the function in the first slot of `data` on some threads."""
        if threads == 1:
            self._alone(ctypes.addressof(data))
        else:
            pool.parallel(self._team, ctypes.addressof(data), threads)

    def forward(
        self, x: Tensor, states: Sequence[Tensor], parameters: Sequence[Tensor], keep: bool
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Run the loop over x (T, B, D), contiguous like all tensors here.

        Returns:
            The first state of every step, the final states, and what `backward` needs to find kept.
        """
        plan, (T, B, _) = self.plan, x.shape
        loop = "forward" if keep else "inference"
        call = _Call(self, x, parameters, [plan.before, getattr(plan, loop)])
        outputs = x.new_empty(T, B, plan.widths[0])
        kept = x.new_empty(T, B, plan.kept_width if keep else 0)
        call.along("x", x)
        call.along("kept", kept)
        finals, sequences = [], []
        for i, (state, size) in enumerate(zip(states, plan.widths, strict=True)):
            if i == 0 or (keep and plan.sequences[i]):
                sequence = x.new_empty(T, B, size) if i else outputs
                call.along(f"state{i}", sequence, before=state)
                finals.append(sequence[-1])
                sequences.append(sequence)
            else:
                finals.append(call.swapped(f"state{i}", state, 0)[T % 2])
        call.run("pack_forward")
        for begin, end in call.chunks():
            call.move(begin, end)
            if plan.before.stages:
                call.run("before")
            call.run(loop)
        return outputs, [final.clone() for final in finals], [kept, *sequences[1:]] if keep else []

    def backward(
        self,
        dy: Tensor | None,
        d_finals: Sequence[Tensor | None],
        x: Tensor,
        states: Sequence[Tensor],
        parameters: Sequence[Tensor],
        outputs: Tensor,
        kept: Sequence[Tensor],
        of_x: bool,
        of_parameters: bool,
    ) -> tuple[Tensor | None, list[Tensor], list[Tensor | None]]:
        """Run the backward loop, and what comes after it.

        Args:
            dy: cotangent of the outputs; its rows may lie anywhere, each row's numbers side by side.
            d_finals: cotangents of the final states.
            x: as in `forward`.
            states: as in `forward`.
            parameters: as in `forward`.
            outputs: of `forward`.
            kept: of `forward`.
            of_x: whether the gradient of x is wanted.
            of_parameters: whether those of the parameters are.

        Returns:
            The gradients of x, of the initial states and of the parameters.
        """
        plan, (T, B, D) = self.plan, x.shape
        call = _Call(self, x, parameters, [plan.backward, plan.after], backwards=True)
        sequences = iter((outputs, *kept[1:]))
        call.along("x", x)
        call.along("kept", kept[0])
        for i, (state, size) in enumerate(zip(states, plan.widths, strict=True)):
            if i == 0 or plan.sequences[i]:
                call.along(f"state{i}", next(sequences), before=state)
            final = d_finals[i]
            call.swapped(f"d_state{i}", final if final is not None else x.new_zeros(B, size), T % 2)
        call.cotangent(dy if dy is not None else x.new_zeros(1, 1, 1).expand(T, B, plan.widths[0]))
        dx = x.new_empty(T, B, D) if of_x and plan.after.stages else None
        if dx is not None:
            call.along("dx", dx)
        sums: dict[fx.Node, Tensor] = {}
        for reduction in plan.reductions if of_parameters else ():
            value = x.new_empty(reduction.nodes[0].meta["shape"])
            call.point(reduction.nodes[0].name, value)
            sums |= dict.fromkeys(reduction.nodes, value)
        call.run("pack_backward")
        for k, (begin, end) in enumerate(reversed(call.chunks())):
            call.move(begin, end, add=k > 0)
            call.run("backward")
            if dx is not None:
                call.run("after")
            if sums:
                call.run("reduce")
        if of_x and dx is None:
            dx = torch.zeros_like(x)
        found: list[Tensor | None] = (
            self._finished(sums, parameters) if of_parameters else [None for _ in plan.parameters]
        )
        return dx, [call.swaps[f"d_state{i}"][0].clone() for i in range(len(states))], found

    def _finished(self, sums: Mapping[fx.Node, Tensor], parameters: Sequence[Tensor]) -> list[Tensor | None]:
        """The gradients of the parameters, from sums over all rows."""
        values = _Values(self.plan, parameters, sums)
        gradients = self.plan.d_parameters
        return [None if node is None else values[node] for node in gradients]


class _Values(dict[fx.Node, Tensor]):
    """Values of a plan that no row takes part in, worked out by torch when they are asked for."""

    def __init__(self, plan: Plan, parameters: Sequence[Tensor], sums: Mapping[fx.Node, Tensor]) -> None:
        super().__init__(zip(plan.parameters, parameters, strict=True))
        self.update(sums)

    def __missing__(self, node: fx.Node) -> Tensor:
        arguments = fx.node.map_arg((node.args, node.kwargs), lambda n: self[n])
        self[node] = node.target(*arguments[0], **arguments[1])  # type: ignore[operator]
        return self[node]


class _Call:
    """One call's slots and memory."""

    def __init__(
        self,
        native: Native,
        x: Tensor,
        parameters: Sequence[Tensor],
        programs: Sequence[Program],
        backwards: bool = False,
    ) -> None:
        self.native, self.number, self.x = native, native.number, x
        self.T, self.B = T, B = x.shape[:2]
        self.data = (ctypes.c_int64 * len(self.number))()
        self.alive: list[Tensor] = []
        self.moving: list[tuple[int, int, int]] = []
        self.first: list[tuple[int, int, int, int]] = []
        self.swaps: dict[str, Tensor] = {}
        self.states: dict[str, tuple[Tensor, Tensor]] = {}
        self.threads, split = threads_for(native.plan, T, B)
        thread_num, num_threads, barrier = pool.addresses()
        self.set(thread_num=thread_num, num_threads=num_threads, barrier=barrier, B=B, split=int(split))
        self.steps = max(1, min(T, ROWS // max(B, 1)))
        self._memory(programs, parameters, backwards)

    def set(self, **values: int) -> None:
        for name, value in values.items():
            self.data[self.number[name]] = value

    def point(self, name: str, tensor: Tensor) -> None:
        """Put a tensor's address into a slot."""
        if name in self.number:
            self.data[self.number[name]] = tensor.data_ptr()
            self.alive.append(tensor)

    def along(self, name: str, tensor: Tensor, before: Tensor | None = None) -> None:
        """A tensor (T, B, ...) whose slot moves with the chunks; `before` is the row before its first."""
        if name not in self.number:
            return
        step = tensor.stride(0) * tensor.element_size()
        self.alive.append(tensor)
        self.moving.append((self.number[name], tensor.data_ptr(), step))
        if before is not None:
            self.alive.append(before)
            self.states[name] = (before, tensor)
            if f"{name}.before" in self.number:
                self.first.append((self.number[f"{name}.before"], before.data_ptr(), tensor.data_ptr(), step))

    def swapped(self, name: str, initial: Tensor, half: int) -> Tensor:
        """Memory for two states, which take turns; one begins as `initial`."""
        both = self.x.new_empty(2, *initial.shape)
        both[half] = initial
        self.point(name, both)
        self.swaps[name] = both
        return both

    def cotangent(self, dy: Tensor) -> None:
        if dy.stride(-1) != 1 and dy.shape[-1] > 1:
            dy = dy.contiguous()
        self.along("dy", dy)
        self.set(**{"dy.step": dy.stride(0), "dy.row": dy.stride(1)})

    def _memory(self, programs: Sequence[Program], parameters: Sequence[Tensor], backwards: bool) -> None:
        """Address packed matrices, buffers of a step and buffers of a chunk, all in one piece of memory."""
        native, real = self.native, self.native.real
        NR, sizes = products.panel_width(real), {}
        values = _Values(native.plan, parameters, {})
        for program in programs:
            for weight, transposed in program.weights():
                n, k = weight.meta["shape"]
                K, N = (k, n) if transposed else (n, k)
                sizes[emit.panels_name(weight, transposed)] = K * -(-N // NR) * NR
                self.point(weight.name, values[weight].contiguous())
            for node in emit.vectors(program):
                self.point(node.name, values[node].contiguous())
            for buffer in program.buffers():
                if buffer.kind is Kind.BLOCK:
                    rows = self.steps * self.B if program in (native.plan.before, native.plan.after) else self.B
                    size = rows * (-(-buffer.width // NR) * NR + real.lanes)
                    sizes[buffer.name] = max(size, sizes.get(buffer.name, 0))
                elif buffer.kind is Kind.STEP and (buffer.name == "before" or buffer.name.startswith("delta")):
                    sizes[buffer.name] = self.steps * self.B * buffer.width
        if backwards:
            each = max((products.outer_scratch(real, r.x_size) for r in native.plan.reductions), default=0)
            each = -(-each // real.lanes) * real.lanes
            sizes["scratch"] = each * self.threads
            self.set(**{"scratch.each": each})
        line = LINE // real.bytes
        rounded = {name: -(-size // line) * line for name, size in sizes.items()}
        memory = self.x.new_empty(sum(rounded.values()) + line)
        self.alive.append(memory)
        address = -(-memory.data_ptr() // LINE) * LINE
        for name, size in rounded.items():
            self.data[self.number[name]] = address
            address += size * real.bytes

    def chunks(self) -> list[tuple[int, int]]:
        """The steps at which each chunk begins and ends."""
        return [(t, min(t + self.steps, self.T)) for t in range(0, self.T, self.steps)]

    def move(self, begin: int, end: int, add: bool = False) -> None:
        """Point every slot at a chunk."""
        self.set(time=begin, steps=end - begin, rows=(end - begin) * self.B, add=int(add))
        for number, address, step in self.moving:
            self.data[number] = address + begin * step
        for number, first, address, step in self.first:
            self.data[number] = address + (begin - 1) * step if begin else first
        for name, (before, sequence) in self.states.items():
            if f"{name}.previous" in self.number:
                earlier = sequence[begin - 1 :] if begin else torch.cat((before[None], sequence[: end - 1]))
                self.point(f"{name}.previous", earlier)

    def run(self, name: str) -> None:
        """Run a function of the plan on all threads."""
        native = self.native
        self.data[0] = native.code[name]
        native.entry(self.data, self.threads)


def threads_for(plan: Plan, T: int, B: int) -> tuple[int, bool]:
    """How many threads a call uses, and whether these share the columns of a step and not its rows."""
    count = pool.threads()
    return (count, False) if count <= B else (count, True)
