"""Describes the environment for bug reports: versions, machine, compiler, threads, executors.

`elman env` prints it, and so does `python -m elman.environment`, which needs no package of an extra. What a broken
installation cannot import is named in the description, so this file imports torch and the engine inside its functions.
"""

import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from elman import __version__

_VARIABLES = re.compile(r"(OMP|GOMP|KMP|MKL|ELMAN)_\w+")  # those that change how elman computes


def environment() -> dict[str, Any]:
    """Describe versions, machine, compiler, threads and executors.

    Returns:
        A dictionary that JSON can represent. A part that could not be asked is `{"error": message}`, for example
        "torch" if torch cannot be imported.

    >>> description = environment()
    >>> description["elman"]["version"] == __version__
    True
    >>> description["executors"]["loop"] is None      # it can run; otherwise the reason why it cannot
    True
    """
    parts: dict[str, Callable[[], Any]] = {
        "elman": lambda: {"version": __version__, "folder": str(Path(__file__).parent)},
        "python": _python,
        "system": _system,
        "torch": _torch,
        "packages": _packages,
        "extras": _extras,
        "compiler": _compiler,
        "openmp": _openmp,
        "variables": lambda: {name: os.environ[name] for name in sorted(os.environ) if _VARIABLES.fullmatch(name)},
        "kernel_cache": _kernel_cache,
        "executors": _executors,
    }
    return {name: _ask(part) for name, part in parts.items()}


def _ask(part: Callable[[], Any]) -> Any:
    try:
        return part()
    except Exception as error:  # a broken installation can fail in any way, and the report has to say how
        return {"error": _one_line(error)}


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _python() -> dict[str, Any]:
    return {
        "version": platform.python_version(),
        "implementation": platform.python_implementation(),
        "bits": 64 if sys.maxsize > 2**32 else 32,
        "executable": sys.executable,
    }


def _system() -> dict[str, Any]:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"platform": platform.platform(), "cpu": cpu_model(), "cores": os.cpu_count(), "usable_cores": usable}


def cpu_model() -> str:
    """Return the model name of the CPU, as the operating system knows it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = re.search(r"^model name\s*:\s*(.+)$", info.read_text(encoding="utf-8"), re.MULTILINE)
        return names[1] if names else platform.machine()
    if sys.platform == "darwin":
        command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603
    return platform.processor()


def _torch() -> dict[str, Any]:
    import torch

    return {
        "version": torch.__version__,
        "cuda": torch.version.cuda,  # None: a build without CUDA
        "cuda_available": torch.cuda.is_available(),
        "threads": torch.get_num_threads(),
        "interop_threads": torch.get_num_interop_threads(),
    }


def _requirements() -> dict[str, list[str]]:
    """Return the packages of elman, under the key "", and those that each extra adds."""
    packages: dict[str, list[str]] = {}
    for requirement in requires("elman") or ():
        name = re.match(r"[\w.-]+", requirement)
        extra = re.search(r"extra == ['\"](.+?)['\"]", requirement)
        assert name
        packages.setdefault(extra[1] if extra else "", []).append(name[0])
    packages.pop("dev", None)
    return packages


def _packages() -> dict[str, str | None]:
    """Return the versions of all packages that elman or one of its extras needs; None for those not installed."""
    names = {name for packages in _requirements().values() for name in packages}
    return {name: _version(name) for name in sorted(names, key=str.lower)}


def _extras() -> dict[str, list[str]]:
    """Return the packages that are missing of each extra; none if the extra is installed."""
    extras = sorted((extra, names) for extra, names in _requirements().items() if extra)
    return {extra: [name for name in names if _version(name) is None] for extra, names in extras}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _compiler() -> dict[str, Any]:
    import llvmlite
    from llvmlite import binding

    from elman.engine.cpu.jit import this_machine

    host = this_machine()
    return {
        "llvmlite": llvmlite.__version__,
        "llvm": ".".join(map(str, binding.llvm_version_info)),
        "triple": host.triple,
        "cpu": host.cpu,
        "vector_bits": 8 * host.vector_bytes,
        "bf16": host.bf16_products(),
    }


def _openmp() -> dict[str, Any]:
    from elman.engine.cpu import openmp

    path = openmp.library_path()
    return {"library": None if path is None else str(path)}


def _kernel_cache() -> dict[str, Any]:
    from elman.engine.compiled.cache_folder import cache_folder, unsafe

    folder = cache_folder()
    sizes = [path.stat().st_size for path in folder.glob("*.o")]
    return {"folder": str(folder), "kernels": len(sizes), "bytes": sum(sizes), "not_used": unsafe(folder)}


def _executors() -> dict[str, str | None]:
    """Return why each executor cannot run in this process; None if it can."""
    from elman.engine import EXECUTORS, UNAVAILABLE
    from elman.engine.cpu.executor import NativeExecutor

    reasons: dict[str, str | None] = dict.fromkeys(EXECUTORS) | UNAVAILABLE
    compiler = _ask(_compiler)
    if NativeExecutor.name in EXECUTORS and "error" in compiler:
        reasons[NativeExecutor.name] = compiler["error"]
    return reasons


def as_text(description: Mapping[str, Any]) -> str:
    """Format a description for people, one line for each part.

    Args:
        description: as `environment` returns it.
    """
    lines = {name: _line(name, part) for name, part in description.items()}
    width = max(map(len, lines))
    return "\n".join(f"{name.replace('_', ' '):{width}}  {line}" for name, line in lines.items())


def _line(name: str, part: Mapping[str, Any]) -> str:
    return f"{part['error']}" if "error" in part else _LINES[name](part)


def _torch_line(part: Mapping[str, Any]) -> str:
    cuda = "without CUDA"
    if part["cuda"]:
        cuda = f"with CUDA {part['cuda']}, {'available' if part['cuda_available'] else 'not available'}"
    return f"{part['version']} {cuda}, threads {part['threads']}, interop threads {part['interop_threads']}"


def _extras_line(part: Mapping[str, list[str]]) -> str:
    missing = [f"{extra} (missing: {', '.join(names)})" for extra, names in part.items() if names]
    return ", ".join([*(extra for extra, names in part.items() if not names), *missing])


_LINES: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "elman": "{version} in {folder}".format_map,
    "python": "{version} {implementation}, {bits} bits, {executable}".format_map,
    "system": "{platform}, {cpu}, cores {cores}, usable {usable_cores}".format_map,
    "torch": _torch_line,
    "packages": lambda part: ", ".join(f"{name} {number or 'not installed'}" for name, number in part.items()),
    "extras": _extras_line,
    "compiler": "llvmlite {llvmlite}, LLVM {llvm}, {triple}, {cpu}, {vector_bits}-bit vectors, bf16 {bf16}".format_map,
    "openmp": lambda part: part["library"] or "not found: the native executor uses one thread",
    "variables": lambda part: " ".join(f"{name}={value}" for name, value in part.items()) or "none",
    "kernel_cache": lambda part: (
        f"{part['folder']}, kernels {part['kernels']}, {part['bytes'] / 1e6:.1f} MB"
        + (f", not used: {part['not_used']}" if part["not_used"] else "")
    ),
    "executors": lambda part: ", ".join(f"{name} ({reason})" if reason else name for name, reason in part.items()),
}


if __name__ == "__main__":
    print(as_text(environment()))
