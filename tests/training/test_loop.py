"""Trainings by a loop of the user's own, written as plainly as users write them."""

from __future__ import annotations

import copy
import io
import math
import random
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from safs_ray.checkpoints import Checkpoints
from safs_ray.config import Configuration, ConfigurationError, validate
from safs_ray.data import Splits
from safs_ray.references import lend
from safs_ray.search.evaluation import evaluate
from safs_ray.search.fine_tuning import FineTuning
from safs_ray.stages import Result
from safs_ray.storage import Folder
from safs_ray.training import AloneError, Context, LoopContext, LoopTrainer, Training, begin, measure, train

Loop = Callable[[nn.Module, LoopContext], float | None]


def plain(module: nn.Module, context: LoopContext) -> float:
    """Draws from every global generator there is, as careless loops do."""
    optimizer = torch.optim.Adam(module.parameters(), lr=context.hyperparameters.learning_rate)
    if context.state:
        optimizer.load_state_dict(context.state)
    for epoch in range(context.done + 1, context.epochs + 1):
        module.train()
        for chosen in torch.randperm(len(context.train)).split(32):
            batch = context.train[chosen]
            images = context.normalised(batch.inputs) + 0.01 * random.random() + 0.01 * np.random.rand()  # noqa: NPY002
            optimizer.zero_grad()
            cross_entropy(module(images), batch.labels).backward()
            optimizer.step()
        context.report(epoch, score(module, context), optimizer.state_dict())
    return score(module, context)


@torch.no_grad()
def score(module: nn.Module, context: LoopContext) -> float:
    module.eval()
    logits = module(context.normalised(context.held_out.inputs))
    return (logits.argmax(1) == context.held_out.labels).float().mean().item()


def training(
    loop: Loop, context: Context, epochs: int = 3, seed: int = 0, scales: bool = False, checkpoints: bool = False
) -> Training:
    """A training by a loop; where it keeps checkpoints it does so at every report."""
    task = context.configuration.task.model_copy(update={"loop": lend(loop, "loop")})
    configuration = context.configuration.model_copy(update={"task": task})
    kept = Checkpoints(Folder.at("checkpoints"), seconds=0) if checkpoints else None
    context = replace(context, configuration=configuration, checkpoints=kept)
    return Training(context, configuration.pruning.hyperparameters, epochs, seed, scales)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_loop_gives_the_same_bits_for_the_same_seed_and_draws_from_nobody_elses_generators(
    pruned: Result, context: Context
) -> None:
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]  # noqa: NPY002
    first, again = (train(pruned.network, training(plain, context), None) for _ in range(2))
    other = train(pruned.network, training(plain, context, seed=1), None)
    assert first.network.fingerprint == again.network.fingerprint != other.network.fingerprint
    assert first.accuracy == again.accuracy
    assert first.accuracy > measure(pruned.network, training(plain, context).context)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert np.random.get_state()[1].tolist() == before[2]  # type: ignore[index]  # noqa: NPY002


def test_loop_leaves_what_masks_drop_at_zero(pruned: Result, context: Context) -> None:
    trained = train(pruned.network, training(plain, context), None).network
    assert trained.nonzero_weights == pruned.network.nonzero_weights
    for name, mask in trained.masks.items():
        assert (trained.state[name][~mask] == 0).all()
        assert not torch.equal(trained.state[name], pruned.network.state[name])


def test_loop_that_stops_between_reports_ends_as_one_that_does_not(pruned: Result, context: Context) -> None:
    whole = begin([pruned.network], training(plain, context, epochs=4)).run()
    stepwise = FineTuning(pruned.network, training(plain, context, epochs=4), stretch=2)
    halfway = stepwise.after(1)
    assert (halfway.epoch, len(halfway.standing.curve), halfway.over) == (2, 2, False)
    torch.rand(3)
    random.random()
    end = stepwise.after(2)
    assert end.over
    assert end.standing.curve == whole.standing.curve
    assert end.standing.best.fingerprint == whole.standing.best.fingerprint


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_interrupted_loop_goes_on_with_the_bits_of_an_uninterrupted_one(
    pruned: Result, context: Context, epochs: int
) -> None:
    network = pruned.network.assign(["srs", "swish"])
    whole = begin([network], training(plain, context, epochs=3, scales=True)).run()
    first = begin([network], training(plain, context, epochs=3, scales=True, checkpoints=True))
    for _ in range(epochs):
        first.run_epoch()
    begun: list[int] = []

    def counted(module: nn.Module, context: LoopContext) -> float:
        begun.append(context.done)
        return plain(module, context)

    second = begin([network], training(counted, context, epochs=3, scales=True, checkpoints=True)).run()
    assert begun == ([epochs] if epochs < 3 else [])  # what has ended is not begun again
    assert second.standing.curve == whole.standing.curve
    assert second.standing.best.fingerprint == whole.standing.best.fingerprint
    second.forget()
    assert begin([network], training(counted, context, epochs=3, scales=True, checkpoints=True)).epoch == 0


def test_fine_tuning_by_a_loop_whose_checkpoint_is_too_young_begins_again(pruned: Result, context: Context) -> None:
    own = training(plain, context, epochs=4, checkpoints=True)
    later = FineTuning(pruned.network, own, stretch=1).after(3)
    earlier = FineTuning(pruned.network, own, stretch=1).after(2)
    assert earlier.epoch == 2
    assert earlier.standing.curve == later.standing.curve[:2]


def test_loop_learns_scales_only_where_it_shall(pruned: Result, context: Context) -> None:
    frozen, learned = (train(pruned.network, training(plain, context, scales=scales), None) for scales in (False, True))
    assert all(each["alpha"] == each["beta"] == 1 for each in frozen.network.activations().values())
    assert all(each["alpha"] != 1 for each in learned.network.activations().values())


def test_loop_takes_the_optimizer_of_the_hyperparameters(pruned: Result, context: Context) -> None:
    seen: list[Any] = []

    def look(_: nn.Module, context: LoopContext) -> float:
        optimizer = context.optimizer()
        seen.append((type(optimizer).__name__, [group["weight_decay"] for group in optimizer.param_groups]))
        seen.append([len(group["params"]) for group in optimizer.param_groups])
        return 0.5

    train(pruned.network, training(look, context, epochs=1), None)
    assert seen == [("Adam", [1e-4, 0.0]), [6, 4]]


def test_loop_returns_the_score_or_reports_it(pruned: Result, context: Context) -> None:
    def reports(_: nn.Module, context: LoopContext) -> None:
        context.report(1, 0.25)
        context.report(2, 0.75)

    def returns(_: nn.Module, __: LoopContext) -> float:
        return -3.0

    def both(_: nn.Module, context: LoopContext) -> float:
        context.report(2, 0.25)
        return 0.5

    ended = [begin([pruned.network], training(loop, context, epochs=2)).run() for loop in (reports, returns, both)]
    assert [each.standing.curve for each in ended] == [(0.25, 0.75), (-3.0,), (0.5,)]
    assert [(each.epoch, each.over, each.diverged) for each in ended] == [(2, True, False)] * 3


def test_loop_is_asked_for_the_score_of_validation_and_test(pruned: Result, context: Context, splits: Splits) -> None:
    own = training(plain, replace(context, splits=replace(splits, test=splits.train[:20]))).context
    assert measure(pruned.network, own) != measure(pruned.network, own, test=True)
    asked: list[Any] = []

    def look(_: nn.Module, context: LoopContext) -> float:
        asked.append((context.epochs, context.test, len(context.held_out)))
        return 1.0

    measured = training(look, replace(context, splits=replace(splits, test=splits.train[:20]))).context
    assert measure(pruned.network, measured, test=True) == 1.0
    assert asked == [(0, True, 20)]


def test_score_of_a_loop_that_is_nan_is_a_diverged_evaluation(pruned: Result, context: Context) -> None:
    def diverges(_: nn.Module, context: LoopContext) -> float:
        context.report(1, 0.5)
        context.report(2, math.nan)
        raise AssertionError("it goes on after it diverged")

    [score] = evaluate(pruned.network, [pruned.network.assignment], training(diverges, context))
    assert (score.diverged, score.cost, len(score.curve)) == (True, 1 + 1e9, 2)
    with pytest.raises(
        ConfigurationError, match=r"^task\.loop=memory:loop_\d+: its score is NaN, infinite or not above"
    ):
        train(pruned.network, training(diverges, context), "pruning.hyperparameters.learning_rate")


def dense(module: nn.Module, context: LoopContext) -> float:
    """Trains a copy, and gives its weights to the module."""
    trained = copy.deepcopy(module)
    optimizer = torch.optim.SGD(trained.parameters(), lr=0.1)
    for _ in range(2):
        cross_entropy(trained(context.normalised(context.train.inputs)), context.train.labels).backward()
        optimizer.step()
    module.load_state_dict(trained.state_dict())
    return 0.5


def by_hand(module: nn.Module, context: LoopContext) -> float:
    """Moves weights by no optimizer."""
    for _ in range(2):
        module(context.normalised(context.train.inputs))
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(0.1)
    return 0.5


def given(loop: Callable[[nn.Module, LoopContext], object]) -> Loop:
    return loop  # type: ignore[return-value]


BROKEN: dict[str, tuple[Loop, str]] = {
    "a copy": (dense, "pruned weights of fc1.weight are not zero in its first epoch; train the module"),
    "by hand": (
        by_hand,
        "pruned weights of fc1.weight are not zero in its first epoch; train the module",
    ),
    "nothing": (given(lambda *_: None), "neither returns nor reports a score at its end"),
    "no number": (given(lambda *_: [1.0]), "gives list as a score; allowed: a number"),
    "backwards": (
        given(lambda _, context: [context.report(2, 0.5), context.report(1, 0.5)]),
        "reports epoch 1; allowed: whole numbers above 2, the last one, up to 3",
    ),
    "beyond": (given(lambda _, context: context.report(4, 0.5)), "reports epoch 4; allowed: whole numbers above 0"),
    "a part": (given(lambda _, context: context.report(1.5, 0.5)), "reports epoch 1.5; allowed: whole numbers above 0"),
    "true": (given(lambda _, context: context.report(True, 0.5)), "reports epoch True; allowed: whole numbers above 0"),
    "text": (given(lambda *_: "0.9"), "gives str as a score; allowed: a number"),
    "huge": (given(lambda *_: 10**400), "gives int as a score; allowed: a number"),
    "meta": (given(lambda *_: torch.ones(1, device="meta")), "gives Tensor as a score; allowed: a number"),
    "exit": (given(lambda *_: sys.exit(0)), "ends the process: sys.exit(0)"),
    "half": (given(lambda module, _: [module.half(), 0.5][1]), "leaves a module whose tensors have other names"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_loop_that_breaks_a_promise_is_refused_in_one_line(pruned: Result, context: Context, case: str) -> None:
    loop, reason = BROKEN[case]
    with pytest.raises(ConfigurationError) as refused:
        train(pruned.network, training(loop, context), None)
    assert reason in str(refused.value)
    assert str(refused.value).startswith("task.loop=memory:loop_")


UNMEASURABLE: dict[str, tuple[Loop, str]] = {
    "nothing": (given(lambda *_: None), "neither returns nor reports a score of the module as it is, when context"),
    "nan": (given(lambda *_: math.nan), "gives a score that is NaN, infinite or not above -1e+09 when context.epochs"),
    "low": (
        given(lambda *_: -8e10),
        "gives a score that is NaN, infinite or not above -1e+09 when context.epochs is 0",
    ),
    "trained": (
        given(lambda module, _: [module.fc1.bias.data.add_(1), 0.5][1]),
        "changes fc1.bias when context",
    ),
}


@pytest.mark.parametrize("case", UNMEASURABLE)
def test_loop_that_cannot_score_a_network_as_it_is_is_refused(pruned: Result, context: Context, case: str) -> None:
    loop, reason = UNMEASURABLE[case]
    with pytest.raises(ConfigurationError, match=r"^task\.loop=memory:loop_") as refused:
        measure(pruned.network, training(loop, context).context)
    assert reason in str(refused.value)


@pytest.mark.parametrize("number", [np.int64, float, torch.tensor, np.float32])
def test_loop_counts_epochs_and_scores_in_numbers_of_any_type(
    pruned: Result, context: Context, number: Callable[[int], int]
) -> None:
    def counts(module: nn.Module, context: LoopContext) -> None:
        for epoch in range(1, 4):
            plain(module, replace(context, epochs=0))
            context.report(number(epoch), number(epoch))

    trainer = begin([pruned.network], training(counts, context)).run()
    assert (trainer.epoch, trainer.standing.curve) == (3, (1.0, 2.0, 3.0))


def test_gradients_of_a_score_are_left_out(pruned: Result, context: Context) -> None:
    def graded(module: nn.Module, _: LoopContext) -> Tensor:
        return next(module.parameters()).mean()

    with warnings.catch_warnings(action="error"):
        assert begin([pruned.network], training(given(graded), context)).run().epoch == 3


def test_score_below_what_stands_for_divergence_has_diverged(pruned: Result, context: Context) -> None:
    [score] = evaluate(pruned.network, [pruned.network.assignment], training(lambda *_: -8e10, context))
    assert (score.diverged, score.cost) == (True, 1 + 1e9)


def test_weights_that_are_nan_are_told_by_the_score(pruned: Result, context: Context) -> None:
    def broken(module: nn.Module, context: LoopContext) -> float:
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.fill_(math.nan)
        return module(context.normalised(context.train.inputs)).sum().item()

    [score] = evaluate(pruned.network, [pruned.network.assignment], training(broken, context))
    assert score.diverged


def test_state_that_cannot_be_read_back_is_refused(pruned: Result, context: Context) -> None:
    def keeps(_: nn.Module, context: LoopContext) -> None:
        context.report(1, 0.5, {"best": np.float64(0.5)})

    with pytest.raises(ConfigurationError, match=r"reports a state that cannot be read back .*; allowed: plain values"):
        begin([pruned.network], training(given(keeps), context, checkpoints=True)).run()


def test_hooks_of_a_loop_let_the_module_be_pickled_copied_compiled_and_called_with_other_weights(
    pruned: Result, context: Context
) -> None:
    def does_it_all(module: nn.Module, context: LoopContext) -> float:
        inputs = context.normalised(context.train.inputs)
        expected = module(inputs)
        file = io.BytesIO()
        with warnings.catch_warnings(action="error"):
            torch.save(module, file)
        file.seek(0)
        again = torch.load(file, weights_only=False)
        weights = {name: weight * 1 for name, weight in module.named_parameters()}
        others = (
            again(inputs), copy.deepcopy(module)(inputs), torch.func.functional_call(module, weights, (inputs,)),
            torch.compile(module, backend="eager", fullgraph=True)(inputs),
        )  # fmt: skip
        assert all(torch.equal(expected, other) for other in others)
        return 0.5

    assert begin([pruned.network], training(does_it_all, context)).run().standing.curve == (0.5,)


def test_what_a_loop_raises_is_raised(pruned: Result, context: Context) -> None:
    def fails(*_: object) -> float:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        train(pruned.network, training(fails, context), None)


def test_loop_trains_one_network_at_a_time(pruned: Result, context: Context) -> None:
    with pytest.raises(AloneError):
        LoopTrainer([pruned.network] * 2, training(plain, context))


REFUSED = {
    "pruning.schedule=gradual works inside the loop of the package": {"schedule": "gradual"},
    "pruning.schedule=swamp works inside the loop of the package": {"schedule": "swamp"},
    "pruning.rewind=2 works inside the loop of the package": {"schedule": "iterative", "rewind": 2},
    "pruning.recipe=auto tries gradual, which works inside": {"recipe": "auto"},
}


@pytest.mark.parametrize("line", REFUSED)
def test_what_does_not_go_with_a_loop_is_refused(line: str) -> None:
    with pytest.raises(ConfigurationError, match=line):
        validate({"task": {"loop": "mine:loop"}, "pruning": REFUSED[line]})


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("data", "crop", 2),
        ("data", "flip", True),
        ("data", "metric", "balanced accuracy"),
        ("run", "precision", "bf16"),
    ],
)
def test_what_says_how_our_loop_trains_is_refused_with_another(section: str, key: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{section}\.{key}=.* is for the loop of the package; allowed with"):
        validate({"task": {"loop": "mine:loop"}, section: {key: value}})


def test_key_of_a_loop_is_a_reference() -> None:
    with pytest.raises(ConfigurationError, match=r"^task\.loop=mine: must be package\.module:function"):
        validate({"task": {"loop": "mine"}})
    recipes = {"recipe": "auto", "recipes": ["one-shot-global", "synflow", "iterative"]}
    assert isinstance(validate({"task": {"loop": "mine:loop"}, "pruning": recipes}), Configuration)
