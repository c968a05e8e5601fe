"""`elman.tasks.Trained`, what `fit` returns: probabilities, one score, a copy of the run."""

import inspect
from pathlib import Path

import numpy as np
import pytest

from elman import tasks
from elman.errors import BadInput
from elman.options import checked
from elman.tasks import Trained, forecast, image, tag
from elman.tasks.registry import TASKS, options_of, training_of
from elman.training.options import TrainingOptions
from tests.small import files
from tests.tasks.test_image import bars

SENTENCES = [["the", noun, verb] for noun in ("cat", "dog", "bird") for verb in ("sees", "bites", "likes", "hears")]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A classifier of images, not to be changed."""
    return image.fit(bars(), tmp_path_factory.mktemp("trained") / "run", epochs=4, batch=8, hidden=8, lr=0.02)


def test_probabilities_are_those_of_the_labels(reader: Trained) -> None:
    images, _ = bars()
    P, rows = reader.predict_proba(images), reader.predict(images)
    assert P.shape == (60, 2)
    assert P.dtype == np.float64
    np.testing.assert_allclose(P.sum(1), 1)
    assert list(reader.classes_) == ["lying", "upright"]
    assert [row["label"] for row in rows] == reader.classes_[P.argmax(1)].tolist()
    np.testing.assert_allclose(P.max(1), [row["probability"] for row in rows], atol=1e-4)
    assert reader.predict_proba([]).shape == (0, 2)


def test_probabilities_of_words(tmp_path: Path) -> None:
    data = SENTENCES, [["DET", "NOUN", "VERB"]] * 12
    tagger = tag.fit(data, tmp_path / "run", epochs=2, batch=4, hidden=4)
    P = tagger.predict_proba(["the cat", "the fish likes the dog"])
    assert [p.shape for p in P] == [(2, 3), (5, 3)]
    np.testing.assert_allclose(P[1].sum(1), 1)
    assert list(tagger.classes_) == ["DET", "NOUN", "VERB"]
    assert tagger.predict_proba([]) == []
    assert tagger.score(data) == tagger.evaluate(data)["bidirectional GRU 4"]["accuracy"]


def test_the_score_is_higher_for_what_is_better(reader: Trained, tmp_path: Path) -> None:
    images, labels = bars()
    accuracy = np.mean(reader.classes_[reader.predict_proba(images).argmax(1)] == labels)
    assert reader.score((images, labels)) == accuracy
    series = np.sin(np.arange(80) * np.pi / 4)
    out = tmp_path / "run"
    model = forecast.fit(series, out, epochs=1, season=8, horizon=2, context=8, hidden=4, batch=32)
    assert model.score(series) == -model.evaluate(series)["GRU 4"]["mase"] < 0
    assert not hasattr(model, "classes_")
    with pytest.raises(AttributeError, match="expected a task with classes, got forecast"):
        model.predict_proba(None)


def test_every_task_has_a_score_that_its_table_explains() -> None:
    """Its first metric; a new one that is no error has to be named as higher being better."""
    assert all(f"`{task}`" in str(Trained.score.__doc__) for task in tasks.TASKS)


def test_a_saved_copy_is_a_run_without_checkpoints(reader: Trained, tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    reader.save(tmp_path / "copy")
    left_out = {"checkpoints", "checkpoints/last.ckpt", "checkpoints/best.ckpt", ".lock"}
    logs = {name for name in files(reader.run.path) if name.startswith("tensorboard")}
    assert files(tmp_path / "copy") == files(reader.run.path) - left_out - logs
    copy = tasks.load(tmp_path / "copy")
    images, _ = bars(4)
    np.testing.assert_array_equal(copy.predict_proba(images), reader.predict_proba(images))
    assert copy.scores == reader.scores
    with pytest.raises(BadInput, match=r"save .*copy: expected a new or empty folder, got a folder with files"):
        reader.save(tmp_path / "copy")
    with pytest.raises(BadInput, match="got a file"):
        reader.save(tmp_path / "copy" / "config.json")
    with pytest.raises(
        BadInput, match=r"^out .*: .* got a run; choose another name, or resume it: elman train TASK --"
    ):
        image.fit(bars(), reader.run.path)


@pytest.mark.parametrize("task", TASKS)
def test_the_documented_defaults_are_the_real_ones(task: str) -> None:
    """An option that is given its documented default changes nothing."""
    module = options_of(task)
    parameters = inspect.signature(getattr(tasks, task).fit).parameters
    names = [name for kind in (module.OPTIONS, TrainingOptions) for name in kind.model_fields]
    given = {name: parameters[name].default for name in names}
    training = {name: given[name] for name in TrainingOptions.model_fields if given[name] is not None}
    assert training_of(module, training) == training_of(module, {}) | training
    assert checked(module.OPTIONS, "", {name: given[name] for name in module.OPTIONS.model_fields}) == (
        module.OPTIONS()
    )
    text = getattr(tasks, task).fit.__doc__
    assert " ".join(text.split()).count("with `epochs` or `minutes`, else plateau.") == 1


def test_targets_are_no_folder(tmp_path: Path) -> None:
    message = (
        r"^elman.tasks.image.fit: out: expected a path, got list; pass all data as one tuple, \(inputs, targets\)$"
    )
    with pytest.raises(TypeError, match=message):
        image.fit(bars()[0], bars()[1])  # type: ignore[arg-type]
    assert files(tmp_path) == set()
