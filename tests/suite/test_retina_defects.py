"""Every wrong result of Retina (its list: notes on Retina, 10.1) that concerns filters, subscriptions or streaming, and what guards here
against it: tests by name, and cases of the suite's tables. What concerns state and parsers is listed beside their tests.
"""

from __future__ import annotations

import ast
import tomllib
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
DEFECTS = "unit/filters/test_defects.py"
UPSTREAM = "unit/delivery/test_upstream_defects.py"
LIST: dict[str, tuple[str, ...]] = {
    "2: the splice of the trie gives a narrow subscription what a wide one asks for (2.5-2)": (
        f"{DEFECTS}::test_a_narrow_subscription_is_not_widened_by_a_wide_one",
        "property/test_many_programs.py::test_a_program_of_n_is_n_programs_of_one",
    ),
    "3: only the first transaction is delivered with protocol and session filters (5.7)": (
        f"{UPSTREAM}::test_10_1_3_every_session_is_delivered_with_a_protocol_filter_not_only_the_first",
    ),
    "4: src and dst in the first stage drop the other direction (2.2)": (
        "property/test_filters_equal_interpreter.py::test_a_swapped_packet_of_a_wanted_connection_passes",
        f"{UPSTREAM}::test_10_1_4_a_filter_on_one_side_sees_both_directions",
        "connections.continue: tcp.dst_port = 443",
        "connections.continue: ipv4.src_addr = 192.0.2.7 and tcp.dst_port = 50000",
    ),
    "10: several packet subscriptions with session predicates get no packets behind the match (3.4)": (
        f"{UPSTREAM}::test_10_1_10_several_packet_subscriptions_with_session_predicates_get_packets_behind_the_match",
        "connections.deliver: tls and tcp.syn",
    ),
    "10: several static subscriptions with session predicates never fire (3.4)": (
        f"{UPSTREAM}::test_10_1_10_several_static_subscriptions_with_session_predicates_fire",
    ),
    "11: overlapping ranges are held to exclude each other (2.5-5b)": (f"{DEFECTS}::test_overlapping_ranges_exclude_nobody",),
    "11: text predicates are held to exclude each other (2.5-5a)": (f"{DEFECTS}::test_text_predicates_exclude_nobody",),
    "11: a session branch becomes the else of a port (2.5)": (
        f"{DEFECTS}::test_a_session_branch_does_not_hang_on_a_port",
        "sessions.match: tls.sni = 'example.com' or tcp.dst_port = 22",
    ),
    "11: one callback fires twice where two branches lead to it (2.5)": (
        f"{DEFECTS}::test_a_connection_matches_once_however_many_ways_lead_there",
    ),
    "11: the hardware filter lets less pass than the subscriptions want (2.7)": (
        f"{DEFECTS}::test_first_stage_passes_all_that_an_inner_node_wants",
    ),
    "12: tcp.synack is true of either flag": ("headers.match: tcp.synack", "headers.match: tcp.synack = 0 and tcp.syn"),
    "13: streams count twice while a connection is reassembled (3.5)": (
        f"{UPSTREAM}::test_10_1_13_a_stream_counts_once_while_its_connection_is_reassembled",
        "unit/delivery/test_streaming.py::test_calls_are_those_of_the_model",
    ),
    "13: what was delivered is not cleared (3.5)": ("unit/delivery/test_own_types.py::test_streams_clear_what_they_were_given",),
    "13: an empty filter never streams (3.5)": (f"{UPSTREAM}::test_10_1_13_an_empty_filter_streams",),
    "3.3: static subscriptions with session predicates fire at the end": (
        f"{UPSTREAM}::test_3_3_static_subscriptions_fire_as_soon_as_the_filter_matches",
    ),
    "3.3: a repeated SYN fires a static subscription again": (
        f"{UPSTREAM}::test_3_3_a_static_subscription_fires_once_although_the_syn_is_repeated",
    ),
    "3.4: nothing checks that filter and data type can meet": (
        "unit/delivery/test_kept_sessions.py::test_filter_and_type_that_never_meet_are_refused",
    ),
    "3.5: a subscription before a streaming one shifts its callback": (
        f"{UPSTREAM}::test_3_5_a_subscription_before_a_streaming_one_does_not_shift_its_callback",
    ),
    "3.5: an interval of 0 underflows": ("unit/delivery/test_streaming.py::test_what_makes_no_sense_is_refused",),
    "3.6: a protocol's name inside a literal loads its parser": (f"{DEFECTS}::test_a_protocol_named_in_a_literal_is_not_asked_for",),
    "1.1: a tab is an error, blanks at the front of a string are lost": (
        "filters.match: tcp\tand\n\tipv6 # a comment",
        f"{DEFECTS}::test_blanks_in_strings_stay",
    ),
    "1.2: equal networks written differently are two predicates": (
        f"{DEFECTS}::test_equal_networks_written_differently_are_one_predicate",
    ),
    "1.3: bytes without blanks panic": (f"{DEFECTS}::test_bytes_need_no_spaces_and_no_pattern_crashes",),
    "1.3: a value too large is the Rust compiler's business": ("filters.error: tcp.port = 70000",),
    "1.4: an unknown protocol panics, a field is not checked": ("filters.error: foo", "filters.error: ipv4.port = 5"),
    "2.4: packet fields beside session fields panic": ("connections.deliver: tls.version = 771 and tcp.src_port = 443 and tcp.psh = 1",),
}


@cache
def functions(path: str) -> frozenset[str]:
    """Names of the tests in a file."""
    return frozenset(n.name for n in ast.parse((TESTS / path).read_text()).body if isinstance(n, ast.FunctionDef))


@cache
def table(name: str) -> dict[str, dict[str, object]]:
    return tomllib.loads((Path(__file__).with_name(f"{name}.toml")).read_text())


@pytest.mark.parametrize("defect", LIST)
def test_each_defect_has_its_guards(defect):
    for guard in LIST[defect]:
        if "::" in guard:
            path, _, name = guard.partition("::")
            assert name in functions(path)
        else:
            where, _, text = guard.partition(": ")
            file, _, section = where.partition(".")
            assert text in table(file)[section]


def test_no_number_of_the_list_is_left_out():
    """10.1 has 14; 1, 12 and 14 are about state, 5 to 9 about parsers."""
    numbers = {int(d.partition(":")[0]) for d in LIST if d.partition(":")[0].isdigit()}
    assert numbers == {2, 3, 4, 10, 11, 12, 13}
