"""Builds one kernel: its arguments, and the addresses of the rows of its buffers."""

from typing import Any

from elman.engine.cpu.arguments import Argument, PlanArguments, Word, address, before, hop
from elman.engine.cpu.gemm_tile import panel_width
from elman.engine.cpu.ir_builder import INT, POINTER, Code, Integer, Real, Value
from elman.engine.plan.ir import Buffer, BufferColumns, BufferKind

SIGNATURE = ("*data", "me", "all")


def stride(buffer: Buffer, real: Real) -> int:
    """How many numbers from one row of a buffer to the next: more than its width where nobody else reads it."""
    if buffer.kind not in (BufferKind.BLOCK, BufferKind.CHUNK):
        return buffer.width
    NR = panel_width(real)
    # One vector more than whole panels, so that rows do not lie at multiples of a page.
    return -(-buffer.width // NR) * NR + real.lanes


class Body:
    """One kernel being written: its arguments, and where the rows of its buffers lie."""

    def __init__(self, module: Any, name: str, real: Real, arguments: PlanArguments) -> None:
        self.code = Code(module, name, SIGNATURE, real, public=True)
        self.real, self.arguments = real, arguments
        self.step: Integer = 0  # since the addresses in the arguments
        self.forth = 0  # where the next step's row is: 1 in a loop forward, 0 backward
        self.timed = False
        self.skip: Integer = 1  # from one row of this thread's to its next

    def word(self, argument: Word | Argument) -> Value:
        """The value of an argument."""
        code, place = self.code, argument if isinstance(argument, Word) else self.arguments[argument]
        return code.b.load(code.at(code["data"], int(place), INT), typ=INT)

    def pointer(self, argument: Word | Argument) -> Value:
        """The address in an argument."""
        return self.code.b.inttoptr(self.word(argument), POINTER)

    def stride(self, place: BufferColumns) -> int:
        """From one row of a place to the next."""
        return stride(place.buffer, self.real)

    def start(self, place: BufferColumns) -> Value:
        """The address of the first row of this step, at the place's first column."""
        code, size = self.code, place.buffer.width
        base = self.pointer(address(place.buffer.name))
        kind = place.buffer.kind
        if kind in (BufferKind.STEP, BufferKind.CHUNK) and self.timed:
            base = code.at(base, code.mul(self.first_row(), self.stride(place)))
        elif kind is BufferKind.PREVIOUS:
            earlier = code.at(base, code.mul(self.first_row(-1), size))
            first = code.is_(code.add(self.word(Word.TIME), self.step), "==", 0)
            base = code.b.select(first, self.pointer(before(place.buffer.name)), earlier)
        elif kind in (BufferKind.NOW, BufferKind.NEXT, BufferKind.COTANGENT):
            time = code.add(self.word(Word.TIME), self.step, self.forth if kind is BufferKind.NEXT else 1 - self.forth)
            half = code.rem(time, 2)
            base = code.at(base, code.mul(half, self.word(hop(place.buffer.name))))
        return code.at(base, place.offset)

    def first_row(self, later: int = 0) -> Value:
        """The row at which this step begins, or one some steps later, counted from where the addresses point."""
        return self.code.sub(self.begin(later), self.word(Word.ORIGIN))

    def begin(self, later: int = 0) -> Value:
        """The row at which this step begins, or one some steps later, of all rows of the call."""
        code = self.code
        time = code.add(self.word(Word.TIME), self.step, later)
        return code.b.load(code.at(self.pointer(Word.BEGINS), time, INT), typ=INT)
