"""The cells of the shelf in NumPy, one step each, from the papers' equations; and their gradients by complex steps.

Of an analytic function f, the imaginary part of f(a + ih) / h is the derivative to the last digit, for h so small that
h^2 vanishes: nothing is subtracted. (Squire and Trapp, SIAM Review 40 (1998).) So the steps are written for complex
numbers: what depends on an order looks at real parts.
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

Complex = NDArray[np.complexfloating]
Weights = Mapping[str, Complex]
States = tuple[Complex, ...]
Step = Callable[[Weights, Complex, States], States]

H = 1e-30  # of the complex step


def sigmoid(a: Complex) -> Complex:
    return np.asarray(1 / (1 + np.exp(-a)))


def norm(a: Complex) -> Complex:
    centred = a - a.mean(axis=-1, keepdims=True)
    return np.asarray(centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5))


def four(w: Weights, x: Complex, h: Complex) -> list[Complex]:
    return np.split(x @ w["weight_ih"].T + w["bias_ih"] + h @ w["weight_hh"].T + w["bias_hh"], 4, axis=1)


def peephole_lstm(w: Weights, x: Complex, states: States) -> States:
    h, c = states
    a_i, a_f, a_g, a_o = four(w, x, h)
    p_i, p_f, p_o = np.split(w["weight_ch"], 3)
    new = sigmoid(a_f + p_f * c) * c + sigmoid(a_i + p_i * c) * np.tanh(a_g)
    return sigmoid(a_o + p_o * new) * np.tanh(new), new


def coupled_lstm(w: Weights, x: Complex, states: States) -> States:
    h, c = states
    a = x @ w["weight_ih"].T + w["bias_ih"] + h @ w["weight_hh"].T + w["bias_hh"]
    a_i, a_g, a_o = np.split(a, 3, axis=1)
    c = (1 - sigmoid(a_i)) * c + sigmoid(a_i) * np.tanh(a_g)
    return sigmoid(a_o) * np.tanh(c), c


def projected_lstm(w: Weights, x: Complex, states: States) -> States:
    h, c = states
    a_i, a_f, a_g, a_o = four(w, x, h)
    c = sigmoid(a_f) * c + sigmoid(a_i) * np.tanh(a_g)
    return (sigmoid(a_o) * np.tanh(c)) @ w["weight_hr"].T, c


def layer_norm_lstm(w: Weights, x: Complex, states: States) -> States:
    h, c = states
    a = norm(x @ w["weight_ih"].T) * w["gain_ih"] + norm(h @ w["weight_hh"].T) * w["gain_hh"] + w["bias_ih"]
    a_i, a_f, a_g, a_o = np.split(a, 4, axis=1)
    c = sigmoid(a_f) * c + sigmoid(a_i) * np.tanh(a_g)
    return sigmoid(a_o) * np.tanh(norm(c) * w["gain_c"] + w["bias_c"]), c


def layer_norm_gru(w: Weights, x: Complex, states: States) -> States:
    (h,) = states
    n = h.shape[1]
    parts = []
    for product, side in ((x @ w["weight_ih"].T, "ih"), (h @ w["weight_hh"].T, "hh")):
        normed = np.concatenate([norm(product[:, : 2 * n]), norm(product[:, 2 * n :])], axis=1)
        parts.append(np.split(normed * w[f"gain_{side}"] + w[f"bias_{side}"], 3, axis=1))
    (x_r, x_z, x_n), (h_r, h_z, h_n) = parts
    z = sigmoid(x_z + h_z)
    return ((1 - z) * np.tanh(x_n + sigmoid(x_r + h_r) * h_n) + z * h,)


def reset_before_gru(w: Weights, x: Complex, states: States) -> States:
    (h,) = states
    x_r, x_z, x_n = np.split(x @ w["weight_ih"].T + w["bias_ih"], 3, axis=1)
    (W_r, W_z, W_n), (b_r, b_z, b_n) = np.split(w["weight_hh"], 3), np.split(w["bias_hh"], 3)
    r, z = sigmoid(x_r + h @ W_r.T + b_r), sigmoid(x_z + h @ W_z.T + b_z)
    return ((1 - z) * np.tanh(x_n + (r * h) @ W_n.T + b_n) + z * h,)


def mgu(w: Weights, x: Complex, states: States) -> States:
    (h,) = states
    x_f, x_n = np.split(x @ w["weight_ih"].T + w["bias_ih"], 2, axis=1)
    (W_f, W_n), (b_f, b_n) = np.split(w["weight_hh"], 2), np.split(w["bias_hh"], 2)
    f = sigmoid(x_f + h @ W_f.T + b_f)
    return ((1 - f) * h + f * np.tanh(x_n + (f * h) @ W_n.T + b_n),)


def multiplicative_lstm(w: Weights, x: Complex, states: States) -> States:
    h, c = states
    a_i, a_f, a_g, a_o = four(w, x, (x @ w["weight_im"].T) * (h @ w["weight_hm"].T))
    c = sigmoid(a_f) * c + sigmoid(a_i) * np.tanh(a_g)
    return sigmoid(a_o) * np.tanh(c), c


def recurrent_highway(w: Weights, x: Complex, states: States) -> States:
    (s,) = states
    for layer, (W, b) in enumerate(zip(w["weight_hh"], w["bias_hh"], strict=True)):
        a = s @ W.T + b + (x @ w["weight_ih"].T if layer == 0 else 0)
        n, z = np.split(a, 2, axis=1)
        s = sigmoid(z) * np.tanh(n) + (1 - sigmoid(z)) * s
    return (s,)


def ind_rnn(w: Weights, x: Complex, states: States) -> States:
    a = x @ w["weight_ih"].T + w["bias_ih"] + w["weight_hh"] * states[0]
    return (np.where(a.real > 0, a, 0),)


def antisymmetric_rnn(w: Weights, x: Complex, states: States) -> States:
    (h,) = states
    W = w["weight_hh"] - w["weight_hh"].T - 0.01 * np.eye(h.shape[1])
    return (h + 0.1 * np.tanh(h @ W.T + x @ w["weight_ih"].T + w["bias_ih"]),)


def slstm(w: Weights, x: Complex, states: States) -> States:
    h, c, n, m = states
    a_i, a_f, a_z, a_o = four(w, x, h)
    kept = np.log(sigmoid(a_f)) + m
    m = np.where(kept.real > a_i.real, kept, a_i)
    i, f = np.exp(a_i - m), np.exp(kept - m)
    c, n = f * c + i * np.tanh(a_z), f * n + i
    return sigmoid(a_o) * c / n, c, n, m


def min_gru(w: Weights, x: Complex, states: States) -> States:
    z, n = np.split(x @ w["weight_ih"].T + w["bias_ih"], 2, axis=1)
    return ((1 - sigmoid(z)) * states[0] + sigmoid(z) * n,)


def min_lstm(w: Weights, x: Complex, states: States) -> States:
    f, i, n = np.split(x @ w["weight_ih"].T + w["bias_ih"], 3, axis=1)
    both = sigmoid(f) + sigmoid(i)
    return (sigmoid(f) / both * states[0] + sigmoid(i) / both * n,)


STEPS: dict[str, Step] = {
    step.__name__: step
    for step in (
        peephole_lstm, coupled_lstm, projected_lstm, layer_norm_lstm, layer_norm_gru, reset_before_gru, mgu,
        multiplicative_lstm, recurrent_highway, ind_rnn, antisymmetric_rnn, slstm, min_gru, min_lstm,
    )
}  # fmt: skip


def over_time(step: Step, w: Weights, x: Complex, states: States) -> list[Complex]:
    """The outputs (T, B, H), and every state after the last step."""
    outputs = []
    for x_t in x:
        states = step(w, x_t, states)
        outputs.append(states[0])
    return [np.array(outputs), *states]


def answer(
    step: Step, names: list[str], x: Complex, states: States, weights: list[Complex], cotangents: list[Complex]
) -> tuple[list[NDArray[np.floating]], list[NDArray[np.floating]]]:
    """Outputs and final states, and the gradients of x, the states and the weights, for these cotangents."""
    inputs = [array.astype(complex) for array in (x, *states, *weights)]
    count = 1 + len(states)

    def run() -> list[Complex]:
        named = dict(zip(names, inputs[count:], strict=True))
        return over_time(step, named, inputs[0], tuple(inputs[1:count]))

    results = [result.real for result in run()]
    gradients: list[NDArray[np.floating]] = []
    for array in inputs:
        gradient = np.zeros(array.shape)
        for place in np.ndindex(array.shape):
            array[place] += 1j * H
            moved = run()
            array[place] -= 1j * H
            gradient[place] = sum((d * result.imag).sum() for d, result in zip(cotangents, moved, strict=True)) / H
        gradients.append(gradient)
    return results, gradients
