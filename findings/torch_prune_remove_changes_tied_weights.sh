#!/usr/bin/env bash
# A language model's head often shares its weight with the embedding. torch.nn.utils.prune on the head masks only what
# the head computes: both keep one parameter, and the embedding goes on reading the unpruned values. prune.remove then
# writes the masked values into that parameter, so that the embedding is pruned as well: the network's outputs change by
# a call that is meant to make pruning permanent and nothing else.
# What to do: prune both modules with one mask (prune.custom_from_mask), or untie them first, and compare the outputs
# before and after prune.remove.
set -euo pipefail
folder=$(mktemp -d)
export TMPDIR="$folder"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile numpy==2.4.6 torch==2.13.0
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys

import torch
from torch import nn
from torch.nn.utils import prune

print("torch", torch.__version__)
words = torch.arange(10)


def change_by_remove(prune_embedding_too):
    torch.manual_seed(0)
    embedding, head = nn.Embedding(10, 4), nn.Linear(4, 10, bias=False)
    head.weight = embedding.weight
    prune.l1_unstructured(head, "weight", 0.5)
    pruned_modules = [head]
    if prune_embedding_too:
        prune.custom_from_mask(embedding, "weight", head.weight_mask)
        pruned_modules.append(embedding)
    before = head(embedding(words))
    zeros_before = int((embedding.weight == 0).sum())
    for module in pruned_modules:
        prune.remove(module, "weight")
    zeros_after = int((embedding.weight == 0).sum())
    change = (head(embedding(words)) - before).abs().max().item()
    print(
        f"zeros of 40 in the embedding before and after prune.remove: {zeros_before}, {zeros_after}; "
        f"largest change of an output: {change:.3f}"
    )
    return zeros_before, zeros_after, change


print("the head alone is pruned")
alone = change_by_remove(prune_embedding_too=False)
print("both are pruned with one mask")
both = change_by_remove(prune_embedding_too=True)
if alone[:2] != (0, 20) or alone[2] < 0.1 or both[:2] != (20, 20) or both[2] > 1e-6:
    sys.exit("CHANGED: prune.remove on a tied weight no longer changes the other module")
print("As described: prune.remove on the head prunes the embedding.")
PYTHON
