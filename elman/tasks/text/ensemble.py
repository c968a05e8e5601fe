"""An ensemble of a recurrent language model and an n-gram.

    p(w) = a p_network(w) + (1 - a) p_ngram(w)

An n-gram knows rare sequences of tokens by heart, and a network what is similar: on small texts their errors differ, so
that the mean of both has a lower cross-entropy than each. T. Mikolov et al., "Recurrent neural network based language
model", Interspeech 2010.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from torch import Tensor, nn

from elman.baselines.kneser_ney import NGram
from elman.tasks.text.model import LanguageModel

Reals = NDArray[np.float64]


class Ensemble(nn.Module):
    """A language model that predicts the weighted mean of the probabilities of a network and of an n-gram.

    Args:
        network: the network.
        ngram: an n-gram over the same tokens.
        weight: the weight of the network, from 0 to 1.

    >>> from elman.baselines.kneser_ney import NGram
    >>> network, ngram = LanguageModel(3, hidden=4), NGram.fit(np.array([0, 1, 2] * 9), vocabulary=3, order=2)
    >>> logits, state = Ensemble(network, ngram, 0.5)(torch.tensor([[0], [1]]))
    >>> logits.argmax(2).T.tolist()
    [[1, 2]]
    """

    def __init__(self, network: LanguageModel, ngram: NGram, weight: float) -> None:
        super().__init__()
        self.network, self.ngram, self.weight = network, ngram, weight
        self.title = f"{network.title} and {ngram.order}-gram"
        self.output = nn.Identity()

    def forward(self, tokens: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Map token ids (T, B) to the log probabilities of the token after each, (T, B, V), and return the state."""
        of_network, recent = state or (None, tokens[:0].cpu())
        logits, of_network = self.network(tokens, of_network)
        context = torch.cat((recent, tokens.cpu()))  # of the tokens before, only as many as the n-gram reads
        rows = [self.ngram.next_probabilities(row.numpy())[len(recent) :] for row in context.unbind(1)]
        p = torch.from_numpy(np.stack(rows, 1)).to(logits)
        log_p = (self.weight * logits.softmax(2) + (1 - self.weight) * p).log()
        return log_p, (of_network, context[max(len(context) - self.ngram.order + 1, 0) :])

    hidden = forward  # `output` is the identity


def network_of(model: LanguageModel | Ensemble) -> LanguageModel:
    """Return the network of an ensemble, or the network itself."""
    return model.network if isinstance(model, Ensemble) else model


def mean_nats(network: Reals, ngram: Reals, weight: float) -> Reals:
    """Return the cross-entropy of the ensemble from those of its two models, (N,)."""
    with np.errstate(divide="ignore"):  # the logarithm of a weight of 0
        nats: Reals = -np.logaddexp(np.log(weight) - network, np.log(1 - weight) - ngram)
    return nats


def fit_weight(network: Reals, ngram: Reals) -> float:
    """Return the weight with the lowest cross-entropy of a text, from those of its tokens, (N,)."""
    return float(minimize_scalar(lambda weight: mean_nats(network, ngram, weight).mean(), bounds=(0, 1)).x)
