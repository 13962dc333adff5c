from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from safs_ray.report.__main__ import main


def test_the_table_is_printed_and_the_page_written(
    variant: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = variant("run")
    assert main([str(run), "--figures", str(tmp_path / "figures")]) == 0
    printed = capsys.readouterr().out
    assert "Accuracy in per cent, mean ± sd of 2 folds" in printed
    assert str(run / "report.html") in printed
    assert (run / "report.html").read_text().startswith("<!doctype html>")
    names = sorted(path.name for path in (tmp_path / "figures").iterdir())
    assert names[:4] == ["accuracy.png", "accuracy.svg", "cost.png", "cost.svg"]
    assert len(names) == 18


def test_the_page_goes_where_it_is_told(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([str(finished), "--page", "new/page.html"]) == 0
    assert (tmp_path / "new/page.html").exists()
    assert not (finished / "report.html").exists()
    assert "new/page.html" in capsys.readouterr().out


def test_a_tilde_is_home(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").symlink_to(finished)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(["~/run", "--page", "~/page.html", "--figures", "~/figures"]) == 0
    assert (tmp_path / "page.html").exists()
    assert (tmp_path / "figures" / "accuracy.svg").exists()


def test_an_unfinished_run_is_told_of(variant: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    run = variant("half", ("results.json", "networks/final/SAFS", "networks/best"))
    assert main([str(run)]) == 0
    printed = capsys.readouterr().out
    for part in ("half is not finished", "3 of 3 trials begun", "2 of 4 trainings done", "pruned"):
        assert part in printed
    assert (run / "report.html").exists()


def test_runs_are_compared(
    variant: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [str(variant("a")), str(variant("b", search={"epochs": 2}))]
    monkeypatch.chdir(tmp_path)
    assert main(runs) == 0
    printed = capsys.readouterr().out
    for part in ("epochs 1", "epochs 2", "paired by fold", "+0.0…+0.0", "comparison.html"):
        assert part in printed
    assert "2 runs in 2 groups" in (tmp_path / "comparison.html").read_text()


@pytest.mark.parametrize(
    ("file", "content"),
    [("networks/dense/metrics.json", b"{"), ("networks/best/network.safetensors", b""), ("results.json", b"[")],
)
def test_a_damaged_file_is_one_line(
    variant: Callable[..., Path], file: str, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    run = variant("damaged")
    assert (run / file).exists()
    (run / file).write_bytes(content)
    assert main([str(run)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert file in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], r"error: run=.*nowhere: holds no config.yaml; allowed: the folder of a run"),
        (["RUN", "RUN"], r"error: run=.*: is given twice"),
        (["RUN", "--page", "/proc/none/page.html"], r"error: --page=/proc/none/page.html: "),
        (["broken://x"], r"error: run=broken://x: "),
    ],
)
def test_a_mistake_is_one_line(
    finished: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(finished) if each == "RUN" else each for each in arguments]) == 2
    error = capsys.readouterr().err
    assert re.match(message, error)
    assert error.count("\n") == 1


def test_report_of_no_run_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 2
    assert "holds no config.yaml" in capsys.readouterr().err
