"""Detects the host machine and compiles for it: LLVM by llvmlite, with a cache on disk."""

import ctypes
import functools
import hashlib
import itertools
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding as llvm
from llvmlite import ir

from elman.engine.compiled.cache_folder import cache_folder, read_signed, write_signed
from elman.engine.cpu.ir_builder import SCALARS, X86, Real

# Those for bfloat16, by LLVM's name of the feature.
BF16_INSTRUCTIONS = {"avx512bf16": "AVX512-BF16", "amx-bf16": "AMX", "bf16": "Arm's BF16"}
NO_IMPORTS: Mapping[str, int] = {}


@dataclass(frozen=True)
class Host:
    """The machine that code is compiled for: LLVM's triple, CPU name and features, and the width of its vectors."""

    triple: str
    cpu: str
    features: str
    vector_bytes: int
    bf16_dot: bool = False  # adds up products of pairs of bfloat16 faster than products of float32

    def real(self, dtype: str) -> Real:
        """Return the floating-point type of a dtype ("float32", "float64", "bfloat16") on this machine."""
        # AVX-512 and NEON have 32 vector registers, AVX2 and SSE 16.
        x86 = self.triple.startswith(X86)
        registers = 16 if x86 and self.vector_bytes < 64 else 32
        if dtype == "bfloat16":
            lanes = self.vector_bytes // 4
            return Real("float32", lanes, registers, rounds=True, dot=self.bf16_dot, loads=not x86)
        return Real(dtype, self.vector_bytes // SCALARS[dtype][1], registers, loads=not x86)

    @property
    def bf16_instructions(self) -> list[str]:
        """The CPU's instructions for products in bfloat16, whether the native executor uses them or not."""
        return [name for feature, name in BF16_INSTRUCTIONS.items() if f"+{feature}" in self.features.split(",")]

    def bf16_products(self) -> str:
        """Describe how the native executor computes products in bfloat16."""
        if self.bf16_dot:
            return "by VDPBF16PS"
        unused = ", ".join(self.bf16_instructions)
        reason = f"{unused} not used" if unused else "this CPU has no AVX512-BF16"
        return f"by conversion to float32: {reason}"


@functools.cache
def this_machine() -> Host:
    """Detect the host.

    The environment variable ELMAN_VECTOR_BYTES can make its vectors narrower than they could be; ELMAN_BF16_DOT, 0 or
    1, decides whether products in bfloat16 use the instruction for them, VDPBF16PS, where there is one.
    """
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    features = llvm.get_host_cpu_features()
    widest = 64 if features.get("avx512f") else 32 if features.get("avx2") and features.get("fma") else 16
    width = min(widest, int(os.environ.get("ELMAN_VECTOR_BYTES", widest)))
    if width < 64:
        features.update({name: False for name in features if name.startswith("avx512")})
    if width < 32:
        features.update({name: False for name in features if name in ("avx", "avx2", "fma", "f16c", "fma4", "xop")})
    cpu = llvm.get_host_cpu_name()
    # AMD's cores, from Zen 4, add up pairs as fast as single products of float32. On an Emerald Rapids of Intel the
    # instruction runs at a quarter of that rate (1.35 against 5.6 billion per second): Intel leaves bfloat16 to AMX.
    wanted = os.environ.get("ELMAN_BF16_DOT", str(int(cpu.startswith("znver")))) == "1"
    dot = wanted and width == 64 and bool(features.get("avx512bf16"))
    return Host(llvm.get_process_triple(), cpu, features.flatten(), width, dot)


class CompiledModule:
    """Machine code in memory, and its functions by name; freed with this object.

    Args:
        host: the machine.
        name: of the module, for debugging.
        code: an object file.
        exports: the functions that Python or other modules call.
        imports: addresses of the functions of other modules that it calls, by name.
    """

    _counter = itertools.count()

    def __init__(self, host: Host, name: str, code: bytes, exports: Iterable[str], imports: Mapping[str, int]) -> None:
        builder = llvm.JITLibraryBuilder().add_object_img(code).add_current_process()
        for function, address in imports.items():
            builder.import_symbol(function, address)
        for function in exports:
            builder.export_symbol(function)
        # A name can be used only once in a process.
        self._memory = builder.link(_linker(host), f"{name}-{next(self._counter)}")

    def __getitem__(self, name: str) -> int:
        """Return the address of an exported function."""
        address: int = self._memory[name]
        return address


@functools.cache
def _linker(host: Host) -> Any:
    """Create LLVM's JITLink linker, one for all modules of the process.

    It puts the code and the constants of a module into one block of memory. MCJIT's linker allocates memory section by
    section, and aborts the process if two sections are more than 2 GB apart.
    """
    return llvm.create_lljit_compiler(_machine(host), use_jit_link=True)


def compile_module(
    host: Host,
    name: str,
    key: str,
    write: Callable[[Any], None],
    exports: Iterable[str],
    imports: Mapping[str, int] = NO_IMPORTS,
) -> CompiledModule:
    """Compile the module that `write` fills, or read it from the cache if it has been compiled before.

    Args:
        host: the machine.
        name: of the module, for debugging.
        key: everything that the module depends on, except the host and the versions of elman's and LLVM's code.
        write: fills an empty llvmlite module.
        exports: the functions that Python or other modules call.
        imports: addresses of the functions of other modules that it calls, by name.
    """
    versions = f"{_source_digest()} {llvmlite.__version__} {llvm.llvm_version_info} {host}"
    path = cache_folder() / f"{name}-{hashlib.sha256(f'{versions} {key}'.encode()).hexdigest()[:32]}.o"
    code = read_signed(path)
    if code is not None:
        return CompiledModule(host, name, code, exports, imports)
    code = machine_code(host, module_text(host, name, write))
    write_signed(path, code)
    return CompiledModule(host, name, code, exports, imports)


def module_text(host: Host, name: str, write: Callable[[Any], None]) -> str:
    """Return the LLVM IR of the module that `write` fills, for a machine, which may be another than this one."""
    module = ir.Module(name)
    module.triple = host.triple
    write(module)
    return str(module)


def machine_code(host: Host, text: str) -> bytes:
    """Compile the text of a module to an object file.

    For another machine than this one, LLVM's targets must have been initialized
    (`llvmlite.binding.initialize_all_targets`).
    """
    machine = _machine(host)
    code: bytes = machine.emit_object(_optimized(machine, text))
    return code


def assembly(host: Host, text: str) -> str:
    """Compile the text of a module as `machine_code` does, to assembly that can be read."""
    machine = _machine(host)
    code: str = machine.emit_assembly(_optimized(machine, text))
    return code


def _optimized(machine: Any, text: str) -> Any:
    """Parse the text of a module and run LLVM's passes over it."""
    module = llvm.parse_assembly(text)
    options = llvm.create_pipeline_tuning_options(speed_level=1)
    # The code already consists of vectors and unrolled tiles.
    options.loop_vectorization = options.slp_vectorization = options.loop_unrolling = False
    builder = llvm.create_pass_builder(machine, options)
    # Passes over whole modules, and those of higher levels, take twice as long and make no faster code.
    passes = builder.getFunctionPassManager()
    for function in module.functions:
        if not function.is_declaration:
            passes.run(function, builder)
    return module


def _machine(host: Host) -> Any:
    target = llvm.Target.from_triple(host.triple)
    return target.create_target_machine(cpu=host.cpu, features=host.features, opt=2, reloc="pic", codemodel="default")


@functools.cache
def _source_digest() -> str:
    """Hash the source code that generates kernels: another version of it must not read the kernels of this one."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parents[1].rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def callable_at(address: int) -> Callable[[int], None]:
    """Return a compiled function of one pointer as a Python callable, which releases Python's global lock."""
    return ctypes.CFUNCTYPE(None, ctypes.c_void_p)(address)
