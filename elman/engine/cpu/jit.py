"""Detects the host machine and compiles for it, with LLVM by llvmlite and a cache on disk."""

import ctypes
import functools
import hashlib
import itertools
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding as llvm
import platformdirs
from llvmlite import ir

from elman.engine.cpu.ir_builder import SCALARS, X86, Real

NO_IMPORTS: Mapping[str, int] = {}


@dataclass(frozen=True)
class Host:
    """What the compiler must know of a machine."""

    triple: str
    cpu: str
    features: str
    vector_bytes: int

    def real(self, dtype: str) -> Real:
        """The numbers of a dtype ("float32", "float64") on this machine."""
        # AVX-512 and NEON have 32 vector registers, AVX2 and SSE 16.
        x86 = self.triple.startswith(X86)
        registers = 16 if x86 and self.vector_bytes < 64 else 32
        return Real(dtype, self.vector_bytes // SCALARS[dtype][1], registers)


@functools.cache
def this_machine() -> Host:
    """The host; with ELMAN_VECTOR_BYTES in the environment, its vectors are narrower than they could be."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    features = llvm.get_host_cpu_features()
    widest = 64 if features.get("avx512f") else 32 if features.get("avx2") and features.get("fma") else 16
    width = min(widest, int(os.environ.get("ELMAN_VECTOR_BYTES", widest)))
    if width < 64:
        features.update({name: False for name in features if name.startswith("avx512")})
    if width < 32:
        features.update({name: False for name in features if name in ("avx", "avx2", "fma", "f16c", "fma4", "xop")})
    return Host(llvm.get_process_triple(), llvm.get_host_cpu_name(), features.flatten(), width)


class Compiled:
    """Machine code in memory, and its functions by name; it stays in memory as long as this object.

    Args:
        host: the machine.
        name: of the module, for people.
        code: an object file.
        exports: the functions of it that are called from Python or from other modules.
        imports: addresses of the functions that it calls in other modules, by name.
    """

    _numbers = itertools.count()

    def __init__(self, host: Host, name: str, code: bytes, exports: Iterable[str], imports: Mapping[str, int]) -> None:
        builder = llvm.JITLibraryBuilder().add_object_img(code).add_current_process()
        for function, address in imports.items():
            builder.import_symbol(function, address)
        for function in exports:
            builder.export_symbol(function)
        # A name can be used once in a process.
        self._memory = builder.link(_linker(host), f"{name}-{next(self._numbers)}")

    def __getitem__(self, name: str) -> int:
        """The address of an exported function."""
        address: int = self._memory[name]
        return address


@functools.cache
def _linker(host: Host) -> Any:
    """LLVM's JITLink, one for all modules of the process.

    It puts the code and the constants of a module into one block of memory. The linker of MCJIT asks for memory section
    by section, and aborts the process where two of them come to lie more than 2 GB apart.
    """
    return llvm.create_lljit_compiler(_machine(host), use_jit_link=True)


def compiled(
    host: Host,
    name: str,
    key: str,
    write: Callable[[Any], None],
    exports: Iterable[str],
    imports: Mapping[str, int] = NO_IMPORTS,
) -> tuple[Compiled, bool]:
    """The module that `write` writes, compiled, or read from the cache if it was compiled before.

    Args:
        host: the machine.
        name: of the module, for people.
        key: whatever the module depends on, but for the host and the versions of elman's and LLVM's code.
        write: fills an empty llvmlite module.
        exports: the functions that are called from Python or from other modules.
        imports: addresses of the functions of other modules that it calls, by name.

    Returns:
        The code, and whether it had to be compiled.
    """
    versions = f"{_own_source()} {llvmlite.__version__} {llvm.llvm_version_info} {host}"
    path = cache_folder() / f"{name}-{hashlib.sha256(f'{versions} {key}'.encode()).hexdigest()[:32]}.o"
    code = _cached(path)
    if code is not None:
        return Compiled(host, name, code, exports, imports), False
    module = ir.Module(name)
    module.triple = host.triple
    write(module)
    code = machine_code(host, str(module))
    _keep(path, code)
    return Compiled(host, name, code, exports, imports), True


def machine_code(host: Host, text: str) -> bytes:
    """Compile the text of a module to an object file."""
    machine = _machine(host)
    module = llvm.parse_assembly(text)
    options = llvm.create_pipeline_tuning_options(speed_level=2)
    # The code is vectors and unrolled tiles already.
    options.loop_vectorization = options.slp_vectorization = options.loop_unrolling = False
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    code: bytes = machine.emit_object(module)
    return code


def _machine(host: Host) -> Any:
    target = llvm.Target.from_triple(host.triple)
    return target.create_target_machine(cpu=host.cpu, features=host.features, opt=2, reloc="pic", codemodel="default")


def cache_folder() -> Path:
    """ELMAN_CACHE, or the platform's place for the user's caches."""
    return Path(os.environ.get("ELMAN_CACHE") or platformdirs.user_cache_dir("elman", appauthor=False))


@functools.cache
def _own_source() -> str:
    """A digest of the code that writes kernels: another version of it must not find the kernels of this one."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parents[1].rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _cached(path: Path) -> bytes | None:
    """A cached object file, if it is there, ours and whole."""
    try:
        if hasattr(os, "getuid") and path.stat().st_uid != os.getuid():
            return None  # code that another user wrote is not run
        content = path.read_bytes()
    except OSError:
        return None
    digest, code = content[:32], content[32:]
    return code if hashlib.sha256(code).digest() == digest else None


def _keep(path: Path, code: bytes) -> None:
    """Cache an object file: whole or not at all, whoever else writes it at the same time."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent)
    except OSError:
        return  # a folder that cannot be written to costs time, not the result
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(hashlib.sha256(code).digest() + code)
        Path(temporary).replace(path)
    except OSError:
        Path(temporary).unlink(missing_ok=True)


def callable_at(address: int) -> Callable[[int], None]:
    """A compiled function of one pointer; Python's lock is released while it runs."""
    return ctypes.CFUNCTYPE(None, ctypes.c_void_p)(address)
