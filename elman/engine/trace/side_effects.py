"""Detects the side effects of a step, and undoes them."""

import builtins
import random
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.overrides import TorchFunctionMode

from elman.engine.torch_private import DispatchMode, disable_torch_function, set_version
from elman.engine.trace.aten import mutated_tensors, tensors_in
from elman.engine.trace.errors import CannotCapture, current_line
from elman.engine.trace.python_state import AccessPath, GeneratorLocation, Location, PythonState, is_log, version

# Methods that read a tensor's numbers, or give access to its memory, without an operation that a dispatch mode sees.
DATA_ACCESS = {
    Tensor.numpy, Tensor.tolist, Tensor.__array__, Tensor.__repr__, Tensor.__format__, Tensor.data_ptr,
    Tensor.untyped_storage, Tensor.storage, Tensor.__dlpack__, Tensor.__reduce_ex__,
}  # fmt: skip


@contextmanager
def without_caches() -> Iterator[None]:
    """Compute parametrized weights without torch's cache of them, and restore the cache at the end."""
    enabled_before, cache_before = parametrize._cache_enabled, dict(parametrize._cache)
    parametrize._cache_enabled = 0
    try:
        yield
    finally:
        parametrize._cache_enabled = enabled_before
        parametrize._cache.update(cache_before)


@contextmanager
def without_effects(cell: nn.Module, writable: Iterable[Tensor] = (), logs: bool = False) -> Iterator[None]:
    """Detect and undo side effects of a step on Python objects, on tensors from outside, and on random generators.

    torch's default generator is left alone.

    Args:
        cell: The cell whose step runs within.
        writable: Tensors that the step may write to.
        logs: Whether it may print, write to files and loggers, and append to lists that are no attributes of the cell.

    Raises:
        CannotCapture: at the end, if there were side effects; at the start, if there may be some that cannot be undone.
    """
    state = PythonState(cell)
    if reason := state.irreversible or ("" if logs else state.log_writer):
        raise CannotCapture(reason)
    generators = random._inst, np.random.mtrand._rand
    locations = [*(GeneratorLocation(generator, AccessPath("", "")) for generator in generators), *state.locations]
    snapshots = [(location, location.read()) for location in locations]
    write_monitor = WriteMonitor(writable)
    try:
        with write_monitor, _intercepted_prints() as find_print:
            yield
            if not logs and find_print():
                raise CannotCapture(find_print())
        to_check = (pair for pair in snapshots if not (logs and _is_only_appended(*pair)))
        changes = (location.describe_change(content) for location, content in to_check)
        if reason := write_monitor.reason or next(filter(None, changes), ""):
            raise CannotCapture(reason)
    finally:
        write_monitor.undo()
        for location, content in snapshots:
            location.restore(content)


def _is_only_appended(location: Location, content: Any) -> bool:
    """Whether a location is a log that still starts with the content that it had."""
    if not is_log(location):
        return False
    new = location.read()
    return len(new) >= len(content) and all(a is b for a, b in zip(new, content, strict=False))


class _PrintMonitor(threading.local):
    """The first call of print() that was intercepted in this thread; None if this thread does not intercept them."""

    message: str | None = None


_print_monitor, _lock, _interceptor_count = _PrintMonitor(), threading.Lock(), 0
_print = print


def _intercept_print(*values: Any, **options: Any) -> None:
    """Replace `print`: record the call without printing, in threads that intercept calls."""
    if _print_monitor.message is None:
        _print(*values, **options)
    else:
        _print_monitor.message = _print_monitor.message or f"print(){current_line()}"


@contextmanager
def _intercepted_prints() -> Iterator[Callable[[], str]]:
    """Intercept this thread's calls of print(); yields a function that names the first and its line, or returns "".

    `print` itself is replaced, not `sys.stdout`, which other threads may be writing to.
    """
    global _print, _interceptor_count
    with _lock:
        if not _interceptor_count:
            _print, builtins.print = builtins.print, _intercept_print
        _interceptor_count += 1
    before, _print_monitor.message = _print_monitor.message, ""
    try:
        yield lambda: _print_monitor.message or ""
    finally:
        _print_monitor.message = before
        with _lock:
            _interceptor_count -= 1
            if not _interceptor_count and builtins.print is _intercept_print:
                builtins.print = _print


class WriteMonitor(DispatchMode):
    """A mode that records writes to tensors from outside, with the numbers that they overwrite.

    Args:
        writable: Tensors that may be written to.
    """

    def __init__(self, writable: Iterable[Tensor]) -> None:
        super().__init__()
        self.reason = ""  # describes the first write
        # Memory that may be written to, which includes that of tensors created within.
        self._writable = {memory for tensor in writable if (memory := _memory(tensor))}
        self._outside = set[int]()
        self._overwritten: list[tuple[Tensor, Tensor, int]] = []  # tensors, with their numbers and versions before

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._outside |= {memory for tensor in tensors_in(args, kwargs) if (memory := _memory(tensor))} - self._writable
        if func._schema.is_mutable:
            for tensor in tensors_in(mutated_tensors(func, args), (kwargs or {}).get("out")):
                if _memory(tensor) in self._outside:
                    if not self.reason:
                        what = f"{func}, which writes into a tensor that the step did not create"
                        self.reason = what + current_line()
                    self._overwritten.append((tensor, tensor.detach().clone(), version(tensor)))
        result = func(*args, **(kwargs or {}))
        self._writable |= {memory for tensor in tensors_in(result) if (memory := _memory(tensor))} - self._outside
        return result

    def undo(self) -> None:
        """Restore the numbers and the versions of tensors from outside."""
        for tensor, numbers, version_before in reversed(self._overwritten):
            with torch.no_grad():
                tensor.detach().copy_(numbers)
            if not tensor.is_inference():
                set_version(tensor, version_before)


def _memory(tensor: Tensor) -> int:
    """Return what identifies the memory of a tensor; 0 for a tensor without strided memory."""
    return tensor.untyped_storage()._cdata if tensor.layout == torch.strided and not tensor.is_meta else 0


class DataDependenceCheck(TorchFunctionMode):
    """A mode that raises `CannotCapture` where numbers of a tensor are read other than by an operation."""

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in DATA_ACCESS:
            raise CannotCapture(f"a Python number read from a tensor{current_line()}")
        with disable_torch_function():
            return func(*args, **(kwargs or {}))
