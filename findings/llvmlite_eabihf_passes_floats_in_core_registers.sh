#!/usr/bin/env bash
# The triple thumbv7em-none-eabihf names Arm's hard-float convention: floats travel in s0, s1. Code that llvmlite makes
# for it takes and returns them in r0, r1 all the same, while it computes in the floating-point unit. Called from C
# compiled for hard float, such a kernel gets whatever lies in r0 and r1.
# What to do: give each function the calling convention arm_aapcs_vfpcc in its IR, and look for vmov in the assembly.
set -euo pipefail
folder=$(mktemp -d)
export TMPDIR="$folder"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile llvmlite==0.50.0
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import llvmlite
from llvmlite import binding

TRIPLE = "thumbv7em-none-eabihf"
print("llvmlite", llvmlite.__version__, "LLVM", binding.llvm_version_info)
binding.initialize_all_targets()
binding.initialize_all_asmprinters()
machine = binding.Target.from_triple(TRIPLE).create_target_machine(cpu="cortex-m4")


def instructions(convention):
    module = binding.parse_assembly(f'''target triple = "{TRIPLE}"
        define {convention} float @scaled(float %x, float %weight) {{
          %y = fmul float %x, %weight
          ret float %y
        }}''')
    body = machine.emit_assembly(module).split("scaled:")[1].split(".Lfunc_end")[0].splitlines()
    return [" ".join(line.split()) for line in body if line.strip().startswith("v")]


default, hard_float = instructions("ccc"), instructions("arm_aapcs_vfpcc")
print("default convention:", default)
print("arm_aapcs_vfpcc:", hard_float)
if not any("r0" in line for line in default) or hard_float != ["vmul.f32 s0, s0, s1"]:
    sys.exit("CHANGED: llvmlite passes floats otherwise for a hard-float triple")
print("As described: the hard-float triple alone does not give the hard-float convention.")
PYTHON
