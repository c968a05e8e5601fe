"""Kneser-Ney against its definition, written a second time, slowly, over tuples and dictionaries."""

from collections import Counter, defaultdict
from collections.abc import Callable
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from elman.baselines.kneser_ney import NGram, best

V = 4
TEXTS = st.lists(st.integers(0, V - 1), max_size=60)
Row = NDArray[np.int64]


def structured(length: int, vocabulary: int, seed: int = 0) -> Row:
    """A text in which a token mostly follows from the two before it, with some tokens rarer than others."""
    rng = np.random.default_rng(seed)
    text = [0, 0]
    for _ in range(length - 2):
        follows = (3 * text[-1] + text[-2] + int(rng.integers(2))) % vocabulary
        text.append(follows if rng.random() < 0.7 else int(vocabulary * rng.random() ** 3))
    return np.array(text)


def row(*tokens: int) -> Row:
    return np.array(tokens, np.int64)


def reference_discounts(counts: list[int]) -> list[float]:
    n = Counter(counts)
    discounts = []
    for j in (1, 2, 3):
        estimate = j / 2
        if n[1] and n[2] and n[j] and n[j + 1]:
            d = j - (j + 1) * n[1] / (n[1] + 2 * n[2]) * n[j + 1] / n[j]
            estimate = d if 0 < d < j else estimate
        discounts.append(estimate)
    return discounts


def reference(text: list[int], vocabulary: int, order: int) -> Callable[[tuple[int, ...], int], float]:
    """p(token | context) of interpolated modified Kneser-Ney, by its formulas."""
    left: dict[tuple[int, ...], list[int | None]] = defaultdict(list)
    for n in range(1, order + 1):
        for i in range(len(text) - n + 1):
            left[tuple(text[i : i + n])].append(text[i - 1] if i else None)
    a = {gram: len(before) if len(gram) == order else len(set(before)) for gram, before in left.items()}
    d = {n: reference_discounts([a[gram] for gram in a if len(gram) == n]) for n in range(1, order + 1)}

    def p(context: tuple[int, ...], token: int) -> float:
        lower = p(context[1:], token) if context else 1 / vocabulary
        n = len(context) + 1
        following = [a[(*context, v)] for v in range(vocabulary) if (*context, v) in a]
        if not following:
            return lower
        own = a.get((*context, token), 0)
        mass = sum(d[n][min(count, 3) - 1] for count in following)
        return ((own - d[n][min(own, 3) - 1] if own else 0) + mass * lower) / sum(following)

    return p


def reference_nats(text: list[int], ids: list[int], vocabulary: int, order: int) -> list[float]:
    p = reference(text, vocabulary, order)
    return [-log(p(tuple(ids[max(0, i - order + 1) : i]), ids[i])) for i in range(1, len(ids))]


def distribution(model: NGram, context: list[int], order: int) -> NDArray[np.float64]:
    return np.exp([-model.nats(row(*context, token), order)[-1] for token in range(model.vocabulary)])


def assert_proper(model: NGram, context: list[int]) -> None:
    for order in range(1, model.order + 1):
        p = distribution(model, context, order)
        assert (p > 0).all()
        assert_allclose(p.sum(), 1, rtol=1e-12)


def assert_same(one: NGram, other: NGram) -> None:
    first, second = one.tensors(), other.tensors()
    assert first.keys() == second.keys()
    for name in first:
        assert first[name].dtype == second[name].dtype
        assert_array_equal(first[name], second[name])


@settings(max_examples=100)
@given(TEXTS, TEXTS, st.integers(1, 5), st.integers(0, 2))
def test_equals_the_reference_at_every_order(text: list[int], ids: list[int], highest: int, unused: int) -> None:
    model = NGram.fit(row(*text), V + unused, highest)
    for order in range(1, highest + 1):
        assert_allclose(model.nats(row(*ids), order), reference_nats(text, ids, V + unused, order), rtol=1e-9)


def test_equals_the_reference_where_discounts_are_estimated() -> None:
    text, ids = structured(3000, 24), structured(300, 25, seed=1)
    model = NGram.fit(text, 25, 4)
    for order in range(1, 5):
        expected = reference_nats(text.tolist(), ids.tolist(), 25, order)
        assert_allclose(model.nats(ids, order), expected, rtol=1e-9)
    for context in ([24], [24, 0, 1], [23, 22, 21], *(text[i : i + 3].tolist() for i in (0, 70, 2000, 2997))):
        assert_proper(model, context)


@settings(max_examples=50)
@given(TEXTS, TEXTS, st.integers(1, 5))
def test_the_next_token(text: list[int], ids: list[int], order: int) -> None:
    model = NGram.fit(row(*text), V + 1, order)
    p = model.next_probabilities(row(*ids))
    assert p.shape == (len(ids), V + 1)
    for i in range(len(ids)):
        assert_allclose(p[i], distribution(model, ids[: i + 1], order), rtol=1e-9)


@pytest.mark.slow
@settings(max_examples=100)
@given(TEXTS, st.lists(st.integers(0, V), min_size=1, max_size=5), st.integers(0, 60))
def test_probabilities_are_positive_and_sum_to_one(text: list[int], unseen: list[int], at: int) -> None:
    model = NGram.fit(row(*text), V + 1, 4)
    for context in (unseen, text[at : at + 3] or [V], text[-3:] or [V]):
        assert_proper(model, context)


@pytest.mark.parametrize("counts", [[1, 1, 3, 3, 4], [1, 2, 2, 2, 2, 4], [2, 2, 3, 4], [1, 2, 3, 3, 4]])
def test_discounts_that_cannot_be_estimated(counts: list[int]) -> None:
    """A zero among n_1 to n_4, or an estimate out of bounds."""
    text = np.repeat(np.arange(len(counts)), counts)
    expected = reference_nats(text.tolist(), text.tolist(), len(counts), 1)
    assert_allclose(NGram.fit(text, len(counts), 1).nats(text), expected, rtol=1e-12)


def test_unigrams_worked_out_by_hand() -> None:
    """Counts 3, 2, 1, 0 give n = 1, 1, 1, 0 and Y = 1/3: D_1 = 1/3, D_2 = 1, and D_3 falls back to 3/2."""
    p = distribution(NGram.fit(row(0, 1, 0, 2, 1, 0), 4, 1), [3], 1)
    rest = (1 / 3 + 1 + 3 / 2) / 6 / 4
    assert_allclose(p, [1.5 / 6 + rest, 1 / 6 + rest, 2 / 3 / 6 + rest, rest], rtol=1e-12)


def test_a_cycle_is_predicted() -> None:
    cycle = np.tile(np.arange(7), 300)
    model = NGram.fit(cycle, 7, 4)
    for order in (2, 3, 4):
        assert model.nats(cycle, order)[order:].max() < 0.01
    assert_allclose(model.nats(cycle, 1), log(7), rtol=1e-9)


@pytest.mark.parametrize("length", [0, 1, 2, 3])
@pytest.mark.parametrize("vocabulary", [1, 2])
def test_tiny_texts(length: int, vocabulary: int) -> None:
    text = np.arange(length) % vocabulary
    model = NGram.fit(text, vocabulary, 5)
    assert_same(NGram.from_tensors(model.tensors()), model)
    for order in range(1, 6):
        nats = model.nats(text, order)
        assert nats.shape == (max(length - 1, 0),)
        assert nats.dtype == np.float64
    assert_proper(model, [0])


def test_a_token_sees_only_those_before_it() -> None:
    model = NGram.fit(structured(1000, 9), 9, 4)
    ids = structured(50, 9, seed=1)
    changed = np.append(ids[:30], (ids[30:] + 1) % 9)
    assert_array_equal(model.nats(ids)[:29], model.nats(changed)[:29])
    assert_array_equal(model.nats(ids)[20:], model.nats(ids[18:])[2:])


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint64])
def test_truncated_is_the_model_fitted_to_the_lower_order(order: int, kind: type[np.integer]) -> None:
    text = structured(1000, 30)
    model, fitted = NGram.fit(text.astype(kind), 30, 4), NGram.fit(text, 30, order)
    assert_same(model.truncated(order), fitted)
    assert_array_equal(model.nats(text.astype(kind), order), fitted.nats(text))


def test_best_is_the_order_of_fewest_nats() -> None:
    train, validation = structured(2000, 9), structured(500, 9, seed=1)
    model = best(train, validation, 9, 6)
    means = [NGram.fit(train, 9, order).nats(validation).mean() for order in range(1, 7)]
    assert model.order == 3 == np.argmin(means) + 1  # a token follows from two
    assert model.nats(validation).mean() == min(means)


@pytest.mark.parametrize("order", [1, 3])
def test_survives_a_file(tmp_path: Path, order: int) -> None:
    text = structured(2000, 24)
    model = NGram.fit(text, 24, order)
    save_file(model.tensors(), tmp_path / "model.safetensors")
    loaded = NGram.from_tensors({**load_file(tmp_path / "model.safetensors"), "of something else": np.zeros(3)})
    assert_same(loaded, model)
    for n in range(1, order + 1):
        assert_array_equal(loaded.nats(text, n), model.nats(text, n))


def test_a_missing_tensor_is_named() -> None:
    tensors = NGram.fit(row(0, 1, 1), 2, 2).tensors()
    for name in tensors:
        with pytest.raises(ValueError, match=f"missing: {name}$"):
            NGram.from_tensors({other: tensors[other] for other in tensors if other != name})


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("keys", np.zeros(5), "keys must be a 1-D array of integers, got float64"),
        ("counts", np.ones((5, 1), int), r"counts must be a 1-D array of integers, got int64 of shape \(5, 1\)"),
        ("vocabulary", row(0), "vocabulary must be an integer"),
        ("vocabulary", row(2, 2), "vocabulary must be an integer"),
        ("sizes", row(), "sizes one of at least 0"),
        ("sizes", row(6, -1), "sizes one of at least 0"),
        ("sizes", row(2, 2), r"must have lengths \(4, 4, 2\), got \(5, 5, 2\)"),
        ("sizes", row(2**62, 2**62, 2**62, 2**62, 5), "must have lengths"),
        ("counts", row(1, 1, 1, 1), "must have lengths"),
        ("continuations", row(1, 1, 1), "must have lengths"),
        ("counts", row(3, 2, 0, 2, 1), "at least 1"),
        ("continuations", row(2, 0), "at least 1"),
        ("keys", row(0, 1, 0, 2, 1), "keys of order 2 must be strictly increasing"),
        ("keys", row(1, 1, 0, 1, 2), "keys of order 1 must be strictly increasing"),
        ("keys", row(-1, 1, 0, 1, 2), "keys of order 1 must be strictly increasing"),
        ("keys", row(0, 1, 0, 1, 4), "from 0 to below 4"),
        ("keys", row(0, 2, 0, 1, 2), "from 0 to below 2"),
    ],
)
def test_bad_tensors_raise(name: str, array: NDArray[Any], message: str) -> None:
    tensors = NGram.fit(row(0, 0, 1, 0, 0, 1), 2, 2).tensors()
    assert tensors["sizes"].tolist() == [2, 3]
    assert tensors["keys"].tolist() == [0, 1, 0, 1, 2]
    with pytest.raises(ValueError, match=message):
        NGram.from_tensors({**tensors, name: array})


FITTED = NGram.fit(row(0, 1, 1), 2, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: NGram.fit(row(0, 1), 2, 0), "order must be at least 1, got 0"),
        (lambda: NGram.fit(row(), 0, 1), "vocabulary must be at least 1, got 0"),
        (lambda: NGram.fit(row(0, 2), 2, 1), "ids must be from 0 to 1, got 0 to 2"),
        (lambda: FITTED.nats(row(0, -1)), "ids must be from 0 to 1, got -1 to 0"),
        (
            lambda: FITTED.nats(np.zeros((1, 2), int)),
            r"ids must be a 1-D array of integers, got int64 of shape \(1, 2\)",
        ),
        (lambda: FITTED.nats(row(0, 1), 0), "order must be from 1 to 2, got 0"),
        (lambda: FITTED.nats(row(0, 1), 3), "order must be from 1 to 2, got 3"),
        (lambda: FITTED.truncated(3), "order must be from 1 to 2, got 3"),
        (lambda: best(row(0, 1), row(0), 2, 2), "at least two tokens, got 1"),
    ],
)
def test_arguments_are_checked(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
