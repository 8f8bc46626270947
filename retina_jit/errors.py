"""What can go wrong, on the Python side. Every message names the place and the fix."""

from __future__ import annotations

import importlib


class RetinaJitError(Exception):
    """Base of all errors of this package."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows: the user's lines, not ours, and a caret stands under what it points at."""
        # Not by an import statement: kernels depend on this file, and would then on everything that hints need.
        told: list[str] = importlib.import_module("retina_jit.hints").notebook_traceback(self)
        return told


class FilterError(RetinaJitError):
    """A filter that cannot be compiled: the text, a caret, the reason, the nearest known name."""

    def __init__(self, reason: str, text: str = "", start: int = 0, end: int = 0) -> None:
        self.reason, self.text, self.start, self.end = reason, text, start, end
        super().__init__(self._render())

    def _render(self) -> str:
        if not self.text:
            return self.reason
        # A filter may span lines: show the one that holds the fault.
        begin = self.text.rfind("\n", 0, self.start) + 1
        stop = self.text.find("\n", self.start)
        line = self.text[begin : stop if stop >= 0 else len(self.text)]
        width = max(1, min(self.end, begin + len(line)) - self.start)
        return f"{line}\n{' ' * (self.start - begin)}{'^' * width} {self.reason}"


class PredicateError(RetinaJitError):
    """A filter predicate of the user's own that is declared wrongly, or does not compile."""


class SubscriptionError(RetinaJitError):
    """A subscription that can never work: wrong data types, levels that do not go together."""


class ConfigError(RetinaJitError):
    """A configuration file or option that cannot be used."""


class SourceError(RetinaJitError):
    """An input that cannot be read: no capture, unknown link type, missing file."""


class CompileError(RetinaJitError):
    """A kernel that did not compile, or a cache that cannot be trusted."""


class KernelError(RetinaJitError):
    """Checked mode: a kernel read outside a packet. Always a bug of a parser."""


class CallbackError(RetinaJitError):
    """A callback raised; the cause is the user's own exception."""


class ProtocolError(RetinaJitError):
    """A protocol, field or data type that is declared wrongly."""


class MissingExtraError(RetinaJitError, ImportError):
    """An optional library is not installed; the message has the pip command."""
