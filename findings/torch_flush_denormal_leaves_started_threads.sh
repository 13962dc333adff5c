#!/usr/bin/env bash
# torch.set_flush_denormal(True) changes the calling thread and those that start later. Once torch has computed anything
# in parallel its threads are there, and keep subnormal numbers: of one tensor, one part becomes zero and the other does
# not. So the result depends on the number of threads and on what was computed before, and the slow arithmetic that the
# call was to end goes on in all threads but one. The call returns True.
# What to do: call it before the first parallel operation of a process, right after the import.
set -euo pipefail
folder=$(mktemp -d)
export TMPDIR="$folder"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile numpy==2.4.6 torch==2.13.0
cat > "$folder/flush.py" <<'PYTHON'
import sys

import torch

torch.set_num_threads(2)
if sys.argv[1] == "late":
    torch.zeros(1 << 20)  # torch starts its threads
supported = torch.set_flush_denormal(True)
subnormal = torch.full((1 << 20,), 71362, dtype=torch.int32).view(torch.float32)  # the bits of 1e-40
product = (subnormal * 1).view(torch.int32)  # its bits: a comparison with 0 would take what is subnormal for zero
print(f"{sys.argv[1]}: returned {supported}, {product.count_nonzero().item():,} of {product.numel():,} are not zero")
PYTHON
"$folder/venv/bin/python" -c "import torch; print('torch', torch.__version__)"
early=$("$folder/venv/bin/python" "$folder/flush.py" early)
late=$("$folder/venv/bin/python" "$folder/flush.py" late)
printf '%s\n' "$early" "$late"
if [[ "$early" != "early: returned True, 0 of 1,048,576 are not zero" ||
      "$late" != "late: returned True, 524,288 of 1,048,576 are not zero" ]]; then
    echo "CHANGED: torch.set_flush_denormal reaches the threads that have started"
    exit 1
fi
echo "As described: half of a tensor is flushed when torch's threads had started before the call."
