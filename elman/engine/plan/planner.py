"""Decides what of a step runs before, in and after the loop over time, and what is saved for backward."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from torch.fx import Node

from elman.engine.plan.domains import PRODUCT, Domain, ancestors, dependents, infer_domains, strip_transposes
from elman.engine.plan.ir import Buffer, BufferColumns, BufferKind, Pointwise, Program, Store
from elman.engine.plan.layout import aten, resolve, resolve_whole, width
from elman.engine.plan.mincut import saved_values
from elman.engine.plan.schedule import Stores, schedule
from elman.engine.trace.capture import Step
from elman.engine.trace.values import has_shape, set_domain

Memory = dict[Node, BufferColumns]  # values, and where they are stored


@dataclass(frozen=True)
class Reduction:
    """A sum over all rows: D^T X, or the sum of the rows of D if there is no X."""

    nodes: tuple[Node, ...]  # the values of the step that equal this sum
    d: BufferColumns
    size: int  # columns of D
    x: BufferColumns | None
    x_size: int


@dataclass(frozen=True)
class Plan:
    """The programs of a step. Those of the loop run once per step, the others on the rows of many steps at once.

    before: matrix products that need x alone.
    inference, forward: the loop, saving nothing, and saving what `backward` reads.
    backward: the loop from the last step to the first; it stores deltas, the gradients of matrix products.
    after: the gradient of x, from the deltas.
    reductions: sums over all rows, from which the gradients of the parameters are computed.
    """

    step: Step
    before: Program
    inference: Program
    forward: Program
    backward: Program
    after: Program
    reductions: tuple[Reduction, ...]
    sequences: tuple[bool, ...]  # for each state, whether backward reads its values of all steps
    saved: tuple[tuple[Node, int], ...]  # values saved for backward, and their first columns in the buffer "saved"
    widths: tuple[int, ...]  # of the states
    parameters: tuple[Node, ...]
    d_states: tuple[Node | None, ...]
    d_parameters: tuple[Node | None, ...]
    dx: Node | None
    loop_makes_dx: bool  # the backward loop, not `after`, computes the gradient of x
    sums_need_after: bool  # a sum for the parameters reads what `after` computes

    @property
    def inputs(self) -> list[Node]:
        """The placeholders of the step."""
        return list(self.step.graph.find_nodes(op="placeholder"))

    @cached_property
    def saved_width(self) -> int:
        """How many numbers are saved for each row of each step."""
        return sum(width(node) for node, _ in self.saved)


def plan(step: Step, observed: bool = False) -> Plan:
    """Plan a step.

    Args:
        step: as captured.
        observed: the backward loop also stores the gradients that arrive at the states, as `gradient0` and so on.

    Raises:
        CannotCapture: for an operation that is not in the table of operations, or rows that depend on each other.
    """
    return _Planner(step, observed).plan()


class _Planner:
    def __init__(self, step: Step, observed: bool) -> None:
        self.step, self.observed = step, observed
        self.domain = infer_domains(step)
        for node, domain in self.domain.items():
            set_domain(node, domain)
        inputs, count = list(step.graph.find_nodes(op="placeholder")), step.states
        ends = [1, 1 + count, 1 + count + len(step.parameters), 1 + 2 * count + len(step.parameters), len(inputs)]
        self.x = inputs[0]
        self.states, self.parameters, self.cotangents, self.draws = (inputs[a:b] for a, b in pairwise(ends))
        output = next(iter(step.graph.find_nodes(op="output"))).args[0]
        self.new_states, (self.dx,), self.d_states, self.d_parameters = output
        self.backward_values = dependents(step, self.cotangents)
        self.recurrent_values = dependents(step, [*self.states, *self.cotangents])

    def plan(self) -> Plan:
        products = [n for n in self.step.graph.nodes if self.domain.get(n) is Domain.ROW and n.target in PRODUCT]
        early = self._early_products(products)
        before = schedule("before", [], self._input_memory(), bare_products=early)
        self.merged = self._merged_products(early)
        inference = self._forward([False] * len(self.new_states), {}, early)

        backward_memory = self._backward_memory()
        reductions = self._reduction_nodes()
        # Products that the cotangents of the previous step do not need run after the loop, for all steps at once.
        looped = ancestors(self.d_states)
        late = dependents(self.step, [n for n in products if n in self.backward_values and n not in looped])
        deltas = self._deltas(late, reductions, backward_memory)
        roots = [*self._observed_gradients(), *deltas.items(), *self._next_cotangents()]
        if self.dx is not None and self.dx not in late:
            # No product lies between the loop and dx: the loop computes it in passing.
            roots.append((self.dx, self._dx_location()))
        saved = self._saved([node for node, _ in roots], backward_memory)
        saved_width = sum(width(node) for node, _ in saved)
        saved_memory = {
            node: BufferColumns(Buffer("saved", saved_width, BufferKind.STEP), offset) for node, offset in saved
        }
        backward = schedule("backward", roots, backward_memory | saved_memory)
        for i, node in enumerate(self.d_states):
            if node is None:
                size = width(self.states[i])
                location = BufferColumns(Buffer(f"d_state{i}", size, BufferKind.NEXT))
                backward.stages.append(Pointwise(1, size, (Store(None, 0, location),), {}, {}))
        after_stores = self._after_stores(late, reductions)
        after = schedule("after", after_stores, self._step_memory(backward_memory) | saved_memory | deltas)
        sums = self._merge_reductions(reductions, backward_memory | saved_memory | deltas | dict(after_stores))
        sequences = self._needed_sequences(backward, after, sums)
        return Plan(
            self.step, before, inference,
            self._forward(sequences, saved_memory, early), backward, after, sums, tuple(sequences), tuple(saved),
            tuple(width(state) for state in self.states), tuple(self.parameters), tuple(self.d_states),
            tuple(self.d_parameters), self.dx, self.dx is not None and self.dx not in late,
            any(node is not self.dx for node, _ in after_stores),
        )  # fmt: skip

    def _early_products(self, products: list[Node]) -> Memory:
        """Return the products that depend on no state, which run before the loop, in one buffer side by side."""
        early = [node for node in products if node not in self.recurrent_values]
        buffer = Buffer("before", sum(width(node) for node in early), BufferKind.CHUNK)
        return {node: BufferColumns(buffer, sum(width(n) for n in early[:i])) for i, node in enumerate(early)}

    def _merged_products(self, early: Memory) -> dict[Node, Node]:
        """Return products of the loop whose only use is a sum with an early product, and these sums.

        In the loop they are added to the early product where it is stored.
        """
        sums: dict[Node, Node] = {}
        for node in self.step.graph.find_nodes(op="call_function", target=aten.add.Tensor):
            pair = node.all_input_nodes
            used_once = all(value.target in PRODUCT and len(value.users) == 1 for value in pair)
            if len(pair) == 2 and used_once and not node.kwargs and sum(value in early for value in pair) == 1:
                sums[pair[0] if pair[1] in early else pair[1]] = node
        return sums

    def _input_memory(self) -> Memory:
        """Return x and the random numbers, which are stored before the loop begins."""
        inputs = {"x": self.x} | {f"draw{i}": draw for i, draw in enumerate(self.draws)}
        return {node: BufferColumns(Buffer(name, width(node), BufferKind.STEP)) for name, node in inputs.items()}

    def _forward(self, sequences: Iterable[bool], saved: Memory, early: Memory) -> Program:
        memory = self._input_memory()
        roots = list(saved.items())
        for i, (state, new, sequence) in enumerate(zip(self.states, self.new_states, sequences, strict=True)):
            # The first state is the output, of which all steps are returned.
            all_steps = sequence or i == 0
            name, size = f"state{i}", width(state)
            memory[state] = BufferColumns(Buffer(name, size, BufferKind.PREVIOUS if all_steps else BufferKind.CURRENT))
            roots.append((new, BufferColumns(Buffer(name, size, BufferKind.STEP if all_steps else BufferKind.NEXT))))
        return schedule("forward", roots, memory, early, merged=self.merged)

    def _backward_memory(self) -> Memory:
        """Return what the backward loop can read: x, draws, the states before and after the step, cotangents."""
        memory = self._input_memory()
        for i, (state, new, cotangent) in enumerate(zip(self.states, self.new_states, self.cotangents, strict=True)):
            memory[state] = BufferColumns(Buffer(f"state{i}", width(state), BufferKind.PREVIOUS))
            memory.setdefault(resolve_whole(new), BufferColumns(Buffer(f"state{i}", width(state), BufferKind.STEP)))
            kind = BufferKind.CURRENT if i else BufferKind.COTANGENT
            memory[cotangent] = BufferColumns(Buffer(f"d_state{i}", width(state), kind))
        return memory

    def _next_cotangents(self) -> Stores:
        return [
            (node, BufferColumns(Buffer(f"d_state{i}", width(node), BufferKind.NEXT)))
            for i, node in enumerate(self.d_states)
            if node is not None
        ]

    def _observed_gradients(self) -> Stores:
        """Return the gradients that arrive at each state, if the backward pass is observed."""
        stores = (
            (d, BufferColumns(Buffer(f"gradient{i}", width(d), BufferKind.STEP))) for i, d in enumerate(self.cotangents)
        )
        return list(stores) if self.observed else []

    def _reduction_nodes(self) -> list[Node]:
        sums = [n for n in self.step.graph.nodes if self.domain.get(n) is Domain.SUM]
        return [n for n in sums if any(self.domain[i] in (Domain.ROW, Domain.TRANSPOSED) for i in n.all_input_nodes)]

    def _deltas(self, late: set[Node], reductions: list[Node], memory: Memory) -> Memory:
        """Return the values that the backward loop stores for what comes after it."""
        needed: list[Node] = []
        for node in reductions:
            needed += [strip_transposes(argument)[0] for argument in node.all_input_nodes]
        for node in sorted(late):
            needed += [n for n in node.all_input_nodes if n not in late and self.domain[n] is Domain.ROW]
        deltas: Memory = {}
        # The widest first: a value that is a part of another is stored with it.
        for node in sorted(needed, key=width, reverse=True):
            value, _ = resolve(node, 0, width(node), memory | deltas)
            is_stored = value in deltas or (
                value in memory and memory[value].buffer.kind in (BufferKind.STEP, BufferKind.PREVIOUS)
            )
            if not is_stored and node not in late:
                buffer = Buffer(f"delta{len(deltas)}", width(node), BufferKind.CHUNK)
                deltas[resolve_whole(node)] = BufferColumns(buffer)
        return deltas

    def _saved(self, roots: list[Node], memory: Memory) -> list[tuple[Node, int]]:
        """Return the values of the forward step to save for backward, each with its first column in "saved"."""
        needed = ancestors(roots)
        values = [
            node
            for node in self.step.graph.nodes
            if self.domain.get(node) is Domain.ROW and node not in self.backward_values and has_shape(node)
        ]
        used = {
            node for node in values
            if node in roots or any(user in needed and user in self.backward_values for user in node.users)
        }  # fmt: skip
        offsets, total = [], 0
        for node in saved_values(values, used, memory):
            offsets.append((node, total))
            total += width(node)
        return offsets

    def _dx_location(self) -> BufferColumns:
        return BufferColumns(Buffer("dx", width(self.x), BufferKind.STEP))

    def _after_stores(self, late: set[Node], reductions: list[Node]) -> Stores:
        """Return what is computed from the deltas, for all steps at once: dx, and operands of reductions."""
        stores = [(self.dx, self._dx_location())] if self.dx is not None and self.dx in late else []
        operands = [strip_transposes(argument)[0] for node in reductions for argument in node.all_input_nodes]
        for node in dict.fromkeys(operands):
            if node in late:
                stores.append((node, BufferColumns(Buffer(f"late{len(stores)}", width(node), BufferKind.CHUNK))))
        return stores

    def _step_memory(self, memory: Memory) -> Memory:
        """Return what can be read for all steps at once."""
        return {node: columns for node, columns in memory.items() if columns.buffer.kind is BufferKind.STEP}

    def _merge_reductions(self, reductions: list[Node], memory: Memory) -> tuple[Reduction, ...]:
        """Return the sums over all rows; values that are sums of the same columns share one."""
        merged: dict[object, Reduction] = {}
        for node in reductions:
            d, *x = (strip_transposes(argument)[0] for argument in node.all_input_nodes)
            columns = _location(d, memory), width(d), _location(x[0], memory) if x else None, width(x[0]) if x else 0
            nodes = merged[columns].nodes if columns in merged else ()
            merged[columns] = Reduction((*nodes, node), *columns)
        return tuple(merged.values())

    def _needed_sequences(self, backward: Program, after: Program, reductions: Iterable[Reduction]) -> list[bool]:
        names = {buffer.name for program in (backward, after) for buffer in program.buffers()}
        names |= {columns.buffer.name for r in reductions for columns in (r.d, r.x) if columns}
        return [f"state{i}" in names for i in range(len(self.states))]


def _location(node: Node, memory: Memory) -> BufferColumns:
    if node in memory:
        return memory[node]
    value, start = resolve(node, 0, width(node), memory)
    return BufferColumns(memory[value].buffer, memory[value].offset + start)
