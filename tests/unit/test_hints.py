"""What a user is told who has taken a wrong name, or has left something out."""

from __future__ import annotations

import re

import pytest
from click.testing import CliRunner
from support.running import SAMPLES

import retina_jit as rj
from retina_jit.cli.main import main
from retina_jit.errors import CallbackError, SubscriptionError
from retina_jit.hints import user_traceback

CAPTURE = str(SAMPLES / "mixed.pcap")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("from retina_jit import TLSHandshake", r"line 3, in <module>\n.*\nImportError: .*\ndid you mean TlsHandshake\?$"),
        ("import retina_jit; retina_jit.Zcframe", r"line 3, in <module>\n.*\nAttributeError: .*; did you mean ZcFrame\?$"),
        ("from retina_jit import Nothing_like_it", r"\nretina_jit has ACCEPT, .*, ConnRecord, "),
        ("1 / 0", r"line 3, in <module>\n    1 / 0\n.*ZeroDivisionError: division by zero$"),
        ("def f(:", r"line 3\n    def f\(:\n.*SyntaxError"),
        ("import nothing_of_the_kind", r"ModuleNotFoundError: No module named 'nothing_of_the_kind'$"),
        ("retina_jit = __import__('retina_jit')\n@retina_jit.subscribe\ndef f(c): pass", r"^retina-jit: f: @subscribe needs parentheses: @subscribe\(\"tls\"\), or"),
    ],
)
@pytest.mark.parametrize("command", ["run", "explain"])
def test_what_an_app_raises_is_shown_from_its_own_line_on(command, line, told, tmp_path):
    app = tmp_path / "app.py"
    app.write_text(f"# An app.\n\n{line}\n")
    ran = CliRunner().invoke(main, [command, str(app), "-r", CAPTURE])
    assert ran.exit_code == 1
    assert re.search(told, ran.stderr.rstrip(), re.S), ran.stderr
    assert "click" not in ran.stderr and "retina_jit/app.py" not in ran.stderr and "cli/" not in ran.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["run", "app.py", CAPTURE], "Captures are named with -r FILE"),
        (["log", "tls", "-r", CAPTURE], "did you mean TlsHandshake?"),
        (["log", "TLS", "-r", CAPTURE], "did you mean TlsHandshake?"),
        (["log", "dns.query_domain", "-r", CAPTURE], "did you mean DnsTransaction?"),
    ],
)
def test_what_the_command_line_was_meant_to_be(arguments, told):
    ran = CliRunner().invoke(main, arguments)
    assert ran.exit_code in (1, 2) and told in ran.stderr


def test_one_function_runs_alone():
    seen: list[rj.TlsHandshake] = []

    @rj.subscribe("tls")
    def one(tls: rj.TlsHandshake) -> None:
        seen.append(tls)

    assert rj.run(one, CAPTURE).counters["events"] == len(seen) == 3
    with pytest.raises(SubscriptionError, match="print is not subscribed"):
        rj.run(print, CAPTURE)


def test_a_table_needs_its_filter_first():
    with pytest.raises(SubscriptionError, match=r'select\(TlsHandshake\): the filter comes first: select\("", TlsHandshake\)'):
        rj.read(CAPTURE).select(rj.TlsHandshake)  # type: ignore[arg-type]


def test_an_accessor_that_is_not_there():
    view = rj.FiveTuple(bytes(200), 0, 0)
    error = CallbackError("the callback")
    with pytest.raises(AttributeError) as caught:
        view.orig_adr  # noqa: B018
    error.__cause__ = caught.value
    assert "\ndid you mean orig_addr? FiveTuple has conn_id, " in user_traceback(error)
    assert "SERVICE" not in user_traceback(error)
    error.__cause__ = KeyError("mine")
    assert user_traceback(error).endswith("KeyError: 'mine'\n")
