"""The barrier between the threads of a kernel, and the entry points that start threads."""

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from elman.engine.cpu.ir_builder import ARM, INT, POINTER, X86, Code, Real, Value
from elman.engine.cpu.signatures import public

SPINS = 2000  # checks of a waiting thread before it sleeps: some tens of microseconds
BARRIER_WORDS = 16  # 64-bit words of memory, initially zero
ARRIVED, ROUNDS, SLEEPERS = 0, 8, 9  # words of it: threads that have arrived, completed rounds, threads asleep
INT32 = ir.IntType(32)


def barrier(module: Any, real: Real) -> None:
    """Wait until all threads arrive. An OpenMP barrier takes a microsecond, as long as a small step; this a tenth.

    A thread that waits for long sleeps (a Linux futex). Another process then gets its core, and the thread that it
    waits for, if that has no core, gets one sooner.
    """
    code = public(module, "barrier", real)
    b, memory = code.b, code["memory"]
    arrived, rounds, sleepers = (code.at(memory, word, INT) for word in (ARRIVED, ROUNDS, SLEEPERS))
    round_at_entry = b.load_atomic(rounds, "acquire", 4, typ=INT32)
    arrived_before = b.atomic_rmw("add", arrived, INT(1), "acq_rel")
    is_last = code.compare(arrived_before, "==", code.sub(code["thread_count"], 1))
    with b.if_else(is_last) as (opening, waiting):
        with opening:
            b.atomic_rmw("xchg", arrived, INT(0), "monotonic")
            # Either this thread sees the sleeper, or the sleeper sees the new round and does not sleep.
            b.atomic_rmw("add", rounds, INT32(1), "seq_cst")
            with b.if_then(code.compare(b.load_atomic(sleepers, "seq_cst", 8, typ=INT), ">", 0), likely=False):
                _futex(code, rounds, "wake", INT32(2**31 - 1))
        with waiting:
            spins = code.local(INT)
            b.store(INT(0), spins)
            check, spin, done = (code.function.append_basic_block(name) for name in ("check", "spin", "done"))
            b.branch(check)
            b.position_at_end(check)
            current_round = b.load_atomic(rounds, "acquire", 4, typ=INT32)
            b.cbranch(b.icmp_unsigned("==", current_round, round_at_entry), spin, done)
            b.position_at_end(spin)
            _pause(code)
            b.store(code.add(b.load(spins, typ=INT), 1), spins)
            with b.if_then(code.compare(b.load(spins, typ=INT), ">", SPINS), likely=False):
                b.atomic_rmw("add", sleepers, INT(1), "seq_cst")
                _futex(code, rounds, "wait", round_at_entry)
                b.atomic_rmw("sub", sleepers, INT(1), "monotonic")
            b.branch(check)
            b.position_at_end(done)
    code.end()


# Numbers of the system call; machines that are not listed use that of Linux's generic table, 98.
FUTEX = {"x86_64": 202, "powerpc64": 221, "powerpc64le": 221, "s390x": 238}
OPERATIONS = {"wait": 128, "wake": 129}  # FUTEX_WAIT_PRIVATE, FUTEX_WAKE_PRIVATE: within one process


def _futex(code: Code, word: Value, operation: str, value: Value) -> None:
    """Sleep while the 32-bit word has this value, or wake as many of the threads that sleep on it."""
    number = FUTEX.get(code.module.triple.partition("-")[0], 98)
    kind = ir.FunctionType(INT, [INT], var_arg=True)
    arguments = [INT(number), word, INT32(OPERATIONS[operation]), value, POINTER(None)]
    code.b.call(code.b.inttoptr(code["syscall"], kind.as_pointer()), arguments)


def _pause(code: Code) -> None:
    """Tell the core that it is in a spin loop."""
    if code.module.triple.startswith(X86):
        code.b.call(code.declare_function("llvm.x86.sse2.pause", ir.FunctionType(ir.VoidType(), [])), [])
    elif code.module.triple.startswith(ARM):
        hint = code.declare_function("llvm.aarch64.hint", ir.FunctionType(ir.VoidType(), [INT32]))
        code.b.call(hint, [INT32(1)])


KERNEL = ir.FunctionType(ir.VoidType(), [POINTER, INT, INT])


def entries(module: Any, real: Real) -> None:
    """Write `alone` and `team`, which call the kernel at the address in data[0]: kernel(data, thread, thread_count).

    `alone(data)` passes 0 and 1. Every thread of an OpenMP team runs `team(data)`, which passes the thread's number and
    the size of the team. During the call denormals count as zero: on some machines they cost a hundred times as much.
    """
    query = ir.FunctionType(INT32, [])
    for name in ("alone", "team"):
        code = public(module, name, real)
        b, data = code.b, code["data"]
        kernel, thread_num, num_threads = (b.load(code.at(data, i, INT), typ=INT) for i in range(3))
        thread, count = INT(0), INT(1)
        if name == "team":
            queries = (b.inttoptr(function, query.as_pointer()) for function in (thread_num, num_threads))
            thread, count = (b.sext(b.call(function, []), INT) for function in queries)
        restore = _flush_denormals(code)
        b.call(b.inttoptr(kernel, KERNEL.as_pointer()), [data, thread, count])
        restore()
        code.end()


def _flush_denormals(code: Code) -> Callable[[], None]:
    """Treat denormal operands and results as zero; the returned function writes the code that restores the mode."""
    b, triple = code.b, code.module.triple
    if triple.startswith(X86):
        kind = ir.FunctionType(ir.VoidType(), [POINTER])
        read, write = (code.declare_function(f"llvm.x86.sse.{name}", kind) for name in ("stmxcsr", "ldmxcsr"))
        saved, flushing = code.local(INT32), code.local(INT32)
        b.call(read, [saved])
        b.store(b.or_(b.load(saved, typ=INT32), INT32(0x8040)), flushing)  # flush to zero, denormals are zero
        b.call(write, [flushing])
        return lambda: b.call(write, [saved])
    if triple.startswith(ARM):
        get = code.declare_function("llvm.aarch64.get.fpcr", ir.FunctionType(INT, []))
        put = code.declare_function("llvm.aarch64.set.fpcr", ir.FunctionType(ir.VoidType(), [INT]))
        register = b.call(get, [])
        b.call(put, [b.or_(register, INT(1 << 24))])
        return lambda: b.call(put, [register])
    return lambda: None
