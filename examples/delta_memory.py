"""A cell whose memory is written by the delta rule, trained to recall: key, value, ..., key -> which value?"""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize, one_hot

import elman


class DeltaMemory(nn.Module):
    """A matrix that maps keys to values; each step corrects the value of one key.

        k, v, q, b = W x_t
        k, q = k / |k|, q / |q|
        S_t = S_{t-1} + sigmoid(b) (v - S_{t-1} k) k^T
        y_t = S_t q

    Schlag, Irie and Schmidhuber, "Linear Transformers Are Secretly Fast Weight Programmers", arXiv:2102.11174.
    """

    def __init__(self, input_size: int, size: int) -> None:
        super().__init__()
        self.size, self.state_size = size, size * size
        self.project = nn.Linear(input_size, 3 * size + 1)

    def forward(self, x: Tensor, S: Tensor) -> tuple[Tensor, Tensor]:
        """One step: x (B, D) and S (B, size * size) to the output (B, size) and the next S."""
        k, v, q, b = self.project(x).split([self.size] * 3 + [1], -1)
        k, q, S = _unit(k), _unit(q), S.unflatten(-1, (self.size, self.size))
        stored = (S * k).sum(-1)
        S = S + (b.sigmoid() * (v - stored)).unsqueeze(-1) * k
        return (S * q).sum(-1), S.flatten(-2)


def _unit(a: Tensor) -> Tensor:
    return normalize(a, dim=-1).unsqueeze(-2)


def recall(batch: int, pairs: int = 4, kinds: int = 8) -> tuple[Tensor, Tensor]:
    """Sequences (T, B, 2 * kinds) of keys with their values, then one of the keys alone; and the values to recall."""
    keys = torch.rand(batch, kinds).argsort(-1)[:, :pairs]
    values = torch.randint(kinds, (batch, pairs))
    asked = torch.randint(pairs, (batch, 1))
    x = torch.cat((one_hot(keys, kinds), one_hot(values, kinds)), -1)
    question = torch.cat((one_hot(keys.gather(1, asked), kinds), torch.zeros(batch, 1, kinds)), -1)
    return torch.cat((x, question), 1).transpose(0, 1).float(), values.gather(1, asked).squeeze(1)


torch.manual_seed(0)
layer, read = elman.Recurrent(DeltaMemory(16, 32)), nn.Linear(32, 8)
optimizer = torch.optim.Adam([*layer.parameters(), *read.parameters()], lr=0.01)
schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=1001)
for step in range(1001):
    x, value = recall(batch=64)
    outputs, _ = layer(x)
    guess = read(outputs[-1])
    loss = cross_entropy(guess, value)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()
    if step % 250 == 0:
        x, value = recall(batch=1024)
        with torch.no_grad():
            wrong = (read(layer(x)[0][-1]).argmax(-1) != value).float().mean()
        print(f"step {step}: recall error {wrong:.3f}")
