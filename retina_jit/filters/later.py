"""Names of the language whose protocols or readers do not exist yet: refused by name instead of as unknown."""

from __future__ import annotations

_HTTP = """method uri request_version user_agent cookie host request_content_type request_transfer_encoding
    response_version status_msg response_content_type response_transfer_encoding status_code request_content_length
    response_content_length"""
_SSH = """protocol_version software_version comments key_exchange_cookie kex_algs server_host_key_algs encryption_algs
    mac_algs compression_algs languages hassh hassh_server"""

LATER: dict[str, frozenset[str]] = {
    "http": frozenset(_HTTP.split()),
    "ssh": frozenset([w for name in _SSH.split() for w in (name, f"{name}_ctos", f"{name}_stoc")]),
    "tls": frozenset(
        """client_version server_version version compression_alg sni client_random server_random cipher ja3_str ja3s_str
        ja3_hash ja3s_hash ja4 client_compression_algs client_ciphers client_alpn_protocols client_signature_algs
        client_extensions server_extensions cipher_suite""".split()
    ),
}
"""Protocol to the names of its fields. A name stops counting as soon as its protocol declares it."""
