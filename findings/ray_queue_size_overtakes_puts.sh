#!/usr/bin/env bash
# The actor behind ray.util.queue.Queue is asynchronous, and Ray keeps no order among the calls of one caller to such an
# actor: a call that waits for an argument is overtaken by those after it. So a producer that has called put_async, or
# actor.put_nowait.remote, and then asks size() may be told of a queue that lacks what it has put itself, and a consumer
# that empties the queue when size() is 0 loses it. (An actor of ordinary methods would answer in order.)
# What to do: keep the references of the puts and ray.get() them before you ask for anything that has to include them.
set -euo pipefail
folder=$(mktemp -d)
export TMPDIR="$folder"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-compile ray==2.60.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
import time

import ray
from ray.util.queue import Queue

ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")


@ray.remote
def late():
    time.sleep(2)
    return "an item that takes a while to be computed"


@ray.remote(num_cpus=0)
class InOrder:
    """The same with ordinary methods."""

    def __init__(self):
        self.items = []

    def put_nowait(self, item):
        self.items.append(item)

    def qsize(self):
        return len(self.items)


def size_after_put(actor):
    """What the caller is told right after it has put an item that is still being computed, and once the put is done."""
    put = actor.put_nowait.remote(late.remote())
    told = ray.get(actor.qsize.remote())
    ray.get(put)
    return told, ray.get(actor.qsize.remote())


queue = Queue(actor_options={"num_cpus": 0})
of_queue, in_order = size_after_put(queue.actor), size_after_put(InOrder.remote())
print("ray", ray.__version__)
print(f"Queue: size {of_queue[0]} after the put, {of_queue[1]} once it is done")
print(f"actor of ordinary methods: {in_order[0]}, {in_order[1]}")
if of_queue != (0, 1) or in_order != (1, 1):
    sys.exit("CHANGED: the queue's calls of one caller keep their order")
print("As described: size() overtakes a put of the same caller.")
PYTHON
