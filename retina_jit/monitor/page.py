"""A small web server: a page for people at /, the same as JSON at /stats.json, metrics for Prometheus at /metrics."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from retina_jit.errors import ConfigError, MissingExtraError
from retina_jit.monitor.metrics import Collector, available
from retina_jit.monitor.reading import Rates, Reading

Read = Callable[[], Reading]
Now = Callable[[], tuple[Reading, Rates]]

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>retina-jit</title>
<style>
 body { font: 15px system-ui, sans-serif; margin: 2em auto; max-width: 60em; padding: 0 1em; color: #222; background: #fff }
 h1 { font-size: 1.2em } table { border-collapse: collapse; margin: 1em 2em 1em 0; display: inline-table; vertical-align: top }
 td { padding: .15em .8em; border-bottom: 1px solid #ddd } td + td { text-align: right; font-variant-numeric: tabular-nums }
 caption { text-align: left; font-weight: 600; padding: .2em .8em } #state { color: #777 }
 @media (prefers-color-scheme: dark) { body { color: #ddd; background: #181818 } td { border-color: #333 } }
</style>
<h1>retina-jit <span id="state"></span></h1><div id="tables"></div>
<script>
const units = ["", "k", "M", "G", "T"];
function shown(value) {
  let n = 0;
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value)) return value.toLocaleString("en");
  while (Math.abs(value) >= 1000 && n < 4) { value /= 1000; n++; }
  return value.toFixed(3) + " " + units[n];
}
function table(caption, rows) {
  const made = document.createElement("table");
  made.createCaption().textContent = caption;
  for (const [name, value] of Object.entries(rows)) {
    if (value === null || typeof value === "object") continue;
    const row = made.insertRow();
    row.insertCell().textContent = name.replaceAll("_", " ");
    row.insertCell().textContent = shown(value);
  }
  return made;
}
async function update() {
  try {
    const s = await (await fetch("stats.json")).json();
    const some = o => Object.fromEntries(Object.entries(o).filter(([, v]) => v));
    document.getElementById("tables").replaceChildren(
      table("per second", s.rates), table("now", s.gauges), table("frames by where they ended", some(s.ledger)),
      table("through the packet filter, and bytes of what is not", some(s.received)), table("counted", some(s.counters)), ...Object.entries(s.ports).map(([n, p]) => table(n, some(p))),
      table("calls that raised", some(s.failed)));
    document.getElementById("state").textContent = s.sources.join(", ") + " \u00b7 " + s.seconds.toFixed(0) + " s";
  } catch { document.getElementById("state").textContent = "(the run is over)"; }
}
update(); setInterval(update, 1000);
</script></html>
"""


class Server:
    """Serves one address, in threads of its own.

    Parameters
    ----------
    ip, port : str, int
        Port 0 takes a free one, see `address`.
    now : callable
        Returns a reading and the rates of the last second.
    first : Reading
    metrics_everywhere : bool
        Retina's way: every path gives the metrics. They are needed then, and their library's absence is an error.

    Raises
    ------
    ConfigError
        The address cannot be had.
    MissingExtraError
        prometheus-client is not installed.
    """

    def __init__(self, ip: str, port: int, now: Now, first: Reading, *, metrics_everywhere: bool = False) -> None:
        if metrics_everywhere:
            available()

        class Handler(BaseHTTPRequestHandler):
            server_version, sys_version = "retina-jit", ""
            protocol_version = "HTTP/1.1"
            timeout = 10

            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                if path == "/metrics" or metrics_everywhere:
                    self._metrics()
                elif path in ("/", "/index.html"):
                    self._answer(200, "text/html; charset=utf-8", PAGE.encode())
                elif path == "/stats.json":
                    self._answer(200, "application/json", as_json(*now(), first).encode())
                else:
                    self._answer(404, "text/plain", b"there are /, /stats.json and /metrics\n")

            def _metrics(self) -> None:
                try:
                    available()
                except MissingExtraError as lack:
                    self._answer(501, "text/plain", f"{lack}\n".encode())
                    return
                from prometheus_client.exposition import choose_encoder

                encode, kind = choose_encoder(self.headers.get("Accept", ""))
                self._answer(200, kind, encode(Both(Collector(lambda: now()[0]))))

            def _answer(self, code: int, kind: str, body: bytes) -> None:
                self.send_response(code)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Cache-Control", "no-store")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        try:
            kind = type("_Server", (ThreadingHTTPServer,), {"address_family": socket.AF_INET6 if ":" in ip else socket.AF_INET})
            self._server = kind((ip, port), Handler)
        except OSError as fault:
            raise ConfigError(f"{ip}:{port}: cannot listen there ({fault.strerror}); name another port") from fault
        self._server.daemon_threads = True
        self.what = "metrics" if metrics_everywhere else "status"
        self.address: tuple[str, int] = (ip, self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, args=(0.1,), name="retina-jit page", daemon=True).start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()


class Both:
    """A registry: ours, and the default one, in which an app may have metrics of its own."""

    def __init__(self, ours: Collector) -> None:
        self._ours = ours

    def collect(self) -> Any:
        """Yield the metric families of both."""
        from prometheus_client import REGISTRY

        yield from self._ours.collect()
        yield from REGISTRY.collect()


def as_json(reading: Reading, rates: Rates, first: Reading) -> str:
    """Return all of a reading, and the rates of the last second."""
    body = asdict(reading)
    body["rates"] = asdict(rates)
    body["ledger"] = reading.ledger
    body["seconds"] = reading.at - first.at
    return json.dumps(body)
