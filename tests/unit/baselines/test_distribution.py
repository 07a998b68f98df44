"""A baseline keeps how latencies were distributed: small, readable, enough to draw old against new."""

import json
import math
import random

import pytest

from pytest_slmperf.baselines.builder import LEVELS, distributions, pooled
from pytest_slmperf.baselines.lookup import BaselineMatch
from pytest_slmperf.baselines.stores.files import FileStore
from pytest_slmperf.errors import BaselineError
from pytest_slmperf.measuring.sides import stored_side
from pytest_slmperf.model.charts import LatencySample
from pytest_slmperf.reports.html.chart_data import ecdf_charts


@pytest.fixture
def skewed():
    rng = random.Random(7)
    return [rng.lognormvariate(3, 0.4) for _ in range(512)]


def test_percentiles_are_those_of_the_values(skewed):
    one = distributions({"ttft": skewed})["ttft"]
    ordered = sorted(skewed)
    assert len(one.quantiles) == LEVELS
    assert one.quantiles[0] == pytest.approx(ordered[0], rel=1e-3)
    assert one.quantiles[99] == pytest.approx(ordered[round(0.99 * 511)], rel=0.05)
    assert one.quantiles[100] == pytest.approx(ordered[-1], rel=1e-3)
    assert one.quantiles == sorted(one.quantiles)


def test_few_values_are_kept_as_they_are_and_what_is_no_latency_is_left_out():
    found = distributions({"ttft": LatencySample(values=[3.0, 1.0, 2.0]), "itl": [], "e2el": [math.inf, math.nan, -1]})
    assert found.keys() == {"ttft"}
    assert found["ttft"].quantiles == [1.0, 2.0, 3.0]
    assert distributions({"ttft": [5.0]})["ttft"].quantiles == [5.0]


def test_a_stored_baseline_draws_the_old_curve(tmp_path, skewed, make_result, make_session, make_machine):
    store = FileStore(tmp_path)
    for number, factor in ((1, 1.0), (2, 1.02)):
        result = make_result(fields={"samples": {"ttft": [factor * value for value in skewed]}})
        baseline = store.save("main", result, make_session(number), make_machine(), mode="extend")
    (path,) = store.paths()
    lines = [line for line in path.read_text().splitlines() if '"quantiles"' in line]
    assert len(lines) == 2, "one line a session and latency, so that a diff stays readable"
    assert max(map(len, lines)) < 1000
    candidate = make_result(fields={"samples": {"ttft": [1.5 * value for value in skewed]}})
    candidate.baseline = stored_side(BaselineMatch(baseline))
    (chart,) = ecdf_charts(candidate, 100)
    columns = chart.data["ecdf"]
    rows = list(zip(columns["side"], columns["value"], columns["share"], strict=True))
    middle = {
        side: next(value for one, value, share in rows if one == side and share >= 0.5)
        for side in ("baseline", "candidate")
    }
    assert middle["candidate"] / middle["baseline"] == pytest.approx(1.5 / 1.01, rel=0.03)
    assert "baseline median" in chart.text


def test_sessions_weigh_the_same(make_result, make_session, make_machine, tmp_path, skewed):
    store = FileStore(tmp_path)
    for number, values in ((1, skewed), (2, [1000.0, 1000.0])):
        result = make_result(fields={"samples": {"ttft": values}})
        baseline = store.save("main", result, make_session(number), make_machine(), mode="extend")
    values = pooled(baseline.sessions)["ttft"].values
    assert sum(value == 1000 for value in values) / len(values) == pytest.approx(0.5, abs=0.01)


def test_a_file_from_before_is_read_and_the_report_says_what_lacks(tmp_path, make_result, make_session, make_machine):
    store = FileStore(tmp_path)
    store.save("main", make_result(fields={"samples": {"ttft": [1.0, 2.0]}}), make_session(), make_machine())
    (path,) = store.paths()
    document = json.loads(path.read_text())
    del document["sessions"][0]["distributions"]
    path.write_text(json.dumps(document))
    (baseline,) = store.all()
    candidate = make_result(fields={"samples": {"ttft": [1.0, 2.0]}})
    candidate.baseline = stored_side(BaselineMatch(baseline))
    (chart,) = ecdf_charts(candidate, 100)
    assert "approve it again" in chart.text


def test_a_wrong_number_is_refused(tmp_path, make_result, make_session, make_machine):
    store = FileStore(tmp_path)
    store.save("main", make_result(fields={"samples": {"ttft": [1.0, 2.0]}}), make_session(), make_machine())
    (path,) = store.paths()
    path.write_text(path.read_text().replace('"quantiles": [1, 2]', '"quantiles": [1, -2]'))
    with pytest.raises(BaselineError, match="ttft"):
        store.all()
