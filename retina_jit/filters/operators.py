"""The operators: how they are written, what they take, what they mean. One row each."""

from __future__ import annotations

from dataclasses import dataclass

NUMBERS = ("int", "bool", "ints", "ipv4", "ipv6", "mac")
ORDERED = ("int", "bool", "ints")
TEXTS = ("text", "texts", "bytes")
LISTS = ("ints", "texts")


@dataclass(frozen=True)
class Operator:
    """One operator.

    Attributes
    ----------
    name : str
        How it prints.
    spellings : tuple of str
        All ways to write it, in lower case.
    kinds : tuple of str
        Kinds of fields that it works on.
    meaning : str
        One sentence; `x` is the field's value, `v` what the filter says.
    every : bool
        On `addr`, `port` and on lists it has to hold for every part; else one part is enough.
    """

    name: str
    spellings: tuple[str, ...]
    kinds: tuple[str, ...]
    meaning: str
    every: bool = False


TABLE = (
    Operator(
        "=",
        ("=", "==", "eq"),
        NUMBERS + TEXTS,
        "x is v; an address with a prefix length: x lies in that network",
    ),
    Operator("!=", ("!=", "ne"), NUMBERS + TEXTS, "x is not v, or lies outside that network", every=True),
    Operator(">=", (">=", "ge"), ORDERED, "x is at least v"),
    Operator("<=", ("<=", "le"), ORDERED, "x is at most v"),
    Operator(">", (">", "gt"), ORDERED, "x is more than v"),
    Operator("<", ("<", "lt"), ORDERED, "x is less than v"),
    Operator(
        "in",
        ("in",),
        NUMBERS + TEXTS,
        "x lies in the range (both ends included), the network, the {set} or the set in the @file",
    ),
    Operator("not in", ("not in",), NUMBERS + TEXTS, "x does not lie in it", every=True),
    Operator("~", ("~", "matches"), TEXTS, "the regular expression v matches somewhere in x, as UTF-8 text"),
    Operator("~b", ("~b",), TEXTS, "the regular expression v matches somewhere in x, byte by byte"),
    Operator("contains", ("contains",), TEXTS, "v stands somewhere in x"),
    # Retina: one side of `addr` is enough here too; but it has no texts with sides, and of a list nobody means that.
    Operator("not contains", ("not contains", "!contains"), TEXTS, "v stands nowhere in x", every=True),
)

BY_NAME = {o.name: o for o in TABLE}
SPELLINGS = {s: o.name for o in TABLE for s in o.spellings}
