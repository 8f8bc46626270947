"""Every real capture of the shared collection: the walkers and the decoder against their plain twins."""

from __future__ import annotations

from pathlib import Path

import pytest
from oracle import decode as oracle
from oracle.captures import read_capture
from support.decoding import decode_frames
from support.reading import run

from retina_jit.errors import SourceError
from retina_jit.ingest.linktypes import is_supported
from retina_jit.ingest.source import open_source

FOLDER = Path(__file__).parents[4] / "shared" / "conformance" / "pcaps"
CAPTURES = sorted(FOLDER.glob("*")) or [None]


@pytest.mark.parametrize("path", CAPTURES, ids=lambda p: p.name if p else "none")
def test_capture(path):
    if path is None:
        pytest.skip(f"no captures in {FOLDER}")
    want = read_capture(path.read_bytes())
    if not any(is_supported(f.link) for f in want.frames):
        with pytest.raises(SourceError, match="is not supported"):
            open_source(path)
        return
    with open_source(path) as source:
        got = run(source)
        assert (source.frames, source.bytes) == (len(want.frames), sum(f.length for f in want.frames))
        assert (source.cut, source.offset) == (want.cut, want.offset)
    assert [(f.ts, f.data, f.length, f.link) for f in got.frames] == [(f.ts, f.data, f.length, f.link) for f in want.frames]
    cases = [(f.data, f.link, f.length) for f in want.frames]
    for case, row in zip(cases, decode_frames(cases)):
        assert row == oracle.decode(*case)
