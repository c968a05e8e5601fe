"""Forward and backward against JAX, the same cells in `jax.lax.scan` under `jax.jit`: `python benchmarks/jax_scan.py`.

Needs jax. In JAX too, the product of the inputs is one product for all steps, before the scan. Both give the same
numbers first: outputs, and the gradients of the input and of every parameter. They take turns as in `elman bench`, on
one core, to which the process is bound. Times are processor times of the process, so that other programs matter less.
"""

import argparse
import os
from collections.abc import Callable, Sequence
from time import process_time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from elman.bench.layers import SHAPES, implementations, medians, parse
from elman.bench.run import geometric_mean, machine


def lstm(W_hh: Any, b_hh: Any, state: Any, x: Any) -> Any:
    """One step; x is the product of the input and W_ih, with b_ih."""
    h, c = state
    i, f, g, o = jnp.split(x + h @ W_hh.T + b_hh, 4, -1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    h = jax.nn.sigmoid(o) * jnp.tanh(c)
    return (h, c), h


def gru(W_hh: Any, b_hh: Any, state: Any, x: Any) -> Any:
    """One step; x is the product of the input and W_ih, with b_ih."""
    (h,) = state
    x_r, x_z, x_n = jnp.split(x, 3, -1)
    h_r, h_z, h_n = jnp.split(h @ W_hh.T + b_hh, 3, -1)
    r, z = jax.nn.sigmoid(x_r + h_r), jax.nn.sigmoid(x_z + h_z)
    h = (1 - z) * jnp.tanh(x_n + r * h_n) + z * h
    return (h,), h


def rnn(W_hh: Any, b_hh: Any, state: Any, x: Any) -> Any:
    """One step; x is the product of the input and W_ih, with b_ih."""
    (h,) = state
    h = jnp.tanh(x + h @ W_hh.T + b_hh)
    return (h,), h


CELLS = {"lstm": (lstm, 2), "gru": (gru, 1), "rnn-tanh": (rnn, 1)}


def functions(cell: str, parameters: Sequence[Any], x: Any, dy: Any) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Return the compiled forward pass, and forward and backward: outputs, gradients of x and of each parameter."""
    step, states = CELLS[cell]

    def forward(x: Any, W_ih: Any, W_hh: Any, b_ih: Any, b_hh: Any) -> Any:
        start = (jnp.zeros((x.shape[1], W_hh.shape[1]), x.dtype),) * states
        return jax.lax.scan(lambda state, x: step(W_hh, b_hh, state, x), start, x @ W_ih.T + b_ih)[1]

    def both(x: Any, dy: Any, *parameters: Any) -> Any:
        y, backward = jax.vjp(forward, x, *parameters)
        return y, *backward(dy)

    compiled_forward, compiled_both = jax.jit(forward), jax.jit(both)
    return (
        lambda: compiled_forward(x, *parameters).block_until_ready(),
        lambda: jax.block_until_ready(compiled_both(x, dy, *parameters)),
    )


def check(cell: str, shape: Any, ours: Sequence[torch.Tensor], theirs: Sequence[Any]) -> None:
    """Exit unless both computed the same numbers."""
    for a, b in zip(ours, theirs, strict=True):
        error = np.abs(a.detach().numpy() - np.asarray(b)).max() / np.abs(np.asarray(b)).max()
        if not error < 1e-4:
            raise SystemExit(f"{cell} {shape}: results differ by {error:.1e}")


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--shapes", type=parse, default=SHAPES)
    parser.add_argument("--seconds", type=float, default=1.0)
    arguments = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-1:])
    torch.set_num_threads(1)
    print(f"{'layer':9} {'T,B,D,H':>18} {'forward ms':>11} {'JAX':>8} {'ratio':>6} {'fwd+bwd ms':>13} {'JAX':>8} "
          f"{'ratio':>6} {'torch.nn':>9} {'ratio':>6}")  # fmt: skip
    ratios: list[tuple[float, float]] = []
    for cell in CELLS:
        for shape in arguments.shapes:
            torch.manual_seed(0)
            pair = implementations(cell, shape)
            parameters = [jnp.asarray(p.detach().numpy()) for p in pair.layers[0].parameters()]
            forward, both = functions(
                cell, parameters, jnp.asarray(pair.x.detach().numpy()), jnp.asarray(pair.dy.numpy())
            )
            check(cell, shape, pair.forward_backward(0), both())
            a, b = medians([lambda: pair.forward(0), forward], arguments.seconds, clock=process_time)  # noqa: B023
            turns = [lambda: pair.forward_backward(0), both, lambda: pair.forward_backward(1)]  # noqa: B023
            c, d, e = medians(turns, arguments.seconds, clock=process_time)
            ratios.append((b / a, d / c))
            print(f"{cell:9} {shape!s:>18} {a * 1e3:11.2f} {b * 1e3:8.2f} {b / a:6.2f} {c * 1e3:13.2f} {d * 1e3:8.2f} "
                  f"{d / c:6.2f} {e * 1e3:9.2f} {e / c:6.2f}", flush=True)  # fmt: skip
    forward_ratios, both_ratios = zip(*ratios, strict=True)
    for title, values in (("forward", forward_ratios), ("both ways", both_ratios)):
        print(f"{title}: JAX takes {geometric_mean(values):.2f} times as long (geometric), at least {min(values):.2f}")
    print(f"JAX {jax.__version__}, torch {torch.__version__}, 1 thread, {machine()['cpu']}")


if __name__ == "__main__":
    main()
