"""The figures of the sparse network, layer by layer, and of the rows."""

from __future__ import annotations

from safs_ray.report.canvas import Absent, Figure
from safs_ray.report.figures import accuracy, gradients, sparsity
from safs_ray.report.measurement import layers, validation_images
from safs_ray.report.record import Record


def test_every_layer_has_its_weights_and_live_channels(record: Record, bare: Record) -> None:
    figure = sparsity.draw(record)
    assert isinstance(figure, Figure)
    assert record.best_network is not None
    weights, channels = (svg for svg, _ in figure.drawings())
    for name, layer in layers(record.best_network).items():
        assert f">{name.removesuffix('.weight')}</text>" in weights
        assert f">{layer.kept:,} of {layer.of:,}</text>" in weights
        assert f">{layer.live:,} of {layer.channels:,}</text>" in channels
    assert isinstance(sparsity.draw(bare), Absent)


def test_gradients_before_and_after(record: Record, unfinished: Record, bare: Record) -> None:
    images = validation_images(record.configuration)
    figure = gradients.draw(record, images)
    assert isinstance(figure, Figure)
    assert [panel.title for panel in figure.panels[:2]] == [
        "Gradient norm of each layer before the last training",
        "Gradient norm of each layer after it",
    ]
    assert "relu" in figure.panels[-1].title
    assert len(gradients.draw(unfinished, images).panels) == 2  # type: ignore[union-attr]
    assert isinstance(gradients.draw(record, None), Absent)
    assert isinstance(gradients.draw(bare, None), Absent)


def test_the_rows_on_one_scale(record: Record, unfinished: Record) -> None:
    figure = accuracy.draw(record)
    assert isinstance(figure, Figure)
    ((svg, _),) = figure.drawings()
    for row in record.rows:
        assert f"<title>{row['name']}: {100 * row['test_accuracy']['mean']:.1f}%</title>" in svg
    assert "Student’s t" in figure.caption
    assert isinstance(accuracy.draw(unfinished), Absent)
