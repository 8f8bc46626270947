"""Kafka: a broker (that of librdkafka's own tests) gets each event as a message; what it does not get is counted."""

from __future__ import annotations

import io
import json
import sys
from types import SimpleNamespace

import confluent_kafka
import pytest
from click.testing import CliRunner
from support.running import SAMPLES, config, runtime

import retina_jit as rj
from retina_jit.cli import main
from retina_jit.errors import ConfigError, MissingExtraError
from retina_jit.sinks import ADDRESSES, FORMATS
from retina_jit.sinks.kafka import Topic
from retina_jit.subscription import named, subscriptions_of

PATH = SAMPLES / "mixed.pcap"


class Broker:
    """A broker in this process, as long as it is kept."""

    def __init__(self):
        self._holder = confluent_kafka.Producer({"test.mock.num.brokers": 1, "log_level": 0})
        (broker,) = self._holder.list_topics(timeout=60).brokers.values()
        self.address = f"{broker.host}:{broker.port}"

    def messages(self, topic, count):
        """Wait for `count` messages, and look whether there are more; keyed by nothing, so sorted."""
        consumer = confluent_kafka.Consumer({"bootstrap.servers": self.address, "group.id": "g", "enable.partition.eof": True, "enable.auto.commit": False, "log_level": 0})
        partitions = consumer.list_topics(topic, 60).topics[topic].partitions
        consumer.assign([confluent_kafka.TopicPartition(topic, p, 0) for p in partitions])
        found, ended = [], set()
        while len(found) < count or ended != set(partitions):
            message = consumer.poll(60)
            assert message is not None
            if message.error() is None:
                found.append(message.value())
                ended.discard(message.partition())
            else:
                assert message.error().code() == confluent_kafka.KafkaError._PARTITION_EOF
                ended.add(message.partition())
        consumer.close()
        return sorted(found)


@pytest.fixture(scope="module")
def broker():
    return Broker()


def lines(*kinds):
    """What the same log has as JSON lines."""
    out = io.BytesIO()
    write(FORMATS["jsonl"](out), *kinds)
    return sorted(out.getvalue().splitlines())


def write(sink, *kinds):
    made = [named(kind.split(","), "", print, "sink") for kind in kinds]
    for s in made:
        s.sink = sink
    result = runtime(made, [PATH], config()).run()
    sink.close()
    return result


def test_messages_are_the_lines(broker):
    kinds = ("ConnRecord", "DnsTransaction,FiveTuple")
    sink = ADDRESSES["kafka"](f"kafka://{broker.address}/lines?compression.type=lz4")
    result = write(sink, *kinds)
    expected = lines(*kinds)
    assert broker.messages("lines", len(expected)) == expected and len(expected) == result.counters["events"] > 10
    assert (sink.topic.sent, sink.topic.lost, sink.problems) == (len(expected), 0, [])


def test_an_app_and_the_command_line(broker):
    @rj.subscribe("", sink=f"kafka://{broker.address}/app")
    def conns(conn: rj.ConnRecord) -> None: ...

    result = runtime(subscriptions_of(conns), [PATH], config()).run()
    assert result.problems == [] and broker.messages("app", 1) == lines("ConnRecord")
    done = CliRunner().invoke(main, ["log", "ConnRecord", "-r", str(PATH), "-o", f"kafka://{broker.address}/cli"])
    assert done.exit_code == 0, done.output
    assert [json.loads(m) for m in broker.messages("cli", 1)] == [json.loads(x) for x in lines("ConnRecord")]


def test_a_full_queue_is_waited_for_and_counted(broker):
    sink = ADDRESSES["kafka"](f"kafka://{broker.address}/slow?queue.buffering.max.messages=3&linger.ms=1")
    write(sink, "ConnRecord")
    expected = lines("ConnRecord")
    assert broker.messages("slow", len(expected)) == expected and sink.topic.waits > 0 == sink.topic.lost


def test_what_a_broker_that_is_gone_does_not_get_is_counted_and_told():
    broker = Broker()
    sink = ADDRESSES["kafka"](f"kafka://{broker.address}/gone?message.timeout.ms=300&log_level=0")
    del broker
    result = write(sink, "ConnRecord")
    assert sink.topic.lost == sink.topic.sent == result.counters["events"] > 10
    (problem,) = sink.problems
    assert f"{sink.topic.lost} of {sink.topic.sent} messages were not delivered" in problem and "/gone" in problem


def test_a_message_that_is_too_large_is_counted(broker):
    topic = Topic(f"kafka://{broker.address}/large?message.max.bytes=1000")
    topic.write(b"small\n" + 2000 * b"x" + b"\nlast\n")
    topic.close()
    assert (topic.sent, topic.lost) == (3, 1) and "too large" in topic.fault.lower()
    assert broker.messages("large", 2) == [b"last", b"small"]


@pytest.mark.parametrize("name", ["message.timeout.ms", "delivery.timeout.ms"])
def test_the_end_is_waited_for_as_long_as_messages_may_take(broker, name):
    topic = Topic(f"kafka://{broker.address}/patient?{name}=90000")
    topic.close()
    assert topic.seconds == 90


class Patient:
    """A client whose messages arrive, or do not, long after."""

    def __init__(self, answers):
        self.answers, self.asked = answers, 0

    def flush(self, seconds):
        self.asked += 1
        answer = self.answers[min(self.asked, len(self.answers)) - 1]
        if answer is KeyboardInterrupt:
            raise answer
        return answer

    def __len__(self):
        return 2


@pytest.mark.parametrize(
    ("ms", "answers", "asked", "lost", "fault"),
    [
        (0, [3] * 50 + [0], 51, 0, ""),  # 0 is without end
        (1000, [3] * 50 + [0], 6, 3, "no answer"),
        (0, [3, 3, KeyboardInterrupt], 3, 2, "stopped"),
    ],
)
def test_how_long_the_end_is_waited_for(broker, monkeypatch, ms, answers, asked, lost, fault):
    topic = Topic(f"kafka://{broker.address}/patient?message.timeout.ms={ms}")
    real, topic._producer = topic._producer, Patient(answers)
    seconds = iter(range(1000))
    monkeypatch.setattr("retina_jit.sinks.kafka.time", SimpleNamespace(monotonic=lambda: next(seconds)))
    topic.close()
    assert (topic._producer.asked, topic.lost, topic.fault) == (asked, lost, fault)
    assert real.flush(60) == 0


@pytest.mark.parametrize("url", ["kafka://", "kafka://a:1", "kafka:///x", "kafka://a/x/y"])
def test_an_address_without_broker_and_topic_is_refused(url):
    with pytest.raises(ConfigError, match="write kafka://BROKER:PORT/TOPIC"):
        Topic(url)


def test_wrong_settings_and_brokers_are_named(broker, monkeypatch):
    with pytest.raises(ConfigError, match=r"no\.such\.setting"):
        Topic(f"kafka://{broker.address}/x?no.such.setting=1")
    with pytest.raises(ConfigError, match=r"kafka://.*/x: invalid literal"):
        Topic(f"kafka://{broker.address}/x?message.timeout.ms=soon")
    monkeypatch.setattr("retina_jit.sinks.kafka.ANSWER", 0.2)
    with pytest.raises(ConfigError, match=r"kafka://127.0.0.1:1/x: ") as fault:
        Topic("kafka://127.0.0.1:1/x?sasl.password=secret&log_level=0")
    assert "secret" not in str(fault.value)


def test_without_the_extra_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'retina-jit\[kafka\]'"):
        Topic("kafka://a:1/x")
