"""Names of TLS numbers. Source: IANA, "Transport Layer Security (TLS) Parameters" and "TLS Extensions"."""

from __future__ import annotations

CIPHER_SUITES = {0x1301: "TLS_AES_128_GCM_SHA256"}
