r"""What the data of each record type consists of: the one table from which kernels and Python decode it.

A type with one field without a name has that field as its value; other types have an object of their fields. What
does not fit its description, or has none, is shown as RFC 3597 says: "\\\\# 2 c0ff".

Sources: RFC 1035 §3.3, 1183, 2782, 3403, 4034, 4255, 5155, 6672, 6698, 6891, 7043, 7477, 7553, 8659, 8976, 9460.
"""

from __future__ import annotations

import numpy as np

from retina_jit.parsers.iana.dns import TYPE_NUMBERS

# Kinds of fields. TEXT: characters behind a byte of length; TEXTS: such to the end; LINE: characters to the end;
# HEX, BASE64: bytes to the end; SALT: bytes behind a byte of length; HASH: the same in base 32; TYPES: a bitmap of record
# types; PARAMS: service parameters, some of which are PARAM_NAMEs, WORDs (TEXT without quotes) or NOTHING; KIND: a record type, shown as its name.
(
    END, U8, U16, U32, IPV4, IPV6, NAME, KIND, TEXT, TEXTS, LINE, HEX, BASE64, SALT, HASH, TYPES, PARAMS, MAC, PARAM_NAME,
    NOTHING, WORD,
) = range(21)  # fmt: skip

SCHEMAS: dict[str, tuple[tuple[str, int], ...]] = {
    "A": (("", IPV4),),
    "AAAA": (("", IPV6),),
    **dict.fromkeys(("NS", "MD", "MF", "CNAME", "MB", "MG", "MR", "PTR", "DNAME", "NSAP-PTR"), (("", NAME),)),
    "SOA": (
        *(("primary_ns", NAME), ("mailbox", NAME), ("serial", U32), ("refresh", U32), ("retry", U32), ("expire", U32)),
        ("minimum_ttl", U32),
    ),
    "HINFO": (("cpu", TEXT), ("os", TEXT)),
    "MINFO": (("rmailbx", NAME), ("emailbx", NAME)),
    "MX": (("preference", U16), ("exchange", NAME)),
    "TXT": (("", TEXTS),),
    "SPF": (("", TEXTS),),
    "RP": (("mailbox", NAME), ("txt_domain", NAME)),
    "AFSDB": (("subtype", U16), ("hostname", NAME)),
    "RT": (("preference", U16), ("host", NAME)),
    "KX": (("preference", U16), ("exchanger", NAME)),
    "SRV": (("priority", U16), ("weight", U16), ("port", U16), ("target", NAME)),
    "NAPTR": (
        *(("order", U16), ("preference", U16), ("flags", TEXT), ("services", TEXT), ("regexp", TEXT), ("replacement", NAME)),
    ),
    "CERT": (("cert_type", U16), ("key_tag", U16), ("algorithm", U8), ("certificate", BASE64)),
    **dict.fromkeys(("DS", "CDS"), (("key_tag", U16), ("algorithm", U8), ("digest_type", U8), ("digest", HEX))),
    "SSHFP": (("algorithm", U8), ("fp_type", U8), ("fingerprint", HEX)),
    **dict.fromkeys(("RRSIG", "SIG"), (*(("type_covered", KIND), ("algorithm", U8), ("labels", U8), ("original_ttl", U32), ("expiration", U32)), *(("inception", U32), ("key_tag", U16), ("signer", NAME), ("signature", BASE64)))),
    "NSEC": (("next_domain", NAME), ("types", TYPES)),
    **dict.fromkeys(("DNSKEY", "CDNSKEY", "KEY"), (("flags", U16), ("protocol", U8), ("algorithm", U8), ("public_key", BASE64))),
    "DHCID": (("", BASE64),),
    "NSEC3": (
        *(("hash_algorithm", U8), ("flags", U8), ("iterations", U16), ("salt", SALT), ("next_hashed_owner", HASH)),
        ("types", TYPES),
    ),
    "NSEC3PARAM": (("hash_algorithm", U8), ("flags", U8), ("iterations", U16), ("salt", SALT)),
    **dict.fromkeys(("TLSA", "SMIMEA"), (("usage", U8), ("selector", U8), ("matching_type", U8), ("data", HEX))),
    "OPENPGPKEY": (("", BASE64),),
    "CSYNC": (("serial", U32), ("flags", U16), ("types", TYPES)),
    "ZONEMD": (("serial", U32), ("scheme", U8), ("hash_algorithm", U8), ("digest", HEX)),
    **dict.fromkeys(("SVCB", "HTTPS"), (("priority", U16), ("target", NAME), ("params", PARAMS))),
    "EUI48": (("", MAC),),
    "URI": (("priority", U16), ("weight", U16), ("target", LINE)),
    "CAA": (("flags", U8), ("tag", TEXT), ("value", LINE)),
}
"""By name of the type. SOA's and SRV's words are Retina's, the others those of the RFCs."""

MOST_TYPES = 1 + max(TYPE_NUMBERS[name] for name in SCHEMAS)
"""Types from this number on have no description."""


def _compile() -> tuple[bytes, bytes]:
    """The table for kernels: for each type where its program begins (0: none); programs of (kind, length of key, key)."""
    programs = bytearray([END])
    begins = np.zeros(MOST_TYPES, "<u2")
    known: dict[bytes, int] = {}
    for name, fields in SCHEMAS.items():
        program = b"".join(bytes([kind, len(key)]) + key.encode() for key, kind in fields) + bytes([END])
        if program not in known:
            known[program] = len(programs)
            programs += program
        begins[TYPE_NUMBERS[name]] = known[program]
    return begins.tobytes(), bytes(programs)


BEGINS, PROGRAMS = _compile()

# SvcParams whose values have a form of their own (RFC 9460, 7); others are shown in hexadecimal, but "dohpath", a text.
PARAM_MANDATORY, PARAM_ALPN, PARAM_NO_DEFAULT_ALPN, PARAM_PORT, PARAM_IPV4HINT, PARAM_ECH, PARAM_IPV6HINT, PARAM_DOHPATH = range(8)
