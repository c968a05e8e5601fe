"""Three networks read a text, and `elman.flow` judges each: `python examples/three_verdicts.py tinyshakespeare.txt`.

Without a file, the text is Python's own reference manual.
"""

import sys
from pathlib import Path
from pydoc_data.topics import topics

import torch
from torch import nn
from torch.nn.functional import cross_entropy

import elman
from elman.flow import record

T, B, H, STEPS = 100, 16, 64, 60
given = [Path(name) for name in sys.argv[1:] if name.endswith(".txt")]
text = given[0].read_text() if given else "\n\n".join(topics[name] for name in sorted(topics))
letters = {letter: i for i, letter in enumerate(sorted(set(text)))}
ids = torch.tensor([letters[letter] for letter in text[: STEPS * T * B + 1]])


class Reader(nn.Module):
    """Letters to the logits of the next ones."""

    def __init__(self, recurrent: elman.Stack) -> None:
        super().__init__()
        self.embed, self.recurrent = nn.Embedding(len(letters), 32), recurrent
        self.read = nn.Linear(H, len(letters))

    def loss(self, piece: torch.Tensor) -> torch.Tensor:
        """Of a piece (T + 1, B)."""
        outputs, _ = self.recurrent(self.embed(piece[:-1]))
        return cross_entropy(self.read(outputs).flatten(0, 1), piece[1:].flatten())


def judge(name: str, recurrent: elman.Stack) -> None:
    """Train for a while, and look at one more backward pass."""
    model = Reader(recurrent)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    streams = ids[1:].view(B, -1).T  # as many streams side by side
    for k in range(STEPS - 1):
        loss = model.loss(streams[k * T : (k + 1) * T + 1])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    with record(model) as flow:
        model.loss(streams[-T - 1 :]).backward()
    print(f"{name}, loss {loss.item():.2f}\n{flow.verdict()}\n")


torch.manual_seed(0)
judge("a plain tanh RNN", elman.RNN(32, H))
judge("an LSTM whose forget gates begin open", elman.LSTM(32, H, forget_bias=3.0))
scaled = elman.RNN(32, H, nonlinearity="relu")
with torch.no_grad():
    scaled.get_parameter("weight_hh_l0").mul_(4)
judge("an RNN with weights that are four times too large", scaled)
