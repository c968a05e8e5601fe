"""How threads are set to work on a function, and how they wait for each other within it."""

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from elman.through_time.native.signatures import public
from elman.through_time.native.writer import ARM, INT, POINTER, X86, Code, Real

SPINS = 2000  # of a waiting thread, before it begins to offer its core to others: some ten microseconds
BARRIER = 16  # 64-bit words: how many threads have arrived, and on a line of its own, how often all had


def barrier(module: Any, real: Real) -> None:
    """Wait until all threads are here. An OpenMP barrier takes a microsecond, as long as a small step; this a tenth."""
    code = public(module, "barrier", real)
    b, memory = code.b, code["memory"]
    arrived, rounds = code.at(memory, 0, INT), code.at(memory, BARRIER // 2, INT)
    before = b.load_atomic(rounds, "acquire", 8, typ=INT)
    last = code.is_(b.atomic_rmw("add", arrived, INT(1), "acq_rel"), "==", code.sub(code["all"], 1))
    with b.if_else(last) as (opening, waiting):
        with opening:
            b.atomic_rmw("xchg", arrived, INT(0), "monotonic")
            b.atomic_rmw("add", rounds, INT(1), "release")
        with waiting:
            spins = code.local(INT)
            b.store(INT(0), spins)
            look, again, done = (code.function.append_basic_block(name) for name in ("look", "again", "done"))
            b.branch(look)
            b.position_at_end(look)
            b.cbranch(code.is_(b.load_atomic(rounds, "acquire", 8, typ=INT), "==", before), again, done)
            b.position_at_end(again)
            _pause(code)
            b.store(code.add(b.load(spins, typ=INT), 1), spins)
            with b.if_then(code.is_(b.load(spins, typ=INT), ">", SPINS)):
                b.call(b.inttoptr(code["yield"], ir.FunctionType(ir.IntType(32), []).as_pointer()), [])
            b.branch(look)
            b.position_at_end(done)
    code.end()


def _pause(code: Code) -> None:
    """Tell the core that it is waiting."""
    if code.module.triple.startswith(X86):
        code.b.call(code.declared("llvm.x86.sse2.pause", ir.FunctionType(ir.VoidType(), [])), [])
    elif code.module.triple.startswith(ARM):
        hint = code.declared("llvm.aarch64.hint", ir.FunctionType(ir.VoidType(), [ir.IntType(32)]))
        code.b.call(hint, [ir.IntType(32)(1)])


WORK = ir.FunctionType(ir.VoidType(), [POINTER, INT, INT])


def entries(module: Any, real: Real) -> None:
    """`alone(data)` calls data[0](data, 0, 1); `team(data)`, run by every thread of a team, with its number and theirs.

    Around the call, numbers too small to be normal count as zero: on some machines they cost a hundred times as much.
    """
    ask = ir.FunctionType(ir.IntType(32), [])
    for name in ("alone", "team"):
        code = public(module, name, real)
        b, data = code.b, code["data"]
        work, number, count = (b.load(code.at(data, i, INT), typ=INT) for i in range(3))
        me, all_ = INT(0), INT(1)
        if name == "team":
            me, all_ = (b.sext(b.call(b.inttoptr(f, ask.as_pointer()), []), INT) for f in (number, count))
        restore = _flush_denormals(code)
        b.call(b.inttoptr(work, WORK.as_pointer()), [data, me, all_])
        restore()
        code.end()


def _flush_denormals(code: Code) -> Callable[[], None]:
    """Let denormals be zero, operands and results alike; the returned function writes what undoes it."""
    b, triple, int32 = code.b, code.module.triple, ir.IntType(32)
    if triple.startswith(X86):
        kind = ir.FunctionType(ir.VoidType(), [POINTER])
        read, write = (code.declared(f"llvm.x86.sse.{name}", kind) for name in ("stmxcsr", "ldmxcsr"))
        before, now = code.local(int32), code.local(int32)
        b.call(read, [before])
        b.store(b.or_(b.load(before, typ=int32), int32(0x8040)), now)
        b.call(write, [now])
        return lambda: b.call(write, [before])
    if triple.startswith(ARM):
        get = code.declared("llvm.aarch64.get.fpcr", ir.FunctionType(INT, []))
        put = code.declared("llvm.aarch64.set.fpcr", ir.FunctionType(ir.VoidType(), [INT]))
        register = b.call(get, [])
        b.call(put, [b.or_(register, INT(1 << 24))])
        return lambda: b.call(put, [register])
    return lambda: None
