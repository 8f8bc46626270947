"""DTLS: records in datagrams, handshake messages in fragments; what the messages hold is read by `retina_jit.parsers.tls`."""
