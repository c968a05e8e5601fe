"""Every cell of the shelf against its Python loop: `python benchmarks/shelf.py --threads 2`.

The loop is plain torch, step by step, with all products of x worked out before it, for all steps at once: what one
writes by hand for speed. Both give the same numbers first, and take turns as in `elman bench`. `per FLOP` is the time
for a multiply-add of a matrix product, both ways, beside that of an LSTM of the same shape, in turns with them.
"""

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from arguments import arguments
from torch import Tensor
from torch.nn.functional import linear

from elman import Recurrent, cells
from elman.bench.layers import AGREEMENT, TIMES, Shape, medians
from elman.bench.run import geometric_mean, machine
from elman.engine import as_tuple
from elman.engine.compiled import plan_cache
from elman.engine.cpu.backend import NATIVE
from elman.engine.plan.ir import Product

SHAPES = "128,16,64,64 128,32,128,128 128,32,256,256"


class Hoisted:
    """A cell in a loop, whose products of x are one product each.

    Args:
        cell: of the shelf, which multiplies by `linear`.
    """

    def __init__(self, cell: torch.nn.Module) -> None:
        self.cell = cell
        self._modules = [sys.modules[cell_type.__module__] for cell_type in type(cell).__mro__]

    def __call__(self, x: Tensor, state: Any) -> Tensor:
        """The outputs."""
        steps, outputs, known = x.unbind(0), [], {}
        for t, x_t in enumerate(steps):

            def of_all(a: Tensor, W: Tensor, b: Tensor | None = None, x_t: Tensor = x_t, t: int = t) -> Tensor:
                if a is not x_t:
                    return linear(a, W, b)
                if (id(W), id(b)) not in known:
                    known[id(W), id(b)] = linear(x, W, b).unbind(0)
                return known[id(W), id(b)][t]

            with ExitStack() as patched:
                for module in self._modules:
                    if getattr(module, "linear", None) is linear:
                        patched.enter_context(patch.object(module, "linear", of_all))
                state = self.cell(x_t, state)
            outputs.append(state if isinstance(state, Tensor) else state[0])
        return torch.stack(outputs)


class Pair:
    """A cell at a shape: forward, and forward and backward, of ours and of the loop."""

    def __init__(self, name: str, shape: Shape, dtype: torch.dtype = torch.float32) -> None:
        torch.manual_seed(0)
        self.cell = cells.by_name(name)(shape.D, shape.H).to(dtype)
        self.layer, self.loop = Recurrent(self.cell, executor="native"), Hoisted(self.cell)
        self.x = torch.randn(*shape[:3], dtype=dtype, requires_grad=True)
        sizes = self.cell.state_size
        widths = as_tuple(sizes)
        zeros = tuple(torch.zeros(shape.B, width, dtype=dtype) for width in widths)
        self.state: Any = zeros[0] if isinstance(sizes, int) else zeros
        self.dy = torch.randn(*shape[:2], widths[0], dtype=dtype)

    def run(self, ours: bool) -> Tensor:
        """The outputs."""
        outputs: Tensor = self.layer(self.x, self.state)[0] if ours else self.loop(self.x, self.state)
        return outputs

    def forward(self, ours: bool) -> Tensor:
        """The outputs, without a graph."""
        with torch.no_grad():
            return self.run(ours)

    def both_ways(self, ours: bool) -> list[Tensor]:
        """The outputs and all gradients."""
        self.cell.zero_grad()
        self.x.grad = None
        outputs = self.run(ours)
        outputs.backward(self.dy)
        found = [outputs, self.x.grad, *(p.grad for p in self.cell.parameters())]
        return [value for value in found if value is not None]

    def flops(self) -> int:
        """Of all matrix products, both ways."""
        shapes = tuple((name, tuple(p.shape)) for name, p in self.cell.named_parameters())
        planned = plan_cache.plan_for(self.cell, shapes, self.x.shape[2], self.cell.state_size, NATIVE)
        plan = plan_cache.cached_plan(planned.key).plan
        programs = (plan.before, plan.forward, plan.backward, plan.after)
        stages = [stage for program in programs for stage in program.stages if isinstance(stage, Product)]
        each = sum(stage.depth * stage.width for stage in stages) + sum(r.size * r.x_size for r in plan.reductions)
        return 2 * self.x.shape[0] * self.x.shape[1] * each


def disagreement(name: str, shape: Shape) -> tuple[float, float]:
    """The largest error of outputs and gradients against the loop in double precision: of ours, and what it may be."""
    single, exact = Pair(name, shape), Pair(name, shape, torch.float64)
    with torch.no_grad():
        exact.x.copy_(single.x)
        exact.dy.copy_(single.dy)
        for mine, other in zip(single.cell.parameters(), exact.cell.parameters(), strict=True):
            other.copy_(mine)
    truth = [value.detach() for value in exact.both_ways(False)]
    errors = []
    for ours in (True, False):
        found = [value.detach().double() for value in single.both_ways(ours)]
        errors.append([float((a - b).norm() / b.norm().clamp(min=1e-30)) for a, b in zip(found, truth, strict=True)])
    bounds = [max(AGREEMENT, TIMES * error) for error in errors[1]]
    worst = max(range(len(bounds)), key=lambda i: errors[0][i] / bounds[i])
    return errors[0][worst], bounds[worst]


def rows(names: list[str], shapes: tuple[Shape, ...], seconds: float) -> Iterator[tuple[str, Shape, list[float]]]:
    """Name, shape, medians (ours and the loop's forward, and both ways), and seconds for each FLOP over the LSTM's."""
    lstms = {shape: Pair("lstm", shape) for shape in shapes}
    for name in names:
        for shape, lstm in lstms.items():
            error, bound = disagreement(name, shape)
            if not error <= bound:
                raise SystemExit(f"{name} {shape}: differs from its loop by {error:.1e}; no ratio without agreement")
            pair = Pair(name, shape)
            forward = medians([partial(pair.forward, True), partial(pair.forward, False)], seconds)
            ours, loop = partial(pair.both_ways, True), partial(pair.both_ways, False)
            *both, of_lstm = medians([ours, loop, partial(lstm.both_ways, True)], seconds)
            yield name, shape, [*forward, *both, both[0] / pair.flops() / (of_lstm / lstm.flops())]


def main() -> None:
    """Print a table."""
    parser = arguments(__doc__, SHAPES, seconds=0.5)
    parser.add_argument("--cells", nargs="*", default=list(cells.REGISTRY))
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    print(f"{'cell':20} {'T,B,D,H':>16} {'forward ms':>11} {'loop':>8} {'ratio':>6} {'both ms':>9} {'loop':>8} "
          f"{'ratio':>6} {'per FLOP':>9}")  # fmt: skip
    ratios = []
    for name, shape, (a, b, c, d, flop) in rows(asked.cells, asked.shapes, asked.seconds):
        ratios.append(d / c)
        print(f"{name:20} {shape!s:>16} {a * 1e3:11.2f} {b * 1e3:8.2f} {b / a:6.2f} {c * 1e3:9.2f} {d * 1e3:8.2f} "
              f"{d / c:6.2f} {flop:9.2f}", flush=True)  # fmt: skip
    print(f"forward and backward: least {min(ratios):.2f}, mean {geometric_mean(ratios):.2f} (geometric); "
          f"{asked.threads} threads; {machine()['cpu']}, torch {torch.__version__}")  # fmt: skip


if __name__ == "__main__":
    main()
