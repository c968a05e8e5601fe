"""The recurrent network of the textbooks, by hand: forward, backpropagation through time, gradient descent.

For reading, and the oracle of this project's tests: NumPy alone, nothing from elman. The letters are the textbooks':

    a_t = U x_t + W h_{t-1} + b        h_t = g(a_t)        h_0 = 0
    o_t = V h_t + c                    y_t = softmax(o_t), or o_t itself

U sees the input, W the previous state, V makes the output; b and c are biases; all five are the same at every step.
Sequences are arrays with time first: x is (T, D), h is (T, H), y is (T, O). Row 0 holds step 1.

Learning to say "please stay at home":

>>> words = ["please", "stay", "at", "home"]
>>> x = one_hot(["please", "stay", "at"], words)
>>> targets = one_hot(["stay", "at", "home"], words)
>>> p = start(inputs=4, hidden=8, outputs=4, seed=0)
>>> round(cross_entropy(forward(p, x).y, targets), 2)
1.54
>>> for _ in range(100):
...     p = descend(p, bptt(p, x, targets), learning_rate=0.5)
>>> [words[i] for i in forward(p, x).y.argmax(axis=1)]
['stay', 'at', 'home']
>>> cross_entropy(forward(p, x).y, targets) < 0.05
True
"""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
Output = Literal["softmax", "linear"]


class Parameters(NamedTuple):
    """The weights and biases, or the gradient of the loss with respect to each."""

    U: Array  # (H, D)
    W: Array  # (H, H)
    V: Array  # (O, H)
    b: Array  # (H,)
    c: Array  # (O,)


class Activation(NamedTuple):
    """g, and its derivative written in terms of its value: g'(a) = slope(g(a))."""

    value: Callable[[Array], Array]
    slope: Callable[[Array], Array]


ACTIVATIONS = {
    "tanh": Activation(np.tanh, lambda h: 1 - h**2),
    "sigmoid": Activation(lambda a: 1 / (1 + np.exp(-a)), lambda h: h * (1 - h)),
    "relu": Activation(lambda a: np.maximum(a, 0), lambda h: (h > 0).astype(h.dtype)),
}


class Trace(NamedTuple):
    """What a forward pass leaves behind: every state and every output."""

    h: Array  # (T, H)
    y: Array  # (T, O)


def one_hot(words: Sequence[str], vocabulary: Sequence[str]) -> Array:
    """Each word as a row of zeros with a one at its place in the vocabulary.

    >>> one_hot(["b", "a"], ["a", "b", "c"])
    array([[0., 1., 0.],
           [1., 0., 0.]])
    """
    return np.eye(len(vocabulary))[[list(vocabulary).index(word) for word in words]]


def start(inputs: int, hidden: int, outputs: int, seed: int = 0) -> Parameters:
    """Small random weights, biases of zero."""
    draw = np.random.default_rng(seed).normal
    return Parameters(
        U=draw(size=(hidden, inputs)) / np.sqrt(inputs),
        W=draw(size=(hidden, hidden)) / np.sqrt(hidden),
        V=draw(size=(outputs, hidden)) / np.sqrt(hidden),
        b=np.zeros(hidden),
        c=np.zeros(outputs),
    )


def forward(p: Parameters, x: Array, g: str = "tanh", output: Output = "softmax", h_0: Array | None = None) -> Trace:
    """Run the network over x (T, D) from the state h_0 (H), or from zeros."""
    h_previous = np.zeros_like(p.b) if h_0 is None else h_0
    h = np.zeros((len(x), len(p.b)), p.b.dtype)
    for t in range(len(x)):
        h[t] = ACTIVATIONS[g].value(p.U @ x[t] + p.W @ h_previous + p.b)
        h_previous = h[t]
    o = h @ p.V.T + p.c
    return Trace(h, softmax(o) if output == "softmax" else o)


def softmax(o: Array) -> Array:
    """Rows that are positive and sum to one.

    >>> softmax(np.array([[0.0, np.log(3.0)]])).round(2)
    array([[0.25, 0.75]])
    """
    # The same number taken from all of a row changes nothing, and keeps exp from overflowing.
    e = np.exp(o - o.max(axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True))


def cross_entropy(y: Array, targets: Array) -> float:
    """The negative log of the probability of each right word, summed over the sentence, averaged over its N words."""
    return float(-np.log((y * targets).sum(axis=1)).sum() / len(y))


def mean_squared_error(y: Array, targets: Array) -> float:
    """The squared distance of each output from its target, summed over the sequence, averaged over its N steps."""
    return float(((y - targets) ** 2).sum() / len(y))


def output_gradient(y: Array, targets: Array, output: Output = "softmax") -> Array:
    """dL/do_t for every t: of the cross-entropy under softmax, of the mean squared error under a linear output."""
    return (y - targets) / len(y) if output == "softmax" else 2 * (y - targets) / len(y)


def bptt_as_sum(p: Parameters, x: Array, targets: Array, g: str = "tanh", output: Output = "softmax") -> Parameters:
    """The gradient as the textbooks write it: for every step t, a sum over all steps k up to it.

        dL/dW = sum_t sum_{k <= t}  dL_t/dh_t  (prod_{j = k+1..t} dh_j/dh_{j-1})  dh_k/dW
        dh_j/dh_{j-1} = diag(g'(a_j)) W

    and the same for U and b. The gradient of V needs step t alone. Takes O(T^2) steps; `bptt` gives the same in O(T).
    """
    h, y = forward(p, x, g, output)
    slope = ACTIVATIONS[g].slope(h)
    do = output_gradient(y, targets, output)
    gradient = Parameters(*(np.zeros_like(parameter) for parameter in p))
    for t in range(len(x)):
        gradient.V[:] += np.outer(do[t], h[t])
        gradient.c[:] += do[t]
        arriving = do[t] @ p.V  # dL_t/dh_k, beginning with k = t
        for k in range(t, -1, -1):
            da = arriving * slope[k]  # dL_t/da_k
            gradient.U[:] += np.outer(da, x[k])
            gradient.W[:] += np.outer(da, h[k - 1] if k > 0 else np.zeros_like(p.b))
            gradient.b[:] += da
            arriving = da @ p.W  # one more factor of the product: from k to k - 1
    return gradient


def bptt(p: Parameters, x: Array, targets: Array, g: str = "tanh", output: Output = "softmax") -> Parameters:
    """The same gradient in O(T): what all later steps send back to h_t is carried along instead of summed anew."""
    h, y = forward(p, x, g, output)
    do = output_gradient(y, targets, output)
    da = backward(p, h, do @ p.V, g)
    h_previous = np.vstack([np.zeros_like(p.b), h[:-1]])
    return Parameters(U=da.T @ x, W=da.T @ h_previous, V=do.T @ h, b=da.sum(axis=0), c=do.sum(axis=0))


def backward(p: Parameters, h: Array, dh: Array, g: str = "tanh") -> Array:
    """The recursion of BPTT: dL/da_t for every t, from what each h_t receives directly.

        dL/da_t = (dh_t + dL/da_{t+1} W) * g'(a_t)

    dh (T, H) is dL/dh_t without the way through later steps; dL/da_{T+1} is zero.
    """
    slope = ACTIVATIONS[g].slope(h)
    da = np.zeros_like(h)
    from_later = np.zeros_like(p.b)
    for t in range(len(h) - 1, -1, -1):
        da[t] = (dh[t] + from_later) * slope[t]
        from_later = da[t] @ p.W
    return da


def descend(p: Parameters, gradient: Parameters, learning_rate: float) -> Parameters:
    """One step of gradient descent."""
    return Parameters(*(w - learning_rate * dw for w, dw in zip(p, gradient, strict=True)))
