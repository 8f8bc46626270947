"""Start-up and compilation, apart: processes from their start to the first packet, with and without a filled cache."""

from __future__ import annotations

import pytest
import startup

ROUNDS = 5


@pytest.fixture
def app(tmp_path) -> startup.App:
    made = startup.App(tmp_path / "app.py")
    made.write("tls")
    made.until_first_packet()
    return made


@pytest.mark.benchmark(group="start-up")
def test_python_alone(benchmark):
    """What no Python program can go below."""
    benchmark.pedantic(startup.nothing, rounds=ROUNDS, warmup_rounds=1)


@pytest.mark.benchmark(group="start-up")
def test_help(benchmark):
    benchmark.pedantic(startup.help_text, rounds=ROUNDS, warmup_rounds=1)


@pytest.mark.benchmark(group="start-up")
def test_second_start(benchmark, app):
    """The same app again, until its first packet."""
    benchmark.pedantic(app.until_first_packet, rounds=ROUNDS)


@pytest.mark.benchmark(group="start-up")
def test_edited_filter(benchmark, app):
    """Only what is generated from the filter is compiled."""
    benchmark.pedantic(app.until_first_packet, setup=lambda: app.write(startup.new_filter()), rounds=ROUNDS)


@pytest.mark.benchmark(group="start-up")
@pytest.mark.slow
def test_cold_start(benchmark):
    """Everything is compiled."""
    seconds, kernels = benchmark.pedantic(startup.cold, rounds=1)
    benchmark.extra_info.update(seconds_to_first_packet=round(seconds, 1), kernels=kernels)
