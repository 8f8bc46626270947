"""Reading packet bytes: the only code that does.

A *span* `(address, length)` is a tuple of two words that bounds what may be read: a frame, or a part of one. Every
reader takes a span and a position in it. A read that does not lie inside the span gives 0; in checked mode
(`RETINA_JIT_CHECKED=1`) it raises, which is how tests and fuzzing find a missing gate. So no bytes of a packet, however
made, lead to a read outside it.

Numbers are in network order unless the name says `le`; results are `int64`.
"""

from __future__ import annotations

from typing import Any

from retina_jit import memory
from retina_jit.jit import leaf, make_raw
from retina_jit.stamp import CHECKED


def _reader(name: str, width: int, *, swap: bool) -> Any:
    def build() -> Any:
        from llvmlite import ir
        from numba import types
        from numba.core import cgutils

        def read(typing_context, span, position):
            pair = types.UniTuple(types.int64, 2)

            def codegen(context, builder, signature, args):
                i64 = ir.IntType(64)
                start, length = cgutils.unpack_tuple(builder, args[0], 2)
                at = args[1]
                # As unsigned numbers: at <= length, and width bytes are left. A negative position is a huge one.
                inside = builder.and_(
                    builder.icmp_unsigned("<=", at, length),
                    builder.icmp_unsigned(">=", builder.sub(length, at), i64(width)),
                )
                bits = ir.IntType(8 * width)

                def load():
                    value = builder.load(builder.inttoptr(builder.add(start, at), bits.as_pointer()))
                    value.align = 1
                    if swap:
                        value = builder.bswap(value)
                    return builder.zext(value, i64) if width < 8 else value

                if CHECKED:
                    with cgutils.if_unlikely(builder, builder.not_(inside)):
                        context.call_conv.return_user_exc(builder, IndexError, ("read outside the packet",))
                    return load()
                before = builder.block
                with cgutils.if_likely(builder, inside):
                    value = load()
                    loaded_in = builder.block
                result = builder.phi(i64)
                result.add_incoming(i64(0), before)
                result.add_incoming(value, loaded_in)
                return result

            return types.int64(pair, types.int64), codegen

        return read

    return make_raw(build, name)


u8 = _reader("u8", 1, swap=False)
u16, u32, u64 = (_reader(f"u{8 * n}", n, swap=True) for n in (2, 4, 8))
u16_le, u32_le, u64_le = (_reader(f"u{8 * n}_le", n, swap=False) for n in (2, 4, 8))


@leaf
def u24(span, at):
    """Three bytes in network order."""
    return (u8(span, at) << 16) | u16(span, at + 1)


@leaf
def part(span, at, length):
    """The span of `length` bytes from `at`, cut to what there is; empty when `at` lies outside."""
    if at < 0 or at > span[1]:
        return (span[0], 0)
    n = min(length, span[1] - at)
    return (span[0] + at, max(n, 0))


@leaf
def has(span, at, length):
    """Whether `length` bytes from `at` lie inside."""
    return at >= 0 and length >= 0 and at <= span[1] and length <= span[1] - at


@leaf
def copy_to(target, span, at, length):
    """Copy bytes of a span to own memory; only what lies inside. Returns how many."""
    source = part(span, at, length)
    memory.copy(target, source[0], source[1])
    return source[1]
