"""``-rA`` shows the metrics of passing tests; without it a run stays short."""

METRIC = r"*output_throughput: * tok/s [[]* to *[]], launches *"


def test_metrics_of_passing_tests_are_shown_on_demand(perf):
    assert perf("--slmperf-approve").ret == 0
    shown = perf("-rA", "-k", "8")
    assert shown.ret == 0
    shown.stdout.fnmatch_lines(
        ["*= PASSES =*", "*- slmperf -*", "test_perf.py::test_batch[[]8[]]", METRIC, "*ttft_p50: * ms*"]
    )
    plain = perf("-k", "8")
    plain.stdout.no_fnmatch_line(METRIC)


def test_what_is_new_shows_its_metrics_too(perf):
    shown = perf("-rA", "-k", "8")
    shown.stdout.fnmatch_lines(["*test_batch[[]8[]]", METRIC])
    perf("-k", "8").stdout.no_fnmatch_line(METRIC)
