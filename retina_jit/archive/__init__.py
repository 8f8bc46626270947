"""Many captures at once: tasks for several processes or a Dask cluster, whose parts are put together at the end."""

from retina_jit.archive.write import Written, write

__all__ = ["Written", "write"]
