"""Decides what of a step runs before, in and after the loop over time, and what is saved for backward."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from torch.fx import Node

from elman.engine.plan.domains import PRODUCT, Domain, ancestors, depends, domains, unturned
from elman.engine.plan.ir import Buffer, BufferColumns, BufferKind, Pointwise, Program, Store
from elman.engine.plan.layout import aten, source, whole, width
from elman.engine.plan.mincut import saved_values
from elman.engine.plan.schedule import Stores, schedule
from elman.engine.trace.capture import Step
from elman.engine.trace.values import has_shape, set_domain


@dataclass(frozen=True)
class Reduction:
    """A sum over all rows: D^T X, or the rows of D where there is no X."""

    nodes: tuple[Node, ...]  # the values of the step that are this sum
    d: BufferColumns
    size: int  # columns of D
    x: BufferColumns | None
    x_size: int


@dataclass(frozen=True)
class Plan:
    """The programs of a step. Those of the loop run once for each step, the others on the rows of many steps at once.

    before: matrix products that need x alone.
    inference, forward: the loop, keeping nothing, and keeping what `backward` needs.
    backward: the loop from the last step to the first; it leaves deltas behind.
    after: the gradient of x, from the deltas.
    reductions: sums over all rows, of which the gradients of the parameters are made.
    """

    step: Step
    before: Program
    inference: Program
    forward: Program
    backward: Program
    after: Program
    reductions: tuple[Reduction, ...]
    sequences: tuple[bool, ...]  # whether the backward step needs each state of all steps
    kept: tuple[tuple[Node, int], ...]  # values kept for the backward step, and their columns of the buffer "kept"
    widths: tuple[int, ...]  # of the states
    parameters: tuple[Node, ...]
    d_states: tuple[Node | None, ...]
    d_parameters: tuple[Node | None, ...]
    dx: Node | None
    loop_makes_dx: bool  # the backward loop itself leaves the gradient of x behind
    sums_need_after: bool

    @property
    def inputs(self) -> list[Node]:
        """The placeholders of the step."""
        return list(self.step.graph.find_nodes(op="placeholder"))

    @cached_property
    def kept_width(self) -> int:
        """How many numbers are kept for each row of each step."""
        return sum(width(node) for node, _ in self.kept)


def plan(step: Step, observed: bool = False) -> Plan:
    """Plan a step.

    Args:
        step: as captured.
        observed: the backward loop also leaves behind, as `gradient0` and so on, what arrives at each of the states.

    Raises:
        CannotCapture: for what the table of operations does not have, or rows that depend on each other.
    """
    return _Planner(step, observed).plan()


class _Planner:
    def __init__(self, step: Step, observed: bool) -> None:
        self.step, self.observed = step, observed
        self.domain = domains(step)
        for node, domain in self.domain.items():
            set_domain(node, domain)
        inputs, count = list(step.graph.find_nodes(op="placeholder")), step.states
        ends = [1, 1 + count, 1 + count + len(step.parameters), 1 + 2 * count + len(step.parameters), len(inputs)]
        self.x = inputs[0]
        self.states, self.parameters, self.cotangents, self.draws = (inputs[a:b] for a, b in pairwise(ends))
        output = next(iter(step.graph.find_nodes(op="output"))).args[0]
        self.new, (self.dx,), self.d_states, self.d_parameters = output
        self.of_backward = depends(step, self.cotangents)
        self.of_state = depends(step, [*self.states, *self.cotangents])

    def plan(self) -> Plan:
        rows = [n for n in self.step.graph.nodes if self.domain.get(n) is Domain.ROW and n.target in PRODUCT]
        early: dict[Node, BufferColumns] = {}
        for node in rows:
            if node not in self.of_state:
                early[node] = BufferColumns(Buffer("before", 0, BufferKind.CHUNK), sum(width(n) for n in early))
        total = sum(width(n) for n in early)
        early = {
            node: BufferColumns(Buffer("before", total, BufferKind.CHUNK), place.offset)
            for node, place in early.items()
        }
        before = schedule("before", [], self._x(), bare=early)
        self.merged = self._merged(early)
        inference = self._forward([False] * len(self.new), {}, early)

        backward_memory = self._backward_memory()
        reductions = self._reductions()
        late = depends(self.step, [n for n in rows if n in self.of_backward and n not in ancestors(self.d_states)])
        frontier = self._frontier(late, reductions, backward_memory)
        roots = [*self._gradients(), *frontier.items(), *self._next_cotangents()]
        if self.dx is not None and self.dx not in late:
            # No product stands between: the loop has it at hand.
            roots.append((self.dx, self._dx_place()))
        kept = self._kept([node for node, _ in roots], backward_memory)
        width_kept = sum(width(node) for node, _ in kept)
        kept_places = {
            node: BufferColumns(Buffer("kept", width_kept, BufferKind.STEP), offset) for node, offset in kept
        }
        backward = schedule("backward", roots, backward_memory | kept_places)
        for i, node in enumerate(self.d_states):
            if node is None:
                size = width(self.states[i])
                to = BufferColumns(Buffer(f"d_state{i}", size, BufferKind.NEXT))
                backward.stages.append(Pointwise(1, size, (Store(None, 0, to),), {}, {}))
        afterwards = self._afterwards(late, reductions)
        after = schedule("after", afterwards, self._uniform(backward_memory) | kept_places | frontier)
        found = self._sums(reductions, backward_memory | kept_places | frontier | dict(afterwards))
        sequences = self._sequences(backward, after, found)
        return Plan(
            self.step, before, inference,
            self._forward(sequences, kept_places, early), backward, after, found, tuple(sequences), tuple(kept),
            tuple(width(state) for state in self.states), tuple(self.parameters), tuple(self.d_states),
            tuple(self.d_parameters), self.dx, self.dx is not None and self.dx not in late,
            any(node is not self.dx for node, _ in afterwards),
        )  # fmt: skip

    def _merged(self, early: dict[Node, BufferColumns]) -> dict[Node, Node]:
        """Products of the loop that are only ever added to one that is there before it, with the sums."""
        found: dict[Node, Node] = {}
        for node in self.step.graph.find_nodes(op="call_function", target=aten.add.Tensor):
            pair = node.all_input_nodes
            alone = all(value.target in PRODUCT and len(value.users) == 1 for value in pair)
            if len(pair) == 2 and alone and not node.kwargs and sum(value in early for value in pair) == 1:
                found[pair[0] if pair[1] in early else pair[1]] = node
        return found

    def _x(self) -> dict[Node, BufferColumns]:
        """What there is before the loop."""
        given = {"x": self.x} | {f"draw{i}": draw for i, draw in enumerate(self.draws)}
        return {node: BufferColumns(Buffer(name, width(node), BufferKind.STEP)) for name, node in given.items()}

    def _forward(
        self, sequences: Iterable[bool], kept: dict[Node, BufferColumns], early: dict[Node, BufferColumns]
    ) -> Program:
        memory = self._x()
        roots = list(kept.items())
        for i, (state, new, sequence) in enumerate(zip(self.states, self.new, sequences, strict=True)):
            whole = sequence or i == 0
            name, size = f"state{i}", width(state)
            memory[state] = BufferColumns(Buffer(name, size, BufferKind.PREVIOUS if whole else BufferKind.NOW))
            roots.append((new, BufferColumns(Buffer(name, size, BufferKind.STEP if whole else BufferKind.NEXT))))
        return schedule("forward", roots, memory, early, merged=self.merged)

    def _backward_memory(self) -> dict[Node, BufferColumns]:
        """What the backward loop finds: x, states before and after the step, cotangents."""
        memory = self._x()
        for i, (state, new, cotangent) in enumerate(zip(self.states, self.new, self.cotangents, strict=True)):
            memory[state] = BufferColumns(Buffer(f"state{i}", width(state), BufferKind.PREVIOUS))
            memory.setdefault(whole(new), BufferColumns(Buffer(f"state{i}", width(state), BufferKind.STEP)))
            kind = BufferKind.NOW if i else BufferKind.COTANGENT
            memory[cotangent] = BufferColumns(Buffer(f"d_state{i}", width(state), kind))
        return memory

    def _next_cotangents(self) -> Stores:
        return [
            (node, BufferColumns(Buffer(f"d_state{i}", width(node), BufferKind.NEXT)))
            for i, node in enumerate(self.d_states)
            if node is not None
        ]

    def _gradients(self) -> Stores:
        """Of a backward pass that somebody looks at, what arrives at each state."""
        places = (
            (d, BufferColumns(Buffer(f"gradient{i}", width(d), BufferKind.STEP))) for i, d in enumerate(self.cotangents)
        )
        return list(places) if self.observed else []

    def _reductions(self) -> list[Node]:
        sums = [n for n in self.step.graph.nodes if self.domain.get(n) is Domain.SUM]
        return [n for n in sums if any(self.domain[i] in (Domain.ROW, Domain.TURNED) for i in n.all_input_nodes)]

    def _frontier(
        self, late: set[Node], reductions: list[Node], memory: dict[Node, BufferColumns]
    ) -> dict[Node, BufferColumns]:
        """What the loop leaves behind for what comes after it."""
        wanted: list[Node] = []
        for node in reductions:
            wanted += [unturned(argument)[0] for argument in node.all_input_nodes]
        for node in sorted(late):
            wanted += [n for n in node.all_input_nodes if n not in late and self.domain[n] is Domain.ROW]
        found: dict[Node, BufferColumns] = {}
        # The wide ones first: what is only part of another is there with it.
        for node in sorted(wanted, key=width, reverse=True):
            real, _ = source(node, 0, width(node), memory | found)
            there = real in found or (
                real in memory and memory[real].buffer.kind in (BufferKind.STEP, BufferKind.PREVIOUS)
            )
            if not there and node not in late:
                found[whole(node)] = BufferColumns(Buffer(f"delta{len(found)}", width(node), BufferKind.CHUNK))
        return found

    def _kept(self, roots: list[Node], memory: dict[Node, BufferColumns]) -> list[tuple[Node, int]]:
        """What the backward loop uses of the forward step, each with its first column of what is kept."""
        needed = ancestors(roots)
        values = [
            node
            for node in self.step.graph.nodes
            if self.domain.get(node) is Domain.ROW and node not in self.of_backward and has_shape(node)
        ]
        used = {
            node for node in values
            if node in roots or any(user in needed and user in self.of_backward for user in node.users)
        }  # fmt: skip
        places, total = [], 0
        for node in saved_values(values, used, memory):
            places.append((node, total))
            total += width(node)
        return places

    def _dx_place(self) -> BufferColumns:
        return BufferColumns(Buffer("dx", width(self.x), BufferKind.STEP))

    def _afterwards(self, late: set[Node], reductions: list[Node]) -> Stores:
        """What is made of the deltas, for all steps at once."""
        stores = [(self.dx, self._dx_place())] if self.dx is not None and self.dx in late else []
        operands = [unturned(argument)[0] for node in reductions for argument in node.all_input_nodes]
        for node in dict.fromkeys(operands):
            if node in late:
                stores.append((node, BufferColumns(Buffer(f"late{len(stores)}", width(node), BufferKind.CHUNK))))
        return stores

    def _uniform(self, memory: dict[Node, BufferColumns]) -> dict[Node, BufferColumns]:
        return {node: place for node, place in memory.items() if place.buffer.kind is BufferKind.STEP}

    def _sums(self, reductions: list[Node], memory: dict[Node, BufferColumns]) -> tuple[Reduction, ...]:
        found: dict[object, Reduction] = {}
        for node in reductions:
            d, *x = (unturned(argument)[0] for argument in node.all_input_nodes)
            columns = _place(d, memory), width(d), _place(x[0], memory) if x else None, width(x[0]) if x else 0
            same = found[columns].nodes if columns in found else ()
            found[columns] = Reduction((*same, node), *columns)
        return tuple(found.values())

    def _sequences(self, backward: Program, after: Program, reductions: Iterable[Reduction]) -> list[bool]:
        names = {buffer.name for program in (backward, after) for buffer in program.buffers()}
        names |= {place.buffer.name for r in reductions for place in (r.d, r.x) if place}
        return [f"state{i}" in names for i in range(len(self.states))]


def _place(node: Node, memory: dict[Node, BufferColumns]) -> BufferColumns:
    if node in memory:
        return memory[node]
    real, start = source(node, 0, width(node), memory)
    return BufferColumns(memory[real].buffer, memory[real].offset + start)
