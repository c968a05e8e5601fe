"""What sequences of several lengths cost: `python benchmarks/ragged.py --threads 2`.

Lengths are drawn uniformly from 1 to T. Forward and backward, with the gradient of x, in turns as in `elman bench`:
our layer with `lengths=` beside the same call with padding and all; and our layer beside torch.nn's, both given a
PackedSequence and giving one back, and both from a padded batch to a padded batch (torch.nn's packs and unpacks it).
"""

from collections.abc import Callable
from functools import partial

import torch
from arguments import arguments
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from elman.bench.layers import AGREEMENT, PAIRS, Shape, medians
from elman.bench.run import machine

SHAPES = "128,32,128,128"


def sides(cell: str, shape: Shape) -> tuple[list[Callable[[], list[Tensor]]], float]:
    """Functions to time, each of which returns what must agree; and the share of steps that are real."""
    torch.manual_seed(0)
    pair, (T, B, D, H) = PAIRS[cell], shape
    ours, theirs = pair.ours(D, H, executor="native"), pair.theirs(D, H)
    theirs.load_state_dict(ours.state_dict())
    lengths = torch.randint(1, T + 1, (B,))
    lengths[0] = T
    x, dy = torch.randn(T, B, D, requires_grad=True), torch.randn(T, B, H)
    dy *= (torch.arange(T).unsqueeze(1) < lengths).unsqueeze(2)
    packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
    rows = packed._replace(data=packed.data.detach().requires_grad_())
    d_rows = pack_padded_sequence(dy, lengths, enforce_sorted=False).data

    def gradients(layer: torch.nn.Module, outputs: Tensor, d: Tensor, of: Tensor) -> list[Tensor]:
        return list(torch.autograd.grad(outputs, [of, *layer.parameters()], d))

    def padded() -> list[Tensor]:
        return gradients(ours, ours(x)[0], dy, x)

    def ragged() -> list[Tensor]:
        return gradients(ours, ours(x, lengths=lengths)[0], dy, x)

    def in_packs(layer: torch.nn.Module) -> list[Tensor]:
        return gradients(layer, layer(rows)[0].data, d_rows, rows.data)

    def from_padded() -> list[Tensor]:
        outputs = pad_packed_sequence(theirs(pack_padded_sequence(x, lengths, enforce_sorted=False))[0])[0]
        return gradients(theirs, outputs, dy, x)

    return [padded, ragged, partial(in_packs, ours), partial(in_packs, theirs), from_padded], len(d_rows) / (T * B)


def disagreement(functions: list[Callable[[], list[Tensor]]]) -> float:
    """Between our gradients and those of torch.nn, packed and from padded."""
    _, ragged, ours, theirs, from_padded = functions
    pairs = [*zip(ours(), theirs(), strict=True), *zip(ragged(), from_padded(), strict=True)]
    return max(float((a - b).norm() / b.norm()) for a, b in pairs)


def main() -> None:
    """Print a table."""
    asked = arguments(__doc__, SHAPES, seconds=2.0).parse_args()
    torch.set_num_threads(asked.threads)
    print(f"{'layer':9} {'T,B,D,H':>16} {'real':>5} {'padded ms':>10} {'lengths ms':>11} {'of padded':>10} "
          f"{'packed ms':>10} {'torch.nn ms':>12} {'faster':>7} {'and padding ms':>15} {'faster':>7}")  # fmt: skip
    for cell in PAIRS:
        for shape in asked.shapes:
            functions, real = sides(cell, shape)
            if not (error := disagreement(functions)) <= 10 * AGREEMENT:
                raise SystemExit(f"{cell} {shape}: the gradients differ by {error:.1e}")
            padded, ragged, ours, theirs, whole = (1e3 * t for t in medians(functions, asked.seconds))
            print(f"{cell:9} {shape!s:>16} {real:5.2f} {padded:10.2f} {ragged:11.2f} {ragged / padded:10.2f} "
                  f"{ours:10.2f} {theirs:12.2f} {theirs / ours:7.2f} {whole:15.2f} {whole / ragged:7.2f}",
                  flush=True)  # fmt: skip
    print(f"{asked.threads} threads; {machine()['cpu']}, torch {torch.__version__}")


if __name__ == "__main__":
    main()
