"""The service's metrics, and that no client can make the number of series grow."""

from prometheus_client.parser import text_string_to_metric_families

from huahuo.transport.commands.gate import Observe
from huahuo.transport.load.metrics import Metrics
from huahuo.transport.wire.ports import Meter


def samples(metrics: Metrics) -> dict[str, float]:
    """Every sample as `name{label=value}`."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(metrics.text().decode()):
        for sample in family.samples:
            labels = ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def test_deliveries_are_counted_by_events_and_bytes() -> None:
    metrics = Metrics()
    meter: Meter = metrics
    meter.delivered(2, 100)
    meter.delivered(3, 50)
    found = samples(metrics)
    assert (found["huahuo_events_delivered_total"], found["huahuo_bytes_sent_total"]) == (5, 150)


def test_resumes_and_cursors_ahead_are_counted() -> None:
    metrics = Metrics()
    metrics.resumed("gap")
    metrics.cursor_ahead()
    found = samples(metrics)
    assert found["huahuo_resumes_total{outcome=gap}"] == 1
    assert found["huahuo_cursor_ahead_total"] == 1


def test_closes_are_counted_by_code_and_made_up_codes_as_one() -> None:
    metrics = Metrics()
    metrics.closed(4009)
    for code in range(3000, 3100):
        metrics.closed(code)
    found = samples(metrics)
    assert found["huahuo_closes_total{code=4009}"] == 1
    assert found["huahuo_closes_total{code=other}"] == 100


def test_commands_are_counted_by_action_and_outcome_and_timed() -> None:
    metrics = Metrics()
    observe: Observe = metrics.command
    observe("publish", "ok", 0.004)
    found = samples(metrics)
    assert found["huahuo_commands_total{action=publish,outcome=ok}"] == 1
    assert found["huahuo_command_seconds_count"] == 1
    assert found["huahuo_command_seconds_bucket{le=0.0025}"] == 0
    assert found["huahuo_command_seconds_bucket{le=0.005}"] == 1


def test_commits_and_authentications_are_counted() -> None:
    metrics = Metrics()
    metrics.committed(0.2)
    metrics.authenticated("token_expired")
    found = samples(metrics)
    assert found["huahuo_commit_seconds_sum"] == 0.2
    assert found["huahuo_authentications_total{result=token_expired}"] == 1


def test_a_gauge_is_asked_at_each_scrape() -> None:
    metrics, position = Metrics(), [7]
    metrics.gauge("log_position", "The log's head.", lambda: position[0])
    assert samples(metrics)["huahuo_log_position"] == 7
    position[0] = 9
    assert samples(metrics)["huahuo_log_position"] == 9


def test_two_servers_in_one_process_count_apart() -> None:
    one, other = Metrics(), Metrics()
    one.delivered(1, 1)
    assert samples(other)["huahuo_events_delivered_total"] == 0
