#!/usr/bin/env bash
# nevergrad's Scalar(lower=1, upper=8).set_integer_casting() draws from the real interval [1, 8] and rounds: 1 and 8 own
# half an interval, the others a whole one, so each bound comes up half as often as any other value. For a choice of few
# values (bits 1 to 3, depth 1 to 4) the bounds, often the interesting ones, are starved.
# What to do: give bounds of lower - 0.5 and upper + 0.5 (a trifle less, since a bound itself rounds to the even
# number), or use ng.p.TransitionChoice over the values.
set -euo pipefail
folder=$(mktemp -d)
export TMPDIR="$folder"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile numpy==2.4.6 nevergrad==1.0.12
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys
from collections import Counter
from importlib.metadata import version

import nevergrad as ng

print("nevergrad", version("nevergrad"))


def shares(parameter):
    parameter.random_state.seed(0)
    optimizer = ng.optimizers.RandomSearch(parametrization=parameter, budget=7000)
    counts = Counter(int(optimizer.ask().value) for _ in range(7000))
    return {value: round(count / 7000, 3) for value, count in sorted(counts.items())}


rounded = shares(ng.p.Scalar(lower=1, upper=8).set_integer_casting())
widened = shares(ng.p.Scalar(lower=0.5001, upper=8.4999).set_integer_casting())
print("bounds 1 and 8:", rounded)
print("bounds 0.5001 and 8.4999:", widened)
inner = sum(rounded[value] for value in range(2, 8)) / 6
if not (0.4 < rounded[1] / inner < 0.6 and 0.4 < rounded[8] / inner < 0.6 and max(widened.values()) < 0.14):
    sys.exit("CHANGED: the bounds of an integer are no longer half as likely as the values between")
print("As described: 1 and 8 are half as likely as the values between.")
PYTHON
