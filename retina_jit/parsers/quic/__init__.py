"""QUIC: versions, packets, keys of Initial packets, frames, CRYPTO streams."""
