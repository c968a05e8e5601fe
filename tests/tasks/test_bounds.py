"""Baselines that have all at once in memory are fitted on as much as fits, and say so."""

from typing import Any

import numpy as np
import pytest
import torch

from elman.baselines import linear
from elman.baselines.kneser_ney import best
from elman.tasks import classification
from elman.tasks.caption import baselines as of_captions
from elman.tasks.classify import task as of_classify
from elman.tasks.registry import get_task, options_of
from elman.tasks.text import baseline as of_text
from elman.tasks.text.baseline import NgramBaseline
from elman.tasks.translate import baselines as of_translate
from tests.tasks.test_classify import texts
from tests.tasks.test_image import bars
from tests.tasks.test_translate import PAIRS

Modules = list[tuple[Any, str, int]]
CASES: dict[str, tuple[Any, Modules, list[str]]] = {
    "image": (
        bars(40),
        [(classification, "MAX_FEATURES", 20 * 30)],
        ["logistic regression, of 20 images", "feed-forward network 30-4-2, of 20 images"],
    ),
    "classify": (texts(), [(of_classify, "MAX_TEXTS", 20)], ["TF-IDF and logistic regression, of 20 texts"]),
    "caption": (
        bars(40),
        [(of_captions, "MAX_PIXELS", 20 * 30)],
        ["most frequent text", "logistic regression to whole texts, of 20 images"],
    ),
    "translate": (PAIRS, [(of_translate, "MAX_WORD_PAIRS", 200)], ["word by word (IBM model 1, of 24 pairs)"]),
}


@pytest.mark.parametrize("task", CASES)
def test_titles_say_on_how_many(task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data, bounds, titles = CASES[task]
    for module, name, value in bounds:
        monkeypatch.setattr(module, name, value)
    declared: Any = get_task(task)
    options = options_of(task).OPTIONS(hidden=2, **({"filters": 0} if task == "image" else {}))
    codec, parts, *_ = declared.prepare(data, options, 0).details
    found = declared.fit_baselines(codec, parts.train, options, 0)
    assert [one.title for one in found] == titles
    again = declared.load_baselines(codec, {name: tensor for one in found for name, tensor in one.tensors().items()})
    assert [one.title for one in again] == titles
    for one, other in zip(found, again, strict=True):
        own, its = one.predict(parts.test), other.predict(parts.test)
        assert all(torch.equal(torch.as_tensor(a), torch.as_tensor(b)) if task in ("image", "classify") else a == b
                   for a, b in zip(own, its, strict=True))  # fmt: skip
    monkeypatch.undo()
    assert not any(", of " in one.title for one in declared.fit_baselines(codec, parts.train, options, 0))


def test_every_label_is_among_some() -> None:
    y = np.array([0] * 50 + [1] * 3 + [2] * 47)
    found = linear.sample_each_label(y, 10)
    assert np.bincount(y[found]).tolist() == [5, 2, 4]
    assert linear.sample_each_label(y, 1000).tolist() == list(range(100))


@pytest.mark.parametrize("order", [1, 2, 4])
def test_n_grams_in_blocks(order: int, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = np.random.default_rng(0).integers(0, 3, 500) ** 2 % 3
    whole = NgramBaseline(best(ids[:400], ids[400:], 3, order))
    for block in (1, 2, 7, 499, 1000):
        monkeypatch.setattr(of_text, "BLOCK_SIZE", block)
        np.testing.assert_allclose(whole.nats(ids), whole.model.nats(ids), rtol=1e-12)
    assert len(whole.nats(ids[:1])) == 0
    monkeypatch.setattr(of_text, "MAX_TOKENS", 100)
    some = NgramBaseline.fit(ids[:400], ids[400:], 3, order)
    assert some.title == f"{some.model.order}-gram (Kneser-Ney), of the last 100 tokens"
    again = NgramBaseline.from_tensors(some.tensors())
    assert again.title == some.title
    of_last = NgramBaseline(best(ids[300:400], ids[400:], 3, order))
    assert again.nats(ids).tolist() == some.nats(ids).tolist() == of_last.nats(ids).tolist()
    assert "of the last" not in NgramBaseline.fit(ids[:100], ids[400:], 3, order).title
