"""A recurrent decoder with attention: it writes a sequence of tokens about what an encoder has read."""

from abc import abstractmethod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, embedding, linear

from elman.decoding.beam import search
from elman.layers import Stack


class Memory(NamedTuple):
    """What an encoder has read.

    rows: (S, B, M), one for each step; behind the ends zeros.
    lengths: (B,), how many steps each has.
    """

    rows: Tensor
    lengths: Tensor


class Pairs(NamedTuple):
    """A batch: sequences to read and sequences to write.

    source: (S, B) or (S, B, D).
    lengths: (B,), of these.
    targets: (T, B), tokens, the last of each the one that ends it.
    target_lengths: (B,), of these.
    """

    source: Tensor
    lengths: Tensor
    targets: Tensor
    target_lengths: Tensor


class Decoder(nn.Module):
    """Recurrent layers over the tokens written so far, attention to what was read, a linear output.

        h_t    = recurrent(e_1 ... e_t)          e_1 from the mean of the memory, e_{t+1} of the token y_t
        a_ts   = softmax over s of h_t W m_s     "general" attention
        u_t    = tanh(U [sum over s of a_ts m_s; h_t])
        p(y_t) = softmax(E u_t + b)              E has the embeddings of the tokens

    M.-T. Luong, H. Pham and C. D. Manning, "Effective approaches to attention-based neural machine translation", EMNLP
    2015, without input feeding: so the layers run over all steps of a target at once in training, and attention is two
    products of matrices. The first input as in O. Vinyals et al., "Show and tell", CVPR 2015; E as in O. Press and
    L. Wolf, "Using the output embedding to improve language models", EACL 2017.

    Args:
        vocabulary: V, how many tokens there are; the last of them ends a sequence.
        memory: M, width of what was read.
        embed: width of the embedding.
        recurrent: over the embedding.
        dropout: probability, on the embeddings, on what was read and before the output, in training.
    """

    def __init__(self, vocabulary: int, memory: int, embed: int, recurrent: Stack, dropout: float) -> None:
        super().__init__()
        H = recurrent.output_size
        self.begin = nn.Linear(memory, embed)
        self.embedding = nn.Parameter(torch.randn(vocabulary, embed) * embed**-0.5)
        self.recurrent = recurrent
        self.query = nn.Linear(H, memory, bias=False)
        self.joined = nn.Linear(memory + H, embed)
        self.bias = nn.Parameter(torch.zeros(vocabulary))
        self.dropout = nn.Dropout(dropout)

    def start(self, memory: Memory) -> Tensor:
        """The first input (1, B, E)."""
        mean: Tensor = self.begin(memory.rows.sum(0) / memory.lengths.unsqueeze(1))
        return mean.unsqueeze(0)

    def embed(self, tokens: Tensor) -> Tensor:
        """Tokens (T, B) as inputs (T, B, E)."""
        return embedding(tokens, self.embedding)

    def forward(self, inputs: Tensor, memory: Memory, state: Any, lengths: Any = None) -> tuple[Tensor, Tensor, Any]:
        """From inputs (T, B, E) to u (T, B, E), attention (B, T, S), and the state after."""
        h, state = self.recurrent(self.dropout(inputs), state, lengths=lengths)
        rows = memory.rows.transpose(0, 1)
        read = torch.arange(rows.shape[1]) < memory.lengths.unsqueeze(1)
        scores = self.query(h).transpose(0, 1) @ rows.transpose(1, 2)
        a = scores.masked_fill(~read.unsqueeze(1), -torch.inf).softmax(2)
        u = self.joined(torch.cat([(a @ rows).transpose(0, 1), h], 2)).tanh()
        return u, a, state

    def logits(self, u: Tensor) -> Tensor:
        """Of the tokens, for rows (..., E)."""
        return linear(self.dropout(u), self.embedding, self.bias)


class Writer(nn.Module):
    """An encoder, and a decoder that writes about what it has read.

    Args:
        decoder: writes.
        smoothing: what share of a target's probability goes to all tokens alike, in training.
        title: for people.
    """

    def __init__(self, decoder: Decoder, smoothing: float, title: str) -> None:
        super().__init__()
        self.decoder, self.smoothing, self.title = decoder, smoothing, title

    @abstractmethod
    def encode(self, source: Tensor, lengths: Tensor) -> Tensor:
        """What the encoder makes of a source as in `Pairs`: (S, B, M)."""

    def read(self, source: Tensor, lengths: Tensor) -> Memory:
        """What the decoder is to write about."""
        return Memory(self.decoder.dropout(self.encode(source, lengths)), lengths)

    def forward(self, batch: Pairs) -> tuple[Tensor, Tensor]:
        """The logits (N, V) of the N tokens of all targets, each after those that come before it; attention."""
        memory = self.read(batch.source, batch.lengths)
        inputs = torch.cat([self.decoder.start(memory), self.decoder.embed(batch.targets[:-1])])
        u, attention, _ = self.decoder(inputs, memory, None, batch.target_lengths)
        return self.decoder.logits(u[_real(batch)]), attention

    def loss(self, batch: Pairs, state: Any = None) -> tuple[Tensor, int, Any]:
        """Cross-entropy in nats summed over the tokens of a batch, of how many, and no state."""
        logits, _ = self(batch)
        targets = batch.targets[_real(batch)]
        smoothing = self.smoothing if self.training else 0.0
        return cross_entropy(logits, targets, reduction="sum", label_smoothing=smoothing), len(targets), None

    @torch.no_grad()
    def write(self, source: Tensor, lengths: Tensor, width: int, longest: int, never: Tensor) -> list[list[int]]:
        """What is likeliest to be written of each sequence, by beam search.

        Args:
            source: as in `Pairs`.
            lengths: as in `Pairs`.
            width: of the beam.
            longest: tokens, the end among them.
            never: tokens that are not written.
        """
        memory, B = self.read(source, lengths), len(lengths)
        rows = Memory(memory.rows.repeat_interleave(width, 1), memory.lengths.repeat_interleave(width))

        def step(last: Tensor | None, state: Any) -> tuple[Tensor, Any]:
            inputs = self.decoder.start(rows) if last is None else self.decoder.embed(last.unsqueeze(0))
            u, _, state = self.decoder(inputs, rows, state)
            return self.decoder.logits(u[0]).index_fill(1, never, -torch.inf).log_softmax(1), state

        return search(step, None, B, width, len(self.decoder.bias) - 1, longest)


def _real(batch: Pairs) -> Tensor:
    """Where there are tokens (T, B)."""
    return torch.arange(len(batch.targets)).unsqueeze(1) < batch.target_lengths
