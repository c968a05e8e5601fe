"""A profile of warm small calls: `python benchmarks/calls.py`.

One layer without gradients, and forward and backward. The parts: kernels (the arithmetic), packing of weights, torch
(allocation and autograd: a function that computes nothing, with the same tensors), and the rest, which is Python.
Kernels and packing are what a call takes less if they are not run; packing is also measured alone. Times are of the
processor, on one thread; all variants take turns in one process. `--whole` measures calls alone, and runs with earlier
versions of elman.
"""

import argparse
import ctypes
import gc
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import elman


class Switch:
    """Leaves the compiled functions out of calls, or runs those that pack matrices alone."""

    def __init__(self) -> None:
        from elman.engine.cpu import jit

        self._mode = "on"
        self._calls: list[tuple[int, int]] = []  # of a call of the layer: the arguments and the function
        callable_at = jit.callable_at

        def switched(address: int) -> Callable[[int], None]:
            self._run = run = callable_at(address)

            def run_if_on(data: int) -> None:
                if self._mode != "off":
                    run(data)
                if self._mode == "record":
                    self._calls.append((data, ctypes.c_int64.from_address(data).value))

            return run_if_on

        jit.callable_at = switched

    def without_kernels(self, call: Callable[[], object]) -> Callable[[], None]:
        """A call without any compiled function."""

        def run() -> None:
            self._mode = "off"
            call()
            self._mode = "on"

        return run

    def packing(self, layer: Any, call: Callable[[], object]) -> Callable[[], None]:
        """The functions of a call that pack matrices."""
        from elman.engine.cpu.compiled_plan import PlanFunctions

        self._calls.clear()
        self._mode = "record"
        call()
        self._mode = "on"
        if not layer._prepared_calls._free:
            raise SystemExit("expected a call that is prepared, whose memory stays; make it smaller")
        plans = [of for of in gc.get_objects() if type(of) is PlanFunctions]
        names = {address: name for plan in plans for functions in plan.values() for name, address in functions.items()}
        packing = [(data, function) for data, function in self._calls if names[function].startswith("pack")]

        def run() -> None:
            for data, function in packing:
                ctypes.c_int64.from_address(data).value = function
                self._run(data)

        return run


class Nothing(torch.autograd.Function):
    """Takes the tensors of a call, and allocates those that it returns."""

    @staticmethod
    def forward(ctx: Any, width: int, x: Tensor, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(x, *tensors)
        return x.new_empty(*x.shape[:-1], width), torch.empty_like(tensors[0])

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        return (None, *(torch.empty_like(tensor) for tensor in ctx.saved_tensors))


def calls(layer: Any, x: Tensor, both: bool) -> tuple[Callable[[], object], Callable[[], object]]:
    """A call of the layer, and one of a function of torch that computes nothing."""
    parameters = list(layer.parameters())
    B, H = x.shape[1], layer.hidden_size
    cotangent, inputs = torch.randn(*x.shape[:2], H), [x.requires_grad_(both), *parameters]

    def forward() -> None:
        with torch.no_grad():
            layer(x)

    def allocate() -> None:
        with torch.no_grad():
            torch.empty_like(x.new_zeros(1, B, H)), x.new_empty(*x.shape[:2], H)

    def forward_backward() -> None:
        torch.autograd.grad(layer(x)[0], inputs, cotangent)

    def nothing() -> None:
        outputs, _ = Nothing.apply(H, x, x.new_zeros(1, B, H), *parameters)  # type: ignore[no-untyped-call]
        torch.autograd.grad(outputs, inputs, cotangent)

    return (forward_backward, nothing) if both else (forward, allocate)


def medians(functions: list[Callable[[], object]], seconds: float) -> list[float]:
    """Processor times in microseconds: the median of the first function, and of the differences of the others to it.

    The functions take turns of a few calls each, so that what slows the machine down slows all of them.
    """
    for function in functions * 3:
        function()
    times: list[list[float]] = [[] for _ in functions]
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[0]) < 5:
        for function, durations in zip(functions, times, strict=True):
            function()  # what the function before has left in the caches does not count
            begin = time.thread_time_ns()
            for _ in range(3):
                function()
            durations.append((time.thread_time_ns() - begin) / 3e3)
    first, *others = times
    differences = [[b - a for a, b in zip(first, other, strict=True)] for other in others]
    return [statistics.median(durations) for durations in (first, *differences)]


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--whole", action="store_true", help="measure calls as a whole")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    H, B, switch = asked.hidden, asked.batch, None if asked.whole else Switch()
    names = ["call us", *([] if asked.whole else ["kernels", "packing", "torch", "Python"])]
    print(f"{'layer':6} {'T':>4} {'':8}", *(f"{name:>8}" for name in names))
    for cell in ("LSTM", "GRU", "RNN"):
        for T in (1, 16, 128):
            for both in (False, True):
                layer = getattr(elman, cell)(H, H)
                call, nothing = calls(layer, torch.randn(T, B, H), both)
                call()
                if switch is None:
                    row = medians([call], asked.seconds)
                else:
                    variants = [call, switch.without_kernels(call), switch.packing(layer, call), nothing]
                    whole, empty, packing, torch_time = medians(variants, asked.seconds)
                    packing += whole
                    row = [whole, -empty - packing, packing, whole + torch_time, empty - torch_time]
                print(f"{cell:6} {T:4} {'both' if both else 'forward':8}", *(f"{t:8.1f}" for t in row), flush=True)
    print(f"B={B}, D=H={H}, 1 thread, torch {torch.__version__}")


if __name__ == "__main__":
    main()
