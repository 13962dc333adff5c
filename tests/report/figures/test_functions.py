from __future__ import annotations

import numpy as np
import pytest
import torch

from safs_ray.report.canvas import Absent, Figure
from safs_ray.report.figures import functions
from safs_ray.report.figures.functions import Activation, learned, of_network
from safs_ray.report.measurement import validation_images
from safs_ray.report.record import Record

X = np.linspace(-3, 3, 13)


def test_functions_are_what_the_network_computes(record: Record) -> None:
    assert record.best_network is not None
    module, x = record.best_network.build(), torch.from_numpy(X).float()
    found = of_network(record.best_network)
    assert found["act2"].operator == "srs"
    assert found["act2"].internal != (1.0, 1.0)  # learned, as the scales are
    for site, function in found.items():
        with torch.no_grad():
            assert function(X) == pytest.approx(module.get_submodule(site)(x).numpy(), rel=1e-4, abs=1e-6)


def test_the_default_is_the_operator_as_it_begins() -> None:
    assert Activation.default("tanh")(X) == pytest.approx(np.tanh(X))
    assert Activation.default("srs").internal == (1.0, 1.0)


def test_results_alone_give_operators_and_scales(record: Record, bare: Record) -> None:
    known, whole = learned(bare), learned(record)
    assert list(known) == list(whole)
    for site, function in known.items():
        assert (function.operator, function.alpha) == (whole[site].operator, pytest.approx(whole[site].alpha))


def test_the_panel_of_a_site_shows_its_inputs_the_default_and_the_folds(record: Record) -> None:
    figure = functions.draw(record, validation_images(record.configuration).inputs)
    assert isinstance(figure, Figure)
    assert [panel.title.partition(",")[0] for panel in figure.panels[:2]] == ["act1: swish", "act2: srs"]
    assert "how often x occurs" in figure.panels[-1].title
    assert "own activation" in figure.panels[-1].title
    assert "other folds" in figure.panels[-1].title
    assert "act1 · swish" in figure.drawings()[0][0]


def test_without_images_or_networks_the_functions_are_still_shown(record: Record, bare: Record) -> None:
    for each in (record, bare):
        figure = functions.draw(each, None)
        assert isinstance(figure, Figure)
        assert "how often" not in figure.panels[-1].title
        assert "are not shown" in figure.caption
    assert "drawn as they begin" in functions.draw(bare, None).caption  # type: ignore[union-attr]


def test_an_operator_that_is_not_here_is_named(bare: Record) -> None:
    assert bare.results is not None
    bare.results["assignment"]["act1"]["operator"] = "no_such_module:function"
    found = functions.draw(bare, None)
    assert isinstance(found, Absent)
    assert "no_such_module" in found.reason
