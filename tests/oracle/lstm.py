"""The LSTM in NumPy, with its backpropagation through time by hand."""

from typing import NamedTuple

import numpy as np

from tests.oracle import Answer, Array, Gradients, Weights, sigmoid


class Trace(NamedTuple):
    h: Array  # (T + 1, B, H): row t is the state before step t
    c: Array  # (T + 1, B, H)
    gates: Array  # (T, 4, B, H): i, f, g, o


def lstm(w: Weights, x: Array, states: tuple[Array, ...], dy: Array, d_final: tuple[Array, ...]) -> Answer:
    """Outputs, (h_T, c_T) and all gradients, given the cotangents dy (T, B, H) and d_final = (dh_T, dc_T)."""
    trace = forward(w, x, *states)
    return Answer(trace.h[1:], (trace.h[-1], trace.c[-1]), backward(w, x, trace, dy, *d_final))


def forward(w: Weights, x: Array, h_0: Array, c_0: Array) -> Trace:
    h, c, gates = [h_0], [c_0], []
    for x_t in x:
        a_i, a_f, a_g, a_o = np.split(x_t @ w.W_ih.T + w.b_ih + h[-1] @ w.W_hh.T + w.b_hh, 4, axis=1)
        i, f, g, o = sigmoid(a_i), sigmoid(a_f), np.tanh(a_g), sigmoid(a_o)
        c.append(f * c[-1] + i * g)
        h.append(o * np.tanh(c[-1]))
        gates.append([i, f, g, o])
    return Trace(np.array(h), np.array(c), np.array(gates))


def backward(w: Weights, x: Array, trace: Trace, dy: Array, dh: Array, dc: Array) -> Gradients:
    """dh and dc arrive from later steps, and before the last step from the final state."""
    da = np.zeros((*x.shape[:2], len(w.b_ih)))  # (T, B, 4*H)
    for t in reversed(range(len(x))):
        i, f, g, o = trace.gates[t]
        tanh_c = np.tanh(trace.c[t + 1])
        dh = dh + dy[t]
        dc = dc + dh * o * (1 - tanh_c**2)
        da_i = dc * g * i * (1 - i)
        da_f = dc * trace.c[t] * f * (1 - f)
        da_g = dc * i * (1 - g**2)
        da_o = dh * tanh_c * o * (1 - o)
        da[t] = np.concatenate([da_i, da_f, da_g, da_o], axis=1)
        dh, dc = da[t] @ w.W_hh, dc * f
    db = da.sum(axis=(0, 1))
    weights = Weights(np.einsum("tbg,tbd->gd", da, x), np.einsum("tbg,tbh->gh", da, trace.h[:-1]), db, db)
    return Gradients(da @ w.W_ih, (dh, dc), weights)
