"""Entries that others call by address wherever they are: what several need and takes long to compile is compiled once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from retina_jit.jit import LINK, make_raw


def linked(unit: str) -> Any:
    """Declare a kernel function `() -> address` of an entry, which is found when the caller's object file is loaded."""

    def build() -> Callable[..., Any]:
        import llvmlite.binding as llvm
        from llvmlite import ir
        from numba import types

        name = LINK + unit
        if not llvm.address_of_symbol(name):
            llvm.add_symbol(name, 1)  # where it is only compiled, nobody calls it, but Numba links it

        def locate(typing_context):  # type: ignore[no-untyped-def]
            def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
                found = builder.module.globals.get(name)
                if found is None:
                    found = ir.GlobalVariable(builder.module, ir.IntType(8), name)
                return builder.ptrtoint(found, ir.IntType(64))

            return types.int64(), codegen

        return locate

    return make_raw(build, f"linked {unit}")
