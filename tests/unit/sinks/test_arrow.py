"""Arrow streams and Parquet files say what the views say."""

from __future__ import annotations

import io
from typing import Any

import pytest
from support.running import SAMPLES, collect, run_content

from retina_jit.datatypes.base import snake
from retina_jit.errors import ConfigError
from retina_jit.sinks import FORMATS
from retina_jit.subscription import named

pa = pytest.importorskip("pyarrow")
CONTENT = (SAMPLES / "tls.pcap").read_bytes()


def read(format_: str, content: bytes) -> Any:
    if format_ == "arrow":
        return pa.ipc.open_stream(content).read_all()

    return pa.parquet.read_table(io.BytesIO(content))


def plain(value: Any) -> Any:
    """What `to_dict` shows, of what Arrow reads."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [plain(v) for v in value]
    return value.hex() if isinstance(value, bytes) else value


def shown(value: Any, kind: Any) -> Any:
    """What is left of `to_dict` where Arrow has types of its own."""
    if isinstance(value, dict):
        return {k: shown(v, kind.field(k).type) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [shown(v, kind.value_type) for v in value]
    return None if value is None or pa.types.is_temporal(kind) else value


@pytest.mark.parametrize("format_", ["arrow", "parquet"])
@pytest.mark.parametrize("types", ["TlsHandshake,FiveTuple", "ConnRecord", "Payload"])
def test_rows_are_those_of_the_views(format_, types):
    each, views = collect(types)
    out = io.BytesIO()
    s = named(types.split(","), "", print, "sink")
    s.sink = FORMATS[format_](out)
    run_content([each, s], CONTENT)
    s.sink.close()
    table = read(format_, out.getvalue())
    assert table.num_rows == len(views) > 10
    one = "," not in types
    kind = pa.struct(list(table.schema))
    for row, view in zip(table.to_pylist(), views, strict=True):
        wanted = view.to_dict() if one else {snake(type(v).__name__): v.to_dict() for v in view}
        times = {f.name for f in kind if pa.types.is_temporal(f.type)}
        got = plain({k: None if k in times else v for k, v in row.items()})
        assert got == shown(wanted, kind)


def test_times_are_exact():
    each, views = collect("ConnRecord")
    out = io.BytesIO()
    s = named(["ConnRecord"], "", print, "sink")
    s.sink = FORMATS["arrow"](out)
    run_content([each, s], CONTENT)
    s.sink.close()
    table = read("arrow", out.getvalue())
    assert table.schema.field("first_seen_ts").type == pa.timestamp("ns", tz="UTC")
    assert table["first_seen_ts"].cast("int64").to_pylist() == [c.first_seen_ts for c in views]
    assert table["duration"].cast("int64").to_pylist() == [c.last_seen_ts - c.first_seen_ts for c in views]
    assert table["second_seen_ts"].null_count == sum(c.second_seen_ts is None for c in views)
    assert table["first_seen_ts"][0].as_py().tzinfo is not None


def test_a_table_of_nothing_has_columns_and_two_subscriptions_are_refused():
    out = io.BytesIO()
    made = [named([t], "tcp.port = 1", print, "sink") for t in ("ConnRecord", "FiveTuple")]
    sink = FORMATS["parquet"](out)
    made[0].sink = sink
    run_content(made[:1], CONTENT)
    sink.close()
    assert read("parquet", out.getvalue()).num_rows == 0 and "five_tuple" in read("parquet", out.getvalue()).column_names
    made[0].sink = made[1].sink = FORMATS["arrow"](io.BytesIO())
    with pytest.raises(ConfigError, match="one kind of row"):
        run_content(made, CONTENT)
