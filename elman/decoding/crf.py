"""A linear-chain conditional random field (CRF) over the labels of a sequence.

    score(y) = a[y_1] + sum over t of e_t[y_t] + sum over t > 1 of A[y_t-1, y_t] + b[y_T]
    p(y | x) = exp(score(y)) / Z,  Z = sum over all y of exp(score(y))

e_t are the emissions, K numbers of a network for step t; A, a and b are learned. J. Lafferty, A. McCallum and
F. Pereira, "Conditional random fields", ICML 2001.
"""

import torch
from torch import Tensor, nn


class LinearChain(nn.Module):
    """A linear-chain CRF: its loss, the probability of each label at each step, and the most probable labels.

    A new one has transitions of zero, so that the labels of different steps are independent.

    Args:
        labels: K, number of labels.

    >>> crf = LinearChain(2)
    >>> _ = crf.transitions.data.fill_(-5.0).fill_diagonal_(5.0)                  # labels seldom change
    >>> emissions = torch.tensor([[[2.0, 0.0]], [[0.0, 1.0]], [[2.0, 0.0]]])      # T=3 steps of B=1 sequence
    >>> P, best = crf.decode(emissions, torch.tensor([3]))
    >>> best.T
    tensor([[0, 0, 0]])
    >>> crf(emissions, torch.tensor([3]), best) < crf(emissions, torch.tensor([3]), 1 - best)
    tensor([True])
    """

    def __init__(self, labels: int) -> None:
        super().__init__()
        self.transitions = nn.Parameter(torch.zeros(labels, labels))  # from a label (row) to the next
        self.begin, self.end = nn.Parameter(torch.zeros(labels)), nn.Parameter(torch.zeros(labels))

    def forward(self, emissions: Tensor, lengths: Tensor, labels: Tensor) -> Tensor:
        """Return -log p(labels | emissions) of each sequence, (B,).

        Args:
            emissions: (T, B, K).
            lengths: steps of each sequence, (B,), at least 1.
            labels: numbers of the labels, (T, B). A negative number is an unknown label, over which p is summed.
        """
        emissions = emissions.float()  # autocast may have computed them in half precision
        is_possible = (labels.unsqueeze(2) == torch.arange(emissions.shape[2], device=labels.device)) | (
            labels.unsqueeze(2) < 0
        )
        constrained = emissions.masked_fill(~is_possible, -torch.inf)
        both = self.log_partition(torch.cat((emissions, constrained), 1), lengths.repeat(2))
        log_z, log_z_of_labels = both.chunk(2)
        return log_z - log_z_of_labels

    def log_partition(self, emissions: Tensor, lengths: Tensor) -> Tensor:
        """Return log Z of each sequence, (B,), by the forward algorithm."""
        return (self._forward_scores(emissions, lengths)[-1] + self.end.to(emissions)).logsumexp(1)

    def _forward_scores(self, emissions: Tensor, lengths: Tensor) -> list[Tensor]:
        """Return for each step the log of the sum over all beginnings that end in each label, (B, K).

        Behind the end of a sequence, they are those of its last step.
        """
        begin, transitions = self.begin.to(emissions), self.transitions.to(emissions)
        scores = [begin + emissions[0]]
        for t in range(1, len(emissions)):
            extended = (scores[-1].unsqueeze(2) + transitions).logsumexp(1) + emissions[t]
            scores.append(torch.where((t < lengths).unsqueeze(1), extended, scores[-1]))
        return scores

    def _backward_scores(self, emissions: Tensor, lengths: Tensor) -> list[Tensor]:
        """Return for each step the log of the sum over all ends that continue each label, (B, K)."""
        end, transitions = self.end.to(emissions), self.transitions.to(emissions)
        scores = [end.expand_as(emissions[0])]
        for t in range(len(emissions) - 1, 0, -1):
            extended = ((scores[-1] + emissions[t]).unsqueeze(1) + transitions).logsumexp(2)
            scores.append(torch.where((t < lengths).unsqueeze(1), extended, end))
        return scores[::-1]

    def decode(self, emissions: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return the probability of each label at each step, and the most probable sequence of labels.

        Args:
            emissions: (T, B, K), on any device and in any precision, which are those of the results.
            lengths: steps of each sequence, (B,), at least 1. What is returned behind the end of one has no meaning.

        Returns:
            The marginals p(y_t = k | x), (T, B, K), by the forward-backward algorithm; and the numbers of the labels
            with the highest score together, (T, B), by the Viterbi algorithm.
        """
        before, after = (scores(emissions, lengths) for scores in (self._forward_scores, self._backward_scores))
        marginals = (torch.stack(before) + torch.stack(after)).softmax(2)
        return marginals, self._viterbi(emissions, lengths)

    def _viterbi(self, emissions: Tensor, lengths: Tensor) -> Tensor:
        begin, transitions, end = (part.to(emissions) for part in (self.begin, self.transitions, self.end))
        score, labels = begin + emissions[0], torch.arange(emissions.shape[2], device=emissions.device)
        previous = list[Tensor]()  # of each label, at each step but the first
        for t in range(1, len(emissions)):
            best, from_label = (score.unsqueeze(2) + transitions).max(1)
            goes_on = (t < lengths).unsqueeze(1)
            score = torch.where(goes_on, best + emissions[t], score)
            previous.append(torch.where(goes_on, from_label, labels))
        path = [(score + end).argmax(1, keepdim=True)]
        for from_label in reversed(previous):
            path.append(from_label.gather(1, path[-1]))
        return torch.cat(path[::-1], 1).T
