"""Runs of bytes that are the same are found to be; whatever they hold, that takes linear time."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from retina_jit.delivery.columns import distinct


def asked(values: list[bytes]) -> tuple[list[int], list[int]]:
    ends = np.array(list(itertools.accumulate(map(len, values), initial=2)), np.int64)
    which, firsts = distinct(ends, np.frombuffer(b"??" + b"".join(values), np.uint8))
    return which.tolist(), firsts.tolist()


@settings(deadline=None)  # the first one compiles
@given(st.lists(st.one_of(st.binary(max_size=3), st.binary(min_size=7, max_size=20), st.sampled_from([b"\0", b"\0\0", b"\0" * 8, b"\0" * 9])), max_size=60))
def test_each_run_is_found_again(values):
    which, firsts = asked(values)
    assert [values[firsts[n]] for n in which] == values
    assert len({values[n] for n in firsts}) == len(firsts) and firsts == sorted(firsts)


def test_many_that_differ():
    values = [b"%d" % n for n in range(30_000)]
    which, firsts = asked(values * 2)
    # One may be taken for new where too many others stand in its way.
    assert [(values * 2)[firsts[n]] for n in which] == values * 2 and len(values) <= len(firsts) <= 1.01 * len(values)
