"""Kernels of another machine: compiled for it, linked with `emulated.c`, and run by an emulator."""

import ctypes
import functools
import struct
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import llvmlite.binding as llvm
import pytest

from elman.engine.cpu import compiled_plan, jit, openmp
from elman.engine.cpu.arguments import Word
from elman.engine.cpu.executor import NativeExecutor
from elman.engine.cpu.invocation import Invocation

Result = TypeVar("Result")

ARM = jit.Host("aarch64-unknown-linux-gnu", "generic", "+neon", vector_bytes=16)
COMPILER, EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64"
DRIVER = Path(__file__).with_name("emulated.c")
# The functions that kernels call by address: `translated` in emulated.c puts those of the program in their place.
SYMBOLS = {word: -(2**63) + k for k, word in enumerate((Word.THREAD_NUM, Word.NUM_THREADS, Word.SYSCALL))}


def initialize() -> None:
    """Let LLVM compile for machines that are not this one."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()


class Emulator:
    """Takes the place of `jit`: compiles modules for ARM, and runs their functions in processes of the emulator.

    Args:
        folder: for object files and programs.
    """

    def __init__(self, folder: Path) -> None:
        initialize()
        self._folder = folder
        self._libraries: list[Path] = []
        self._functions = [(Path(), "")]  # the program and the name of each function, whose "address" is its index
        self.calls: list[str] = []  # the functions that ran

    def compile_module(
        self,
        host: jit.Host,
        name: str,
        key: str,
        write: Callable[[Any], None],
        exports: Iterable[str],
        imports: Mapping[str, int] = jit.NO_IMPORTS,
    ) -> dict[str, int]:
        """Compile and link a module, as `jit.compile_module` does."""
        assert host == ARM
        module = self._folder / f"{len(self._functions)}-{name}.o"
        module.write_bytes(jit.machine_code(host, jit.module_text(host, name, write)))
        if not imports:
            self._libraries.append(module)
        exports = list(exports)
        alone, team = (
            next(function for function in (*exports, *imports) if function.startswith(f"elman_{entry}_"))
            for entry in ("alone", "team")
        )
        program = module.with_suffix("")
        command: list[Any] = [
            COMPILER, "-O1", "-static", "-pthread", f"-DFUNCTIONS={' '.join(f'F({export})' for export in exports)}",
            f"-DALONE={alone}", f"-DTEAM={team}", DRIVER,
            *dict.fromkeys((module, *self._libraries)), "-lm", "-o", program,
        ]  # fmt: skip
        linked = subprocess.run(command, capture_output=True, text=True, check=False)
        assert linked.returncode == 0, linked.stderr
        first = len(self._functions)
        self._functions += [(program, export) for export in exports]
        return {export: first + k for k, export in enumerate(exports)}

    def name_of(self, function: int) -> str:
        """Return the name of a function, by its "address"."""
        return self._functions[function][1]

    def run(self, function: int, words: Sequence[int], memory: Mapping[int, int], threads: int = 1) -> None:
        """Run a kernel on a copy of some memory, and copy the memory back.

        Args:
            function: its "address".
            words: its arguments; those that are addresses lie in the memory.
            memory: the address and the bytes of each block.
            threads: how many run it.
        """
        program, name = self._functions[function]
        self.calls.append(name)
        blocks = [block for block in sorted(memory.items()) if block[1]]
        head = [len(words), len(blocks), *words, *(number for block in blocks for number in block)]
        content = b"".join(ctypes.string_at(*block) for block in blocks)
        result = subprocess.run(
            [EMULATOR, program, name, str(threads)],
            input=struct.pack(f"<{len(head)}q", *head) + content,
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert (result.returncode, result.stderr) == (0, b"")
        assert len(result.stdout) == len(content)
        begin = 0
        for address, size in blocks:
            ctypes.memmove(address, result.stdout[begin : begin + size], size)
            begin += size

    def run_invocation(self, call: Invocation, function: int) -> None:
        """Run a function of a plan, as `Invocation.run` does."""
        tensors = [call._scratch, *call._alive, *call._previous_of_chunk]
        memory = {(s := tensor.untyped_storage()).data_ptr(): s.nbytes() for tensor in tensors}
        memory[call.rows._table.ctypes.data] = call.rows._table.nbytes
        self.run(function, list(call.data), memory, call.threads)

    def __call__(self, compute: Callable[[], Result]) -> Result:
        """Compute with layers whose kernels run in the emulator; they must be made within."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(jit, "this_machine", lambda: ARM)
            patch.setattr(jit, "compile_module", self.compile_module)
            patch.setattr(openmp, "addresses", lambda: SYMBOLS)
            patch.setattr(Invocation, "run", lambda call, function: self.run_invocation(call, function))
            patch.setattr(compiled_plan, "library_for", functools.cache(compiled_plan.library_for.__wrapped__))
            patch.setattr("elman.engine.compiled.plan_cache._compiled", {})
            without_prepared_calls(patch)
            return compute()


def without_prepared_calls(patch: pytest.MonkeyPatch) -> None:
    """Let layers make every call by `Invocation`, which knows its memory."""
    patch.setattr(NativeExecutor, "prepare", lambda *_, **__: None)


def bodies(assembly: str) -> dict[str, list[list[str]]]:
    """Return the instructions of each function in an assembly text, by blocks: what is between two labels."""
    functions: dict[str, list[list[str]]] = {}
    name = ""
    for line in assembly.splitlines():
        text = line.partition("//")[0].strip()
        if label := text.removesuffix(":") if text.endswith(":") else "":
            if label.startswith(".Lfunc_end"):
                name = ""
            elif not label.startswith(".L"):
                name, functions[label] = label, [[]]
            elif name:
                functions[name].append([])
        elif name and text and not text.startswith("."):
            functions[name][-1].append(text.replace("\t", " "))
    return functions
