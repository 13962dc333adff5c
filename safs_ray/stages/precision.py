"""The arithmetic in which a CPU trains the dense network."""

from __future__ import annotations

import time
from dataclasses import replace
from statistics import median

from safs_ray.config import Configuration
from safs_ray.data import Splits
from safs_ray.network import Network
from safs_ray.stages.beginning import dense_training
from safs_ray.stages.preparing import device_here
from safs_ray.training import Context, Trainer

FASTER = 1.3
"""By how much bf16 has to be faster to be chosen."""

IMAGES, TURNS = 32, 3

LEAST_SECONDS = 0.1
"""Of a step; networks that take less are trained soon enough in float32, which has the same bits on more machines."""


def choose_precision(configuration: Configuration, network: Network, splits: Splits) -> Configuration:
    """The configuration with ``run.precision`` dense bf16 where that trains this network faster on this CPU.

    It is as it was where it names a precision, a GPU may train, or nothing dense is trained. Steps of a few images take
    turns in both, on as many cores as torch uses. Sparse networks are trained in float32 all the same.
    """
    run = configuration.run
    # A cluster may have GPUs that this machine, its head, has not.
    elsewhere = run.address != "local" and run.device != "cpu" and configuration.tune.resources.gpu != 0
    on_gpu = run.device == "cuda" or elsewhere or device_here(configuration).type == "cuda"
    dense = configuration.dense.epochs and not configuration.model.weights and not configuration.task.loop
    if run.precision != "auto" or on_gpu or not dense:
        return configuration
    either = [configuration.model_copy(update={"run": run.model_copy(update={"precision": each})}) for each in CHOICES]
    trainers = [_trainer(each, network, splits) for each in either]
    seconds: tuple[list[float], list[float]] = ([], [])
    for turn in range(TURNS + 1):
        for trainer, own in zip(trainers, seconds, strict=True):
            start = time.perf_counter()
            trainer.run_epoch()
            if turn:  # the first one prepares
                own.append(time.perf_counter() - start)
            elif own is seconds[0] and time.perf_counter() - start < LEAST_SECONDS:
                return configuration
    return either[1] if median(seconds[0]) >= FASTER * median(seconds[1]) else configuration


CHOICES = ("float32", "dense bf16")


def _trainer(configuration: Configuration, network: Network, splits: Splits) -> Trainer:
    """Of epochs that are one step each."""
    few = replace(splits, train=splits.train[:IMAGES], validation=splits.validation[:2])
    training = dense_training(Context(configuration.for_few_examples, few))
    hyperparameters = training.hyperparameters.model_copy(update={"batch_size": IMAGES})
    return Trainer([network], replace(training, hyperparameters=hyperparameters, epochs=TURNS + 1))
