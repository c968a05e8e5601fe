"""A recurrent decoder with attention, which writes a token sequence from the output of an encoder."""

from abc import abstractmethod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, embedding, linear

from elman.decoding.beam import search
from elman.layers import Stack


class Memory(NamedTuple):
    """The output of an encoder.

    rows: (S, B, M), one row per step, zero beyond the end of a sequence.
    lengths: (B,), the number of steps of each sequence.
    """

    rows: Tensor
    lengths: Tensor


class Pairs(NamedTuple):
    """A batch of source and target sequences.

    source: source sequences, (S, B) tokens or (S, B, D) features.
    lengths: (B,), lengths of the source sequences.
    targets: (T, B), target tokens; each sequence ends with the end token.
    target_lengths: (B,), lengths of the target sequences.
    """

    source: Tensor
    lengths: Tensor
    targets: Tensor
    target_lengths: Tensor


class Decoder(nn.Module):
    """Recurrent layers over the tokens so far, attention to the memory, and a linear output.

        h_t    = recurrent(e_1 ... e_t)          e_1 from the mean of the memory, e_{t+1} of the token y_t
        a_ts   = softmax over s of h_t W m_s     "general" attention
        u_t    = tanh(U [sum over s of a_ts m_s; h_t])
        p(y_t) = softmax(E u_t + b)              E has the embeddings of the tokens

    M.-T. Luong, H. Pham and C. D. Manning, "Effective approaches to attention-based neural machine translation", EMNLP
    2015, without input feeding, so in training the layers run over all steps of a target at once, and attention is two
    matrix products. The first input follows O. Vinyals et al., "Show and tell", CVPR 2015; sharing E follows O. Press
    and L. Wolf, "Using the output embedding to improve language models", EACL 2017.

    Args:
        vocabulary: V, number of tokens; the last token ends a sequence.
        memory: M, width of the memory.
        embed: E, width of the embedding.
        recurrent: recurrent layers over the embeddings.
        dropout: dropout probability, applied to the embeddings, the memory and the input of the output layer.
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
        """Return the first input (1, B, E), from the mean of the memory."""
        mean: Tensor = self.begin(memory.rows.sum(0) / memory.lengths.unsqueeze(1))
        return mean.unsqueeze(0)

    def embed(self, tokens: Tensor) -> Tensor:
        """Embed tokens (T, B) as inputs (T, B, E)."""
        return embedding(tokens, self.embedding)

    def forward(self, inputs: Tensor, memory: Memory, state: Any, lengths: Any = None) -> tuple[Tensor, Tensor, Any]:
        """Run the decoder over several steps.

        Args:
            inputs: inputs (T, B, E).
            memory: the output of the encoder.
            state: initial state of the recurrent layers; None means their default.
            lengths: lengths of the sequences, (B,); None means T.

        Returns:
            u (T, B, E), attention weights (B, T, S) and the final state.
        """
        h, state = self.recurrent(self.dropout(inputs), state, lengths=lengths)
        rows = memory.rows.transpose(0, 1)
        is_step = torch.arange(rows.shape[1], device=rows.device) < memory.lengths.unsqueeze(1)
        scores = self.query(h).transpose(0, 1) @ rows.transpose(1, 2)
        a = scores.masked_fill(~is_step.unsqueeze(1), -torch.inf).softmax(2)
        u = self.joined(torch.cat([(a @ rows).transpose(0, 1), h], 2)).tanh()
        return u, a, state

    def logits(self, u: Tensor) -> Tensor:
        """Compute token logits for rows u (..., E)."""
        return linear(self.dropout(u), self.embedding, self.bias)


class Writer(nn.Module):
    """An encoder and a decoder that writes from the encoder's output.

    Args:
        decoder: the decoder.
        smoothing: label smoothing in training.
        title: name of the model for people.
    """

    def __init__(self, decoder: Decoder, smoothing: float, title: str) -> None:
        super().__init__()
        self.decoder, self.smoothing, self.title = decoder, smoothing, title

    @abstractmethod
    def encode(self, source: Tensor, lengths: Tensor | None) -> Tensor:
        """Encode a source as in `Pairs`; returns (S, B, M). Without lengths, all sources have S steps."""

    def read(self, source: Tensor, lengths: Tensor) -> Memory:
        """Encode a source and return the memory for the decoder."""
        return Memory(self.decoder.dropout(self.encode(source, lengths)), lengths)

    def forward(self, batch: Pairs) -> tuple[Tensor, Tensor]:
        """Return the logits (N, V) of all N target tokens, given the tokens before them, and the attention weights."""
        memory = self.read(batch.source, batch.lengths)
        inputs = torch.cat([self.decoder.start(memory), self.decoder.embed(batch.targets[:-1])])
        u, attention, _ = self.decoder(inputs, memory, None, batch.target_lengths)
        return self.decoder.logits(u[_target_mask(batch)]), attention

    def loss(self, batch: Pairs, state: Any = None) -> tuple[Tensor, int, Any]:
        """Return the cross-entropy in nats summed over the tokens of a batch, the number of tokens, and no state."""
        logits, _ = self(batch)
        targets = batch.targets[_target_mask(batch)]
        smoothing = self.smoothing if self.training else 0.0
        return cross_entropy(logits, targets, reduction="sum", label_smoothing=smoothing), len(targets), None

    @torch.no_grad()
    def write(self, source: Tensor, lengths: Tensor, width: int, max_length: int, never: Tensor) -> list[list[int]]:
        """Write the most probable target of each source by beam search.

        Args:
            source: as in `Pairs`.
            lengths: as in `Pairs`.
            width: beam width.
            max_length: maximum number of tokens, including the end token.
            never: tokens that must not be written.

        Returns:
            The tokens of each target, without the end token.
        """
        memory, B = self.read(source, lengths), len(lengths)
        never = never.to(source.device)
        rows = Memory(memory.rows.repeat_interleave(width, 1), memory.lengths.repeat_interleave(width))

        def step(last: Tensor | None, state: Any) -> tuple[Tensor, Any]:
            inputs = self.decoder.start(rows) if last is None else self.decoder.embed(last.unsqueeze(0))
            u, _, state = self.decoder(inputs, rows, state)
            return self.decoder.logits(u[0]).index_fill(1, never, -torch.inf).log_softmax(1), state

        return search(step, None, B, width, len(self.decoder.bias) - 1, max_length)


def _target_mask(batch: Pairs) -> Tensor:
    """Return a mask (T, B) of the target steps that hold tokens."""
    steps = torch.arange(len(batch.targets), device=batch.targets.device)
    return steps.unsqueeze(1) < batch.target_lengths
