"""Subscriptions from TOML files: what they mean, and what their errors say."""

from __future__ import annotations

from typing import Any

import pytest

from retina_jit.datatypes import ConnRecord, FiveTuple, TlsHandshake
from retina_jit.datatypes.sessions import list_of
from retina_jit.errors import FilterError, SubscriptionError
from retina_jit.program import Program
from retina_jit.subscription import (
    Every,
    Subscription,
    load_subscriptions,
    subscribe,
    subscriptions_of,
    take_collected,
)


def log_tls(tls: TlsHandshake, who: FiveTuple) -> None: ...


def plain(conn, more=None): ...


def several(*anything: Any) -> None: ...


def listed(all_: list[TlsHandshake]) -> None: ...


CALLBACKS = {"log_tls": log_tls, "plain": plain, "several": several, "listed": listed, "number": 3}


def load(tmp_path, text: str) -> list[Subscription]:
    path = tmp_path / "spec.toml"
    path.write_text(text)
    return load_subscriptions(path, CALLBACKS)


def entry(**more: Any) -> str:
    given = {"filter": "''", "datatypes": "'ConnRecord'", "callback": "'plain'"} | more
    return "[[subscriptions]]\n" + "".join(f"{k} = {v}\n" for k, v in given.items() if v is not None)


def test_entries_in_all_their_forms(tmp_path):
    made = load(
        tmp_path,
        entry(filter="'tls'", datatypes="['TlsHandshake', 'FiveTuple']", callback="'log_tls'", deliver="'batch'")
        + entry(every_seconds="1.5", at_end="true")
        + entry(streaming="{ packets = 10 }")
        + entry(datatypes="['list[TlsHandshake]']", callback="'listed'")
        + entry(datatypes="['ConnRecord', 'TlsHandshake | None', 'CoreId']", callback="'several'"),
    )
    assert [s.types for s in made[:2]] == [(TlsHandshake, FiveTuple), (ConnRecord,)]
    assert (made[0].filter, made[0].deliver, made[0].callback) == ("tls", "batch", log_tls)
    assert [s.every for s in made] == [None, Every("seconds", 1_500_000_000, True), Every("packets", 10), None, None]
    assert made[3].types == (list_of(TlsHandshake),)
    assert [s.level for s in made] == ["session", "streaming", "streaming", "connection", "connection"]


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"datatype": "'x'"}, "unknown key 'datatype'; did you mean 'datatypes'"),
        ({"datatypes": None}, "'datatypes' is missing"),
        ({"datatypes": "'ConRecord'"}, "no data type 'ConRecord'; did you mean ConnRecord"),
        ({"callback": "'plane'"}, "no function 'plane'; did you mean 'plain'"),
        ({"callback": "'number'"}, "no function 'number'"),
        ({"callback": "'log_tls'"}, "log_tls takes 2 parameters, datatypes names 1"),
        ({"callback": "'log_tls'", "datatypes": "['FiveTuple', 'TlsHandshake']"}, "log_tls wants TlsHandshake as 'tls', datatypes says FiveTuple"),
        ({"datatypes": "['ConnRecord', 'ZcFrame']"}, "ZcFrame is delivered for each packet"),
        ({"filter": "3"}, "filter = 3 is no text"),
        ({"deliver": "'never'"}, "deliver='never'"),
        ({"every_packets": "0"}, "every_packets=0: must be more than 0"),
        ({"streaming": "{ hours = 1 }"}, "write { packets = N }"),
        ({"every_packets": "1", "streaming": "{ bytes = 1 }"}, "every_packets and every_bytes together"),
    ],
)
def test_errors_name_the_entry_and_the_reason(tmp_path, more, reason):
    with pytest.raises(SubscriptionError) as caught:
        load(tmp_path, entry() + entry(**more))
    assert "spec.toml: subscription 2: " in str(caught.value)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[[subscription]]\nfilter = ''", "unknown table 'subscription'; write [[subscriptions]]"),
        ("[subscriptions]\nfilter = ''", "subscriptions is no array of tables"),
        ("filter = ", "spec.toml"),
    ],
)
def test_errors_of_the_file_itself(tmp_path, text, reason):
    with pytest.raises(SubscriptionError) as caught:
        load(tmp_path, text)
    assert reason in str(caught.value)


def test_a_function_knows_its_subscriptions() -> None:
    @subscribe("tls", "TlsHandshake")
    @subscribe("dns", "DnsTransaction")
    def seen(session: object) -> None: ...

    take_collected()
    assert [s.filter for s in subscriptions_of(seen)] == ["dns", "tls"]
    assert subscriptions_of(subscriptions_of(seen)[0]) == [subscriptions_of(seen)[0]]
    with pytest.raises(SubscriptionError, match=r"print is not subscribed to anything; decorate it with @subscribe\(filter\)"):
        subscriptions_of(print)


def test_an_error_in_a_filter_names_the_entry(tmp_path):
    for text in ("tcp and udp", "tcp.prot = 80", "conn.packets > 3", "icmp"):
        of_packets = {"datatypes": "'ZcFrame'"} if text.startswith("conn") else {}
        made = load(tmp_path, entry() + entry(filter=f"'{text}'", callback="'several'", **of_packets))
        with pytest.raises(FilterError) as caught:
            Program(made)
        assert str(caught.value).startswith(f"{tmp_path / 'spec.toml'}: subscription 2:\n{text}\n")
        for one in made:
            one.where = ""
        with pytest.raises(FilterError, match=rf"^subscription 'several':\n{text}\n"):
            Program(made)
        made[0].filter = text
        with pytest.raises(FilterError, match=rf"^{text}\n"):
            Program(made)
