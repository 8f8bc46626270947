"""Raw memory: the only module that turns numbers into pointers.

Kernels hold addresses as `int64` words and records as typed views of an address (`at(dtype)`), so that nothing they
pass on carries a reference count and every compile firewall has the same simple signature. Packet bytes are the
exception: they come from outside and are read through `retina_jit.parsers.wire`, which checks each read.

All loads and stores here are little-endian host order unless the name says `be`.
"""

from __future__ import annotations

import mmap
from functools import cache
from typing import Any

import numpy as np

from retina_jit.jit import make_raw

HUGE_PAGE = 2 << 20


# ----------------------------------------------------------------------------------------------- seen by kernels


def _pointer(builder: Any, address: Any, bits: int) -> Any:
    from llvmlite import ir

    return builder.inttoptr(address, ir.IntType(bits).as_pointer())


def _load(name: str, bits: int, swap: bool = False) -> Any:
    def build() -> Any:
        from llvmlite import ir
        from numba import types

        def load(typing_context, address):
            def codegen(context, builder, signature, args):
                value = builder.load(_pointer(builder, args[0], bits))
                value.align = 1
                if swap:
                    value = builder.bswap(value)
                return builder.zext(value, ir.IntType(64)) if bits < 64 else value

            return types.int64(types.int64), codegen

        return load

    return make_raw(build, name)


def _store(name: str, bits: int, swap: bool = False) -> Any:
    def build() -> Any:
        from llvmlite import ir
        from numba import types

        def store(typing_context, address, value):
            def codegen(context, builder, signature, args):
                number = builder.trunc(args[1], ir.IntType(bits)) if bits < 64 else args[1]
                if swap:
                    number = builder.bswap(number)
                builder.store(number, _pointer(builder, args[0], bits)).align = 1
                return context.get_dummy_value()

            return types.void(types.int64, types.int64), codegen

        return store

    return make_raw(build, name)


load8, load16, load32, load64 = (_load(f"load{n}", n) for n in (8, 16, 32, 64))
load16_be, load32_be, load64_be = (_load(f"load{n}_be", n, swap=True) for n in (16, 32, 64))
store8, store16, store32, store64 = (_store(f"store{n}", n) for n in (8, 16, 32, 64))
store16_be, store32_be, store64_be = (_store(f"store{n}_be", n, swap=True) for n in (16, 32, 64))


def _prefetch(name: str, write: int) -> Any:
    def build() -> Any:
        from llvmlite import ir
        from numba import types

        def prefetch(typing_context, address):
            def codegen(context, builder, signature, args):
                byte, i32 = ir.IntType(8).as_pointer(), ir.IntType(32)
                wanted = ir.FunctionType(ir.VoidType(), [byte, i32, i32, i32])
                fn = builder.module.globals.get("llvm.prefetch.p0") or ir.Function(builder.module, wanted, "llvm.prefetch.p0")
                builder.call(fn, [builder.inttoptr(args[0], byte), i32(write), i32(3), i32(1)])
                return context.get_dummy_value()

            return types.void(types.int64), codegen

        return prefetch

    return make_raw(build, name)


prefetch_read, prefetch_write = _prefetch("prefetch_read", 0), _prefetch("prefetch_write", 1)


def _memory_call(name: str, kind: str) -> Any:
    def build() -> Any:
        from llvmlite import ir
        from numba import types

        def call(typing_context, target, source, length):
            def codegen(context, builder, signature, args):
                byte, i64, i1 = ir.IntType(8), ir.IntType(64), ir.IntType(1)
                to = builder.inttoptr(args[0], byte.as_pointer())
                if kind == "memset":
                    second, operand, intrinsic = byte, builder.trunc(args[1], byte), "llvm.memset.p0.i64"
                else:
                    second, operand = byte.as_pointer(), builder.inttoptr(args[1], byte.as_pointer())
                    intrinsic = f"llvm.{kind}.p0.p0.i64"
                wanted = ir.FunctionType(ir.VoidType(), [byte.as_pointer(), second, i64, i1])
                fn = builder.module.globals.get(intrinsic) or ir.Function(builder.module, wanted, intrinsic)
                builder.call(fn, [to, operand, args[2], i1(0)])
                return context.get_dummy_value()

            return types.void(types.int64, types.int64, types.int64), codegen

        return call

    return make_raw(build, name)


copy = _memory_call("copy", "memcpy")
"""copy(target, source, length): the two do not overlap."""
move = _memory_call("move", "memmove")
"""move(target, source, length): the two may overlap."""
fill = _memory_call("fill", "memset")
"""fill(target, byte, length)."""


def _atomic(name: str, operation: str) -> Any:
    def build() -> Any:
        from numba import types

        def atomic_load(typing_context, address):
            def codegen(context, builder, signature, args):
                return builder.load_atomic(_pointer(builder, args[0], 64), "acquire", 8)

            return types.int64(types.int64), codegen

        def atomic_store(typing_context, address, value):
            def codegen(context, builder, signature, args):
                builder.store_atomic(args[1], _pointer(builder, args[0], 64), "release", 8)
                return context.get_dummy_value()

            return types.void(types.int64, types.int64), codegen

        return atomic_load if operation == "load" else atomic_store

    return make_raw(build, name)


atomic_load, atomic_store = _atomic("atomic_load", "load"), _atomic("atomic_store", "store")
"""Words that another thread writes (control, ring head and tail) are read and written through these."""


def _build_compare_and_swap() -> Any:
    from numba import types

    def compare_and_swap(typing_context, address, old, new):
        def codegen(context, builder, signature, args):
            pair = builder.cmpxchg(_pointer(builder, args[0], 64), args[1], args[2], "acq_rel", "monotonic")
            return builder.extract_value(pair, 1)

        return types.boolean(types.int64, types.int64, types.int64), codegen

    return compare_and_swap


compare_and_swap = make_raw(_build_compare_and_swap, "compare_and_swap")
"""compare_and_swap(address, old, new): write `new` if the word is `old`, in one step. Returns whether it was."""


def _build_mix() -> Any:
    from llvmlite import ir
    from numba import types

    def mix(typing_context, a, b):
        def codegen(context, builder, signature, args):
            wide = ir.IntType(128)
            product = builder.mul(builder.zext(args[0], wide), builder.zext(args[1], wide))
            low = builder.trunc(product, ir.IntType(64))
            return builder.xor(low, builder.trunc(builder.lshr(product, wide(64)), ir.IntType(64)))

        return types.int64(types.int64, types.int64), codegen

    return mix


mix = make_raw(_build_mix, "mix")
"""mix(a, b): fold the 128-bit product of two words, the step of a wyhash-like hash."""


def _build_shift() -> Any:
    from numba import types

    def shift_right(typing_context, value, count):
        def codegen(context, builder, signature, args):
            return builder.lshr(args[0], args[1])

        return types.int64(types.int64, types.int64), codegen

    return shift_right


shift_right = make_raw(_build_shift, "shift_right")
"""shift_right(value, count): logical, zeros come in from the left."""


def _build_below() -> Any:
    from numba import types

    def below(typing_context, a, b):
        def codegen(context, builder, signature, args):
            return builder.icmp_unsigned("<", args[0], args[1])

        return types.boolean(types.int64, types.int64), codegen

    return below


below = make_raw(_build_below, "below")
"""below(a, b): a < b, both taken as unsigned."""


def _build_trailing_zeros() -> Any:
    from llvmlite import ir
    from numba import types

    def trailing_zeros(typing_context, value):
        def codegen(context, builder, signature, args):
            return builder.cttz(args[0], ir.IntType(1)(0))

        return types.int64(types.int64), codegen

    return trailing_zeros


trailing_zeros = make_raw(_build_trailing_zeros, "trailing_zeros")


@cache
def stack(words: int) -> Any:
    """Return the kernel function that gives the address of `words` words on the stack of the entry that calls it."""

    def build() -> Any:
        from llvmlite import ir
        from numba import types
        from numba.core import cgutils

        def reserve(typing_context):
            def codegen(context, builder, signature, args):
                place = cgutils.alloca_once(builder, ir.ArrayType(ir.IntType(64), words))
                return builder.ptrtoint(place, ir.IntType(64))

            return types.int64(), codegen

        return reserve

    return make_raw(build, "stack")


def at(dtype: np.dtype[Any]) -> Any:
    """Return the kernel function that sees the record of `dtype` at an address: `row = ROW_AT(address)`."""

    def build() -> Any:
        from numba import from_dtype, types

        record = from_dtype(dtype)

        def view(typing_context, address):
            def codegen(context, builder, signature, args):
                return builder.inttoptr(args[0], context.get_value_type(record))

            return record(types.int64), codegen

        return view

    return make_raw(build, "at")


def _build_address_of() -> Any:
    from llvmlite import ir
    from numba import types

    def address_of(typing_context, record):
        def codegen(context, builder, signature, args):
            return builder.ptrtoint(args[0], ir.IntType(64))

        return types.int64(record), codegen

    return address_of


address_of = make_raw(_build_address_of, "address_of")
"""address_of(record): where a record view points to."""


def _call(words: int) -> Any:
    def build() -> Any:
        from numba import types
        from numba.core import cgutils

        result, params = types.int64, [types.int64] * words

        def codegen(context, builder, signature, args):
            convention = context.call_conv
            fn = builder.inttoptr(args[0], convention.get_function_type(result, params).as_pointer())
            status, value = convention.call_function(builder, fn, result, params, list(args[1:]))
            with cgutils.if_unlikely(builder, status.is_error):
                convention.return_status_propagate(builder, status)
            return value

        signature = result(types.int64, *params)
        # Numba reads the number of arguments from the signature of the typing function.
        names = ", ".join(f"w{n}" for n in range(words))
        scope: dict[str, Any] = {"answer": (signature, codegen)}
        exec(f"def call(typing_context, address, {names}):\n    return answer", scope)  # noqa: S102
        return scope["call"]

    return make_raw(build, f"call{words}")


call1, call2, call3, call4, call5, call6, call7, call8, call9 = (_call(n) for n in range(1, 10))
"""callN(address, word, ...): call the entry at an address; its result is a word."""


def _c_call(words: int) -> Any:
    def build() -> Any:
        from llvmlite import ir
        from numba import types

        def codegen(context, builder, signature, args):
            i64 = ir.IntType(64)
            fn = builder.inttoptr(args[0], ir.FunctionType(i64, [i64] * words).as_pointer())
            return builder.call(fn, list(args[1:]))

        signature = types.int64(types.int64, *[types.int64] * words)
        names = ", ".join(f"w{n}" for n in range(words))
        scope: dict[str, Any] = {"answer": (signature, codegen)}
        exec(f"def call(typing_context, address, {names}):\n    return answer", scope)  # noqa: S102
        return scope["call"]

    return make_raw(build, f"c_call{words}")


c_call2, c_call3, c_call4, c_call5 = (_c_call(n) for n in range(2, 6))
"""c_callN(address, word, ...): call a C function of a shared library; of an `int` result only the low 32 bits count."""


def constant(name: str, data: bytes) -> Any:
    """Return the kernel function `() -> address` of read-only bytes that are compiled into each entry that uses it."""

    def build() -> Any:
        from llvmlite import ir
        from numba import types

        def locate(typing_context):
            def codegen(context, builder, signature, args):
                kind = ir.ArrayType(ir.IntType(8), len(data))
                found = builder.module.globals.get(name)
                if found is None:
                    found = ir.GlobalVariable(builder.module, kind, name)
                    found.linkage, found.global_constant, found.align = "internal", True, 8
                    found.initializer = ir.Constant(kind, bytearray(data))
                return builder.ptrtoint(found, ir.IntType(64))

            return types.int64(), codegen

        return locate

    return make_raw(build, name)


# ------------------------------------------------------------------------------------------------ seen by Python


class Region:
    """A range of anonymous memory, reserved at once and backed by the system as it is touched.

    Kernels cannot allocate; so what they may need is reserved in full, and costs memory only when it is used.

    Parameters
    ----------
    size : int [byte]
        Rounded up to whole huge pages.
    """

    def __init__(self, size: int) -> None:
        size = max(1, size)
        self.size = -(-size // HUGE_PAGE) * HUGE_PAGE
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0x4000)
        self._map = mmap.mmap(-1, self.size + HUGE_PAGE, flags=flags)
        base = np.frombuffer(self._map, np.uint8)
        skip = -int(base.ctypes.data) % HUGE_PAGE
        self._bytes = base[skip : skip + self.size]
        self.address = int(self._bytes.ctypes.data)

    def advise_huge(self) -> Region:
        """Ask for huge pages: random access to a large table is then about twice as fast."""
        if hasattr(mmap, "MADV_HUGEPAGE") and self.size >= 2 * HUGE_PAGE:
            self._map.madvise(mmap.MADV_HUGEPAGE)
        return self

    def array(self, dtype: Any, count: int = -1, offset: int = 0) -> np.ndarray[Any, Any]:
        """Return a view as an array of `count` items of `dtype`, from byte `offset`."""
        dtype = np.dtype(dtype)
        stop = self.size if count < 0 else offset + count * dtype.itemsize
        usable = (stop - offset) // dtype.itemsize * dtype.itemsize
        return self._bytes[offset : offset + usable].view(dtype)
