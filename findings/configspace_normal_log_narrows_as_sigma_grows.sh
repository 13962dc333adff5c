#!/usr/bin/env bash
# ConfigSpace takes the sigma of Normal(mu, sigma) through the logarithm when log=True, and then its size without its
# sign. The usual sigma of a float between 0 and 1 therefore works the wrong way round: at sigma 1e-5 the prior is as
# wide as the range, at 1e-1 it is narrower, at 1 it is a spike on mu.
# What to do: pass sigma as exp(s), where s is the standard deviation wanted in natural logarithms (10 for a factor of
# ten each way), and look at the quantiles of a sample before the search starts.
set -euo pipefail
folder=$(mktemp -d)
export TMPDIR="$folder"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile numpy==2.4.6 scipy==1.17.1 ConfigSpace==1.2.2
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
from ConfigSpace import ConfigurationSpace, Float, Normal

print("ConfigSpace", version("ConfigSpace"))


def decades(sigma):
    rate = Float("rate", (1e-5, 1e-1), distribution=Normal(1e-3, sigma), log=True)
    sample = [configuration["rate"] for configuration in ConfigurationSpace([rate], seed=0).sample_configuration(2000)]
    low, high = np.quantile(sample, [0.05, 0.95])
    print(f"sigma {sigma:g}: nine in ten rates lie between {low:.2g} and {high:.2g}")
    return np.log10(high / low)


widths = [decades(sigma) for sigma in (1e-5, 1e-2, 1e-1, 0.5, 1.0, 2.0, 10.0)]
if not (widths[0] > widths[2] > widths[3] > widths[4] and widths[4] < 0.01 and widths[6] > widths[5] > widths[4]):
    sys.exit("CHANGED: on a logarithmic scale a larger sigma below 1 no longer means a narrower prior")
print("As described: below 1 the prior narrows as sigma grows; from 1 on it widens.")
PYTHON
