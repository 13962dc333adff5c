"""What a GPU adds; skipped where torch finds none."""

from __future__ import annotations

import pytest
import torch

from safs_ray.config import Configuration, Hyperparameters, RunSection
from safs_ray.data import Splits
from safs_ray.models import Specification
from safs_ray.network import Network
from safs_ray.stages import Result
from safs_ray.training import Context, Trainer, Training

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU")

CHOSEN = Hyperparameters(learning_rate=5e-3, batch_size=32)
CONVOLUTIONAL = Specification("resnet18", (1, 8, 8), 10, (0.5,), (0.25,))


def trainer(network: Network, splits: Splits, device: str, run: RunSection) -> Trainer:
    context = Context(Configuration(run=run), splits, torch.device(device))
    return Trainer([network], Training(context, CHOSEN, 2, 0))


def trained(network: Network, splits: Splits, device: str, run: RunSection) -> Trainer:
    return trainer(network, splits, device, run).run()


def test_a_gpu_computes_what_a_cpu_computes(pruned: Result, splits: Splits) -> None:
    run = RunSection(precision="float32", execution="dense")
    cpu, gpu = (trained(pruned.network, splits, device, run).current() for device in ("cpu", "cuda"))
    for name, value in cpu.state.items():
        assert torch.allclose(gpu.state[name], value, atol=1e-3), name


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_the_same_bits_every_time(splits: Splits, precision: str) -> None:
    torch.use_deterministic_algorithms(True, warn_only=True)
    network = Network.initial(CONVOLUTIONAL, seed=0)
    run = RunSection.model_validate({"precision": precision})
    first, second = (trained(network, splits, "cuda", run) for _ in range(2))
    assert first.current().fingerprint == second.current().fingerprint


def test_zeros_stay_zeros_in_bf16_and_channels_last(pruned: Result, splits: Splits) -> None:
    done = trained(pruned.network, splits, "cuda", RunSection())
    assert done.training.precision(pruned.network) == torch.bfloat16
    assert done.training.memory_format(pruned.network) == torch.channels_last
    for name, mask in pruned.network.masks.items():
        assert (done.current().state[name][~mask] == 0).all()


def test_too_large_a_batch_is_named(splits: Splits) -> None:
    network = Network.initial(CONVOLUTIONAL, seed=0)
    running = trainer(network, splits, "cuda", RunSection())
    torch.cuda.empty_cache()
    taken = torch.cuda.memory_reserved() / torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(taken)
    try:
        with pytest.raises(MemoryError, match=r"32 images of 1x8x8 .* smaller batch_size"):
            running.run()
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
