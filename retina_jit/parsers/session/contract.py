"""What a session parser is: the entries that the pipeline calls, and what they answer.

A session parser is one module in this folder. It declares its protocol and its fields, and has

`STATE`
    The dtype of its memory per connection: zero-filled when a connection becomes its own, freed after `release`, and
    never moved in between. Small; what can grow lies in the arena (`retina_jit.state.arena`).
`TURNS_INTO`, if it may turn into other protocols
    Their names.
`PROBE_LIMIT`
    With this many bytes of one direction `probe` has always made up its mind.
`probe(address, length, direction, transport) -> Probe`
    Looks at the first bytes in order of one direction of a TCP stream (transport 6), at least once; again, with more of
    them, after UNSURE. With UDP (transport 17) it gets one whole datagram at a time; UNSURE: the next one may tell, LATER:
    the same, and this one is none of the protocol's.
`parse(state, input) -> flags below`
    Takes bytes of one direction from `at` of the INPUT, and moves `at` past what it has taken. `lost` bytes are
    missing right before them: the parser deals with that and sets `lost` to 0. Flags:
    With UDP every INPUT is one datagram; `lost` is 0.
    0: all bytes are taken, the next ones may complete a session;
    READY: a session is complete; deliver it, then call again with the same INPUT;
    STOP: nothing more can come of this connection: do not call again but for `release` (and READY, if set as well);
    NOT_OURS: the bytes are another protocol's, and nothing was delivered: `release` follows, and the other protocols
    that are wanted are asked about these bytes (and those of before, if they are still kept). After READY it is STOP.
    LIMITED: a cap of the parser, or the arena's, was reached, and something is left out; counted;
    TURNED, with STOP: from `at` on, and in the other direction from the next byte on, another protocol speaks, one of the
    module's TURNS_INTO (STARTTLS). Those of them that are wanted are asked about what follows.
    RESYNCED: the place in the stream was lost, in a hole or in nonsense, and is looked for; counted.
    What it says does not depend on where the stream was cut into calls.
`finish(state, arena) -> READY or 0`
    The connection has ended: whether there is a session that was begun, is worth delivering and was not delivered. Called
    again after READY, until it gives 0.
`release(state, arena) -> 0`
    Frees what lies in the arena. May be called in any state, and twice.

A field's reader takes the address of the state. What it gives is valid until `parse`, `finish` or `release` is called.
A list of texts gives its length as the second word of a span, `reader(state, -1) == (0, length)`; what is absent is 0, or
a span whose address is 0.
`project(context) -> 0` writes the session into an event, see `retina_jit.delivery.event`.
"""

from __future__ import annotations

READY = 1
STOP = 2
NOT_OURS = 4
LIMITED = 8
RESYNCED = 16
TURNED = 32
