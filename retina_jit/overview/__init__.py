"""What is in a capture, at a glance: `retina-jit stats`."""

from retina_jit.overview.collect import Overview, overview

__all__ = ["Overview", "overview"]
