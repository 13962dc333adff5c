"""Whole runs with other keys than the quickest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from safs_ray.network import Network
from safs_ray.search.evaluation import Evaluation
from safs_ray.storage import Folder
from tests.command import start
from tests.tune.runs import ENDS, results, untimed


@pytest.mark.slow
def test_a_search_before_pruning_prunes_with_what_it_found(folder: Path, tiny: Path) -> None:
    process = start(
        str(tiny), "run.name=before", "search.when=before", "search.start=random", "search.operators=[swish, tanh]",
        "pruning.allocation=global", "tune.trials=2",
    )  # fmt: skip
    output, _ = process.communicate(timeout=ENDS)
    assert process.returncode == 0, output
    run = folder / "runs" / "before"
    networks = {
        name: Network.load(Folder.at(run / "networks" / name)) for name in ("dense", "pruned", "pruned-found", "best")
    }
    assert set(networks["best"].assignment) <= {"swish", "tanh"}
    assert networks["pruned-found"].assignment == networks["best"].assignment
    assert networks["pruned"].assignment == networks["dense"].assignment == ("relu", "relu")
    for name, mask in networks["best"].masks.items():
        assert torch.equal(mask, networks["pruned-found"].masks[name])
        assert torch.equal(networks["pruned-found"].state[name] != 0, mask)
    left = f"{networks['best'].nonzero_weights:,} of {networks['best'].prunable_count:,} weights"
    assert f"schedule one shot: {left} stay" in output
    assert output.count(f"{left} are left") == 2
    assert "outputs can still be reached" in output


@pytest.mark.slow
def test_groups_of_channels_and_a_users_own_operator_reach_every_process(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "operators_here.py").write_text("def cube(z, a=0.1):\n    return z + a * z**3\n")
    changes = ("run.name=groups", "tune.trials=1", "tune.grace_period=1", "final.folds=1", "search.start=random")
    search = ("search.granularity=group", "search.operators=[operators_here:cube, srelu]")
    process = start(str(tiny), *changes, *search, directory=tmp_path)
    output, _ = process.communicate(timeout=ENDS)
    assert process.returncode == 0, output
    assert "2 sites of 2 groups" in output
    run = tiny.parent / "runs" / "groups"
    assert list(results(run)["assignment"]) == ["act1.0", "act1.1", "act2.0", "act2.1"]
    assert "operators_here:cube" in {name for evaluation in untimed(run) for name in evaluation.assignment}
    assert Network.load(Folder.at(run / "networks" / "final" / "SAFS" / "fold-0")).groups == 2
    pruned = Network.load(Folder.at(run / "networks" / "final" / "pruned" / "fold-0"))
    assert pruned.sites == ("act1.0", "act1.1", "act2.0", "act2.1")
    assert pruned.assignment == ("relu",) * 4


@pytest.mark.slow
def test_protocol_staged_with_every_row(folder: Path, tiny: Path) -> None:
    process = start(
        str(tiny), "run.name=staged", "search.protocol=staged", "search.chains=2", "final.ablations=[stage 1, stage 2]"
    )
    output, _ = process.communicate(timeout=ENDS)
    assert process.returncode == 0, output
    run = folder / "runs" / "staged"
    content = results(run)
    assert [row["name"] for row in content["rows"]] == ["dense", "pruned", "stage 1", "stage 2", "SAFS"]
    sweeps: dict[str, list[Evaluation]] = {"stage 1": [], "SAFS": [], "stage 2": []}
    for evaluation in untimed(run):
        sweeps[evaluation.sweep].append(evaluation)
    assert {(evaluation.trial, evaluation.phase) for evaluation in sweeps["stage 1"]} == {
        ("chain-1", "search"),
        ("chain-2", "search"),
    }
    assert sum(evaluation.repeated for evaluation in sweeps["stage 1"]) >= 1, "both chains begin at the same place"
    (best,) = {evaluation.assignment for evaluation in sweeps["SAFS"]}
    bests = {
        chain: max(
            (step for step in sweeps["stage 1"] if step.trial == chain), key=lambda step: step.validation_accuracy
        )
        for chain in ("chain-1", "chain-2")
    }
    assert best in {step.assignment for step in bests.values()}
    assert {evaluation.assignment for evaluation in sweeps["stage 2"]} == {("relu", "relu")}
    assert len({evaluation.trial for evaluation in sweeps["SAFS"]}) == 3
    networks = Folder.at(run / "networks")
    stage_1, safs = (Network.load(networks / f"final/{row}/fold-0") for row in ("stage 1", "SAFS"))
    assert stage_1.assignment == safs.assignment == best
    assert {activation["alpha"] for activation in stage_1.activations().values()} == {1.0}
    assert 1.0 not in {activation["alpha"] for activation in safs.activations().values()}


@pytest.mark.slow
def test_a_warm_start_makes_no_evaluation_again(finished: Path, tiny: Path) -> None:
    process = start(str(tiny), "run.name=warm", f"tune.warm_start={finished}")
    output, _ = process.communicate(timeout=ENDS)
    assert process.returncode == 0, output
    run = finished.parent / "warm"
    for stage in ("dense", "pruned"):
        mine, other = (Network.load(Folder.at(place / "networks" / stage)) for place in (run, finished))
        assert mine.fingerprint == other.fingerprint
    first = [step for step in untimed(run) if step.trial == "trial-1" and step.phase == "search"]
    assert all(step.repeated for step in first), "the first trial has the default hyperparameters in both"
    assert json.loads((run / "earlier" / "complete.json").read_text()) == {"run": str(finished)}
