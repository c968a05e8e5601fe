"""The barrier between the threads of a kernel, and the entry points that start threads."""

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from elman.engine.cpu.ir_builder import ARM, INT, POINTER, X86, Code, Real, Value
from elman.engine.cpu.signatures import public

SPINS = 2000  # checks of a waiting thread before it sleeps: some tens of microseconds
BARRIER = 16  # 64-bit words of memory, zero at first
ARRIVED, ROUNDS, SLEEPERS = 0, 8, 9  # which of them: threads that have arrived, how often all had, threads asleep
INT32 = ir.IntType(32)


def barrier(module: Any, real: Real) -> None:
    """Wait until all threads are here. An OpenMP barrier takes a microsecond, as long as a small step; this a tenth.

    A thread that waits for long sleeps (a Linux futex), so that another process gets its core and the thread that it
    waits for, if that has none, gets one sooner.
    """
    code = public(module, "barrier", real)
    b, memory = code.b, code["memory"]
    arrived, rounds, sleepers = (code.at(memory, word, INT) for word in (ARRIVED, ROUNDS, SLEEPERS))
    before = b.load_atomic(rounds, "acquire", 4, typ=INT32)
    last = code.is_(b.atomic_rmw("add", arrived, INT(1), "acq_rel"), "==", code.sub(code["all"], 1))
    with b.if_else(last) as (opening, waiting):
        with opening:
            b.atomic_rmw("xchg", arrived, INT(0), "monotonic")
            # Either this thread sees the sleeper, or the sleeper sees the new round and does not sleep.
            b.atomic_rmw("add", rounds, INT32(1), "seq_cst")
            with b.if_then(code.is_(b.load_atomic(sleepers, "seq_cst", 8, typ=INT), ">", 0), likely=False):
                _futex(code, rounds, "wake", INT32(2**31 - 1))
        with waiting:
            spins = code.local(INT)
            b.store(INT(0), spins)
            look, again, done = (code.function.append_basic_block(name) for name in ("look", "again", "done"))
            b.branch(look)
            b.position_at_end(look)
            b.cbranch(b.icmp_unsigned("==", b.load_atomic(rounds, "acquire", 4, typ=INT32), before), again, done)
            b.position_at_end(again)
            _pause(code)
            b.store(code.add(b.load(spins, typ=INT), 1), spins)
            with b.if_then(code.is_(b.load(spins, typ=INT), ">", SPINS), likely=False):
                b.atomic_rmw("add", sleepers, INT(1), "seq_cst")
                _futex(code, rounds, "wait", before)
                b.atomic_rmw("sub", sleepers, INT(1), "monotonic")
            b.branch(look)
            b.position_at_end(done)
    code.end()


# The numbers of the system call; machines that are not named here have that of Linux's common table.
FUTEX = {"x86_64": 202, "powerpc64": 221, "powerpc64le": 221, "s390x": 238}
OPERATIONS = {"wait": 128, "wake": 129}  # within one process


def _futex(code: Code, word: Value, operation: str, value: Value) -> None:
    """Sleep while the 32-bit word has this value, or wake as many threads that do."""
    number = FUTEX.get(code.module.triple.partition("-")[0], 98)
    kind = ir.FunctionType(INT, [INT], var_arg=True)
    arguments = [INT(number), word, INT32(OPERATIONS[operation]), value, POINTER(None)]
    code.b.call(code.b.inttoptr(code["syscall"], kind.as_pointer()), arguments)


def _pause(code: Code) -> None:
    """Tell the core that it is waiting."""
    if code.module.triple.startswith(X86):
        code.b.call(code.declared("llvm.x86.sse2.pause", ir.FunctionType(ir.VoidType(), [])), [])
    elif code.module.triple.startswith(ARM):
        hint = code.declared("llvm.aarch64.hint", ir.FunctionType(ir.VoidType(), [INT32]))
        code.b.call(hint, [INT32(1)])


WORK = ir.FunctionType(ir.VoidType(), [POINTER, INT, INT])


def entries(module: Any, real: Real) -> None:
    """`alone(data)` calls data[0](data, 0, 1); `team(data)`, run by every thread of a team, with its number and theirs.

    Around the call, numbers too small to be normal count as zero: on some machines they cost a hundred times as much.
    """
    ask = ir.FunctionType(INT32, [])
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
    b, triple = code.b, code.module.triple
    if triple.startswith(X86):
        kind = ir.FunctionType(ir.VoidType(), [POINTER])
        read, write = (code.declared(f"llvm.x86.sse.{name}", kind) for name in ("stmxcsr", "ldmxcsr"))
        before, now = code.local(INT32), code.local(INT32)
        b.call(read, [before])
        b.store(b.or_(b.load(before, typ=INT32), INT32(0x8040)), now)
        b.call(write, [now])
        return lambda: b.call(write, [before])
    if triple.startswith(ARM):
        get = code.declared("llvm.aarch64.get.fpcr", ir.FunctionType(INT, []))
        put = code.declared("llvm.aarch64.set.fpcr", ir.FunctionType(ir.VoidType(), [INT]))
        register = b.call(get, [])
        b.call(put, [b.or_(register, INT(1 << 24))])
        return lambda: b.call(put, [register])
    return lambda: None
