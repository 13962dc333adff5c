"""The loop over all loops of a network, as LLVM code: what a call from Python runs."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from functools import cache

from llvmlite import ir

from safs_ray.engine.code import WORD, Code, Value, word
from safs_ray.engine.kernels import Call


class Entry(IntEnum):
    """The words of an entry of a program: a loop, its arguments, its channels, and whether all wait for its end."""

    FUNCTION = 0
    ARGUMENTS = 1
    CHANNELS = 2
    WAITS = 3


class Shared(IntEnum):
    """The words of a program: its entries and how many there are, the words of each thread's :class:`Call` behind each
    other, how far images and logits are apart, how many threads there are, and the word that they wait at."""

    ENTRIES = 0
    COUNT = 1
    CALLS = 2
    IMAGE_BYTES = 3
    LOGITS_BYTES = 4
    THREADS = 5
    BARRIER = 6


SPINS = 1024
"""Looks at a barrier before the processor is given to others."""


@cache
def driving() -> str:
    """The code of ``drive(program, thread, images, logits, count)``, for addresses of words, images and logits.

    It runs the entries for so many images, one after the other: each of the threads that call it at once does a part of
    the channels of each entry.
    """
    code = Code("drive", 5)
    program, thread, images, logits, count = code.words
    given = {field: code.load(WORD, program, int(field), 8) for field in Shared}
    call = code.plus(given[Shared.CALLS], code.times(thread, 8 * len(Call)))
    with code.loop(0, count) as number:
        for field, first, step in (
            (Call.IMAGES, images, Shared.IMAGE_BYTES),
            (Call.LOGITS, logits, Shared.LOGITS_BYTES),
        ):
            own = code.plus(first, code.times(number, given[step]))
            code.builder.store(own, code.pointer(WORD, call, int(field), 8), align=8)
        with code.loop(0, given[Shared.COUNT]) as number_of_entry:
            entry = code.plus(given[Shared.ENTRIES], code.times(number_of_entry, 8 * len(Entry)))
            _run(code, entry, call, thread, given)
    return code.finished()


def _run(code: Code, entry: Value, call: Value, thread: Value, given: Mapping[Shared, Value]) -> None:
    """Run an entry, for a thread's part of its channels."""
    own, threads = {field: code.load(WORD, entry, int(field), 8) for field in Entry}, given[Shared.THREADS]
    begin, end = (
        code.builder.sdiv(code.times(own[Entry.CHANNELS], each), threads) for each in (thread, code.plus(thread, 1))
    )
    kind = ir.FunctionType(ir.VoidType(), [WORD] * 4).as_pointer()
    function = code.builder.inttoptr(own[Entry.FUNCTION], kind)
    code.builder.call(function, [own[Entry.ARGUMENTS], begin, end, call])
    is_shared = code.builder.icmp_signed(">", threads, word(1))
    waits = code.builder.icmp_signed("!=", own[Entry.WAITS], word(0))
    with code.builder.if_then(code.builder.and_(is_shared, waits)):
        _wait(code, given[Shared.BARRIER], threads)


def _wait(code: Code, barrier: Value, threads: Value) -> None:
    """Go on once all threads have come here as often as this one."""
    builder = code.builder
    pointer = code.pointer(WORD, barrier, 0, 8)
    before = builder.atomic_rmw("add", pointer, word(1), "seq_cst")
    goal = code.times(code.plus(builder.sdiv(before, threads), 1), threads)
    look, rest, pause, done = (builder.append_basic_block() for _ in range(4))
    start = builder.block
    builder.branch(look)
    builder.position_at_end(look)
    looks = builder.phi(WORD)
    more = code.plus(looks, 1)
    looks.add_incoming(word(0), start)
    looks.add_incoming(more, rest)
    looks.add_incoming(more, pause)
    seen = builder.load_atomic(pointer, "seq_cst", 8)
    builder.cbranch(builder.icmp_signed("<", seen, goal), rest, done)
    builder.position_at_end(rest)
    often = builder.icmp_signed("==", builder.srem(more, word(SPINS)), word(0))
    builder.cbranch(often, pause, look)
    builder.position_at_end(pause)
    give_way = code.declared("sched_yield", ir.FunctionType(ir.IntType(32), []))
    builder.call(give_way, [])
    builder.branch(look)
    builder.position_at_end(done)
