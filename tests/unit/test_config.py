"""Configuration: Retina's keys and defaults, what is refused and how, and the file that `retina-jit config` prints."""

from __future__ import annotations

import tomllib

import pytest
from click.testing import CliRunner

from retina_jit.cli.main import main
from retina_jit.config import RuntimeConfig, load_config, to_toml
from retina_jit.errors import ConfigError

# Shaped as Retina's own: an offline one, and one for two ports.
OFFLINE = """
main_core = 0
[mempool]
capacity = 262144
cache_size = 512
[offline]
pcap = "small.pcap"
mtu = 9702
[conntrack]
max_connections = 100_000
max_out_of_order = 500
timeout_resolution = 100
"""
ONLINE = """
main_core = 0
nb_memory_channels = 6
suppress_dpdk_output = true
[mempool]
capacity = 8_388_608
[online]
duration = 120
nb_rxd = 32768
hardware_assist = false
dpdk_supl_args = ["--no-huge"]
[online.monitor.display]
throughput = true
port_stats = [""]
[online.monitor.log]
interval = 500
[online.prometheus]
port = 9898
[[online.ports]]
device = "0000:3b:00.0"
cores = [1, 2, 3]
[online.ports.sink]
core = 17
nb_buckets = 384
[[online.ports]]
device = "net_pcap0"
cores = [4]
[conntrack]
udp_inactivity_timeout = 30_000
init_data = true
"""


@pytest.mark.parametrize("text", [OFFLINE, ONLINE])
def test_files_of_retina_are_read_and_written_back(text, tmp_path):
    file = tmp_path / "x.toml"
    file.write_text(text)
    config = load_config(file)
    printed = to_toml(config)
    file.write_text(printed)
    assert load_config(file) == config
    given, effective = tomllib.loads(text), tomllib.loads(printed)
    for name, value in given["conntrack"].items():
        assert effective["conntrack"][name] == value
    assert config.midstream == ("init_data" in text)


def test_defaults_are_those_of_retina():
    config = tomllib.loads(to_toml(RuntimeConfig()))
    assert (config["nb_memory_channels"], config["suppress_dpdk_output"], config["mempool"]) == (1, True, {"capacity": 65536, "cache_size": 512})
    c = config["conntrack"]
    assert (c["tcp_establish_timeout"], c["tcp_inactivity_timeout"], c["udp_inactivity_timeout"]) == (5000, 300_000, 60_000)
    assert (c["max_connections"], c["max_out_of_order"]) == (10_000_000, 100)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[conntrack]\nmax_conections = 1", "unknown key conntrack.max_conections; did you mean 'max_connections'?"),
        ("main_cor = 1", "unknown key main_cor; did you mean 'main_core'?"),
        ("[online]\nnb_rdx = 1", "unknown key online.nb_rdx; did you mean 'nb_rxd'?"),
        ('[[online.ports]]\ndevice = "a"\ncores = [1]\nsinc = 1', r"unknown key online.ports\[0\].sinc; did you mean 'sink'?"),
        ("[zzz]", "unknown key zzz; known: conntrack"),
        ("[conntrack]\nmidstream = 3", "conntrack.midstream: Expected `bool`"),
        ("[conntrack]\ntimeout_resolution = 0", "conntrack.timeout_resolution = 0: must be positive"),
        ('[conntrack]\ntable_full = "panic"', "must be 'refuse' or 'evict'"),
        ("[conntrack]\npacket_list_bytes = 99999999", "at most 3145728"),
        ('[offline]\npcap = "a"\n[online]', "one source"),
        ("[mempool\n", "x.toml"),
    ],
)
def test_what_is_wrong_is_named(text, message, tmp_path):
    file = tmp_path / "x.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message.replace("?", r"\?")):
        load_config(file)


def test_command_prints_what_is_in_effect(tmp_path):
    file = tmp_path / "x.toml"
    file.write_text("[conntrack]\nmidstream = true")
    result = CliRunner().invoke(main, ["config", "-c", str(file)])
    assert result.exit_code == 0
    assert tomllib.loads(result.output)["conntrack"]["midstream"] is True
    assert "# online: none" in result.output


def test_capture_named_by_the_configuration(tmp_path):
    file = tmp_path / "x.toml"
    file.write_text('[offline]\npcap = "not-there.pcap"')
    result = CliRunner().invoke(main, ["log", "PktCount", "-c", str(file)])
    assert "not-there.pcap" in result.output
    file.write_text("[online]")
    result = CliRunner().invoke(main, ["log", "PktCount", "-c", str(file)])
    assert "[online] has no ports" in result.output
    file.write_text('[[online.ports]]\ndevice = "net_null0"\ncores = []')
    result = CliRunner().invoke(main, ["log", "PktCount", "-c", str(file)])
    assert "online.ports[0].cores: at least one core" in result.output
    file.write_text('main_core = 0\n[[online.ports]]\ndevice = "net_null0"\ncores = [100_000]')
    result = CliRunner().invoke(main, ["log", "PktCount", "-c", str(file)])
    assert "online.ports[0].cores: core 100000 is not usable; there are: 0" in result.output
    result = CliRunner().invoke(main, ["log", "PktCount", "-c", str(file), "-j", "2"])
    assert "say how many workers" in result.output
    file.write_text('[[online.ports]]\ndevice = "net_null0"\ncores = [0]\nsink = {core = 0}')
    result = CliRunner().invoke(main, ["log", "PktCount", "-c", str(file)])
    assert "a sink needs its own" in result.output
