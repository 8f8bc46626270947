"""Where `retina-jit log` writes."""
