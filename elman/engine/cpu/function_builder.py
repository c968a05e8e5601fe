"""Builds one kernel: its arguments, and the addresses of the rows of its buffers."""

from typing import Any

from elman.engine.cpu.arguments import Argument, PlanArguments, Word, address, before, hop
from elman.engine.cpu.gemm_tile import panel_width
from elman.engine.cpu.ir_builder import INT, POINTER, Code, Integer, Real, Value
from elman.engine.plan.ir import Buffer, BufferColumns, BufferKind

SIGNATURE = ("*data", "thread", "thread_count")


def stride(buffer: Buffer, real: Real) -> int:
    """Return the distance between rows of a buffer, in numbers: padded where only kernels read the buffer."""
    if buffer.kind not in (BufferKind.BLOCK, BufferKind.CHUNK):
        return buffer.width
    NR = panel_width(real)
    # One vector more than whole panels, so that rows do not lie at multiples of a page.
    return -(-buffer.width // NR) * NR + real.lanes


class Kernel:
    """One kernel under construction: its arguments, and where the rows of its buffers lie."""

    def __init__(self, module: Any, name: str, real: Real, arguments: PlanArguments) -> None:
        self.code = Code(module, name, SIGNATURE, real, public=True)
        self.real, self.arguments = real, arguments
        self.step: Integer = 0  # counted from the first step of the chunk
        self.in_loop = False  # over steps; else the kernel runs on all rows of a chunk at once
        self.next_offset = 0  # the time of the state in a NEXT buffer, less `step`: 1 in a loop forward, 0 backward
        self.row_step: Integer = 1  # from one row of this thread to its next

    def word(self, argument: Word | Argument) -> Value:
        """Load the value of an argument."""
        code, index = self.code, argument if isinstance(argument, Word) else self.arguments[argument]
        return code.b.load(code.at(code["data"], int(index), INT), typ=INT)

    def pointer(self, argument: Word | Argument) -> Value:
        """Load an argument that is an address."""
        return self.code.b.inttoptr(self.word(argument), POINTER)

    def stride(self, columns: BufferColumns) -> int:
        """Return the distance between rows of a buffer, in numbers."""
        return stride(columns.buffer, self.real)

    def start(self, columns: BufferColumns) -> Value:
        """Return the address of these columns in the first row of this step."""
        code, size = self.code, columns.buffer.width
        base = self.pointer(address(columns.buffer.name))
        kind = columns.buffer.kind
        if kind in (BufferKind.STEP, BufferKind.CHUNK) and self.in_loop:
            base = code.at(base, code.mul(self.first_row(), self.stride(columns)))
        elif kind is BufferKind.PREVIOUS:
            previous = code.at(base, code.mul(self.first_row(-1), size))
            is_first = code.compare(code.add(self.word(Word.TIME), self.step), "==", 0)
            base = code.b.select(is_first, self.pointer(before(columns.buffer.name)), previous)
        elif kind in (BufferKind.CURRENT, BufferKind.NEXT, BufferKind.COTANGENT):
            # Steps use the two halves of the memory in turn: what one writes as NEXT, the following reads as CURRENT.
            offset = self.next_offset if kind is BufferKind.NEXT else 1 - self.next_offset
            time = code.add(self.word(Word.TIME), self.step, offset)
            base = code.at(base, code.mul(code.rem(time, 2), self.word(hop(columns.buffer.name))))
        return code.at(base, columns.offset)

    def first_row(self, offset: int = 0) -> Value:
        """Return the first row of this step, or of one `offset` steps later, relative to where the addresses point."""
        return self.code.sub(self.begin(offset), self.word(Word.ORIGIN))

    def begin(self, offset: int = 0) -> Value:
        """Return the first row of this step, or of one `offset` steps later, among all rows of the call."""
        code = self.code
        time = code.add(self.word(Word.TIME), self.step, offset)
        return code.b.load(code.at(self.pointer(Word.BEGINS), time, INT), typ=INT)
