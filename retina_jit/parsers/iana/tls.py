"""Names of TLS numbers.

Cipher suites, groups, signature schemes and alerts have IANA's names; extension types those that Retina shows.

Sources: IANA, "Transport Layer Security (TLS) Parameters" and "Transport Layer Security (TLS) Extensions".
"""

from __future__ import annotations

_RSA_DH = ("RSA", "DH_DSS", "DH_RSA", "DHE_DSS", "DHE_RSA", "DH_anon")
_GCM_ORDER = ("RSA", "DHE_RSA", "DH_RSA", "DHE_DSS", "DH_DSS", "DH_anon")
_EC = ("ECDHE_ECDSA", "ECDH_ECDSA", "ECDHE_RSA", "ECDH_RSA")
_PSK = ("PSK", "DHE_PSK", "RSA_PSK")
_SRP = ("SRP_SHA", "SRP_SHA_RSA", "SRP_SHA_DSS")
_KRB5 = ("DES_CBC", "3DES_EDE_CBC", "RC4_128", "IDEA_CBC")
_KRB5_EXPORT = ("DES_CBC_40", "RC2_CBC_40", "RC4_40")
_AES_GCM = ("AES_128_GCM_SHA256", "AES_256_GCM_SHA384")
_ARIA_CBC = ("ARIA_128_CBC_SHA256", "ARIA_256_CBC_SHA384")
_ARIA_GCM = ("ARIA_128_GCM_SHA256", "ARIA_256_GCM_SHA384")
_CAMELLIA_CBC = ("CAMELLIA_128_CBC_SHA256", "CAMELLIA_256_CBC_SHA384")
_CAMELLIA_GCM = ("CAMELLIA_128_GCM_SHA256", "CAMELLIA_256_GCM_SHA384")
_PSK_HASHES = ("AES_128_CBC_SHA256", "AES_256_CBC_SHA384", "NULL_SHA256", "NULL_SHA384")
_EC_SHA1 = ("NULL_SHA", "RC4_128_SHA", "3DES_EDE_CBC_SHA", "AES_128_CBC_SHA", "AES_256_CBC_SHA")
_CCM, _CCM_8 = ("AES_128_CCM", "AES_256_CCM"), ("AES_128_CCM_8", "AES_256_CCM_8")

# First number, key exchanges, ciphers: every key exchange with every cipher, numbered one after another.
_SERIES: tuple[tuple[int, tuple[str, ...], tuple[str, ...]], ...] = (
    (0x0000, ("NULL",), ("NULL_NULL",)),  # TLS_NULL_WITH_NULL_NULL
    (0x0001, ("RSA",), ("NULL_MD5", "NULL_SHA")),
    (0x0003, ("RSA_EXPORT",), ("RC4_40_MD5",)),
    (0x0004, ("RSA",), ("RC4_128_MD5", "RC4_128_SHA")),
    (0x0006, ("RSA_EXPORT",), ("RC2_CBC_40_MD5",)),
    (0x0007, ("RSA",), ("IDEA_CBC_SHA",)),
    *(
        (0x0008 + 3 * n + k, (kx + ("_EXPORT" if k == 0 else ""),), (cipher,))
        for n, kx in enumerate(("RSA", "DH_DSS", "DH_RSA", "DHE_DSS", "DHE_RSA"))
        for k, cipher in enumerate(("DES40_CBC_SHA", "DES_CBC_SHA", "3DES_EDE_CBC_SHA"))
    ),
    (0x0017, ("DH_anon_EXPORT",), ("RC4_40_MD5",)),
    (0x0018, ("DH_anon",), ("RC4_128_MD5",)),
    (0x0019, ("DH_anon_EXPORT",), ("DES40_CBC_SHA",)),
    (0x001A, ("DH_anon",), ("DES_CBC_SHA", "3DES_EDE_CBC_SHA")),
    (0x001E, ("KRB5",), tuple(f"{cipher}_{mac}" for mac in ("SHA", "MD5") for cipher in _KRB5)),
    (0x0026, ("KRB5_EXPORT",), tuple(f"{cipher}_{mac}" for mac in ("SHA", "MD5") for cipher in _KRB5_EXPORT)),
    (0x002C, _PSK, ("NULL_SHA",)),
    (0x002F, _RSA_DH, ("AES_128_CBC_SHA",)),
    (0x0035, _RSA_DH, ("AES_256_CBC_SHA",)),
    (0x003B, ("RSA",), ("NULL_SHA256", "AES_128_CBC_SHA256", "AES_256_CBC_SHA256")),
    (0x003E, _RSA_DH[1:4], ("AES_128_CBC_SHA256",)),
    (0x0041, _RSA_DH, ("CAMELLIA_128_CBC_SHA",)),
    (0x0067, ("DHE_RSA",), ("AES_128_CBC_SHA256",)),
    (0x0068, _RSA_DH[1:5], ("AES_256_CBC_SHA256",)),
    (0x006C, ("DH_anon",), ("AES_128_CBC_SHA256", "AES_256_CBC_SHA256")),
    (0x0084, _RSA_DH, ("CAMELLIA_256_CBC_SHA",)),
    (0x008A, _PSK, _EC_SHA1[1:]),
    (0x0096, _RSA_DH, ("SEED_CBC_SHA",)),
    (0x009C, _GCM_ORDER, _AES_GCM),
    (0x00A8, _PSK, _AES_GCM),
    (0x00AE, _PSK, _PSK_HASHES),
    (0x00BA, _RSA_DH, ("CAMELLIA_128_CBC_SHA256",)),
    (0x00C0, _RSA_DH, ("CAMELLIA_256_CBC_SHA256",)),
    (0xC001, ("ECDH_ECDSA", "ECDHE_ECDSA", "ECDH_RSA", "ECDHE_RSA", "ECDH_anon"), _EC_SHA1),
    (0xC01A, _SRP, ("3DES_EDE_CBC_SHA",)),
    (0xC01D, _SRP, ("AES_128_CBC_SHA",)),
    (0xC020, _SRP, ("AES_256_CBC_SHA",)),
    (0xC023, _EC, _PSK_HASHES[:2]),
    (0xC02B, _EC, _AES_GCM),
    (0xC033, ("ECDHE_PSK",), (*_EC_SHA1[1:], *_PSK_HASHES[:2], "NULL_SHA", *_PSK_HASHES[2:])),
    (0xC03C, (*_RSA_DH, *_EC), _ARIA_CBC),
    (0xC050, (*_GCM_ORDER, *_EC), _ARIA_GCM),
    (0xC064, _PSK, _ARIA_CBC),
    (0xC06A, _PSK, _ARIA_GCM),
    (0xC070, ("ECDHE_PSK",), _ARIA_CBC),
    (0xC072, _EC, _CAMELLIA_CBC),
    (0xC07A, (*_GCM_ORDER, *_EC, *_PSK), _CAMELLIA_GCM),
    (0xC094, (*_PSK, "ECDHE_PSK"), _CAMELLIA_CBC),
    (0xC09C, ("RSA", "DHE_RSA"), _CCM),
    (0xC0A0, ("RSA", "DHE_RSA"), _CCM_8),
    (0xC0A4, ("PSK", "DHE_PSK"), _CCM),
    (0xC0A8, ("PSK", "PSK_DHE"), _CCM_8),  # the registry does say PSK_DHE
    (0xC0AC, ("ECDHE_ECDSA",), (*_CCM, *_CCM_8)),
    (0xC0B0, ("ECCPWD",), (*_AES_GCM, "AES_128_CCM_SHA256", "AES_256_CCM_SHA384")),
    (0xC100, ("GOSTR341112_256",), ("KUZNYECHIK_CTR_OMAC", "MAGMA_CTR_OMAC", "28147_CNT_IMIT", "KUZNYECHIK_MGM_L",
                                    "MAGMA_MGM_L", "KUZNYECHIK_MGM_S", "MAGMA_MGM_S")),
    (0xCCA8, ("ECDHE_RSA", "ECDHE_ECDSA", "DHE_RSA", "PSK", "ECDHE_PSK", "DHE_PSK", "RSA_PSK"), ("CHACHA20_POLY1305_SHA256",)),
    (0xD001, ("ECDHE_PSK",), (*_AES_GCM, "AES_128_CCM_8_SHA256")),
    (0xD005, ("ECDHE_PSK",), ("AES_128_CCM_SHA256",)),
)  # fmt: skip

# Names without a key exchange.
_PLAIN = {
    0x00C6: "SM4_GCM_SM3",
    0x00C7: "SM4_CCM_SM3",
    0x00FF: "EMPTY_RENEGOTIATION_INFO_SCSV",
    0x1301: "AES_128_GCM_SHA256",
    0x1302: "AES_256_GCM_SHA384",
    0x1303: "CHACHA20_POLY1305_SHA256",
    0x1304: "AES_128_CCM_SHA256",
    0x1305: "AES_128_CCM_8_SHA256",
    0x1306: "AEGIS_256_SHA512",
    0x1307: "AEGIS_128L_SHA256",
    0x5600: "FALLBACK_SCSV",
    0xC0B4: "SHA256_SHA256",
    0xC0B5: "SHA384_SHA384",
}


def _suites() -> dict[int, str]:
    found = {number: f"TLS_{name}" for number, name in _PLAIN.items()}
    for first, exchanges, ciphers in _SERIES:
        names = (f"TLS_{kx}_WITH_{cipher}" for kx in exchanges for cipher in ciphers)
        found.update(enumerate(names, first))
    return dict(sorted(found.items()))


CIPHER_SUITES: dict[int, str] = _suites()
UNKNOWN_CIPHER = "UNKNOWN_CIPHER"

VERSIONS: dict[int, str] = {0x0300: "SSLv3", 0x0301: "TLSv1.0", 0x0302: "TLSv1.1", 0x0303: "TLSv1.2", 0x0304: "TLSv1.3"}
DTLS_VERSIONS: dict[int, str] = {0xFEFF: "DTLSv1.0", 0xFEFD: "DTLSv1.2", 0xFEFC: "DTLSv1.3"}

EXTENSIONS: dict[int, str] = {
    0: "ServerName",
    1: "MaxFragmentLength",
    2: "ClientCertificate",
    3: "TrustedCaKeys",
    4: "TruncatedHMac",
    5: "StatusRequest",
    6: "UserMapping",
    7: "ClientAuthz",
    8: "ServerAuthz",
    9: "CertType",
    10: "SupportedGroups",
    11: "EcPointFormats",
    12: "Srp",
    13: "SignatureAlgorithms",
    14: "UseSrtp",
    15: "Heartbeat",
    16: "ApplicationLayerProtocolNegotiation",
    17: "StatusRequestv2",
    18: "SignedCertificateTimestamp",
    19: "ClientCertificateType",
    20: "ServerCertificateType",
    21: "Padding",
    22: "EncryptThenMac",
    23: "ExtendedMasterSecret",
    24: "TokenBinding",
    25: "CachedInfo",
    27: "CompressCertificate",
    28: "RecordSizeLimit",
    34: "DelegatedCredential",
    35: "SessionTicketTLS",
    40: "KeyShareOld",
    41: "PreSharedKey",
    42: "EarlyData",
    43: "SupportedVersions",
    44: "Cookie",
    45: "PskExchangeModes",
    46: "TicketEarlyDataInfo",
    47: "CertificateAuthorities",
    48: "OidFilters",
    49: "PostHandshakeAuth",
    50: "SigAlgorithmsCert",
    51: "KeyShare",
    54: "ConnectionId",
    57: "QuicTransportParameters",
    13172: "NextProtocolNegotiation",
    0xFE0D: "EncryptedClientHello",
    0xFF01: "RenegotiationInfo",
    0xFFCE: "EncryptedServerName",
}

SIGNATURE_SCHEMES: dict[int, str] = {
    0x0201: "rsa_pkcs1_sha1",
    0x0202: "dsa_sha1",
    0x0203: "ecdsa_sha1",
    0x0301: "rsa_pkcs1_sha224",
    0x0302: "dsa_sha224",
    0x0303: "ecdsa_sha224",
    0x0401: "rsa_pkcs1_sha256",
    0x0402: "dsa_sha256",
    0x0403: "ecdsa_secp256r1_sha256",
    0x0501: "rsa_pkcs1_sha384",
    0x0502: "dsa_sha384",
    0x0503: "ecdsa_secp384r1_sha384",
    0x0601: "rsa_pkcs1_sha512",
    0x0602: "dsa_sha512",
    0x0603: "ecdsa_secp521r1_sha512",
    0x0704: "eccsi_sha256",
    0x0708: "sm2sig_sm3",
    0x0709: "gostr34102012_256a",
    0x070A: "gostr34102012_256b",
    0x070B: "gostr34102012_256c",
    0x070C: "gostr34102012_256d",
    0x070D: "gostr34102012_512a",
    0x070E: "gostr34102012_512b",
    0x070F: "gostr34102012_512c",
    0x0804: "rsa_pss_rsae_sha256",
    0x0805: "rsa_pss_rsae_sha384",
    0x0806: "rsa_pss_rsae_sha512",
    0x0807: "ed25519",
    0x0808: "ed448",
    0x0809: "rsa_pss_pss_sha256",
    0x080A: "rsa_pss_pss_sha384",
    0x080B: "rsa_pss_pss_sha512",
    0x081A: "ecdsa_brainpoolP256r1tls13_sha256",
    0x081B: "ecdsa_brainpoolP384r1tls13_sha384",
    0x081C: "ecdsa_brainpoolP512r1tls13_sha512",
    0x0904: "mldsa44",
    0x0905: "mldsa65",
    0x0906: "mldsa87",
}

_SECT = ("sect163k1", "sect163r1", "sect163r2", "sect193r1", "sect193r2", "sect233k1", "sect233r1", "sect239k1", "sect283k1",
         "sect283r1", "sect409k1", "sect409r1", "sect571k1", "sect571r1")  # fmt: skip
_SECP = ("secp160k1", "secp160r1", "secp160r2", "secp192k1", "secp192r1", "secp224k1", "secp224r1", "secp256k1", "secp256r1",
         "secp384r1", "secp521r1")  # fmt: skip
_LATER = ("brainpoolP256r1", "brainpoolP384r1", "brainpoolP512r1", "x25519", "x448", "brainpoolP256r1tls13", "brainpoolP384r1tls13",
          "brainpoolP512r1tls13", "GC256A", "GC256B", "GC256C", "GC256D", "GC512A", "GC512B", "GC512C", "curveSM2")  # fmt: skip

GROUPS: dict[int, str] = {
    **dict(enumerate((*_SECT, *_SECP, *_LATER), 1)),
    **dict(enumerate(("ffdhe2048", "ffdhe3072", "ffdhe4096", "ffdhe6144", "ffdhe8192"), 0x0100)),
    **dict(enumerate(("MLKEM512", "MLKEM768", "MLKEM1024"), 0x0200)),
    0x11EB: "SecP256r1MLKEM768",
    0x11EC: "X25519MLKEM768",
    0x11ED: "SecP384r1MLKEM1024",
    0x6399: "X25519Kyber768Draft00",
    0xFF01: "arbitrary_explicit_prime_curves",
    0xFF02: "arbitrary_explicit_char2_curves",
}

ALERTS: dict[int, str] = {
    0: "close_notify",
    10: "unexpected_message",
    20: "bad_record_mac",
    21: "decryption_failed",
    22: "record_overflow",
    30: "decompression_failure",
    40: "handshake_failure",
    41: "no_certificate",
    42: "bad_certificate",
    43: "unsupported_certificate",
    44: "certificate_revoked",
    45: "certificate_expired",
    46: "certificate_unknown",
    47: "illegal_parameter",
    48: "unknown_ca",
    49: "access_denied",
    50: "decode_error",
    51: "decrypt_error",
    52: "too_many_cids_requested",
    60: "export_restriction",
    70: "protocol_version",
    71: "insufficient_security",
    80: "internal_error",
    86: "inappropriate_fallback",
    90: "user_canceled",
    100: "no_renegotiation",
    109: "missing_extension",
    110: "unsupported_extension",
    111: "certificate_unobtainable",
    112: "unrecognized_name",
    113: "bad_certificate_status_response",
    114: "bad_certificate_hash_value",
    115: "unknown_psk_identity",
    116: "certificate_required",
    117: "general_error",
    120: "no_application_protocol",
    121: "ech_required",
}
