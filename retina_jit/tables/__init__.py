"""Captures as tables: `read(source).select(filter, ...)`, for notebooks and scripts."""
