"""The user's functions as entries: predicates, jit callbacks, functions of data types.

Each is wrapped in a few lines that make its arguments of words. What can be packed (`retina_jit.packing`) is compiled as all
entries are, by a child process into the cache; the rest, closures over what only this process has, in this process, each time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from retina_jit import jit, objects
from retina_jit.errors import CompileError
from retina_jit.jit import make_raw
from retina_jit.packing import Packer, Unpackable
from retina_jit.stamp import keep_source

log = logging.getLogger(__name__)
MEMORY = "retina_jit.memory"
_told: set[str] = set()


class DoesNotCompile(Exception):  # noqa: N818 - who asks says which of the user's errors it is
    """What Numba says of a function of the user's."""


@dataclass
class OwnEntry:
    """A function of the user's behind an entry.

    Attributes
    ----------
    where : str
        Whose it is, for messages.
    function : callable
        The lines call it `user`.
    parameters : str
        Of the entry.
    lines : sequence of str
        Its body.
    imports : sequence of (str, str)
        What the lines need of the project: module and name.
    values : dict
        What else they name. A dtype stands for the function that makes a record of an address.
    """

    where: str
    function: Callable[..., Any]
    parameters: str
    lines: Sequence[str]
    imports: Sequence[tuple[str, str]] = ()
    values: dict[str, Any] = field(default_factory=dict)
    dispatcher: Any = None
    failed: bool = False
    """A child process was given it already, and has not compiled it."""

    @cached_property
    def unit(self) -> str:
        """The unit that is compiled for it; empty if it has to be compiled in this process."""
        packer = Packer()
        try:
            packed = {n: packer.value(v, f"it uses {n}") for n, v in {"user": self.function, **self.values}.items()}
        except (Unpackable, RecursionError) as fault:
            if self.where not in _told:
                log.warning("%s is compiled anew at each start, for %s", self.where, fault)
                _told.add(self.where)
            return ""
        given = [f"FUNCTIONS = {packer.functions!r}", *(f"{n} = unpack(FUNCTIONS, {p!r})" for n, p in packed.items())]
        imports = {*packer.imports, ("retina_jit.jit", "own_kernel"), ("retina_jit.packing", "unpack")}
        return f"{keep_source('own', self._source(imports, given, '@own_kernel'))}:call"

    def _source(self, imports: set[tuple[str, str]], given: Sequence[str], decorator: str) -> str:
        text = [f'"""Generated: {self.where}, wrapped."""', "", "import numpy as np", ""]
        text += [f"from {module} import {name}" for module, name in sorted({*self.imports, *imports, (MEMORY, "at")})]
        text += ["", *given, *(f"{n}_at = at({n})" for n, v in self.values.items() if hasattr(v, "fields")), "", ""]
        return "\n".join([*text, decorator, f"def call({self.parameters}):", *(f"    {line}" for line in self.lines), ""])

    def entry(self) -> objects.Entry:
        """Return it compiled.

        Raises
        ------
        DoesNotCompile
            It is no function for nopython mode.
        KeyError
            It asks a record for a field that it does not have.
        """
        if self.unit and not self.failed:
            try:
                return objects.function(self.unit)
            except CompileError as fault:
                log.info("%s: %s", self.where, fault)
        return self._compile_here()

    def _compile_here(self) -> objects.Entry:
        import numba

        function: Any = self.function
        if not hasattr(function, "nopython_signatures"):
            self.dispatcher = numba.njit(nogil=True, error_model="numpy")(function)
        elif not getattr(function, "_can_compile", True) or function.locals:
            self.dispatcher = function
        else:
            # Not what Python may have called already: that was compiled with Python's division by zero, which raises.
            self.dispatcher = numba.jit(**{"error_model": "numpy"} | function.targetoptions)(function.py_func)
        scope: dict[str, Any] = {**self.values, "user": self.dispatcher}
        exec(self._source(set(), (), ""), scope)  # noqa: S102
        try:
            return objects.adopt(jit.own_kernel(scope["call"], kept=False), self.where)
        except KeyError:
            raise
        except Exception as fault:  # Numba's passes raise what they like over code that they do not understand
            raise DoesNotCompile(str(fault)) from fault

    @property
    def results(self) -> set[str]:
        """Types that the function gives, as far as it was compiled in this process."""
        return {str(s.return_type) for s in self.dispatcher.nopython_signatures} if self.dispatcher is not None else set()


def _build_verdict() -> Any:
    from numba import types

    def verdict(typing_context, value):  # type: ignore[no-untyped-def]
        def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
            return context.cast(builder, args[0], signature.args[0], types.int64)

        # None: Numba then says that there is no such call.
        return (types.int64(types.unliteral(value)), codegen) if isinstance(value, types.Integer) else None

    return verdict


verdict = make_raw(_build_verdict, "verdict")
"""verdict(value): a word; what is no integer does not compile."""


def _build_goes_on() -> Any:
    from numba import types

    def goes_on(typing_context, value):  # type: ignore[no-untyped-def]
        def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
            if isinstance(value, types.NoneType):
                return context.get_constant(types.int64, 0)
            said = context.cast(builder, args[0], signature.args[0], types.boolean)
            return builder.zext(builder.not_(said), context.get_value_type(types.int64))

        return types.int64(types.unliteral(value)), codegen

    return goes_on


goes_on = make_raw(_build_goes_on, "goes_on")
"""goes_on(value): 1 if a callback has given something false, else 0; one that gives nothing at all goes on, as in Python."""
