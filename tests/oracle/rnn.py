"""The Elman network by the textbook of this project, which imports nothing from the rest: row by row of the batch."""

import numpy as np

from elman import textbook
from tests.oracle import Answer, Array, Gradients, Weights


def rnn(g: str, w: Weights, x: Array, states: tuple[Array, ...], dy: Array, d_final: tuple[Array, ...]) -> Answer:
    """Outputs, (h_T,) and all gradients, given the cotangents dy (T, B, H) and d_final = (dh_T,)."""
    # The textbook has one bias, and outputs that nothing here looks at.
    H = len(w.b_ih)
    p = textbook.Parameters(U=w.W_ih, W=w.W_hh, V=np.eye(H), b=w.b_ih + w.b_hh, c=np.zeros(H))
    h_0, dh_T = states[0], d_final[0]
    dh = dy.copy()
    dh[-1] += dh_T  # the final state is the last output
    rows = range(x.shape[1])
    h = np.stack([textbook.forward(p, x[:, b], g, "linear", h_0[b]).h for b in rows], axis=1)
    da = np.stack([textbook.backward(p, h[:, b], dh[:, b], g) for b in rows], axis=1)
    h_previous = np.concatenate([h_0[None], h[:-1]])
    db = da.sum(axis=(0, 1))
    weights = Weights(np.einsum("tbh,tbd->hd", da, x), np.einsum("tbh,tbk->hk", da, h_previous), db, db)
    return Answer(h, (h[-1],), Gradients(da @ w.W_ih, (da[0] @ w.W_hh,), weights))
