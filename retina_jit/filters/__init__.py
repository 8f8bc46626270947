"""Which packets, connections and sessions matter: the filter language and its compiler."""

from __future__ import annotations

from retina_jit.filters.compile import FilterSpec, Plan, compile_filters

__all__ = ["FilterSpec", "Plan", "compile_filters"]
