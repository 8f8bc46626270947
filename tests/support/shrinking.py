"""Run by tests in a process of its own: reads a mapped capture that is truncated meanwhile, and prints what came of it.

Usage: python shrinking.py SCENARIO FILE NEW_SIZE
"""

from __future__ import annotations

import ctypes
import faulthandler
import json
import mmap
import os
import signal
import sys
import threading
from pathlib import Path

import numpy as np

from retina_jit import memory, objects
from retina_jit.ingest import readahead
from retina_jit.ingest.source import open_source
from retina_jit.state.layout import PACKET
from retina_jit.status import Status

KERNELS = str(Path(__file__).with_name("ingest_kernels.py"))


def main(scenario: str, path: str, size: int) -> None:
    rows = memory.Region(64 * PACKET.itemsize)
    decode = objects.function("retina_jit.parsers.packet.decode:decode_rows")
    gone = objects.function(f"{KERNELS}:gone")
    fill_all = objects.function(f"{KERNELS}:fill_all")
    readahead.is_worth = lambda _: False  # a large file would be read, not mapped
    source = open_source(path)
    walk = objects.function(source.walk_unit)
    frames = walk(source.address, rows.address, 64)
    decode(rows.address, frames)
    answers = [gone(source.address)]

    if scenario == "elsewhere":
        with open(path + ".other", "wb") as out:  # noqa: PTH123
            out.write(bytes(1 << 16))
        faulthandler.enable()
        with open(path + ".other", "r+b") as other:  # noqa: PTH123
            mapped = mmap.mmap(other.fileno(), 0)
            at = ctypes.addressof(ctypes.c_char.from_buffer(mapped))
            open_source(path)  # puts ours before the other handler
            os.truncate(path + ".other", 0)
            print("before", flush=True)
            ctypes.string_at(at, 1)
    if scenario == "sent":
        os.kill(os.getpid(), signal.SIGBUS)

    if scenario == "between bursts":
        os.truncate(path, size)
        answers.append(gone(source.address))
    elif scenario == "within a burst":
        n = walk(source.address, rows.address, 64)
        os.truncate(path, size)
        decode(rows.address, n)
        answers.append(gone(source.address))
        assert answers[-1], "the burst is not to be used"
        assert source.refill()
    elif scenario == "at any time":
        timer = threading.Timer(0.01, os.truncate, (path, size))
        timer.start()
        begin = int(source._words["at"])
        words = source._words
        while True:
            n = fill_all(walk.address, source.address, rows.address)
            if source.status == Status.SHRUNK or source.cut or not timer.is_alive():
                break
            words["at"], words["ahead"], words["frames"], words["bytes"] = begin, 0, 64, int(words["burst_bytes"])
        timer.join()
        del n

    statuses = []
    while True:
        n = walk(source.address, rows.address, 64)
        decode(rows.address, n)
        if n and not gone(source.address):
            frames += n
            assert np.all(rows.array(PACKET, n)["verdict"] == 0), "zeros were taken for frames"
            continue
        if n == 0:
            statuses.append(int(source.status))
            if source.status in (Status.DONE, Status.BROKEN):
                break
        source.refill()
    print(json.dumps({"counted": frames, "frames": source.frames, "cut": source.cut, "gone": answers, "statuses": statuses, "problem": source.problem}))
    source.close()


main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
