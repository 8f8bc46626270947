"""Events as messages of a Kafka topic: a JSON object each, as in JSON lines. The client is librdkafka, of the extra `kafka`."""

from __future__ import annotations

import logging
import math
import time
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from retina_jit.errors import ConfigError
from retina_jit.extras import library
from retina_jit.sinks.lines import JsonLines

ANSWER = 10.0
"""How long a broker may take to answer at the start [s]."""
TIMEOUT = 30_000
"""How long a message may take before it counts as lost [ms]: `message.timeout.ms`."""
_PAUSE = 0.02

log = logging.getLogger(__name__)


def client() -> Any:
    """Return the module; raises `MissingExtraError` if it is not installed."""
    return library("confluent_kafka", "kafka://", "kafka")


class Topic:
    """A topic as a file of lines, each line a message.

    When the queue of messages is full, writing waits (back-pressure): a capture waits with it, of an interface events are lost
    and counted (`events_lost`). What could not be delivered in time is counted here.

    Parameters
    ----------
    url : str
        kafka://BROKER[:PORT][,BROKER...]/TOPIC, and behind a question mark settings of librdkafka: compression.type=zstd&linger.ms=100.

    Attributes
    ----------
    sent, lost, waits : int
        Messages given to the client; of them not delivered; how often its queue was full.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.topic, self.url = parts.path.strip("/"), f"kafka://{parts.netloc.rpartition('@')[2]}{parts.path}"
        if not parts.netloc or not self.topic or "/" in self.topic:
            raise ConfigError(f"{self.url}: write kafka://BROKER:PORT/TOPIC")
        self.sent = self.lost = self.waits = 0
        self.fault = ""
        said = {"message.timeout.ms" if name == "delivery.timeout.ms" else name: value for name, value in parse_qsl(parts.query)}  # an alias
        settings = {"message.timeout.ms": TIMEOUT, "client.id": "retina-jit"} | said
        settings |= {"bootstrap.servers": parts.netloc, "delivery.report.only.error": True}
        module = client()
        try:
            self.seconds = int(str(settings["message.timeout.ms"])) / 1000
            self._producer = module.Producer(settings, logger=log)
            self._producer.list_topics(self.topic, ANSWER)
        except module.KafkaException as fault:
            raise ConfigError(f"{self.url}: {fault.args[0].str()}") from fault
        except ValueError as fault:
            raise ConfigError(f"{self.url}: {fault}") from fault
        self._refused = module.KafkaException

    def write(self, data: Any) -> None:
        """Give whole lines to the client."""
        for line in bytes(data).split(b"\n")[:-1]:
            self._give(line)
        self._producer.poll(0)

    def _give(self, line: bytes) -> None:
        self.sent += 1
        waiting = False
        while True:
            try:
                self._producer.produce(self.topic, line, on_delivery=self._failed)
                return
            except BufferError:
                self.waits += not waiting
                waiting = True
                self._producer.poll(_PAUSE)
            except self._refused as fault:  # too large, say
                self._failed(fault.args[0], None)
                return

    def _failed(self, error: Any, _: Any) -> None:
        if error is not None:
            self.lost += 1
            self.fault = error.str()

    def flush(self) -> None:
        """Learn what has become of messages; the client sends them on its own."""
        self._producer.poll(0)

    def close(self) -> None:
        """Wait until all messages have arrived, or for as long as they may take; Ctrl-C ends the wait, and counts what is left."""
        end = time.monotonic() + (self.seconds + 5 if self.seconds else math.inf)  # to librdkafka 0 is without end
        left, fault = 1, "no answer"
        try:
            while (left := self._producer.flush(0.5)) and time.monotonic() < end:
                pass
        except KeyboardInterrupt:
            left, fault = len(self._producer), "stopped"
        if left:
            self.lost, self.fault = self.lost + left, self.fault or fault


class Kafka(JsonLines):
    """Sends each event to a topic, as a message; see `Topic`."""

    def __init__(self, url: str) -> None:
        self.topic = Topic(url)
        super().__init__(self.topic)  # type: ignore[arg-type]

    @property
    def problems(self) -> list[str]:
        """What the user is to be told at the end."""
        t = self.topic
        return [f"{t.url}: {t.fault}: {t.lost} of {t.sent} messages were not delivered"] if t.lost else []

    def close(self) -> None:
        """Send the rest, and wait for it."""
        super().close()
        self.topic.close()
