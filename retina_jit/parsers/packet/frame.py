"""The frame as it was captured: what the capture says of it, no header of its own."""

from __future__ import annotations

from retina_jit.parsers.protocol import column, declare

length = column("int", "length", "Length on the wire.", bits=32, unit="byte", aliases=("frame.len",))
caplen = column("int", "caplen", "How much of it was captured.", bits=32, unit="byte", aliases=("frame.cap_len",))
number = column("int", "number", "Position in the run, from 1.", bits=64)
ts = column("int", "ts", "Capture time since 1970.", bits=64, unit="ns", aliases=("frame.time", "frame.time_epoch_ns"))
link_type = column("int", "link", "Link type, a LINKTYPE_ number.", bits=32)
payload = column(
    "bytes", "payload", "What TCP or UDP carries, as far as it is captured; empty elsewhere.", aliases=("payload", "data.data")
)

declare("frame", "Captured frame", level="packet", within=[])
