from __future__ import annotations

import io
import random
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from safs_ray.accuracy import accuracy
from safs_ray.config import (
    Configuration,
    ConfigurationError,
    DataSection,
    Hyperparameters,
    PruningSection,
    RunSection,
)
from safs_ray.data import Splits, augmentation, batches
from safs_ray.models import Specification
from safs_ray.network import Network
from safs_ray.optimizers import OPTIMIZERS, SCHEDULES
from safs_ray.pruning.changing import RULES
from safs_ray.pruning.rules import FixedMasks, MakeRule
from safs_ray.randomness import generator
from safs_ray.sparse.execution import executable
from safs_ray.stages import Result
from safs_ray.training import Context, Report, Trainer, Training, silent, train

PLAIN = DataSection()
AUGMENTED = DataSection(crop=2, flip=True)


def trainer(
    network: Network,
    splits: Splits,
    hyperparameters: Hyperparameters | None = None,
    epochs: int = 4,
    seed: int = 0,
    data: DataSection = PLAIN,
    learn_scales: bool = False,
    rule: MakeRule = FixedMasks,
    run: RunSection = RunSection(),  # noqa: B008 - it is frozen
    report: Report = silent,
) -> Trainer:
    chosen = hyperparameters or Hyperparameters(learning_rate=5e-3, batch_size=32)
    context = Context(Configuration(data=data, run=run), splits, report=report)
    return Trainer([network], Training(context, chosen, epochs, seed, learn_scales, rule))


def saved_and_loaded(state: object) -> dict[str, object]:
    """The state after a trip through a file that may hold plain values and tensors only."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    loaded: dict[str, object] = torch.load(file, weights_only=True)
    return loaded


def test_learns_and_remembers_its_best_epoch(dense: Result, splits: Splits, device: torch.device) -> None:
    seen: list[float] = []
    done = trainer(dense.network, splits, report=lambda _, accuracy: seen.append(accuracy)).run()
    assert done.epoch == len(seen) == 4
    assert done.standing.best_accuracy == max(seen) > 0.3
    assert accuracy(done.standing.best, splits.validation, device, Configuration()) == done.standing.best_accuracy


def test_best_weights_are_copies(dense: Result, splits: Splits) -> None:
    running = trainer(dense.network, splits)
    running.run_epoch()
    best = running.standing.best
    fingerprint = best.fingerprint
    with torch.no_grad():
        for parameter in running._cohort.parameters():
            parameter.zero_()
    assert Network(best.specification, best.sites, best.assignment, best.state, best.masks).fingerprint == fingerprint


@pytest.mark.parametrize(
    "hyperparameters",
    [
        Hyperparameters(optimizer="sgd", learning_rate=0.05, momentum=0.9, weight_decay=0.01, batch_size=32),
        Hyperparameters(optimizer="adam", learning_rate=0.01, weight_decay=0.01, batch_size=32),
        Hyperparameters(optimizer="adamw", learning_rate=0.01, weight_decay=0.1, batch_size=32),
        Hyperparameters(optimizer="tadam", learning_rate=0.01, weight_decay=0.01, batch_size=32),
        Hyperparameters(optimizer="fromage", learning_rate=0.03, weight_decay=0.01, batch_size=32),
    ],
    ids=lambda chosen: chosen.optimizer,
)
def test_zeros_stay_zeros(pruned: Result, splits: Splits, hyperparameters: Hyperparameters) -> None:
    trained = trainer(pruned.network, splits, hyperparameters).run()
    changed = 0
    for name, mask in trained.standing.best.masks.items():
        weight = trained._cohort.state(0)[name]
        assert (weight[~mask] == 0).all()
        assert (trained.standing.best.state[name][~mask] == 0).all()
        changed += int((weight != pruned.network.state[name]).sum())
    assert changed > 0


def test_dropped_weights_have_no_gradient_and_so_no_part_in_norms(pruned: Result, splits: Splits) -> None:
    dense = RunSection(execution="dense")
    running = trainer(pruned.network, splits, Hyperparameters(optimizer="fromage", batch_size=32), run=dense)
    running.run_epoch()
    for name, mask in pruned.network.masks.items():
        gradient = running._cohort.prunable[name].grad
        assert gradient is not None
        assert (gradient[~mask] == 0).all()
        assert (gradient[mask] != 0).any()


@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS))
@pytest.mark.parametrize("schedule", sorted(SCHEDULES))
def test_resuming_in_the_middle_equals_an_uninterrupted_training(
    pruned: Result, splits: Splits, optimizer: str, schedule: str
) -> None:
    chosen = Hyperparameters.model_validate(
        {"optimizer": optimizer, "schedule": schedule, "learning_rate": 0.01, "momentum": 0.5, "batch_size": 32}
    )
    network = pruned.network.assign(["srs", "acon"] if len(pruned.network.sites) == 2 else [])
    whole = trainer(network, splits, chosen, data=AUGMENTED, learn_scales=True).run()
    first = trainer(network, splits, chosen, data=AUGMENTED, learn_scales=True)
    first.run_epoch()
    first.run_epoch()
    second = trainer(network, splits, chosen, data=AUGMENTED, learn_scales=True)
    second.load_state_dict(saved_and_loaded(first.state_dict()))
    second.run()
    assert second.standing.best.fingerprint == whole.standing.best.fingerprint
    assert second.standing.best_accuracy == whole.standing.best_accuracy
    for mine, other in zip(second._cohort.parameters(), whole._cohort.parameters(), strict=True):
        assert torch.equal(mine, other)


SGD = {"optimizer": "sgd", "learning_rate": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-3}

CHANGING = pytest.mark.parametrize("schedule", sorted(RULES))


def changing(schedule: str, network: Network) -> MakeRule:
    """A rule whose masks change every second of the 16 to 20 steps of these trainings, until after half of them."""
    section = PruningSection.model_validate(
        {
            "sparsity": 0.9,
            "schedule": schedule,
            "allocation": "global",
            "interval": 2,
            "until": 0.55,
            "hyperparameters": SGD,
        }
    )
    return partial(RULES[schedule], section=section, network=network)


def start_of(schedule: str, dense: Result, pruned: Result) -> Network:
    return pruned.network if schedule == "rigl" else dense.network


@CHANGING
@pytest.mark.parametrize("done", [0, 1, 2, 3])
def test_resuming_while_masks_change_equals_an_uninterrupted_training(
    dense: Result, pruned: Result, splits: Splits, schedule: str, done: int
) -> None:
    network, chosen = start_of(schedule, dense, pruned), Hyperparameters.model_validate({**SGD, "batch_size": 32})
    whole = trainer(network, splits, chosen, data=AUGMENTED, rule=changing(schedule, network)).run()
    first = trainer(network, splits, chosen, data=AUGMENTED, rule=changing(schedule, network))
    for _ in range(done):
        first.run_epoch()
    second = trainer(network, splits, chosen, data=AUGMENTED, rule=changing(schedule, network))
    second.load_state_dict(saved_and_loaded(first.state_dict()))
    second.run()
    assert second.standing.best.fingerprint == whole.standing.best.fingerprint
    assert second.current().fingerprint == whole.current().fingerprint
    assert (second.standing.best_epoch, second.standing.best_accuracy) == (
        whole.standing.best_epoch,
        whole.standing.best_accuracy,
    )
    assert whole.standing.best.nonzero_weights == pruned.network.nonzero_weights


@CHANGING
def test_the_best_network_has_the_masks_of_its_epoch(
    dense: Result, pruned: Result, splits: Splits, device: torch.device, schedule: str
) -> None:
    running = trainer(start_of(schedule, dense, pruned), splits, epochs=6, rule=changing(schedule, dense.network))
    seen: dict[int, Network] = {}
    while running.epoch < 6:
        running.run_epoch()
        seen[running.epoch] = running.current()
        assert accuracy(seen[running.epoch], splits.validation, device, Configuration()) == running.standing.accuracy
    assert len({network.fingerprint for network in seen.values()}) == 6
    best = running.standing.best
    assert best.fingerprint == seen[running.standing.best_epoch].fingerprint
    for name, mask in best.masks.items():
        assert (best.state[name][~mask] == 0).all()
    assert accuracy(best, splits.validation, device, Configuration()) == running.standing.best_accuracy


def test_only_epochs_at_the_final_sparsity_can_be_the_best(dense: Result, splits: Splits) -> None:
    """Six epochs; the mask is complete in the fourth, before which the dense network is better than it is after."""
    running = trainer(dense.network, splits, epochs=6, rule=changing("gradual", dense.network))
    scores = []
    for epoch in range(1, 7):
        running.run_epoch()
        scores.append(running.standing.accuracy)
        sparse = running.current().sparsity
        if epoch < 4:
            assert running.standing.best_epoch == running.standing.best_accuracy == 0
            assert running.standing.best is dense.network
            assert sparse < 0.895
        else:
            assert sparse == pytest.approx(0.9, abs=1e-4)
    assert running.standing.best_accuracy == max(scores[3:]) < max(scores)
    assert running.standing.best_epoch == 4 + scores[3:].index(max(scores[3:]))


@CHANGING
def test_while_masks_change_only_rigl_brings_weights_back(
    dense: Result, pruned: Result, splits: Splits, schedule: str
) -> None:
    running = trainer(start_of(schedule, dense, pruned), splits, epochs=6, rule=changing(schedule, dense.network))
    grown, before = 0, running.current().masks
    while running.epoch < 6:
        running.run_epoch()
        now = running.current()
        grown += sum(int((now.masks[name] & ~before[name]).sum()) for name in before)
        before = now.masks
        for name, mask in now.masks.items():
            assert (now.state[name][~mask] == 0).all()
    assert (grown > 0) == (schedule == "rigl")


def test_a_training_that_comes_to_nothing_names_the_key_to_blame(dense: Result, splits: Splits) -> None:
    chosen = Hyperparameters(optimizer="sgd", learning_rate=10.0, momentum=0.99, batch_size=32)
    network = dense.network.assign(["symexp", "symexp"])
    for rule, when in (
        (FixedMasks, "in its first epoch"),
        (changing("gradual", dense.network), "before its masks are complete"),
    ):
        training = trainer(network, splits, chosen, epochs=40, rule=rule).training
        with pytest.raises(ConfigurationError) as caught:
            train(network, training, "dense.hyperparameters.learning_rate")
        assert str(caught.value) == (
            f"dense.hyperparameters.learning_rate=10.0: the training diverges {when}; take a smaller one"
        )


def test_same_seed_same_bits_and_another_seed_not(dense: Result, splits: Splits) -> None:
    first, again, other = (trainer(dense.network, splits, seed=seed, data=AUGMENTED).run() for seed in (0, 0, 1))
    assert first.standing.best.fingerprint == again.standing.best.fingerprint
    assert first.standing.best.fingerprint != other.standing.best.fingerprint


def test_global_generators_are_neither_read_nor_changed(dense: Result, splits: Splits) -> None:
    def states() -> tuple[object, ...]:
        return torch.get_rng_state().tolist(), random.getstate(), str(np.random.get_state())  # noqa: NPY002

    before = states()
    first = trainer(dense.network, splits, data=AUGMENTED).run().standing.best
    assert states() == before
    torch.manual_seed(123)
    assert trainer(dense.network, splits, data=AUGMENTED).run().standing.best.fingerprint == first.fingerprint


def test_scales_are_learned_only_when_asked_for(pruned: Result, splits: Splits) -> None:
    for learn in (False, True):
        state = trainer(pruned.network, splits, learn_scales=learn).run().standing.best.state
        scales = [state[f"{site}.{scale}"].item() for site in pruned.network.sites for scale in ("alpha", "beta")]
        assert all((scale != 1) == learn for scale in scales)


def test_internal_parameters_are_learned_with_fixed_scales(pruned: Result, splits: Splits) -> None:
    network = pruned.network.assign(["acon", "srs"])
    state = trainer(network, splits).run().standing.best.state
    assert state["act1.internal.p1"].item() != pytest.approx(1.2, abs=1e-6)
    assert state["act2.internal.a"].item() != 1


def test_weight_decay_spares_the_scales(pruned: Result, splits: Splits) -> None:
    chosen = Hyperparameters(optimizer="sgd", learning_rate=1e-6, weight_decay=1.0, batch_size=32)
    decaying = trainer(pruned.network, splits, chosen, learn_scales=True)
    decays = {
        id(parameter): group["weight_decay"]
        for group in decaying._optimizer.param_groups
        for parameter in group["params"]
    }
    own = {id(parameter) for parameter in decaying._cohort.scales}
    assert own
    for parameter in decaying._cohort.parameters():
        assert decays[id(parameter)] == (0 if id(parameter) in own else 1)


def test_a_training_that_diverges_says_so_and_stops(pruned: Result, splits: Splits) -> None:
    chosen = Hyperparameters(optimizer="sgd", learning_rate=10.0, momentum=0.99, batch_size=32)
    network = pruned.network.assign(["symexp", "symexp"])
    broken = trainer(network, splits, chosen, epochs=40).run()
    assert broken.diverged
    assert broken.epoch < 40
    epoch = broken.epoch
    broken.run_epoch()
    assert (broken.epoch, broken.standing.accuracy) == (epoch, 0)
    assert all(tensor.isfinite().all() for tensor in broken.standing.best.state.values())


def test_images_are_normalised_by_channel() -> None:
    specification = Specification("mlp", (2, 1, 1), 10, (0.0, 0.5), (1.0, 0.25))
    images = torch.tensor([[[[255]], [[255]]], [[[0]], [[0]]]], dtype=torch.uint8)
    assert specification.normalised(images).flatten(1).tolist() == [[1.0, 2.0], [0.0, -2.0]]


def test_bf16_trains_weights_of_float32_and_keeps_zeros(pruned: Result, splits: Splits) -> None:
    trained = trainer(pruned.network, splits, run=RunSection(precision="bf16")).run()
    exact = trainer(pruned.network, splits).run()
    assert trained.training.execution(pruned.network) == "dense"
    assert trained.standing.best_accuracy == pytest.approx(exact.standing.best_accuracy, abs=0.1)
    for name, mask in pruned.network.masks.items():
        weight = trained.standing.best.state[name]
        assert weight.dtype == torch.float32
        assert (weight[~mask] == 0).all()
        assert not torch.equal(weight, exact.standing.best.state[name])
        assert torch.allclose(weight, exact.standing.best.state[name], atol=0.05)


def test_accuracy_is_that_of_float32(pruned: Result, splits: Splits, device: torch.device) -> None:
    trained = trainer(pruned.network, splits, run=RunSection(precision="bf16")).run()
    assert trained.standing.best_accuracy == accuracy(trained.standing.best, splits.validation, device, Configuration())


def test_bf16_goes_on_bit_for_bit(pruned: Result, splits: Splits) -> None:
    run = RunSection(precision="bf16")
    whole = trainer(pruned.network, splits, run=run).run()
    first, second = trainer(pruned.network, splits, run=run), trainer(pruned.network, splits, run=run)
    first.run_epoch()
    second.load_state_dict(saved_and_loaded(first.state_dict()))
    assert second.run().current().fingerprint == whole.current().fingerprint


def test_the_memory_format_changes_no_more_than_roundings(splits: Splits) -> None:
    network = Network.initial(Specification("resnet18", (1, 8, 8), 10, (0.5,), (0.25,)), seed=0)
    chosen = Hyperparameters(optimizer="sgd", learning_rate=1e-3, batch_size=32)
    few = Splits(splits.train[:64], splits.validation[:8], splits.test)
    plain, last = (
        trainer(network, few, chosen, epochs=1, run=RunSection(memory_format=memory_format)).run().current()
        for memory_format in ("contiguous", "channels_last")
    )
    for name, value in plain.state.items():
        assert torch.allclose(last.state[name], value, atol=1e-4), name
    assert all(value.is_contiguous() for value in last.state.values())


def test_what_is_chosen_follows_from_the_device(splits: Splits) -> None:
    def training(device: str, run: RunSection) -> Training:
        return Training(Context(Configuration(run=run), splits, torch.device(device)), Hyperparameters(), 1, 0)

    cpu, gpu = (training(device, RunSection()) for device in ("cpu", "cuda"))
    ours = Network.initial(Specification("mlp", (1, 8, 8), 10, (0.5,), (0.25,)), seed=0)
    own = replace(ours, specification=replace(ours.specification, model="mine:network"))
    assert (cpu.precision(ours), cpu.memory_format(ours)) == (torch.float32, torch.contiguous_format)
    assert gpu.memory_format(ours) == torch.channels_last
    assert gpu.memory_format(own) == torch.contiguous_format, "it may view an image as a row of numbers"
    told = training("cuda", RunSection(precision="bf16", memory_format="contiguous"))
    assert (told.precision(ours), told.memory_format(ours)) == (torch.bfloat16, torch.contiguous_format)
    assert told.execution(ours) == "dense"
    assert training("cuda", RunSection(memory_format="channels_last")).memory_format(own) == torch.channels_last


def test_dense_bf16_is_for_networks_without_zeros(pruned: Result, dense: Result, splits: Splits) -> None:
    run = RunSection(precision="dense bf16")
    training = trainer(dense.network, splits, run=run).training
    assert training.precision(dense.network) == torch.bfloat16
    assert training.memory_format(dense.network) == torch.channels_last
    assert training.execution(dense.network) == "dense"
    assert (training.precision(pruned.network), training.execution(pruned.network)) == (torch.float32, "auto")
    assert training.memory_format(pruned.network) == torch.contiguous_format
    sparser = replace(training, mask_rule=changing("gradual", dense.network))
    assert sparser.precision(dense.network) == torch.float32
    plain, other = (trainer(pruned.network, splits, run=each).run().current() for each in (run, RunSection()))
    assert plain.fingerprint == other.fingerprint


def test_network_batches_and_masks_go_to_the_device(pruned: Result, splits: Splits) -> None:
    meta = torch.device("meta")
    module = executable(pruned.network, "auto", meta)
    rule = FixedMasks(module.cohort.prunable, pruned.network.masks, 10)
    augment = augmentation(1, True, generator(0, "augmentation"))
    for batch in batches(splits.train.to(meta), 32, generator(0, "batches"), augment):
        loss = torch.nn.functional.cross_entropy(module(batch.inputs), batch.labels)
        loss.backward()  # type: ignore[no-untyped-call]
        rule.before_step()
        assert loss.device == meta
    assert all(parameter.grad is not None and parameter.grad.device == meta for parameter in module.cohort.weights)


def test_too_large_a_batch_is_named_with_the_way_out(
    pruned: Result, splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    running = trainer(pruned.network, splits)
    monkeypatch.setattr(running._cohort, "learn", full)
    with pytest.raises(MemoryError, match=r"32 images of 1x8x8 .* smaller batch_size, .*tune\.resources\.gpu"):
        running.run()
    monkeypatch.undo()
    running._cohort.register_forward_pre_hook(full)
    with pytest.raises(MemoryError, match=r"1,000 images without gradients .* smaller batch_size"):
        running.run()


def test_a_context_after_epochs_reports_those_that_follow(context: Context) -> None:
    told: list[tuple[int, float]] = []
    after = replace(context, report=lambda epoch, accuracy: told.append((epoch, accuracy))).after(3)
    after.report(1, 0.5)
    after.after(10).report(2, 0.25)
    assert told == [(4, 0.5), (15, 0.25)]
    assert after.seed == context.configuration.run.seed == 0
