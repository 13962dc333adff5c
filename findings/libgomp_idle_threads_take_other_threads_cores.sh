#!/usr/bin/env bash
# torch's threads go on looking for work for milliseconds after an operation is over, on cores that nobody gave them: an
# addition of a third of a millisecond on two threads takes 5 to 8 ms of CPU with torch 2.13, since libgomp spins 300,000
# times before a thread sleeps. In a process that computes by threads of its own beside torch's, such as compiled code
# that releases the interpreter's lock, each operation of torch between takes one of their cores away: a step of sparse
# training that took 350 ms on one thread took 349 on two, and 242 once libgomp looked for work less long. It is seen
# in the process's CPU time, and in no profile of Python or torch.
# What to do: set GOMP_SPINCOUNT=10000, or OMP_WAIT_POLICY=passive, in the environment before torch is imported; later it
# is not read. Steps of dense training take as long as before.
set -euo pipefail
folder=$(mktemp -d)
export TMPDIR="$folder"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile numpy==2.4.6 torch==2.13.0
cd "$folder"
cat >turns.py <<'PYTHON'
import time

import torch

torch.set_num_threads(2)
numbers, turns = torch.ones(1 << 20), 100
for _ in range(20):
    numbers + 1
before = time.process_time()
for _ in range(turns):
    numbers + 1
    time.sleep(0.01)
print(f"{1000 * (time.process_time() - before) / turns:.2f}")
PYTHON
"$folder/venv/bin/python" -c 'import torch; print("torch", torch.__version__)'
unset GOMP_SPINCOUNT OMP_WAIT_POLICY
usual=$("$folder/venv/bin/python" turns.py)
fewer=$(GOMP_SPINCOUNT=10000 "$folder/venv/bin/python" turns.py)
passive=$(OMP_WAIT_POLICY=passive "$folder/venv/bin/python" turns.py)
echo "ms of CPU for an addition and a sleep: $usual; with GOMP_SPINCOUNT=10000: $fewer; OMP_WAIT_POLICY=passive: $passive"
awk "BEGIN { exit !($usual > 3 * $fewer && $usual > 3 * $passive) }"
