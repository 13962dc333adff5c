"""Names that a configuration may use, known before anything heavy is imported; tests keep them equal to the tables."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pydantic import AfterValidator

ARCHITECTURES = ("lenet5", "mlp", "vgg16", "resnet18", "efficientnet_b0", "localvit_t")

OPERATORS = (
    "relu", "relu6", "hardswish", "swish", "tanhsoft1", "acon", "gelu", "srs", "elu", "tanh", "softplus", "logsigmoid",
    "symlog", "symexp", "linear", "selu", "hardtanh", "sigmoid", "mish", "sin", "cos", "elish", "hard_elish",
    "tanhsoft2", "srelu", "falu",
)  # fmt: skip

VARIANTS = (
    "prelu", "leaky_relu(negative_slope)", "elu(alpha)", "celu(alpha)", "softplus(beta, threshold)",
    "hardtanh(min_val, max_val)", "gelu_tanh",
)  # fmt: skip
"""Operators with settings of their own."""

STRATEGIES = ("lahc", "random", "annealing", "genetic", "tpe")

SCORES = ("magnitude", "random", "snip", "grasp", "synflow", "taylor", "fisher", "lamp", "folded")

LOSSES = ("cross entropy", "mean squared error", "binary cross entropy")

METRICS = ("accuracy", "balanced accuracy", "r2", "mean average precision")

SCHEDULES = ("one shot", "gradual", "iterative", "gsm", "swamp", "rigl", "envelope", "turbo-vbi")

REFERENCE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")
"""A name of the form ``package.module:function``."""


def known(names: Sequence[str], variants: Sequence[str] = (), what: str = "") -> AfterValidator:
    """A check that a value is one of these names, one of these with numbers in brackets, or a reference.

    Args:
        what: begins the reason of a refusal.
    """
    bases = {variant.partition("(")[0] for variant in variants}

    def check(value: str) -> str:
        if value in names or REFERENCE.fullmatch(value) or value.partition("(")[0] in bases:
            return value
        allowed = ", ".join([*names, *variants])
        own = ", or your own as package.module:function" if what else " or package.module:function"
        raise ValueError(f"{what}allowed: {allowed}{own}")

    return AfterValidator(check)
