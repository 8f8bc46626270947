"""Numbers for people."""

from __future__ import annotations

PREFIXES = ("n", "µ", "m", "", "k", "M", "G", "T")
ONE = PREFIXES.index("")


def scaled(value: float, unit: str = "", form: str = ".3g", *, least: str = "n") -> str:
    """Return a number with a decimal prefix: 1.5 kB, 20 ms.

    Parameters
    ----------
    form : str
        How the digits are written.
    least : str
        The smallest prefix; "" leaves what is below 1 as it is.
    """

    def shown() -> float:
        return abs(float(format(value, form)))

    n = ONE
    while shown() >= 1000 and n < len(PREFIXES) - 1:
        value, n = value / 1000, n + 1
    while 0 < abs(value) and shown() < 1 and n > PREFIXES.index(least):
        value, n = value * 1000, n - 1
    return f"{value:{form}} {PREFIXES[n]}{unit}"
