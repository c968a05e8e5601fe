"""Names and signatures of the functions of the kernel library."""

from typing import Any

from llvmlite import ir

from elman.engine.cpu.ir_builder import INT, POINTER, Code, Real

# fmt: off
SIGNATURES = {
    "pack": ("*source", "step_k", "step_n", "K", "N", "begin", "end", "*panels"),
    "product": ("*a", "lda", "*panels", "*c", "ldc", "M", "N", "K", "begin", "end", "add", "reverse"),
    "direct": ("*a", "lda", "*w", "step_k", "step_n", "*c", "ldc", "M", "N", "K", "begin", "end", "add"),
    "outer": ("*d", "ldd", "*x", "ldx", "*c", "ldc", "R", "M", "N", "part", "parts", "add", "*sums", "*scratch"),
    "lay_out_rows": (
        "*lengths", "T", "B", "*begins", "*numbers", "*sorted", "*order", "*before", "*halves",
    ),
    "copy_rows": ("*data", "thread", "thread_count"),
    "barrier": ("*memory", "thread_count", "syscall"),
    "alone": ("*data",),
    "team": ("*data",),
    "column_sums": ("*d", "ldd", "R", "N", "part", "parts", "add", "*sums"),
}
# fmt: on


def full_name(name: str, real: Real) -> str:
    """Return the linker's name of a function of the library."""
    return f"elman_{name}_{'bf16' if real.rounds else real.suffix}"


def declare(code: Code, name: str) -> Any:
    """Declare a function of the library in a module that calls it."""
    kinds = [POINTER if argument.startswith("*") else INT for argument in SIGNATURES[name]]
    return code.declare_function(full_name(name, code.real), ir.FunctionType(ir.VoidType(), kinds))


def public(module: Any, name: str, real: Real) -> Code:
    """Begin the body of a function of the library."""
    return Code(module, full_name(name, real), SIGNATURES[name], real, public=True)
