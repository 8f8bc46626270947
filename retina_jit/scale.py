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


def lasting(seconds: float) -> str:
    """Return a time span as people say it, in its two largest units: 12.5 s, 3 min 20 s, 5 h, 6,195 d 1 h."""
    if seconds < 60:
        return scaled(seconds, "s")
    units, rest, said = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)), round(seconds), []
    for n, (unit, size) in enumerate(units):
        if rest >= size:
            following, fine = units[n + 1] if n + 1 < len(units) else ("", 0)
            said.append(f"{rest // size:,} {unit}")
            if fine and rest % size // fine:
                said.append(f"{rest % size // fine} {following}")
            break
    return " ".join(said)
