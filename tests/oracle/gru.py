"""The GRU with its reset gate after the recurrent product, in NumPy, with its backpropagation through time by hand."""

from typing import NamedTuple

import numpy as np

from tests.oracle import Answer, Array, Gradients, Weights, sigmoid


class Trace(NamedTuple):
    h: Array  # (T + 1, B, H): row t is the state before step t
    gates: Array  # (T, 4, B, H): r, z, n, and W_hn h + b_hn, which r multiplies


def gru(w: Weights, x: Array, states: tuple[Array, ...], dy: Array, d_final: tuple[Array, ...]) -> Answer:
    """Outputs, (h_T,) and all gradients, given the cotangents dy (T, B, H) and d_final = (dh_T,)."""
    trace = forward(w, x, *states)
    return Answer(trace.h[1:], (trace.h[-1],), backward(w, x, trace, dy, *d_final))


def forward(w: Weights, x: Array, h_0: Array) -> Trace:
    h, gates = [h_0], []
    for x_t in x:
        x_r, x_z, x_n = np.split(x_t @ w.W_ih.T + w.b_ih, 3, axis=1)
        h_r, h_z, h_n = np.split(h[-1] @ w.W_hh.T + w.b_hh, 3, axis=1)
        r, z = sigmoid(x_r + h_r), sigmoid(x_z + h_z)
        n = np.tanh(x_n + r * h_n)
        h.append((1 - z) * n + z * h[-1])
        gates.append([r, z, n, h_n])
    return Trace(np.array(h), np.array(gates))


def backward(w: Weights, x: Array, trace: Trace, dy: Array, dh: Array) -> Gradients:
    """dh arrives from later steps, and before the last step from the final state."""
    # The two products differ in the gate n alone, where r stands between: dx_ and dh_ are their gradients.
    dx_gates = np.zeros((*x.shape[:2], len(w.b_ih)))  # (T, B, 3*H)
    dh_gates = np.zeros_like(dx_gates)
    for t in reversed(range(len(x))):
        r, z, n, h_n = trace.gates[t]
        dh = dh + dy[t]
        da_z = dh * (trace.h[t] - n) * z * (1 - z)
        da_n = dh * (1 - z) * (1 - n**2)
        da_r = da_n * h_n * r * (1 - r)
        dx_gates[t] = np.concatenate([da_r, da_z, da_n], axis=1)
        dh_gates[t] = np.concatenate([da_r, da_z, da_n * r], axis=1)
        dh = dh_gates[t] @ w.W_hh + dh * z
    weights = Weights(
        np.einsum("tbg,tbd->gd", dx_gates, x),
        np.einsum("tbg,tbh->gh", dh_gates, trace.h[:-1]),
        dx_gates.sum(axis=(0, 1)),
        dh_gates.sum(axis=(0, 1)),
    )
    return Gradients(dx_gates @ w.W_ih, (dh,), weights)
