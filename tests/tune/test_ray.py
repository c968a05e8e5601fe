"""Searches on a Ray cluster of this machine."""

import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from elman.io.run_folder import open_run
from tests.small import Command
from tests.test_bad_input import refused
from tests.test_resume import losses
from tests.tune.test_search import table
from tests.tune.test_trials import FIXED, SPACE

pytest.importorskip("ray")
pytestmark = pytest.mark.filterwarnings("ignore")  # of Ray itself


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a cluster with two CPUs, each of which trains a trial."""
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    yield nodes.address
    nodes.shutdown()


def tune(*arguments: Any) -> subprocess.CompletedProcess[str]:
    """`elman tune` in a process of its own: Ray is there once for a process."""
    command = [sys.executable, "-m", "elman", "tune", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])


def test_trials_on_a_cluster(elman: Command, cluster: str, file: Path, tmp_path: Path) -> None:
    study = tmp_path / "study"
    command = ["text", file, "--out", study, "--epochs", 1, *FIXED, *SPACE, "--ray", cluster]
    said = tune(*command, "--trials", 2)
    assert said.returncode == 0, said.stderr
    said = tune(*command, "--trials", 4)  # goes on
    assert said.returncode == 0, said.stderr
    assert [row["state"] for row in table(study)] == ["complete"] * 4
    assert "4 trials: 4 complete" in said.stdout
    for row in table(study):
        run = open_run(study / f"trial-{int(row['trial']):04}")
        assert run.config["training"]["lr"] == float(row["lr"])
        assert run.config["options"]["hidden"] == int(row["hidden"])
    best = min(table(study), key=lambda row: float(row["validation_loss"]))
    repeat = said.stdout.partition("to repeat it: elman ")[2].splitlines()[0]
    assert elman(*shlex.split(repeat), "--out", tmp_path / "run").code == 0
    assert losses(tmp_path / "run") == losses(study / f"trial-{int(best['trial']):04}")


def test_failures_on_a_cluster(cluster: str, file: Path, tmp_path: Path) -> None:
    said = tune(
        "text", file, "--out", tmp_path / "study", "--trials", 4, "--epochs", 0.2, *FIXED, "--hidden", 4,
        "--space", "lr=1e-2,1e37", "--ray", cluster,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    rows = table(tmp_path / "study")
    assert {(row["lr"], row["state"]) for row in rows} <= {("0.01", "complete"), ("1e+37", "failed")}
    assert len(rows) == 4
    said = tune("text", tmp_path / "none.txt", "--out", tmp_path / "b", "--ray", cluster)
    assert said.returncode == 2
    assert "none.txt: expected a file" in said.stderr.splitlines()[-1]


def test_pruned_on_a_cluster(cluster: str, file: Path, tmp_path: Path) -> None:
    """Trials are pruned by the same rule: with a learning rate of almost zero, after five that have learned."""
    command = ["text", file, "--out", tmp_path / "study", "--epochs", 4, *FIXED, "--hidden", 8, "--ray", cluster]
    said = tune(*command, "--trials", 16, "--space", "lr=0.03,0.02,1e-7,2e-7")
    assert said.returncode == 0, said.stderr
    pruned = [row for row in table(tmp_path / "study") if row["state"] == "pruned"]
    assert pruned
    assert all(float(row["lr"]) < 0.01 for row in pruned)
    for row in pruned:
        folder = tmp_path / "study" / f"trial-{int(row['trial']):04}"
        assert open_run(folder).config["ended"]["pruned"]
        assert not (folder / "checkpoints").exists()


def test_no_cluster(elman: Command, file: Path, tmp_path: Path) -> None:
    said = elman("tune", "text", file, "--out", tmp_path / "study", "--ray", "127.0.0.1:1")
    refused(said, "--ray 127.0.0.1:1: expected the address of a Ray cluster")
    assert not (tmp_path / "study").exists()
