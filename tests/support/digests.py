"""Entries around the digest kernels, so that tests can call them. The message must have room behind it."""

from __future__ import annotations

from retina_jit.jit import entry
from retina_jit.parsers.digest import md5, sha256, write_hex
from retina_jit.parsers.tls.fingerprint import sort16


@entry
def run_md5(address, length, target):
    md5(address, length, target)
    return 0


@entry
def run_sha256(address, length, target, work):
    sha256(address, length, target, work)
    return 0


@entry
def run_hex(target, address, length):
    return write_hex(target, address, length)


@entry
def run_sort(address, count):
    sort16(address, count)
    return 0
