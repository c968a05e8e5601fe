"""Names and signatures of the functions of the kernel library."""

from typing import Any

from llvmlite import ir

from elman.engine.cpu.ir_builder import INT, POINTER, Code, Real

SIGNATURES = {
    "pack": ("*source", "step_k", "step_n", "K", "N", "begin", "end", "*panels"),
    "product": ("*a", "lda", "*panels", "*c", "ldc", "M", "N", "K", "begin", "end", "add", "back"),
    "direct": ("*a", "lda", "*w", "step_k", "step_n", "*c", "ldc", "M", "N", "K", "begin", "end", "add"),
    "outer": ("*d", "ldd", "*x", "ldx", "*c", "ldc", "R", "M", "N", "part", "parts", "add", "*sums", "*scratch"),
    "barrier": ("*memory", "all", "syscall"),
    "alone": ("*data",),
    "team": ("*data",),
    "column_sums": ("*d", "ldd", "R", "N", "part", "parts", "add", "*sums"),
}


def full_name(name: str, real: Real) -> str:
    """What the linker calls a function of the library."""
    return f"elman_{name}_{real.suffix}"


def declare(code: Code, name: str) -> Any:
    """A function of the library, for a module that calls it."""
    kinds = [POINTER if argument.startswith("*") else INT for argument in SIGNATURES[name]]
    return code.declared(full_name(name, code.real), ir.FunctionType(ir.VoidType(), kinds))


def public(module: Any, name: str, real: Real) -> Code:
    """The body of a function of the library."""
    return Code(module, full_name(name, real), SIGNATURES[name], real, public=True)
