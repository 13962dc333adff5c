"""The loop over all loops of a network, as LLVM code: what a call from Python runs."""

from __future__ import annotations

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


SPINS = 1024
"""Looks at a barrier before the processor is given to others."""


@cache
def driving() -> str:
    """The code of ``drive(entries, count, call, images, image_bytes, logits_bytes, thread, threads, barrier)``.

    It runs the entries for so many images, one after the other: ``thread`` of ``threads`` that each call it does a
    part of the channels of each. ``barrier`` is the address of a word that begins at 0 and is theirs.
    """
    code = Code("drive", 9)
    entries, count, call, images, image_bytes, logits_bytes, thread, threads, barrier = code.words
    kind = ir.FunctionType(ir.VoidType(), [WORD] * 4).as_pointer()
    with code.loop(0, images):
        with code.loop(0, count) as number:
            entry = code.plus(entries, code.times(number, 8 * len(Entry)))
            own = {field: code.load(WORD, entry, int(field), 8) for field in Entry}
            begin, end = (
                code.builder.sdiv(code.times(own[Entry.CHANNELS], each), threads)
                for each in (thread, code.plus(thread, 1))
            )
            function = code.builder.inttoptr(own[Entry.FUNCTION], kind)
            code.builder.call(function, [own[Entry.ARGUMENTS], begin, end, call])
            shared = code.builder.icmp_signed(">", threads, word(1))
            waits = code.builder.icmp_signed("!=", own[Entry.WAITS], word(0))
            with code.builder.if_then(code.builder.and_(shared, waits)):
                _wait(code, barrier, threads)
        for field, step in ((Call.IMAGES, image_bytes), (Call.LOGITS, logits_bytes)):
            moved = code.plus(code.load(WORD, call, int(field), 8), step)
            code.builder.store(moved, code.pointer(WORD, call, int(field), 8), align=8)
    return code.finished()


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
