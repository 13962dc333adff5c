from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from safs_ray import export
from safs_ray.config import DistillationSection, TrainingSection
from safs_ray.export.card import card
from safs_ray.export.finished import FinishedRun
from safs_ray.storage import Folder


@pytest.fixture(scope="module")
def run(run_folder: Path) -> FinishedRun:
    return FinishedRun.read(str(run_folder))


@pytest.fixture(scope="module")
def exported(run: FinishedRun, tmp_path_factory: pytest.TempPathFactory) -> export.ExportedFile:
    return export.write(run.best.network, "safetensors", Folder.at(tmp_path_factory.mktemp("exported")))


def test_tells_where_the_network_is_from_and_what_it_is_worth(run: FinishedRun, exported: export.ExportedFile) -> None:
    text = card(run, exported)
    network, rows = run.best.network, run.results["rows"]
    for part in (
        "A sparse mlp that classifies images of 1x8x8 into 10 classes, trained on digits.",
        f"{network.nonzero_weights:,} of its {network.prunable_count:,} convolution and linear weights are nonzero",
        f"`network.safetensors`, {exported.size:,} bytes",
        "- input: images: uint8 (N, 1, 8, 8), pixels from 0 to 255",
        f"- safs_ray loaded it in {exported.trials[0].load:.2f} s, and took ",
        f"| SAFS | {100 * rows[-1]['validation_accuracy']['mean']:.1f} ± ",
        f"| dense | {100 * rows[0]['validation_accuracy']['mean']:.1f} | ",
        f"{100 * run.best.validation_accuracy:.1f} % on validation images, ",
        f"{100 * (run.best.test_accuracy or 0):.1f} % on test images",
        "- made with Python 3.11.7, torch 2.15.0; exported with Python ",
        "- seed 0, ",
        "allocation layer, structure unstructured, schedule one shot",
        run.text,
    ):
        assert part in text, part
    alpha = network.state["act1.alpha"].item()
    assert f"| act1 | swish | {alpha:.4g} | " in text
    assert f"a = {network.state['act2.internal.a'].item():.4g}, b = " in text
    for note in exported.notes:
        assert f"- {note}\n" in text


def test_names_the_classes_where_they_have_names(run: FinishedRun, exported: export.ExportedFile) -> None:
    assert "- classes" not in card(run, exported)
    named = replace(run, classes=("cat", "dog"))
    assert "- classes, in the order of the logits: 0 cat, 1 dog\n" in card(named, exported)


def test_tells_of_classes_that_cannot_be_recognised(run: FinishedRun, exported: export.ExportedFile) -> None:
    assert "the same for every image" not in card(run, exported)
    network = run.best.network
    masks = {name: mask.clone() for name, mask in network.masks.items()}
    masks["fc3.weight"][:2] = False
    blind = replace(run, best=replace(run.best, network=network.masked(masks)))
    assert "- 2 of 10 classes have a logit that is the same for every image." in card(blind, exported)


def test_a_network_that_came_pruned_is_said_to(run: FinishedRun, exported: export.ExportedFile) -> None:
    given = run.configuration.model.model_copy(update={"weights": "mine.pt", "pruned": True})
    text = card(replace(run, configuration=run.configuration.model_copy(update={"model": given})), exported)
    assert "- network: taken from mine.pt, pruned already\n" in text


def test_tells_how_the_network_was_trained_beyond_its_hyperparameters(
    run: FinishedRun, exported: export.ExportedFile
) -> None:
    section = TrainingSection(distillation=DistillationSection(share=0.5, temperature=2.0), average=0.25)
    taught = replace(run, configuration=run.configuration.model_copy(update={"training": section}))
    assert "distillation 0.5 at temperature 2, the mean of the last 25% of the epochs" in card(taught, exported)
    assert "distillation" not in card(run, exported).partition("```")[0]
