"""Bytes in place as str in nopython mode, for the user's compiled functions. Pipeline kernels hold no strings."""

from __future__ import annotations

from typing import Any

from retina_jit import jit
from retina_jit.jit import kernel
from retina_jit.memory import load64, store64

MOST = (1 << 16) - 1
"""Bytes that `text` shows of a text at most: what fits into a word beside an address."""


def _borrowed(context: Any, builder: Any, address: Any, length: Any) -> Any:
    """A str of a byte per character that owns nothing."""
    from numba import types
    from numba.core import cgutils

    made = cgutils.create_struct_proxy(types.unicode_type)(context, builder)
    made.data = builder.inttoptr(address, cgutils.voidptr_t)
    made.length = length
    made.kind, made.is_ascii, made.hash = (made.kind.type(1), made.is_ascii.type(0), made.hash.type(-1))
    made.meminfo, made.parent = cgutils.get_null_value(made.meminfo.type), cgutils.get_null_value(made.parent.type)
    return made._getvalue()


def _build_text_at() -> Any:
    from numba import types

    def text_at(typing_context, address, length):  # type: ignore[no-untyped-def]
        def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
            return _borrowed(context, builder, *args)

        return types.unicode_type(types.int64, types.int64), codegen

    return text_at


def _build_text() -> Any:
    from numba import types

    def text(typing_context, field):  # type: ignore[no-untyped-def]
        if not isinstance(field, types.Integer):
            return None  # Numba then says that there is no such call

        def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
            (word,) = args
            return _borrowed(context, builder, builder.lshr(word, word.type(16)), builder.and_(word, word.type(MOST)))

        return types.unicode_type(types.int64), codegen

    return text


text_at = jit.make_raw(_build_text_at, "text_at")
"""text_at(address, length): bytes in place as a str, a character per byte. It lives as long as the bytes do."""


@kernel
def make_absolute(event, at):
    """Turn the packed word of a text at `at` into what `text` reads: its address, and how long it is."""
    word = load64(at)
    if word:
        store64(at, ((event + (word >> 32)) << 16) | min(word & 0xFFFFFFFF, MOST))


text = jit.make_raw(_build_text, "text")
"""text(field): a text field of a data type as a str, in compiled callbacks: `text(tls.sni).endswith(".com")`. A character per byte."""
