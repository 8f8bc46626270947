"""HTTP: ns per transaction, from the bytes to the session, and to the event that Python gets."""

from __future__ import annotations

import conversations
import measure
import pytest
from session_jobs import SessionJob

ROUNDS, TIMES = 7, 2000
REQUEST = (
    b"GET /wp-content/uploads/2010/03/hello-kitty-darth-vader-pink.jpg HTTP/1.1\r\nHost: www.example.com\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n"
    b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n"
    b"Accept-Language: en-US,en;q=0.5,de;q=0.3\r\nDNT: 1\r\nOrigin: http://www.example.com\r\nAccept-Encoding: gzip, deflate\r\nConnection: keep-alive\r\n"
    b"Referer: http://www.example.com/search?q=hello+kitty&client=firefox&page=2\r\n"
    b"Cookie: sid=31d4d96e407aad42; lang=en-US; wp_ozh_wsa_visits=2; wp_ozh_wsa_visit_lasttime=1700000000; "
    b"__utma=111.222.333.444.555.6; __utmz=1.2.3.4.utmccn=(referral)|utmcsr=example.com\r\n"
    b"Upgrade-Insecure-Requests: 1\r\n\r\n"
)
RESPONSE = (
    b"HTTP/1.1 200 OK\r\nServer: nginx/1.24.0\r\nDate: Sun, 22 Nov 2026 03:00:00 GMT\r\nContent-Type: image/jpeg\r\n"
    b"Content-Length: 1100\r\nConnection: keep-alive\r\nETag: \"5f3a-1b2c\"\r\n\r\n" + bytes(1100)
)
assert 690 <= len(REQUEST) <= 740
STREAMS: dict[str, list[conversations.Segment]] = {
    "request": [(0, REQUEST)] * 20,  # nobody answers: what a request costs
    "exchange": [(0, REQUEST), (1, RESPONSE)] * 10,
    "in_pieces": [(side, data[n : n + 100]) for side, data in ((0, REQUEST), (1, RESPONSE)) * 10 for n in range(0, len(data), 100)],
}


@pytest.mark.benchmark(group="http")
@pytest.mark.parametrize("what", ["parse", "parse_and_project"])
@pytest.mark.parametrize("stream", STREAMS)
def test_transaction(benchmark, stream, what):
    job = SessionJob("http", STREAMS[stream], project=what != "parse")
    each = 20 if stream == "request" else 10
    assert job.run(1) == (0 if stream == "request" else each)
    benchmark.pedantic(lambda: job.run(TIMES), rounds=ROUNDS, warmup_rounds=1)
    assert job.leaked == 0
    measure.note(benchmark, TIMES * each, "transaction", bytes=sum(len(data) for _, data in STREAMS[stream]) // each)
