"""Real-time recurrent learning of the tanh network, as Williams and Zipser (1989) write it, one sequence at a time."""

import numpy as np

from tests.oracle import Array


def rtrl(w: Array, x: Array, h_0: Array, dy: Array) -> tuple[Array, Array]:
    """The outputs (T, H), and of each step the gradient (T, H, I) of its own error, whose derivative dy (T, H) is.

        p^k_ij(t+1) = f'(s_k(t)) [sum_l w_kl p^l_ij(t) + delta_ik z_j(t)],  dE(t)/dw_ij = sum_k dy_k(t) p^k_ij(t)

    Args:
        w: (H, I), of each unit, for the inputs, for the units, and for what is always 1.
        x: (T, D), with I = D + H + 1.
        h_0: (H,)
        dy: (T, H)
    """
    H, width = w.shape
    D, h, p = x.shape[1], h_0, np.zeros((H, H, width))
    outputs, gradients = np.zeros((len(x), H)), np.zeros((len(x), H, width))
    for t, x_t in enumerate(x):
        z = np.concatenate([x_t, h, [1.0]])
        h = np.tanh(w @ z)
        now = np.zeros_like(p)
        for k in range(H):
            now[k] = sum(w[k, D + m] * p[m] for m in range(H))
            now[k, k] += z
            now[k] *= 1 - h[k] ** 2
        p = now
        outputs[t], gradients[t] = h, sum(dy[t, k] * p[k] for k in range(H))
    return outputs, gradients
