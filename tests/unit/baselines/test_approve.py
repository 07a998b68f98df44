from pytest_slmperf.baselines import approve, trend
from pytest_slmperf.baselines.stores.files import FileStore


def test_a_summary_tells_the_largest_changes_first_and_is_bounded(tmp_path, make_result, make_results):
    store = FileStore(tmp_path)
    tests = [f"t.py::test[{number}]" for number in range(6)]
    old = make_results(*(make_result(test, output_throughput=[[100.0]]) for test in tests))
    first = approve.save_all(store, old, "main", reason=None, approved_at=None)
    assert [change.action for change in first] == ["added"] * 6
    new = make_results(
        *(
            make_result(test, engine={"version": "1"}, output_throughput=[[100.0 - 5 * number]])
            for number, test in enumerate(tests)
        ),
        number=2,
    )
    lines = approve.shown(approve.save_all(store, new, "main", reason=None, approved_at=None), most=2)
    assert lines == [
        "t.py::test[5]: replaced (engine version 0.32.0 → 1)",
        "  output_throughput: 100 → 75 tok/s (−25.0 %)",
        "t.py::test[4]: replaced (engine version 0.32.0 → 1)",
        "  output_throughput: 100 → 80 tok/s (−20.0 %)",
        "and 4 more",
    ]
    again = make_results(*(make_result(test, engine={"version": "1"}) for test in tests), number=3)
    assert approve.shown(approve.save_all(store, again, "main", reason=None, approved_at=None)) == []


def test_one_result_without_readings_does_not_stop_the_others(tmp_path, make_result, make_results):
    store = FileStore(tmp_path)
    bad = make_result("t.py::bad", output_throughput=[[float("nan")]])
    changes = approve.save_all(
        store, make_results(bad, make_result("t.py::good")), "main", reason="r", approved_at="2026-11-01T00:00:00Z"
    )
    assert [(change.test, change.action) for change in changes] == [("t.py::bad", "refused"), ("t.py::good", "added")]
    assert [one.id for one in store.all()] == ["t.py::good"]
    assert [point.approved for point in store.history(store.fingerprints()[0], "t.py::good")] == [True]


def test_the_report_gets_history_and_this_session_as_its_last_point(tmp_path, make_result, make_session, make_machine):
    store = FileStore(tmp_path)
    result = make_result(output_throughput=[[90.0], [92.0]], ttft_p99=[[1.0]])
    assert trend.charts(store, make_machine(), result) == {}
    for number in (1, 2, 3):
        store.remember(make_result(output_throughput=[[100.0 + number]]), make_session(number), make_machine())
    history = trend.charts(store, make_machine(), result)
    assert set(history) == {"output_throughput"}  # what gates
    assert [point.value for point in history["output_throughput"].points] == [101.0, 102.0, 103.0, 91.0]
    assert history["output_throughput"].points[0].commit == "1" * 40
    assert isinstance(history["output_throughput"].changes, list)


def test_a_disturbed_test_is_refused_with_the_evidence(tmp_path, make_result, make_results):
    noted = ["launch 0 is not used: 6 of 6 rounds were disturbed: CPU steal of 5 %"]
    result = make_result(output_throughput=[[]], fields={"discarded_rounds": 6, "notes": noted})
    (change,) = approve.preview(FileStore(tmp_path), make_results(result), "main")
    assert change.action == "refused"
    assert "CPU steal of 5 %" in change.why


def test_a_metric_that_only_older_sessions_have_is_no_change(tmp_path, make_result, make_results):
    store = FileStore(tmp_path)
    both = make_result(output_throughput=[[100.0]], energy_per_output_token=[[0.5]])
    approve.save_all(store, make_results(both), "main", reason=None, approved_at=None)
    later = make_result(output_throughput=[[100.0]], energy_per_output_token=[])
    (change,) = approve.preview(store, make_results(later, number=2), "main")
    assert (change.action, [one.metric for one in change.metrics]) == ("extended", ["output_throughput"])


def test_a_unit_that_is_not_the_metrics_is_never_saved(tmp_path, make_result, make_results):
    result = make_result()
    result.metrics["output_throughput"].unit = "tok/min"
    (change,) = approve.save_all(FileStore(tmp_path), make_results(result), "main", reason="r", approved_at=None)
    assert change.action == "refused"
    assert "'unit' 'tok/min', which must be 'tok/s'" in change.why
