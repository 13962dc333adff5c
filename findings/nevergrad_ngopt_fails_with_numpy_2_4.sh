#!/usr/bin/env bash
# nevergrad's recommended optimizer, NGOpt, chooses its algorithm by the number of parameters and the budget. For one or
# two parameters and a budget of 200 it chooses one with a surrogate that calls float() on an array of one element,
# which NumPy 2.4 refuses: the run ends with a TypeError after its first trials. A budget of 100, or five parameters,
# works, so a short trial run does not find it. nevergrad 1.0.12 allows NumPy 2.4.
# What to do: pin numpy below 2.4, or name an optimizer (OnePlusOne, CMA, TwoPointsDE) instead of NGOpt.
set -euo pipefail
folder=$(mktemp -d)
export TMPDIR="$folder"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
cat > "$folder/search.py" <<'PYTHON'
import nevergrad as ng
import numpy as np


def outcome(dimension, budget):
    parameter = ng.p.Array(shape=(dimension,), lower=0, upper=1)
    parameter.random_state.seed(0)
    optimizer = ng.optimizers.NGOpt(parametrization=parameter, budget=budget)
    try:
        for trial in range(budget):
            candidate = optimizer.ask()
            optimizer.tell(candidate, float(np.abs(candidate.value - 0.3).sum()))
    except TypeError as error:
        return f"TypeError after {trial} trials: {error}"
    return "completed"


print("numpy", np.__version__)
for dimension, budget in ((1, 200), (2, 100), (2, 200), (5, 200)):
    print(f"{dimension} parameters, budget {budget}: {outcome(dimension, budget)}")
PYTHON
for numpy in 2.3.5 2.4.6; do
    "$folder/venv/bin/pip" install --quiet --no-compile \
        "numpy==$numpy" scipy==1.17.1 scikit-learn==1.9.1 nevergrad==1.0.12
    "$folder/venv/bin/python" -W ignore "$folder/search.py" | tee "$folder/$numpy"
done
if [[ $(grep -c completed "$folder/2.3.5") != 4 || $(grep -c TypeError "$folder/2.4.6") != 2 ]]; then
    echo "CHANGED: NGOpt no longer fails with NumPy 2.4 alone" >&2
    exit 1
fi
echo "As described: one or two parameters at a budget of 200 fail with NumPy 2.4 and not with NumPy 2.3."
