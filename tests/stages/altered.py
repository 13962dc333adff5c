from __future__ import annotations

from safs_ray.config import Configuration, Hyperparameters


def changed(configuration: Configuration, section: str, **values: object) -> Configuration:
    """The configuration with other values in one section."""
    part = getattr(configuration, section).model_copy(update=values)
    return configuration.model_copy(update={section: part})


WILD = Hyperparameters(optimizer="sgd", learning_rate=10.0, weight_decay=1.0, momentum=0.99, batch_size=8)
"""Hyperparameters with which a training diverges at once."""
