"""The curves of a training, from its table."""

from pathlib import Path

import pytest
from matplotlib.axes import Axes

from elman.report import curves

HEAD = "step,epoch,train_loss,val_loss,lr,seconds\n"


def table(path: Path, losses: list[float], validations: dict[int, float]) -> Path:
    rows = (f"{i},{i / 10},{loss},{validations.get(i, '')},0.1,{i}\n" for i, loss in enumerate(losses, 1))
    path.write_text(HEAD + "".join(rows))
    return path


def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Axes]:
    found: list[Axes] = []
    monkeypatch.setattr(curves, "write_figure", lambda path, figure: found.extend(figure.axes))
    return found


def test_a_validation_after_many_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an epoch that is long: where a column is empty for hundreds of rows, it is one of numbers all the same."""
    axes = drawn(monkeypatch)
    curves.draw(table(tmp_path / "metrics.csv", [1.0] * 600, {600: 1.25}), tmp_path / "curves.png", "nats")
    labels = [line.get_label() for line in axes[0].get_lines()]
    assert "validation, best 1.250" in labels


@pytest.mark.parametrize(("last", "scale"), [(0.9, "linear"), (0.001, "log"), (0.0, "linear")])
def test_losses_of_many_sizes_stand_on_a_logarithmic_axis(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: float, scale: str
) -> None:
    axes = drawn(monkeypatch)
    losses = [last + 1.0 / i**2 for i in range(1, 101)]
    curves.draw(table(tmp_path / "metrics.csv", losses, {100: last}), tmp_path / "curves.png", "nats", ("n-gram", 1.0))
    assert axes[0].get_yscale() == scale
    assert axes[0].get_ylim()[0] >= 0
    assert axes[0].get_ylim()[0] <= last <= axes[0].get_ylim()[1]
