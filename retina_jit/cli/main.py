"""Commands and options, and the exit codes.

0 all done · 1 an error that the user can mend (filter, source, app) · 2 wrong usage · 3 the input was cut or damaged, what
could be read was processed · 4 a callback raised · 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Callable
from typing import Any

import click

from retina_jit import __version__
from retina_jit.errors import CallbackError, RetinaJitError

# NumPy's linear algebra starts threads that spin for some 20 ms on the core that a worker wants. Here they go to sleep at
# once, unless the user says otherwise; their results are the same. Must stand before NumPy is first imported.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")

OK, ERROR, USAGE, CUT, CALLBACK, INTERRUPTED = 0, 1, 2, 3, 4, 130


class Commands(click.Group):
    """Turns our errors into one clear message and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except CallbackError as error:
            from retina_jit.hints import user_traceback

            click.echo(user_traceback(error), err=True, nl=False)
            click.echo(f"retina-jit: {error}", err=True)
            ctx.exit(CALLBACK)
        except RetinaJitError as error:
            text = str(error)
            # The caret under a filter stands where it belongs only if nothing stands before the filter.
            click.echo(f"retina-jit:\n{text}" if "\n" in text else f"retina-jit: {text}", err=True)
            ctx.exit(ERROR)
        except click.UsageError as error:
            if "unexpected extra argument" not in error.message:
                raise
            raise click.UsageError(f"{error.message}. Captures are named with -r FILE", error.ctx) from None
        except BrokenPipeError:
            # The reader of our output has gone (head, less): not an error, and nothing is left to say to it.
            _drop_output()
            ctx.exit(OK)
        except OSError as error:
            # A disk that is full, a folder that is not ours: nothing of which a traceback would tell more.
            _drop_output()
            click.echo(f"retina-jit: {_told(error)}", err=True)
            ctx.exit(ERROR)


def _drop_output() -> None:
    """Write what Python still holds for standard output; if that cannot be, let it go nowhere: it would fail again at the exit."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _told(error: OSError) -> str:
    what = error.strerror or str(error)
    if not isinstance(error.filename, str):
        return f"{what}: the output is not whole" if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO) else what
    caches = (os.environ.get("RETINA_JIT_CACHE"), os.environ.get("XDG_CACHE_HOME"), os.path.expanduser("~/.cache"))  # noqa: PTH111 - without pathlib
    fix = ". Fix: set RETINA_JIT_CACHE to a folder of your own" if error.filename.startswith(tuple(c for c in caches if c)) else ""
    return f"{error.filename}: {what}{fix}"


EXIT_CODES = (
    "Exit codes: 0 all of the input was processed; 1 an error to mend (filter, application, source, output); 2 wrong usage; 3 the input was cut or "
    "damaged, what could be read was processed; 4 a callback raised; 130 stopped by Ctrl-C."
)


@click.group(cls=Commands, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="retina-jit")
def main() -> None:
    """Filter, track and parse network traffic; compiled when it starts."""


Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def _options(*options: Decorator) -> Decorator:
    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


SOURCES = _options(
    click.option("-r", "files", multiple=True, metavar="FILE", help="Capture to read; a quoted pattern, or - for standard input. Repeatable."),
    click.option("-i", "interface", metavar="IFACE", help="Interface to capture from, or dpdk:DEVICE: a PCI address, a virtual device such as dpdk:net_pcap0,rx_pcap=FILE."),
    click.option("-c", "config", metavar="FILE", help="Configuration (TOML)."),
    click.option("--protocol", "protocols", multiple=True, metavar="FILE", help="Session protocol of your own: a Python file. Repeatable."),
    click.option("--midstream", is_flag=True, help="Track TCP connections whose start was not seen."),
    click.option("--decap", default="none", metavar="none|all|LIST", help="Tunnels to look into: ipip, gre, vxlan, geneve, gtp, teredo, erspan, sflow; a comma joins."),
    click.option("-j", "jobs", type=click.IntRange(1, 64), metavar="N", help="Workers that share the packets of a capture; 1 uses one core. Default: one, for which a second core reads ahead."),
    click.option("--cores", "cores", default="", metavar="LIST", help="Bind workers to these cores, one each: 0,2-5."),
    click.option("-F", "bpf", default="", metavar="EXPRESSION", help="Take only frames that match an expression of libpcap (tcpdump's language): 'tcp port 443'."),
    click.option("--sample", type=float, metavar="SHARE", help="Take a share of the connections only, whole ones: 0.25 is a quarter."),
    click.option("-q", "--quiet", is_flag=True, help="No progress, no closing summary."),
    click.option("--user", metavar="NAME", help="Become this user once the source is open (needs root)."),
    click.option("--monitor", is_flag=True, help="Show rates, drops, connections and memory each second."),
    click.option("--monitor-log", metavar="FOLDER", help="Write them to CSV and JSON files in a new folder in FOLDER."),
    click.option("--status", metavar="[IP:]PORT", help="Serve them as a page (with /stats.json, /metrics); IP is 127.0.0.1 by default."),
    click.option("--prometheus", metavar="[IP:]PORT", help="Serve metrics for Prometheus (needs retina-jit[metrics])."),
    click.option("--stats", type=click.Choice(["text", "json"]), default="text", help="Form of the closing summary on standard error."),
)


@main.command(name="run")
@click.argument("app")
@click.option("--subscriptions", "spec", metavar="FILE", help="Subscriptions from a TOML file; callbacks from APP.")
@click.option("--reload", "reloads", is_flag=True, help="Go over to what APP says when it changes; connections live on.")
@SOURCES
@click.pass_context
def run_command(ctx: click.Context, app: str, spec: str | None, reloads: bool, **options: Any) -> None:
    """Run the subscriptions of APP, a Python file."""
    from retina_jit.cli import execute

    ctx.exit(execute.run_app(app, spec, execute.Options(**options), reloads=reloads))


@main.command()
@click.argument("types", nargs=-1, required=True)
@click.option("-f", "filter_text", default="", metavar="FILTER", help="Which traffic.")
@click.option("-T", "--format", "format_", default="jsonl", metavar="jsonl|table|csv|arrow|parquet|ipfix|pcap|pcapng|zeek|zeek-json", help="Format of the output.")
@click.option("-o", "output", default="-", metavar="FILE", help="Where to write, standard output by default; of Zeek's logs the folder; of flows also ipfix://HOST:PORT, of JSON lines kafka://BROKER:PORT/TOPIC.")
@click.option("--rotate", default="", metavar="WHEN", help="Begin another file when one has 100M, or every 10min; a comma joins both.")
@click.option("--per-file", is_flag=True, help="Each capture stands for itself: connections do not go on in the next one.")
@click.option("--scheduler", default="", metavar="tcp://HOST:PORT", help="Dask cluster that reads the captures; its workers see the same files.")
@SOURCES
@click.pass_context
def log(ctx: click.Context, types: tuple[str, ...], filter_text: str, format_: str, output: str, rotate: str, **options: Any) -> None:
    """Write data TYPES as lines. A comma joins several in one line: TlsHandshake,FiveTuple."""
    from retina_jit.cli import execute

    ctx.exit(execute.log(types, filter_text, format_, output, rotate, execute.Options(**options)))


@main.command()
@click.argument("what")
@click.option("-t", "types", default="", metavar="TYPES", help="Data types of a FILTER's subscription, joined by commas.")
@click.option("--format", "form", type=click.Choice(["text", "json", "svg"]), default="text", help="Text, JSON or a picture.")
@click.option("--code", is_flag=True, help="With the code that is generated for each stage (text).")
@SOURCES
@click.pass_context
def explain(ctx: click.Context, what: str, types: str, form: str, code: bool, **options: Any) -> None:
    """Show what becomes of FILTER or APP, stage by stage; with -r measure what each stage lets through of a capture."""
    from retina_jit.cli import execute

    ctx.exit(execute.explain(what, types, form, code, execute.Options(**options)))


@main.command()
@click.option("--format", "form", type=click.Choice(["table", "json", "html"]), default="table", help="Tables, JSON, or a page of HTML in one file.")
@click.option("-o", "output", default="-", metavar="FILE", help="Where to write; standard output by default.")
@SOURCES
@click.pass_context
def stats(ctx: click.Context, form: str, output: str, stats: str, **options: Any) -> None:
    """Show what is in a capture: protocols, talkers, names, sizes, what was not decoded."""
    from retina_jit.cli import execute, overview

    ctx.exit(overview.show(form, output, execute.Options(stats=stats, **options)))


@main.command()
@click.argument("protocol", required=False)
@click.option("--protocol", "files", multiple=True, metavar="FILE", help="Session protocol of your own: a Python file. Repeatable.")
def fields(protocol: str | None, files: tuple[str, ...]) -> None:
    """List what a filter can ask for."""
    from retina_jit.cli.fields import show
    from retina_jit.parsers.user import load_protocol

    for file in files:
        load_protocol(file)
    show(protocol)


@main.command()
@click.option("-c", "path", metavar="FILE", help="Configuration (TOML).")
@click.pass_context
def config(ctx: click.Context, path: str | None) -> None:
    """Print the configuration that is in effect, all defaults written out."""
    from retina_jit.cli import execute

    ctx.exit(execute.show_config(path))


@main.command()
@click.option("--json", "as_json", is_flag=True, help="A list of objects: state, finding, fix.")
def doctor(as_json: bool) -> None:
    """Say what this machine can do, and how to mend what it cannot."""
    from retina_jit.cli.doctor import check

    sys.exit(check(as_json=as_json))


@main.command()
@click.pass_context
def demo(ctx: click.Context) -> None:
    """Show the TLS handshakes and connections of a capture that comes with the package."""
    from retina_jit.cli import execute

    ctx.exit(execute.demo())


@main.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what lets SHELL complete commands and options: eval "$(retina-jit completion bash)"."""
    from click.shell_completion import get_completion_class

    made = get_completion_class(shell)
    assert made is not None
    click.echo(made(main, {}, "retina-jit", "_RETINA_JIT_COMPLETE").source())
