"""Lists of sessions as JSON lines: what a callback is given, without the callback."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from support.running import SAMPLES, check, runtime

from retina_jit.datatypes.base import snake
from retina_jit.errors import ConfigError
from retina_jit.sinks import FORMATS
from retina_jit.subscription import Subscription, named

MIXED = str(SAMPLES / "mixed.pcap")
SHAPES = {
    "list[HttpTransaction],FiveTuple": "http_transactions",
    "HttpTransaction | None,FiveTuple": "http_transaction",
    "SessionList,FiveTuple": "session_list",
}


def shown(value: Any, whole: bool) -> Any:
    if isinstance(value, list):
        return [{snake(type(v).__name__): v.to_dict()} if whole else v.to_dict() for v in value]
    return None if value is None else value.to_dict()


def test_lines_say_what_callbacks_get():
    got: dict[str, dict[str, Any]] = {key: {} for key in SHAPES.values()}
    out = io.BytesIO()
    sink = FORMATS["jsonl"](out)
    subscriptions: list[Subscription] = []
    for spec, key in SHAPES.items():
        for text in ("", "tcp.port = 80"):
            logged = named(spec.split(","), text, print, "each")
            logged.deliver, logged.sink = "sink", sink
            subscriptions.append(logged)
        subscriptions.append(named(spec.split(","), "", lambda s, t, key=key: got[key].update({str(t): (s, t)}), "each"))
    result = runtime(subscriptions, [MIXED]).run()
    check(result)
    sink.close()
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    counts = dict.fromkeys(got, 0)
    for line in lines:
        (key,) = set(line) - {"five_tuple"}
        counts[key] += 1
        t = line["five_tuple"]
        sessions = next(s for s, u in got[key].values() if u.to_dict() == t)
        assert line[key] == json.loads(json.dumps(shown(sessions, key == "session_list"))), line
    assert all(len(got[key]) < n <= 2 * len(got[key]) for key, n in counts.items())
    assert sum(len(line.get("http_transactions", ())) for line in lines) > 3
    assert any(line.get("http_transaction", "") is None for line in lines) and any(line.get("http_transaction") for line in lines)
    assert {k for line in lines for s in line.get("session_list", ()) for k in s} >= {"http_transaction", "tls_handshake", "dns_transaction"}


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_tables_have_no_place_for_lists(form):
    if form == "parquet":
        pytest.importorskip("pyarrow")
    s = named(["list[HttpTransaction]"], "", print, "each")
    s.deliver, s.sink = "sink", FORMATS[form](io.BytesIO())
    with pytest.raises(ConfigError, match=r"list\[HttpTransaction\] has no place in"):
        runtime([s], [MIXED])
