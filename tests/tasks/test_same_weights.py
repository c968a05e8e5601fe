"""Trainings with several threads give the same weights every time."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from elman.data.examples import Example
from elman.tasks.classify.model import TextClassifier
from elman.tasks.classify.options import ClassifyOptions
from elman.tasks.classify.task import ClassifyCodec
from elman.tasks.music.chain import Chain, link_notes
from elman.tasks.music.steps import PITCHES
from elman.tasks.tag.model import Tagger
from elman.tasks.tag.options import TagOptions
from elman.tasks.tag.task import TagCodec

WORDS = ["one", "two", "two", "three"]
EXAMPLES = {
    "classify": [Example(" ".join(WORDS), "a"), Example("two words", "b")],
    "tag": [Example(WORDS, ["A", "B", "B", "A"]), Example(["two"], ["B"])],
}
PARTS: dict[str, tuple[Any, Any, Any]] = {
    "classify": (ClassifyCodec, ClassifyOptions, TextClassifier),
    "tag": (TagCodec, TagOptions, Tagger),
}


def nodes(node: Any) -> Iterator[str]:
    """The names of the nodes of an autograd graph."""
    waiting, seen = [node], set[Any]()
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            yield node.name()
            waiting += [following for following, _ in node.next_functions]


@pytest.mark.parametrize("task", PARTS)
def test_no_gradient_is_added_in_the_order_of_the_threads(task: str) -> None:
    codec_type, options_type, model_type = PARTS[task]
    options = options_type(hidden=4, embed=4)
    codec = codec_type.fit(EXAMPLES[task], options)
    model = model_type(**codec.model_args(options))
    loss, *_ = model.loss(codec.collate([codec.encode(example)[0] for example in EXAMPLES[task]]))
    names = set(nodes(loss.grad_fn))
    assert indexing() not in names
    assert "EmbeddingBackward0" in names  # the graph was walked up to the embeddings


def test_no_gradient_of_a_chord_is_added_in_the_order_of_the_threads() -> None:
    frames = torch.zeros(2, PITCHES)
    frames[:, [40, 47, 52]] = 1
    links = link_notes(torch.zeros_like(frames), frames)
    names = set(nodes(Chain(4, 0.5).logits(torch.randn(2, 4), links).grad_fn))
    assert indexing() not in names
    assert "EmbeddingBackward0" in names


def indexing() -> str:
    """The node of indexing: on the CPU, its backward pass adds by atomic operations where indices are repeated."""
    node = torch.zeros(2, requires_grad=True)[torch.tensor([0, 0])].grad_fn
    assert node is not None
    name: str = node.name()
    return name
