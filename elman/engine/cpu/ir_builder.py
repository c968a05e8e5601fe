"""Writes LLVM IR: llvmlite's builder, with the idioms that kernels consist of.

Kernels are vector code by construction: every vector has as many lanes as the target's registers.
Integers are 64 bits wide and count elements, not bytes.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from llvmlite import ir

Value = Any  # an ir.Value: llvmlite has no type hints
Integer = Any  # a Python int or an ir.Value

INT, INT32 = ir.IntType(64), ir.IntType(32)
POINTER = ir.PointerType()
X86, ARM = ("x86_64", "i386", "i686"), ("aarch64", "arm64")  # prefixes of target triples
SCALARS = {"float32": (ir.FloatType(), 4, "f32"), "float64": (ir.DoubleType(), 8, "f64")}


@dataclass(frozen=True)
class Real:
    """The floating-point type that a kernel computes with, and the vector registers of the target."""

    name: str  # "float32" or "float64"
    lanes: int  # numbers in a vector register
    registers: int  # vector registers
    rounds: bool = False  # products round their factors to bfloat16, see `bfloat16.py`
    dot: bool = False  # and add up pairs of them by one instruction
    loads: bool = False  # both factors of a multiply-add must be in registers: it reads none from memory

    @property
    def scalar(self) -> Any:
        return SCALARS[self.name][0]

    @property
    def bytes(self) -> int:
        return SCALARS[self.name][1]

    @property
    def packed_bytes(self) -> int:
        """Bytes of a number of a packed matrix."""
        return 2 if self.rounds else self.bytes

    @property
    def suffix(self) -> str:
        return SCALARS[self.name][2]

    @property
    def dtype(self) -> str:
        """The name of the dtype that the kernels are for."""
        return "bfloat16" if self.rounds else self.name

    @property
    def vector(self) -> Any:
        return ir.VectorType(self.scalar, self.lanes)


@functools.cache
def splat(real: Real, digits: str) -> Value:
    """Return a constant vector of one number, by its hexadecimal digits, which tell 0 from -0.

    One object for each number: llvmlite takes longer to write a new constant than for most instructions.
    """
    return ir.Constant(real.vector, [float.fromhex(digits)] * real.lanes)


@functools.cache
def permutation(*lanes: int) -> Value:
    """Return the constant operand of a shuffle."""
    return ir.Constant(ir.VectorType(INT32, len(lanes)), list(lanes))


def integer(value: Integer) -> Value:
    return INT(value) if isinstance(value, int) else value


class Code:
    """The body of one function under construction.

    Args:
        module: the llvmlite module that the function belongs to.
        name: of the function.
        arguments: their names; "*a" is a pointer, "a" an integer. `self["a"]` is the value of an argument.
        real: the type of the numbers.
        public: whether other modules and Python may call the function.
    """

    def __init__(self, module: Any, name: str, arguments: Sequence[str], real: Real, public: bool = False) -> None:
        kinds = [POINTER if argument.startswith("*") else INT for argument in arguments]
        self.function = ir.Function(module, ir.FunctionType(ir.VoidType(), kinds), name)
        if not public:
            self.function.linkage = "internal"
        self.arguments = {name.lstrip("*"): value for name, value in zip(arguments, self.function.args, strict=True)}
        self.entry = self.function.append_basic_block("entry")
        self.b = ir.IRBuilder(self.function.append_basic_block("body"))
        self.real, self.module = real, module

    def __getitem__(self, argument: str) -> Value:
        return self.arguments[argument]

    def end(self) -> Any:
        """Close the body and return the function."""
        self.b.ret_void()
        with self.b.goto_block(self.entry):
            self.b.branch(self.function.blocks[1])
        return self.function

    # Integers.

    def add(self, first: Integer, *others: Integer) -> Value:
        total = integer(first)
        for other in others:
            total = self.b.add(total, integer(other))
        return total

    def sub(self, a: Integer, b: Integer) -> Value:
        return self.b.sub(integer(a), integer(b))

    def mul(self, a: Integer, b: Integer) -> Value:
        return self.b.mul(integer(a), integer(b))

    def div(self, a: Integer, b: Integer) -> Value:
        return self.b.sdiv(integer(a), integer(b))

    def rem(self, a: Integer, b: Integer) -> Value:
        return self.b.srem(integer(a), integer(b))

    def compare(self, a: Integer, sign: str, b: Integer) -> Value:
        return self.b.icmp_signed(sign, integer(a), integer(b))

    def select(self, condition: Value, a: Integer, b: Integer) -> Value:
        return self.b.select(condition, integer(a), integer(b))

    def minimum(self, a: Integer, b: Integer) -> Value:
        return self.select(self.compare(a, "<", b), a, b)

    def ceil_div(self, a: Integer, b: int) -> Value:
        return self.div(self.add(a, b - 1), b)

    def share(self, count: Integer, part: Integer, parts: Integer) -> tuple[Value, Value]:
        """Return the begin and the end of the `part`-th of `parts` nearly equal shares of range(count)."""
        begin, end = (self.div(self.mul(count, p), parts) for p in (part, self.add(part, 1)))
        return begin, end

    # Control flow.

    @contextmanager
    def loop(self, start: Integer, stop: Integer, step: Integer = 1) -> Iterator[Value]:
        """Loop over range(start, stop, step), for a positive step."""
        b = self.b
        start, stop, step = integer(start), integer(stop), integer(step)
        head, body, done = (self.function.append_basic_block(name) for name in ("head", "body", "done"))
        predecessor = b.block
        b.branch(head)
        b.position_at_end(head)
        i = b.phi(INT)
        i.add_incoming(start, predecessor)
        b.cbranch(b.icmp_signed("<", i, stop), body, done)
        b.position_at_end(body)
        yield i
        i.add_incoming(b.add(i, step), b.block)
        b.branch(head)
        b.position_at_end(done)

    def call(self, function: Any, *arguments: Any) -> Value:
        return self.b.call(function, [integer(argument) for argument in arguments])

    def local(self, kind: Any, count: int = 1) -> Value:
        """Allocate `count` values on the stack; LLVM keeps them in registers if only loads and stores use them."""
        with self.b.goto_block(self.entry):
            memory = self.b.alloca(kind, INT(count))
        memory.type = POINTER  # llvmlite gives types only to the pointers of locals and globals
        return memory

    # Memory.

    def at(self, pointer: Value, index: Integer = 0, kind: Any = None) -> Value:
        """Return the address of the index-th number (or value of another `kind`) from `pointer` on."""
        return self.b.gep(pointer, [integer(index)], source_etype=kind or self.real.scalar)

    def opaque(self, pointer: Value) -> Value:
        """Hide from LLVM how an address is computed.

        Its loop strength reduction searches for ways to derive the addresses of a loop from each other. For a dozen
        with strides of their own, that takes a quarter of the time of compiling, and the code is no faster.
        """
        kind = ir.FunctionType(POINTER, [POINTER])
        return self.b.call(self.declare_function("llvm.launder.invariant.group.p0", kind), [pointer])

    def load(self, pointer: Value, index: Integer = 0) -> Value:
        return self.b.load(self.at(pointer, index), typ=self.real.scalar, align=self.real.bytes)

    def store(self, value: Value, pointer: Value, index: Integer = 0) -> None:
        self.b.store(value, self.at(pointer, index), align=self.real.bytes)

    def load_vector(self, pointer: Value, index: Integer = 0, mask: Value = None) -> Value:
        """Load a vector from the index-th number on; lanes outside `mask` are not read and become zero."""
        address = self.at(pointer, index)
        if mask is None:
            return self.b.load(address, typ=self.real.vector, align=self.real.bytes)
        kind = ir.FunctionType(self.real.vector, [POINTER, ir.IntType(32), mask.type, self.real.vector])
        load = self.declare_function(f"llvm.masked.load.v{self.real.lanes}{self.real.suffix}.p0", kind)
        return self.b.call(load, [address, ir.IntType(32)(self.real.bytes), mask, self.fill(0)])

    def store_vector(self, value: Value, pointer: Value, index: Integer = 0, mask: Value = None) -> None:
        """Store a vector, or only its lanes in `mask`, from the index-th number on."""
        address = self.at(pointer, index)
        if mask is None:
            self.b.store(value, address, align=self.real.bytes)
            return
        kind = ir.FunctionType(ir.VoidType(), [self.real.vector, POINTER, ir.IntType(32), mask.type])
        store = self.declare_function(f"llvm.masked.store.v{self.real.lanes}{self.real.suffix}.p0", kind)
        self.b.call(store, [value, address, ir.IntType(32)(self.real.bytes), mask])

    def prefetch(self, pointer: Value, index: Integer = 0, to_write: bool = False) -> None:
        """Prefetch the cache line at an address, which may be invalid; into the first-level cache if `to_write`."""
        int32 = ir.IntType(32)
        prefetch = self.declare_function(
            "llvm.prefetch.p0", ir.FunctionType(ir.VoidType(), [POINTER, int32, int32, int32])
        )
        self.b.call(prefetch, [self.at(pointer, index), int32(int(to_write)), int32(3 if to_write else 2), int32(1)])

    def first_lanes(self, count: int) -> Value:
        """Return the constant mask of the first `count` lanes."""
        lanes = [int(lane < count) for lane in range(self.real.lanes)]
        return ir.Constant(ir.VectorType(ir.IntType(1), self.real.lanes), lanes)

    def lanes_below(self, count: Value) -> Value:
        """Compute the mask of the first `count` lanes."""
        lanes = self.real.lanes
        indices = ir.Constant(ir.VectorType(INT, lanes), list(range(lanes)))
        undefined = ir.Constant(ir.VectorType(INT, lanes), ir.Undefined)
        scalar = self.b.insert_element(undefined, count, ir.IntType(32)(0))
        return self.b.icmp_signed("<", indices, self.shuffle(scalar, undefined, [0] * lanes))

    # Vectors.

    def fill(self, value: Any) -> Value:
        """Return a vector with a number, or a scalar value, in every lane."""
        if isinstance(value, int | float):
            return splat(self.real, float(value).hex())
        undefined = ir.Constant(self.real.vector, ir.Undefined)
        scalar = self.b.insert_element(undefined, value, ir.IntType(32)(0))
        return self.shuffle(scalar, undefined, [0] * self.real.lanes)

    def shuffle(self, a: Value, b: Value, lanes: Sequence[int]) -> Value:
        return self.b.shuffle_vector(a, b, permutation(*lanes))

    def reduce_lanes(self, value: Value, combine: Callable[["Code", Value, Value], Value]) -> Value:
        """Combine all lanes of a vector into one number, halves first."""
        half = self.real.lanes // 2
        while half:
            other = self.shuffle(value, value, [(lane + half) % self.real.lanes for lane in range(self.real.lanes)])
            value, half = combine(self, value, other), half // 2
        return self.b.extract_element(value, ir.IntType(32)(0))

    def call_per_lane(self, name: str, *operands: Value) -> Value:
        """Call a function of the C library for each lane."""
        suffix = "f" if self.real.bytes == 4 else ""
        kind = ir.FunctionType(self.real.scalar, [self.real.scalar] * len(operands))
        function, result = self.declare_function(name + suffix, kind), self.fill(0)
        for lane in range(self.real.lanes):
            index = ir.IntType(32)(lane)
            number = self.b.call(function, [self.b.extract_element(operand, index) for operand in operands])
            result = self.b.insert_element(result, number, index)
        return result

    def intrinsic(self, name: str, *operands: Value) -> Value:
        """Call LLVM's elementwise intrinsic `name` on vectors."""
        kind = ir.FunctionType(self.real.vector, [operand.type for operand in operands])
        return self.b.call(self.declare_function(f"llvm.{name}.v{self.real.lanes}{self.real.suffix}", kind), operands)

    def fma(self, a: Value, b: Value, c: Value) -> Value:
        return self.intrinsic("fma", a, b, c)

    def declare_function(self, name: str, kind: Any) -> Any:
        """Declare, once per module, a function of another module or of LLVM."""
        return self.module.globals.get(name) or ir.Function(self.module, kind, name)
