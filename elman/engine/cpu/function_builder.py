"""The body of a compiled function: its slots, and where the rows of its buffers lie."""

from typing import Any

from elman.engine.cpu.gemm_tile import panel_width
from elman.engine.cpu.ir_builder import INT, POINTER, Code, Integer, Real, Value
from elman.engine.plan.ir import Buffer, BufferKind, Columns

ARGUMENTS = ("*data", "me", "all")


def stride(buffer: Buffer, real: Real) -> int:
    """How many numbers from one row of a buffer to the next: more than its width where nobody else reads it."""
    if buffer.kind not in (BufferKind.BLOCK, BufferKind.CHUNK):
        return buffer.width
    NR = panel_width(real)
    # One vector more than whole panels, so that rows do not lie at multiples of a page.
    return -(-buffer.width // NR) * NR + real.lanes


class Body:
    """One function being written: its slots, and where the rows of its buffers lie."""

    def __init__(self, module: Any, name: str, real: Real, number: dict[str, int]) -> None:
        self.code = Code(module, name, ARGUMENTS, real, public=True)
        self.real, self.number = real, number
        self.step: Integer = 0  # since the pointers in the slots
        self.forth = 0  # where the next step's row is: 1 in a loop forward, 0 backward
        self.timed = False
        self.skip: Integer = 1  # from one row of this thread's to its next

    def slot(self, name: str) -> Value:
        """The number in a slot."""
        code = self.code
        return code.b.load(code.at(code["data"], self.number[name], INT), typ=INT)

    def pointer(self, name: str) -> Value:
        """The address in a slot."""
        return self.code.b.inttoptr(self.slot(name), POINTER)

    def stride(self, place: Columns) -> int:
        """From one row of a place to the next."""
        return stride(place.buffer, self.real)

    def start(self, place: Columns) -> Value:
        """The address of the first row of this step, at the place's first column."""
        code, size = self.code, place.buffer.width
        base = self.pointer(place.buffer.name)
        kind = place.buffer.kind
        if kind in (BufferKind.STEP, BufferKind.CHUNK) and self.timed:
            base = code.at(base, code.mul(self.first_row(), self.stride(place)))
        elif kind is BufferKind.PREVIOUS:
            earlier = code.at(base, code.mul(self.first_row(-1), size))
            first = code.is_(code.add(self.slot("time"), self.step), "==", 0)
            base = code.b.select(first, self.pointer(f"{place.buffer.name}.before"), earlier)
        elif kind in (BufferKind.NOW, BufferKind.NEXT, BufferKind.COTANGENT):
            time = code.add(self.slot("time"), self.step, self.forth if kind is BufferKind.NEXT else 1 - self.forth)
            half = code.rem(time, 2)
            base = code.at(base, code.mul(half, self.slot(f"{place.buffer.name}.hop")))
        return code.at(base, place.offset)

    def first_row(self, later: int = 0) -> Value:
        """The row at which this step begins, or one some steps later, counted from where the pointers in slots are."""
        return self.code.sub(self.begin(later), self.slot("origin"))

    def begin(self, later: int = 0) -> Value:
        """The row at which this step begins, or one some steps later, of all rows of the call."""
        code = self.code
        time = code.add(self.slot("time"), self.step, later)
        return code.b.load(code.at(self.pointer("begins"), time, INT), typ=INT)
