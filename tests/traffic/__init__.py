"""Traffic of our own making: packets, conversations and capture files for all tests.

`packets` builds single headers, `synth` whole conversations, `capture` writes files. pytest puts `tests/` on the
path (`pythonpath` in pyproject.toml), so a test says `from traffic import TcpConversation, write_pcap`.
Nothing here uses numpy or retina_jit: an oracle must not share code with what it judges.
"""

from traffic.capture import pcap_bytes, pcapng_bytes, write_pcap, write_pcapng
from traffic.packets import Frame, Link, LinkType
from traffic.synth import CLIENT, SERVER, Tally, TcpConversation, UdpExchange, merge, retime

__all__ = [
    "CLIENT",
    "SERVER",
    "Frame",
    "Link",
    "LinkType",
    "Tally",
    "TcpConversation",
    "UdpExchange",
    "merge",
    "pcap_bytes",
    "pcapng_bytes",
    "retime",
    "write_pcap",
    "write_pcapng",
]
