"""A Python call per frame that reads two fields."""

from retina_jit import ZcFrame, subscribe
from retina_jit.app import at_end

totals = [0, 0]


@subscribe("ipv4 or ipv6")
def seen(frame: ZcFrame) -> None:
    totals[0] += frame.length
    totals[1] ^= frame.ts


@at_end
def show(result) -> None:
    print(totals)
