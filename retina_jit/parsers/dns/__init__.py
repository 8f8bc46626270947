"""Parts of the DNS parser `retina_jit.parsers.session.dns`."""
