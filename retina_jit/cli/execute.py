"""The commands that process traffic."""

from __future__ import annotations

import contextlib
import importlib.resources
import logging
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click
import msgspec

from retina_jit import cores, opening
from retina_jit.cli import report
from retina_jit.cli.main import CUT, INTERRUPTED, OK
from retina_jit.config import RuntimeConfig, load_config, to_toml
from retina_jit.config_network import DisplayConfig, LogConfig, MonitorConfig, PageConfig, PrometheusConfig
from retina_jit.errors import ConfigError, RetinaJitError
from retina_jit.ingest.interface import PREFIX
from retina_jit.ingest.sources import LIVE, PORT, expand
from retina_jit.parsers.user import load_protocol
from retina_jit.runtime import Result, Runtime
from retina_jit.sinks import ADDRESSES, CAPTURES, FLOWS, FOLDERS, FORMATS, address, wanted_types
from retina_jit.sinks.paths import Rotating, rotation
from retina_jit.subscription import Subscription, named

if TYPE_CHECKING:
    from retina_jit.monitor.monitor import Monitor


TABLE = "table"
"""Format of `log` for people; the others are for programs."""


@dataclass
class Options:
    """The options that `run`, `log` and `explain` share."""

    files: tuple[str, ...]
    interface: str | None
    config: str | None
    midstream: bool
    decap: str
    jobs: int | None
    cores: str
    sample: float | None
    quiet: bool
    stats: str
    protocols: tuple[str, ...] = ()
    user: str | None = None
    monitor: bool = False
    monitor_log: str | None = None
    status: str | None = None
    prometheus: str | None = None
    bpf: str = ""
    per_file: bool = False
    scheduler: str = ""

    def runtime_config(self) -> RuntimeConfig:
        """Return the configuration file's content with the options in its place."""
        base = load_config(self.config) if self.config else RuntimeConfig()
        if self.midstream:
            base = msgspec.structs.replace(base, conntrack=msgspec.structs.replace(base.conntrack, midstream=True))
        if self.decap != "none":
            base = msgspec.structs.replace(base, decap=tuple(self.decap.split(",")))
        base = self._monitored(base)
        if self.user:
            base = msgspec.structs.replace(base, user=self.user)
        workers, sample = self.jobs or base.workers, base.sample if self.sample is None else self.sample
        if self.bpf:
            base = msgspec.structs.replace(base, bpf=self.bpf)
        chosen = base.cores
        if self.cores:
            # They take the place of what the file says of workers.
            workers, chosen = self.jobs, cores.parse("--cores", self.cores)
        return msgspec.structs.replace(base, protocols=base.protocols + self.protocols, workers=workers, cores=chosen, sample=sample).check()

    def _monitored(self, base: RuntimeConfig) -> RuntimeConfig:
        """Return it with what the options ask to be told; it takes the place of what [online] says of the same."""
        m = base.monitoring()
        replace = msgspec.structs.replace
        if self.monitor and m.display is None:
            m = replace(m, display=DisplayConfig())
        if self.monitor_log:
            m = replace(m, log=replace(m.log or LogConfig(), directory=self.monitor_log))
        if self.status:
            ip, port = _address("--status", self.status)
            m = replace(m, page=PageConfig(port, ip))
        metrics = base.metrics()
        if self.prometheus:
            ip, port = _address("--prometheus", self.prometheus)
            metrics = PrometheusConfig(port, ip)
        online = base.online and replace(base.online, monitor=None, prometheus=None)
        return replace(base, monitor=m if m != MonitorConfig() else None, prometheus=metrics, online=online)

    def load_protocols(self) -> None:
        """Load the user's protocols: before an app or a data type's name asks for them."""
        for file in self.runtime_config().protocols:
            load_protocol(file)

    def sources(self) -> tuple[str, ...]:
        """Return the captures to read: those of the command line, else the configuration's."""
        if self.interface:
            if self.files:
                raise ConfigError("-i and -r: one of them, for a capture and an interface are not read together")
            return (self.interface if self.interface.startswith((PORT, PREFIX)) else LIVE + self.interface,)
        if self.files or not self.config:
            return self.files
        config = load_config(self.config)
        return (config.offline.pcap,) if config.offline is not None else ()

    def check(self) -> None:
        """Refuse what this version cannot do; say what it does not."""
        self.load_protocols()
        config = self.runtime_config()
        if self.sources():
            return
        if config.online is None:
            raise ConfigError("no input: name a capture with -r FILE (- for standard input), or an interface with -i IFACE")
        if not config.online.ports:
            raise ConfigError(f"{self.config}: [online] has no ports. Fix: [[online.ports]] with device and cores")
        if self.jobs:
            raise ConfigError(f"-j {self.jobs}: the cores of [[online.ports]] say how many workers there are")



def _loaded(app: str, spec: str | None = None) -> tuple[list[Subscription], list[Callable[..., Any]]]:
    """Load an app; what it raises is shown from its own first line on."""
    from retina_jit.app import load
    from retina_jit.hints import described

    try:
        return load(app, spec)
    except RetinaJitError:
        raise
    except Exception as error:
        raise RetinaJitError(f"{app} cannot be executed:\n{described(error, app)}") from error


def run_app(app: str, spec: str | None, options: Options, *, reloads: bool = False) -> int:
    """`retina-jit run`."""
    options.check()
    subscriptions, at_end = _loaded(app, spec)
    with _prepared(subscriptions, options) as runtime:
        if reloads:
            from retina_jit.reload import Reloader

            with Reloader(runtime, app, spec, lambda text: click.echo(f"retina-jit: {text}", err=True)) as reloader:
                result = runtime.run()
            at_end = at_end if reloader.at_end is None else reloader.at_end
        else:
            result = runtime.run()
    for s in runtime.program.subscriptions:
        if s.deliver == "jit" and s.state is not None:
            click.echo(f"{s.name}: {_shown(s.result)}")
    for function in at_end:
        _at_end(app, function, result)
    return _finish(result, options)


def _at_end(app: str, function: Callable[..., Any], result: Result) -> None:
    """Call a function of the app's; what the system refuses it is shown from its own first line on."""
    from retina_jit.hints import described

    try:
        function(result)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise RetinaJitError(f"{app} failed at the end:\n{described(error, app)}") from error


def _shown(value: Any) -> Any:
    names = getattr(getattr(value, "dtype", None), "names", None)
    return {n: value[n].item() for n in names} if names else value


def log(types: tuple[str, ...], filter_text: str, format_: str, output: str, rotate: str, options: Options) -> int:
    """`retina-jit log`."""
    options.check()
    known: dict[str, Any] = FORMATS | CAPTURES | FLOWS | FOLDERS | {TABLE: None}
    if scheme := address(output):
        return _send(types, filter_text, scheme, output, rotate, options)
    if format_ not in known:
        raise ConfigError(f"-T {format_}: not a format; known: {', '.join(known)}")
    if format_ == TABLE:
        from retina_jit.cli.table import TableLines

        known[TABLE] = TableLines
    if _is_archive(output, options):
        if format_ in FORMATS and not rotate:
            return _log_archive(types, filter_text, format_, output, options)
        if options.per_file or options.scheduler:
            raise ConfigError(f"--per-file and --scheduler: without --rotate, and for {', '.join(FORMATS)}")
    by_path = output != "-" and (format_ in FOLDERS or rotate)
    if rotate and (output == "-" or format_ in FOLDERS or format_ == TABLE):
        raise ConfigError(f"--rotate {rotate}: goes with -o FILE and a format of one file")
    with contextlib.nullcontext(output) if by_path else opened(output) as out:
        sink = Rotating(known[format_], Path(output), rotation(rotate)) if rotate else known[format_](out)
        result = _into(sink, format_, types, filter_text, options)
    return _finish(result, options)


def _into(sink: Any, format_: str, types: tuple[str, ...], filter_text: str, options: Options) -> Result:
    """Run with the events of all subscriptions in a sink, which is closed then."""
    subscriptions = []
    try:
        for spec in types:
            s = named(wanted_types(format_, spec.split(",")), filter_text, _nothing, "each")
            s.deliver, s.sink, s.name = "sink", sink, filter_text or spec
            subscriptions.append(s)
        result = _run(subscriptions, options, sink.flush)
    finally:
        sink.close()
    result.problems.extend(getattr(sink, "problems", []))
    return result


def _send(types: tuple[str, ...], filter_text: str, scheme: str, output: str, rotate: str, options: Options) -> int:
    """`retina-jit log -o ipfix://...`."""
    if rotate or options.per_file or options.scheduler:
        raise ConfigError(f"-o {output}: --rotate, --per-file and --scheduler are for files")
    return _finish(_into(ADDRESSES[scheme](output), scheme, types, filter_text, options), options)


def _nothing(*_: Any) -> None:
    return None


def _is_archive(output: str, options: Options) -> bool:
    """Whether several processes shall do it: always if that is asked for, else with -j for several captures and a file."""
    asked = options.per_file or options.scheduler
    to_file = output != "-" and (Path(output).is_file() or not Path(output).exists())
    if options.interface or "-" in options.sources() or not to_file:
        if asked:
            raise ConfigError("--per-file and --scheduler: for captures (-r FILE) and an output file (-o FILE)")
        return False
    if options.runtime_config().cores:
        if asked:
            raise ConfigError("--per-file and --scheduler: without cores, for these are for the workers of one process")
        return False
    return bool(asked) or ((options.runtime_config().workers or 1) > 1 and len(list(expand(options.sources()))) > 1)


def _log_archive(types: tuple[str, ...], filter_text: str, format_: str, output: str, options: Options) -> int:
    from retina_jit import archive

    config = options.runtime_config()
    asked = {
        "--monitor": options.monitor, "--monitor-log": options.monitor_log, "--status": options.status,
        "--prometheus": options.prometheus, "--user": config.user,
    }  # fmt: skip
    if told := ", ".join(name for name, value in asked.items() if value):
        raise ConfigError(f"{told}: for one process, and here several read the captures; leave it out, or -j, --per-file and --scheduler")
    begun = time.perf_counter()
    try:
        with report.ArchiveProgress(quiet=options.quiet) as progress:
            written = archive.write(
                types, options.sources(), output, filter=filter_text, format=format_, config=config, processes=config.workers or 1,
                scheduler=options.scheduler, per_file=options.per_file, progress=progress, alone=True,
            )  # fmt: skip
    except KeyboardInterrupt:
        click.echo(f"retina-jit: stopped; what is done is kept in {output}.parts, and the same command goes on from there", err=True)
        return INTERRUPTED
    if written.kept and not options.quiet:
        click.echo(f"retina-jit: {written.kept} parts had been done before", err=True)
    failed = [f"{reason}; the others are in {output}" for reason in written.failed.values()]
    return _finish(Result(written.counters, written.problems + failed, {}, time.perf_counter() - begun), options)


@contextlib.contextmanager
def opened(path: str) -> Iterator[BinaryIO]:
    """Give the output file, or standard output for "-"."""
    if path == "-":
        yield sys.stdout.buffer
        return
    try:
        file = Path(path).open("wb")
    except OSError as fault:
        raise ConfigError(f"-o {path}: {fault.strerror}") from fault
    with file:
        yield file


def explain(what: str, types: str, form: str, code: bool, options: Options) -> int:
    """`retina-jit explain`."""
    from retina_jit import explanation

    options.load_protocols()
    if what.endswith(".py") and Path(what).exists():
        subscriptions, _ = _loaded(what)
    else:
        names = [t for t in types.split(",") if t] or ["FiveTuple"]
        subscriptions = [named(names, what, _nothing, "each")]
    made = explanation.explain(subscriptions, config=options.runtime_config())
    if options.files:
        with report.Progress(quiet=options.quiet) as progress:
            made.funnel = explanation.measure(
                subscriptions, options.files, options.runtime_config(), progress=progress.compiling, tick=progress.reading
            )
    click.echo({"json": made.json, "svg": made.svg}[form]() if form != "text" else made.text(sources=code), nl=False)
    return OK


def show_config(path: str | None) -> int:
    """`retina-jit config`."""
    click.echo(to_toml(load_config(path) if path else RuntimeConfig()), nl=False)
    return OK


def demo() -> int:
    """`retina-jit demo`."""
    sample = importlib.resources.files("retina_jit") / "samples" / "tls.pcap"
    with importlib.resources.as_file(sample) as path:
        click.echo(f"$ retina-jit log TlsHandshake,FiveTuple -r {path}", err=True)
        rows: list[tuple[str, ...]] = []

        def seen(tls: Any, five_tuple: Any) -> None:
            rows.append((str(five_tuple), tls.sni or "-", f"0x{tls.version:04x}", tls.cipher or "-", tls.ja4 or "-"))

        s = named(["TlsHandshake", "FiveTuple"], "tls", seen, "each")
        options = Options((str(path),), None, None, False, "none", 1, "", None, False, "text")
        result = _run([s], options)
        report.table(["connection", "server name", "version", "cipher suite", "JA4"], rows)
        return _finish(result, options)


@contextlib.contextmanager
def _prepared(subscriptions: list[Subscription], options: Options) -> Iterator[Runtime]:
    """Compile, and show on the terminal what goes on."""
    with report.Progress(quiet=options.quiet) as progress:
        config = options.runtime_config()
        # One thing at a time moves on the terminal.
        tick = progress.reading if config.monitoring().display is None else None
        with _told() if not options.quiet else contextlib.nullcontext():
            runtime = Runtime(subscriptions, options.sources(), config, progress=progress.compiling, tick=tick)
        runtime.on_monitor = None if options.quiet else _tell_addresses
        yield runtime


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Show the line that says how live traffic is captured, and why so."""

    class Shown(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            click.echo(f"retina-jit: {record.getMessage()}", err=True)

    log, handler = logging.getLogger(opening.__name__), Shown()
    before = log.level, log.propagate
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before[0])
        log.propagate = before[1]


def _run(subscriptions: list[Subscription], options: Options, flush: Callable[[], None] | None = None) -> Result:
    with _prepared(subscriptions, options) as runtime:
        try:
            return runtime.run()
        finally:
            if flush is not None:
                flush()


def _address(option: str, text: str) -> tuple[str, int]:
    ip, _, port = text.rpartition(":")
    if not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"{option} {text}: a port or IP:PORT, as 9899 or 127.0.0.1:9899")
    return ip.strip("[]") or "127.0.0.1", int(port)


def _tell_addresses(monitor: Monitor) -> None:
    for server in monitor.servers:
        ip, port = server.address
        click.echo(f"retina-jit: {server.what}: http://{f'[{ip}]' if ':' in ip else ip}:{port}/", err=True)
    if monitor.log is not None:
        click.echo(f"retina-jit: log: {monitor.log.folder}", err=True)


def _finish(result: Result, options: Options) -> int:
    if not options.quiet:
        report.summary(result, options.stats)
    for problem in result.problems:
        click.echo(f"retina-jit: {problem}", err=True)
    if result.interrupted:
        return INTERRUPTED
    return CUT if result.problems else OK
