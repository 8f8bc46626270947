"""Receiving through DPDK: million packets per second of processor time beside dpdk-testpmd, ns per packet of a TLS log.

`pytest bench/test_dpdk.py` on a quiet machine; the rounds of each thing, taken in turn, are in `extra_info`.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path

import measure
import pytest
import workloads

from retina_jit.ingest.dpdk.library import folder

JOBS = str(Path(__file__).with_name("dpdk_jobs.py"))
pytestmark = pytest.mark.skipif(folder() is None, reason="needs DPDK: apt install librte-ethdev23 dpdk-dev")


def _run(benchmark, *job: str) -> dict[str, float]:
    found = json.loads(benchmark.pedantic(lambda: measure.once([sys.executable, JOBS, *job]).out, rounds=1))
    benchmark.extra_info.update(found)
    return {name: statistics.median(rounds) for name, rounds in found.items() if isinstance(rounds, list)}


@pytest.mark.benchmark(group="dpdk")
def test_receive_and_free_beside_testpmd(benchmark):
    rates = _run(benchmark, "free")
    if "testpmd" in rates:
        assert rates["receive_and_free, same pool"] >= 0.9 * rates["testpmd"]
        assert rates["receive_read_and_free, same pool"] >= 0.8 * rates["testpmd"]


@pytest.mark.benchmark(group="dpdk")
def test_tls_log_from_ports_and_from_files(benchmark, tmp_path):
    costs = _run(benchmark, "log", str(workloads.capture(200)), str(tmp_path))
    if "net_ring" in costs:  # else the other core was never free enough to keep the ring full
        benchmark.extra_info["port_to_file"] = round(costs["net_ring"] / costs["file"], 2)
        benchmark.extra_info["port_to_file_with_a_helper"] = round(costs["net_ring"] / costs["file, with a helper"], 2)
        assert costs["net_ring"] <= 1.1 * costs["file"]
    benchmark.extra_info["port_to_file_no_ip"] = round(costs["net_null, no IP"] / costs["file, no IP"], 2)
    benchmark.extra_info["port_to_file_no_ip_with_a_helper"] = round(costs["net_null, no IP"] / costs["file, no IP, with a helper"], 2)
    assert costs["net_null, no IP"] <= 1.1 * costs["file, no IP"]
