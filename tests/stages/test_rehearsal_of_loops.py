"""What is found out about a loop of the user's own before any work."""

from __future__ import annotations

import copy
import math
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn

from safs_ray import stages
from safs_ray.config import ConfigurationError, validate
from safs_ray.references import lend
from safs_ray.training import LoopContext

INPUTS = torch.linspace(-1, 1, 40)[:, None]


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 3))


def check(loop: object, **others: object) -> str:
    """What a check refuses of a run by a loop; nothing where it may begin."""
    configuration = validate(
        {
            "model": {"name": lend(network, "network")},
            "task": {"loop": lend(loop, "loop")},  # type: ignore[arg-type]
            "data": {"source": f"inputs:{lend(lambda: INPUTS, 'inputs')}"},
            "pruning": {"sparsity": 0.5},
            **others,
        }
    )
    dataset = stages.load(configuration)
    try:
        checked = stages.check(configuration, dataset, stages.folds(configuration, dataset).search())
    except ConfigurationError as error:
        return str(error)
    assert (checked.specification.shape, checked.specification.outputs) == ((1,), 3)
    assert checked.specification.normalised(INPUTS).equal(INPUTS)
    return ""


def fair(module: nn.Module, context: LoopContext) -> float:
    for _ in range(context.epochs):
        optimizer = context.optimizer()
        module(INPUTS).square().mean().backward()
        optimizer.step()
    return -module(INPUTS[: 20 if context.test else 30]).square().mean().item()


def test_rehearsal_says_nothing_of_a_fair_loop(caplog: pytest.LogCaptureFixture) -> None:
    assert check(fair) == ""
    assert not caplog.messages


def test_rehearsal_says_how_large_the_noise_is(caplog: pytest.LogCaptureFixture) -> None:
    called: list[int] = []

    def noisy(module: nn.Module, context: LoopContext) -> float:
        called.append(context.epochs)
        return fair(module, context) + 0.25 * len(called)

    assert check(noisy) == ""
    assert any("two trainings with the same seed score" in line for line in caplog.messages)


def test_rehearsal_says_that_weights_differ_where_scores_do_not(caplog: pytest.LogCaptureFixture) -> None:
    called: list[int] = []

    def noisy(module: nn.Module, context: LoopContext) -> float:
        fair(module, context)
        called.append(context.epochs)
        if context.epochs:
            with torch.no_grad():
                next(module.parameters()).mul_(1 + len(called))
        return float(context.test)

    assert check(noisy) == ""
    [line] = caplog.messages
    assert line.endswith("two trainings with the same seed leave other weights: no run can be repeated")


def test_rehearsal_says_that_the_network_that_is_left_has_another_score(caplog: pytest.LogCaptureFixture) -> None:
    def averaging(module: nn.Module, context: LoopContext) -> float:
        return fair(module, context) + 0.5 * context.epochs

    assert check(averaging) == ""
    [line] = caplog.messages
    assert "and the network that it leaves" in line
    assert line.endswith(": load the weights that you score into the module")


def test_rehearsal_says_that_the_module_stays_as_it_came_where_it_may_have_to(caplog: pytest.LogCaptureFixture) -> None:
    """As a loop leaves it that keeps the best weights, or begins with a rate of 0."""

    def warming_up(module: nn.Module, context: LoopContext) -> float:
        return fair(module, replace(context, epochs=0))

    assert check(warming_up) == ""
    assert caplog.messages[0].endswith("leaves the module as it came after its first epoch")


def copying(module: nn.Module, context: LoopContext) -> float:
    trained = copy.deepcopy(module)
    optimizer = torch.optim.SGD(trained.parameters(), lr=0.1)
    for _ in range(context.epochs):
        trained(INPUTS).square().mean().backward()
        optimizer.step()
    return fair(trained, replace(context, epochs=0))


def keeping(module: nn.Module, context: LoopContext) -> float:
    score = fair(module, context)
    if context.epochs:
        context.report(1, score, {"path": object()})
    return score


def test_rehearsal_says_that_validation_and_test_are_the_same(caplog: pytest.LogCaptureFixture) -> None:
    def blind(module: nn.Module, context: LoopContext) -> float:
        fair(module, context)
        return -module(INPUTS).square().mean().item()

    assert check(blind) == ""
    [line] = caplog.messages
    assert line.endswith("scores the same for validation and for the test; see context.test")


def fails(_: nn.Module, __: LoopContext) -> float:
    raise KeyError("mine")


REFUSED = {
    "fails": (fails, "fails (KeyError: 'mine')"),
    "nan": (lambda *_: math.nan, "its score is NaN, infinite or not above -1e+09"),
    "low": (lambda *_: -8e10, "its score is NaN, infinite or not above -1e+09"),
    "a copy": (copying, "leaves the module as it came; train the module that is given, not a copy"),
    "exit": (lambda *_: sys.exit(0), "ends the process: sys.exit(0)"),
    "a state": (keeping, "reports a state that cannot be read back"),
    "silent at 0 epochs": (
        lambda _, context: context.report(1, 0.5) if context.epochs else None,
        "neither returns nor reports a score of the module as it is, when context.epochs is 0",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_rehearsal_refuses_a_loop_that_breaks_a_promise(case: str) -> None:
    loop, reason = REFUSED[case]
    refused = check(loop)
    assert refused.startswith("task.loop=memory:loop_")
    assert reason in refused


def test_inputs_without_labels_need_a_loop() -> None:
    with pytest.raises(ConfigurationError, match=r"^data\.source=inputs:mine:examples has no labels; it needs a task"):
        validate({"data": {"source": "inputs:mine:examples"}})


WRONG = {
    "one dimension": (lambda: torch.zeros(4), "must return inputs (N, …), returns shape (4,)"),
    "nothing": (lambda: None, "gives no inputs (RuntimeError: "),
    "no number": (lambda: torch.full((4, 2), math.nan), "returns inputs that hold NaN or infinity"),
    "no index": (lambda: torch.tensor([[1, -1]]), "returns inputs that hold indices below 0"),
}


@pytest.mark.parametrize("case", WRONG)
def test_inputs_that_are_none_are_refused(case: str) -> None:
    function, reason = WRONG[case]
    source = f"inputs:{lend(function, 'inputs')}"
    configuration = validate({"task": {"loop": "mine:loop"}, "data": {"source": source}})
    with pytest.raises(ConfigurationError, match=r"^data\.source=inputs:memory:inputs_") as refused:
        stages.load(configuration)
    assert reason in str(refused.value)


def test_inputs_of_a_run_of_before_keep_the_layout_that_was_the_default() -> None:
    source = f"inputs:{lend(lambda: INPUTS, 'inputs')}"
    assert stages.load(
        validate({"task": {"loop": "mine:loop"}, "data": {"source": source, "layout": "NCHW"}})
    ).shape == (1,)
    with pytest.raises(ConfigurationError, match=r"^data\.layout=NHWC: is for images with labels"):
        stages.load(validate({"task": {"loop": "mine:loop"}, "data": {"source": source, "layout": "NHWC"}}))


def test_inputs_may_be_indices_bytes_or_numbers() -> None:
    for inputs, kind in (
        (torch.tensor([[3, 1], [0, 2]]), "int64"),
        (torch.zeros(2, 1, 4, 4, dtype=torch.uint8), "uint8"),
        (torch.zeros(2, 4, dtype=torch.float64), "float32"),
    ):
        source = f"inputs:{lend(lambda inputs=inputs: inputs, 'inputs')}"
        dataset = stages.load(validate({"task": {"loop": "mine:loop"}, "data": {"source": source}}))
        assert str(dataset.pool.inputs.dtype) == f"torch.{kind}"
        assert dataset.shape == tuple(inputs.shape[1:])
        assert len(dataset.pool) >= 256
