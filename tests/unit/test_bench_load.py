import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deploy.bench import h2load
from deploy.bench.load import Load, grpc_target, json_target, offer
from deploy.bench.measured import LoadError, Report, Requests, measure, read_log, together_s

PRINTED = """
finished in 3.00s, 2534.00 req/s, 385.08KB/s
requests: 5068 total, 5072 started, 5068 done, 5068 succeeded, 0 failed, 0 errored, 0 timeout
traffic: 770.15KB (788635) total, 22.34KB (22872) headers (space savings 96.27%), 776.63KB (795270) data
"""  # noqa: E501 - as h2load prints it.


@pytest.mark.parametrize("in_flight", [1, 2, 7, 16, 64, 100, 256])
@pytest.mark.parametrize("http1", [False, True])
def test_a_closed_loop_has_exactly_the_calls_in_flight_that_were_asked_for(
    in_flight: int, http1: bool
) -> None:
    shares = h2load.closed_loop(in_flight, http1=http1)
    assert sum(share.connections * share.streams for share in shares) == in_flight
    assert len(shares) <= h2load.PROCESSES
    assert all(share.streams == 1 for share in shares) or not http1


@pytest.mark.parametrize("rate", [0.5, 30.0, 400.0, 9_000.0])
@pytest.mark.parametrize("http1", [False, True])
def test_an_open_loop_offers_exactly_the_rate_that_was_asked_for(rate: float, http1: bool) -> None:
    shares = h2load.open_loop(rate, http1=http1)
    assert math.isclose(sum(share.connections * share.rate for share in shares), rate)
    assert all(share.rate <= h2load.CALM_RATE for share in shares)


def test_a_load_is_either_closed_or_open() -> None:
    with pytest.raises(ValueError, match="in flight or a rate"):
        Load()
    with pytest.raises(ValueError, match="in flight or a rate"):
        Load(in_flight=1, rate=1.0)


def test_what_h2load_prints_is_read() -> None:
    assert h2load.n_started(PRINTED) == 5072
    assert h2load.data_bytes(PRINTED) == 795_270
    with pytest.raises(LoadError, match="printed nothing"):
        h2load.data_bytes("some other program")


def test_what_h2load_logs_is_read(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("1795328259151277\t200\t2953\n1795328259151361\t-1\t2915\n")
    requests = read_log(log)
    assert requests.started.tolist() == [1795328259151277, 1795328259151361]
    assert requests.status.tolist() == [200, -1]
    assert requests.took.tolist() == [2953, 2915]
    assert len(read_log(tmp_path / "never-written").status) == 0


def report(
    n: int, *, every_ms: float, took_ms: float, status: int = 200, data_bytes: int = 0
) -> Report:
    """Returns a process that sent a request every so often, from second 1,000 on."""
    started = (1e9 + np.arange(n) * every_ms * 1e3).astype(np.int64)
    took = np.full(n, took_ms * 1e3, dtype=np.int64)
    return Report(Requests(started, np.full(n, status), took), n, data_bytes)


def test_only_what_was_answered_after_the_warm_up_and_before_the_end_is_measured() -> None:
    slow_at_first = report(3_000, every_ms=1.0, took_ms=2.0)
    slow_at_first.requests.took[:900] = 50_000
    measured = measure([slow_at_first], warm_up_s=1.0, duration_s=1.0)
    assert measured.rps == pytest.approx(1000, rel=0.01)
    assert measured.p50_ms == measured.p99_ms == 2.0
    assert measured.n_answers == 1000


def test_the_processes_are_added_up() -> None:
    parts = [report(400, every_ms=5.0, took_ms=1.0), report(400, every_ms=5.0, took_ms=3.0)]
    measured = measure(parts, warm_up_s=0.5, duration_s=1.0)
    assert measured.rps == pytest.approx(400, rel=0.01)
    assert measured.p50_ms == pytest.approx(2.0)
    assert measured.offered_rps == pytest.approx(400, rel=0.01)


def test_a_bad_status_is_a_failure() -> None:
    parts = [report(400, every_ms=5.0, took_ms=1.0, status=status) for status in (200, 503)]
    measured = measure(parts, warm_up_s=0.5, duration_s=1.0)
    assert measured.n_failed == measured.n_answers / 2
    assert measured.rps == pytest.approx(200, rel=0.02)


def test_a_grpc_call_without_a_message_is_a_failure() -> None:
    quarter_empty = report(1_000, every_ms=2.0, took_ms=1.0, data_bytes=750 * 105)
    measured = measure([quarter_empty], warm_up_s=0.5, duration_s=1.0, answer_bytes=105)
    assert measured.n_failed == pytest.approx(measured.n_answers / 4, abs=1)


def test_answers_of_nearly_one_length_are_no_failures() -> None:
    shorter = report(1_000, every_ms=2.0, took_ms=1.0, data_bytes=1_000 * 1_045)
    assert measure([shorter], warm_up_s=0.5, duration_s=1.0, answer_bytes=1_050).n_failed == 0


def test_nothing_answered_is_said() -> None:
    with pytest.raises(LoadError, match="nothing was answered"):
        measure([report(0, every_ms=1.0, took_ms=1.0)], warm_up_s=0.5, duration_s=1.0)
    with pytest.raises(LoadError, match="in time"):
        measure([report(9, every_ms=1.0, took_ms=1.0)], warm_up_s=0.5, duration_s=1.0)


def test_of_a_load_by_number_the_time_is_measured_in_which_all_processes_were_at_work() -> None:
    early, late = report(1000, every_ms=1.0, took_ms=1.0), report(1000, every_ms=1.0, took_ms=1.0)
    late = replace(late, requests=replace(late.requests, started=late.requests.started + 600_000))
    assert together_s([early, late]) == pytest.approx(0.4, abs=0.01)
    measured = measure([early, late], warm_up_s=0.1, duration_s=0.2, by_number=True)
    assert measured.rps == pytest.approx(2000, rel=0.02)
    assert measured.n_answers == pytest.approx(400, abs=4)


def test_bodies_are_framed_as_their_protocol_wants() -> None:
    target = grpc_target("t", "127.0.0.1:1", "p.S/M", [b"abc"], answer=b"x" * 10)
    assert target.bodies == [b"\0\0\0\0\3abc"]
    assert target.url == "http://127.0.0.1:1/p.S/M"
    assert target.answer_bytes == 15
    assert json_target("t", "http://h/p", [b'{"a":1}', b'{"a":10}']).bodies[0] == b'{"a":1} '


def test_bodies_of_different_lengths_are_refused() -> None:
    target = grpc_target("t", "127.0.0.1:1", "p.S/M", [b"abc", b"ab"])
    with pytest.raises(LoadError, match="differ in length"):
        offer(target, Load(in_flight=1))


def test_a_missing_h2load_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(LoadError, match="nghttp2-client"):
        h2load.find()
