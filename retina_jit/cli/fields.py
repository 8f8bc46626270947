"""`retina-jit fields`."""

from __future__ import annotations

import difflib

import click

from retina_jit.errors import RetinaJitError
from retina_jit.parsers.protocol import Field, Protocol, protocols


def show(name: str | None) -> None:
    """Print the fields of one protocol, or every protocol in a line.

    Raises
    ------
    RetinaJitError
        No such protocol; names the nearest.
    """
    known = protocols()
    if name is None:
        for p in known.values():
            click.echo(f"{p.name:10} {p.level:8} {p.title} ({len(p.fields)} fields)")
        click.echo("\nFields of one: retina-jit fields PROTOCOL")
        return
    found = known.get(name) or next((p for p in known.values() if name in p.aliases), None)
    if found is None:
        near = difflib.get_close_matches(name, known, 1)
        raise RetinaJitError(f"no protocol {name!r}; " + (f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"))
    _protocol(found)


def _protocol(p: Protocol) -> None:
    ports = f" ({' and '.join(p.within)} port {', '.join(map(str, p.ports))})" if p.ports else ""
    click.echo(f"{p.name}: {p.title}{ports}")
    width = max((len(f) for f in p.fields), default=0) + len(p.name) + 1
    for name, f in p.fields.items():
        click.echo(f"  {f'{p.name}.{name}':{width}}  {_kind(f):9}  {f.doc}" + (f" (also {', '.join(f.aliases)})" if f.aliases else ""))
    if "src_port" in p.fields:
        click.echo(f"  {f'{p.name}.port':{width}}  {'int':9}  Either port.")
    if "src_addr" in p.fields:
        click.echo(f"  {f'{p.name}.addr':{width}}  {'address':9}  Either address.")


def _kind(f: Field) -> str:
    bits = f" {f.bits} bit" if f.kind == "int" and f.bits else ""
    return f"{f.kind}{bits}"
