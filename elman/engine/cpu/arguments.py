"""The arguments of the kernels: one array of 64-bit words, whose address each kernel gets.

First come the words that every plan has, `Word`, then addresses and strides that depend on the plan, `PlanArguments`.
Asking for an argument that a plan does not have raises an error; `find` is for arguments that may be missing.
"""

from enum import Enum, IntEnum, auto
from typing import NamedTuple

from torch.fx import Node

from elman.engine.plan.ir import BufferColumns, BufferKind, Pointwise, Program
from elman.engine.plan.planner import Plan

ALTERNATING = (BufferKind.CURRENT, BufferKind.NEXT, BufferKind.COTANGENT)


class Word(IntEnum):
    """Words of every plan; the value is the place in the array."""

    WORK = 0  #: address of the kernel, for the threads (`barrier.entries`)
    THREAD_NUM = auto()  #: address of omp_get_thread_num
    NUM_THREADS = auto()  #: address of omp_get_num_threads
    BARRIER = auto()  #: address of the memory of the barrier
    SYSCALL = auto()  #: address of the C library's syscall
    B = auto()
    ROWS = auto()  #: of the chunk
    STEPS = auto()  #: of the chunk
    TIME = auto()  #: the step at which the chunk begins
    LAST = auto()  #: the first step of the sequence, if no gradient of the initial states is wanted; else -1
    SPLIT = auto()  #: threads share the columns, not the rows
    ADD = auto()  #: sums are added to those of the chunk before
    BEGINS = auto()  #: address of the row at which each step begins
    ORIGIN = auto()  #: the row to which the addresses of whole sequences point
    DEALT = auto()  #: rows are dealt to the threads in turn, for ragged sequences
    DIRECT = auto()  #: matrices are read as they are, not packed
    DY = auto()  #: address of the cotangent of the outputs
    DY_STEP = auto()  #: its stride from step to step, in elements
    DY_BEGIN = auto()  #: its stride from row to row, of packed rows
    DY_ROW = auto()  #: its stride from row to row within a step
    SCRATCH = auto()  #: address of scratch memory of all threads
    SCRATCH_EACH = auto()  #: size of that of each thread, in elements


class Role(Enum):
    """The meaning of an argument that belongs to a buffer, a parameter or a sum."""

    ADDRESS = auto()
    HOP = auto()  # distance between the halves of a buffer, which steps use in turn, in elements
    BEFORE = auto()  # address of the state before the first step
    PREVIOUS = auto()  # address of the states before each step of the chunk, as one matrix
    PANELS = auto()  # address of a packed matrix
    PANELS_TRANSPOSED = auto()
    VALUE = auto()  # address of a parameter, or of a value computed from parameters
    SUM = auto()  # address of a sum over all rows


class Argument(NamedTuple):
    """An argument that depends on the plan."""

    role: Role
    name: str


def address(buffer: str) -> Argument:
    """The address of a buffer, at the chunk."""
    return Argument(Role.ADDRESS, buffer)


def hop(buffer: str) -> Argument:
    """The distance between the halves of a buffer."""
    return Argument(Role.HOP, buffer)


def before(buffer: str) -> Argument:
    """The address of a state before the first step."""
    return Argument(Role.BEFORE, buffer)


def panels(weight: Node, transposed: bool) -> Argument:
    """The address of a packed matrix."""
    return Argument(Role.PANELS_TRANSPOSED if transposed else Role.PANELS, weight.name)


def value(node: Node) -> Argument:
    """The address of a parameter, or of a value computed from parameters."""
    return Argument(Role.VALUE, node.name)


def total(node: Node) -> Argument:
    """The address of a sum over all rows."""
    return Argument(Role.SUM, node.name)


def rows(columns: BufferColumns) -> Argument:
    """The address of a buffer whose rows a sum runs over."""
    role = Role.PREVIOUS if columns.buffer.kind is BufferKind.PREVIOUS else Role.ADDRESS
    return Argument(role, columns.buffer.name)


def vectors(program: Program) -> list[Node]:
    """The parameters that a program uses element by element."""
    stages = [stage for stage in program.stages if isinstance(stage, Pointwise)]
    return list(dict.fromkeys(node for stage in stages for node in stage.parameters()))


class PlanArguments:
    """The place of every argument of a plan in the array."""

    def __init__(self, plan: Plan) -> None:
        arguments = [address("x"), before("state0")]
        for program in (plan.before, plan.inference, plan.forward, plan.backward, plan.after):
            buffers = program.buffers()
            arguments += [address(buffer.name) for buffer in buffers]
            arguments += [hop(buffer.name) for buffer in buffers if buffer.kind in ALTERNATING]
            arguments += [before(buffer.name) for buffer in buffers if buffer.kind is BufferKind.PREVIOUS]
            for weight, transposed in program.weights():
                arguments += [panels(weight, transposed), value(weight)]
            arguments += map(value, vectors(program))
        for reduction in plan.reductions:
            arguments += [rows(reduction.d), total(reduction.nodes[0])]
            if reduction.x:
                arguments.append(rows(reduction.x))
        self._places = {argument: place for place, argument in enumerate(dict.fromkeys(arguments), len(Word))}

    def __len__(self) -> int:
        return len(Word) + len(self._places)

    def __getitem__(self, argument: Argument) -> int:
        """The place of an argument.

        Raises:
            KeyError: if the plan has no such argument.
        """
        return self._places[argument]

    def find(self, argument: Argument) -> int | None:
        """The place of an argument; None if the plan has no such argument."""
        return self._places.get(argument)
