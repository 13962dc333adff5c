from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from safs_ray.losses import CROSS_ENTROPY, BinaryCrossEntropy, CrossEntropy, Loss, MeanSquaredError, Targets

LOSSES = st.builds(
    CrossEntropy,
    smoothing=st.sampled_from([0.0, 0.1, 0.9]),
    share=st.sampled_from([0.0, 0.3, 1.0]),
    temperature=st.sampled_from([0.5, 1.0, 4.0]),
)


def drawn(count: int, outputs: int, seed: int) -> tuple[Tensor, Targets]:
    """Outputs (N, outputs), some far apart, and a class and a teacher for each."""
    draws = torch.Generator().manual_seed(seed)
    logits, taught = 10 * torch.randn(2, count, outputs, dtype=torch.float64, generator=draws)
    return logits, Targets(torch.randint(outputs, (count,), generator=draws), taught)


@st.composite
def goals(draw: st.DrawFn) -> tuple[Loss, Callable[[int, int], tuple[Tensor, Targets]]]:
    """A loss of values, of labels or of weighed classes; and what draws so many outputs and targets from a seed."""
    width = draw(st.integers(1, 6))
    weights = tuple(draw(st.lists(st.floats(0.1, 5), min_size=width, max_size=width)))
    kind = draw(st.sampled_from(["values", "labels", "classes"]))
    loss: Loss = {
        "values": MeanSquaredError(),
        "labels": BinaryCrossEntropy(draw(st.sampled_from([weights, ()]))),
        "classes": CrossEntropy(draw(st.sampled_from([0.0, 0.2])), weights=weights),
    }[kind]

    def drawn_of_kind(count: int, seed: int) -> tuple[Tensor, Targets]:
        outputs, targets = drawn(count, width, seed)
        assert targets.taught is not None
        labels = {"values": targets.taught, "labels": (targets.taught > 0).double(), "classes": targets.labels}[kind]
        return outputs, Targets(labels)

    return loss, drawn_of_kind


def test_class_weights_multiply_the_losses_of_the_examples() -> None:
    logits, targets = drawn(33, 4, 0)
    each = cross_entropy(logits, targets.labels, reduction="none")
    weights = torch.tensor([1.0, 2.0, 0.5, 4.0])
    found = CrossEntropy(weights=tuple(weights.tolist()))(logits, Targets(targets.labels))
    torch.testing.assert_close(found, (each * weights[targets.labels]).mean())


@given(loss=LOSSES, count=st.integers(1, 40), outputs=st.integers(1, 12), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_cross_entropy_and_its_gradient_are_those_of_the_papers(
    loss: CrossEntropy, count: int, outputs: int, seed: int
) -> None:
    logits, targets = drawn(count, outputs, seed)
    assert targets.taught is not None
    logits.requires_grad_()
    value = loss(logits, targets)
    (gradient,) = torch.autograd.grad(value, logits)
    s, w, t = loss.smoothing, loss.share, loss.temperature
    wanted = (1 - s) * one_hot(targets.labels, outputs) + s / outputs
    soft = torch.softmax(targets.taught / t, 1)
    hard_loss = -(wanted * torch.log_softmax(logits, 1)).sum(1)
    soft_loss = -(soft * torch.log_softmax(logits / t, 1)).sum(1)
    torch.testing.assert_close(value, ((1 - w) * hard_loss + w * t**2 * soft_loss).mean())
    own, cooled = torch.softmax(logits, 1), torch.softmax(logits / t, 1)
    torch.testing.assert_close(gradient, ((1 - w) * (own - wanted) + w * t * (cooled - soft)) / count)


def test_cross_entropy_of_classes_alone_is_torchs_to_the_bit() -> None:
    logits, targets = drawn(33, 10, 0)
    assert torch.equal(
        CROSS_ENTROPY(logits.float(), Targets(targets.labels)), cross_entropy(logits.float(), targets.labels)
    )


def test_cross_entropy_at_a_high_temperature_matches_logits() -> None:
    """Hinton et al. 2015, section 2.1: then its gradient is the difference of logits, each less its mean, over K."""
    logits, targets = drawn(5, 4, 1)
    assert targets.taught is not None
    logits.requires_grad_()
    (gradient,) = torch.autograd.grad(CrossEntropy(share=1.0, temperature=1e5)(logits, targets), logits)
    centred = [values - values.mean(1, keepdim=True) for values in (logits, targets.taught)]
    torch.testing.assert_close(gradient, (centred[0] - centred[1]) / 4 / 5, rtol=1e-3, atol=1e-4)


def test_cross_entropy_with_a_share_needs_a_teacher() -> None:
    with pytest.raises(ValueError, match=r"share=0\.5 needs a teacher"):
        CrossEntropy(share=0.5)(torch.zeros(1, 2), Targets(torch.tensor([0])))


def test_cross_entropy_of_no_information_is_the_logarithm_of_the_classes() -> None:
    loss = CrossEntropy(smoothing=0.3)(torch.zeros(1, 8), Targets(torch.tensor([5])))
    assert loss.item() == pytest.approx(math.log(8))
