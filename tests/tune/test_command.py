"""The command before any work is done: what it refuses, and what it only tells."""

from __future__ import annotations

from pathlib import Path

import pytest

from safs_ray.tune.__main__ import main


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["search.stepz=3"], "search.stepz=3: unknown key; did you mean steps?"),
        (["search.steps=many"], "search.steps=many: "),
        (["search.epochs=0"], "search.epochs=0: "),
        (["pruning.sparsity=1.0"], "pruning.sparsity=1.0: "),
        (["pruning.sparsity=-0.1"], "pruning.sparsity=-0.1: "),
        (["pruning.allocation=rows"], "pruning.allocation=rows: "),
        (["search.operators=[relu, wish]"], "search.operators=wish: unknown operator"),
        (["model.name=alexnet"], "model.name=alexnet: allowed: lenet5, mlp, vgg16, resnet18"),
        (["model.name=lenet5", "data.size=30"], "data.size: lenet5 takes images of 28x28 or 32x32"),
        (["model.name=vgg16", "data.size=16"], "data.size: vgg16 takes images of 32x32 or more"),
        (["data.source=digit"], "data.source=digit: allowed: digits, mnist, fashion_mnist, kmnist"),
        (["data.source=parquet:/nowhere"], "data.source=parquet:/nowhere: there is no folder /nowhere"),
        (["data.source=imagefolder:/nowhere"], "data.source=imagefolder:/nowhere: "),
        (["final.folds=4"], "final.folds=4 folds of data.validation=0.2 hold back 80%"),
        (["finetune.epochs_per_step=3"], "finetune: epochs=4 must be a multiple of epochs_per_step=3"),
        (["tune.space.sgd.learning_rate=[0.1, 0.01]"], "tune.space.sgd.learning_rate=[0.1, 0.01]: must be [low, high]"),
        (["tune.resources.gpu=64"], "tune.resources.gpu=64.0: this machine has"),
        (["run.name=../elsewhere"], "run.name=../elsewhere: "),
        (["run.budget=soon"], "run.budget=soon: must be a time above 0, such as 20m, 2h, 600s or 1h30m, or null"),
        (
            ["run.budget=1s"],
            "run.budget=1s: does not hold dense training, pruning and final evaluation: at the shortest",
        ),
        (["tune.warm_start=/nowhere"], "tune.warm_start=/nowhere: holds no config.yaml"),
        (["nonsense"], "override=nonsense: must be key.path=value"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_bad_input_is_one_line_before_any_work(
    tiny: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    before = set(tiny.parent.rglob("*"))
    assert main([str(tiny), "run.name=refused", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}"), error
    assert error.count("\n") == 1
    assert set(tiny.parent.rglob("*")) == before


def test_a_dry_run_says_what_a_run_would_cost_and_begins_nothing(
    tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = set(tiny.parent.rglob("*"))
    assert main([str(tiny), "--dry-run", "run.name=dry"]) == 0
    printed = capsys.readouterr().out
    assert "at most 53 epochs" in printed
    assert "nothing was begun" in printed
    assert set(tiny.parent.rglob("*")) == before
    assert main([str(tiny), "--dry-run", "run.name=dry", "data.source=digit"]) == 2


def test_a_dry_run_says_what_follows_from_a_budget(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = tiny.with_name("budget.yaml")
    small.write_text(f"run: {{name: dry, storage: {tiny.parent}}}\nmodel: {{name: mlp}}\ndata: {{limit: 160}}\n")
    assert main([str(small), "--dry-run", "run.budget=300h", "dense.epochs=7", "final.ablations=[]"]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert "are planned: no key grows any further" in next(
        line for line in lines if line.startswith("budget     300 h")
    )
    assert next(line for line in lines if line.startswith("more     ")).startswith("more     pruning.epochs=80 (20), ")
    assert "as given dense.epochs=7, final.ablations=[]" in lines


def test_every_value_and_where_it_is_from(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = tiny.with_name("small.yaml")
    small.write_text("run: {name: small}\nsearch: {steps: 3}\n")
    assert main([str(small), "tune.resources={cpu: 1}", "search.epochs=2", "--print-config"]) == 0
    lines = dict(line.split("  # ") for line in capsys.readouterr().out.splitlines())
    origins = {line.strip(): origin for line, origin in lines.items()}
    assert origins["search.steps=3"] == str(small)
    assert origins["search.epochs=2"] == origins["tune.resources.cpu=1"] == "command line"
    assert origins["final.folds=3"] == "default"
    small.write_text("pruning: {sparsity: 0.99}\n")
    assert main([str(small), "pruning.structure=2:4", "--print-config"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "pruning.sparsity=0.5 # command line" in told


def test_help_names_every_key(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    assert "tune.brackets  (integer from 1 to 16; default: 1)" in capsys.readouterr().out


def test_a_missing_configuration_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nowhere.yaml"]) == 2
    assert capsys.readouterr().err == "error: configuration=nowhere.yaml: cannot be read (No such file or directory)\n"


def test_only_a_run_can_be_resumed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--resume", str(tmp_path)]) == 2
    assert "holds no config.yaml" in capsys.readouterr().err


def test_storage_that_cannot_be_written_is_one_line(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tiny), "run.storage=/proc/nowhere"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: run.storage=/proc/nowhere: ")
    assert error.count("\n") == 1
