"""Damaged QUIC in checked mode: the frames behind the encryption, and sealed datagrams as they come."""

from __future__ import annotations

from support import quic_fuzz

COUNT = 60_000


def test_damaged_quic() -> None:
    found = quic_fuzz.run(COUNT, 11)
    assert found.startswith(f"{COUNT} plaintexts, ")
    hellos = int(found.split(", ")[1].split()[0])
    assert COUNT // 10 < hellos < COUNT, f"damage does too much or nothing: {found}"
