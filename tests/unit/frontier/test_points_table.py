import pytest
from support import published_points as published

from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.frontier.point_table import read_points


def read(text, **options):
    return read_points(text, "points.csv", **{"key": "batch", "required": ["tps", "ms"], **options})


def test_reads_published_table():
    found = read_points(published.as_csv(), "x.csv", key="max_num_seqs", required=["output_tok_s", "mean_itl_ms"])
    assert [point.key for point in found.points] == published.BATCHES
    assert found.points[0].values == {"output_tok_s": 276.59, "mean_itl_ms": 3.623}
    assert found.dropped == []


def test_preempted_missing_and_repeated_rows_are_dropped_with_the_reason():
    found = read("batch,tps,ms,preemptions\n1,10,1,0\n2,18,2,\n4,,3,0\n8,40,n/a,0\n16,50,5,1\n32,51,9,543\n1,10,1,0\n")
    assert [point.key for point in found.points] == [1, 2]
    assert [(row.key, row.reason) for row in found.dropped] == [
        (4, "no value in column 'tps'"),
        (8, "no value in column 'ms'"),
        (16, "1 preemption"),
        (32, "543 preemptions"),
        (1, "the same row as point 1"),
    ]


def test_a_row_without_a_key_is_dropped():
    found = read("batch,tps,ms\n,10,1\n2,20,2\n")
    assert [point.key for point in found.points] == [2]
    assert found.dropped[0].key == "point 1"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("   \n", "empty"),
        ("batch,tps,ms\n", "no point"),
        ("batch,tps\n1,2\n", "no column 'ms'"),
        ("batch,tsp,ms\n1,2,3\n", "did you mean 'tsp'"),
        ("batch,tps,ms,tps\n1,2,3,4\n", "twice"),
        ("batch,tps,ms\n1,2,3,4\n", "line 2 has 4 cells"),
        ("batch,tps,ms\n1,fast,3\n", "'fast' in column 'tps' is not a number"),
        ('batch,tps,ms\n1,"2,3\n', "points.csv: line 2"),
    ],
)
def test_errors_name_the_file_and_the_place(text, words):
    with pytest.raises(InvalidInput, match=words) as caught:
        read(text)
    assert str(caught.value).startswith("points.csv")


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_delimiters_bom_blank_lines_and_short_rows(delimiter):
    text = "\ufeff" + "batch,tps,ms,note\n\n1,10,1,a\n2,20,2\n".replace(",", delimiter)
    assert [point.key for point in read(text).points] == [1, 2]


def test_readings_that_are_not_finite_and_words_of_failure_drop_the_row():
    found = read("batch,tps,ms\n1,inf,1\n2,20,2\n4,OOM,timeout\n8,nan,3\n")
    assert [(row.key, row.reason) for row in found.dropped] == [
        (1, "'inf' is no finite value in column 'tps'"),
        (4, "'OOM' is no finite value in column 'tps'; 'timeout' is no finite value in column 'ms'"),
        (8, "no value in column 'tps'"),
    ]


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ('batch,tps,ms\n1,"1,500.5",2\n', 1500.5),
        ('batch,tps,ms\n1,"1,234,567",2.5\n', 1234567),
        ("batch;tps;ms\r\n1;1500,5;2\r\n", 1500.5),
        ("batch;tps;ms\n1;1.500,5;2\n", 1500.5),
        ("batch;tps;ms\n1;1.5e3;2\n", 1500),
    ],
)
def test_thousands_separators_and_decimal_commas(text, first):
    assert read(text).points[0].values["tps"] == first


@pytest.mark.parametrize("text", ["batch;tps;ms\n1;1,500;2\n", "batch;tps;ms\n1;1,5;2\n2;1.5;2\n"])
def test_a_comma_that_may_mean_two_things_is_refused(text):
    with pytest.raises(InvalidInput, match=r"write (numbers without|all alike)"):
        read(text)


def test_keys_with_thousands_separators_are_numbers():
    assert [point.key for point in read('batch,tps,ms\n512,1,1\n"1,024",2,2\n').points] == [512, 1024]


@pytest.mark.parametrize(
    "name",
    [
        "preemptions",
        "num_preemptions",
        "Preemptions",
        "vllm:num_preemptions_total",
        "preempted",
        "n_preemptions",
        "Num Preemptions",
        "num-preemptions",
        "preempted_requests",
        "num_preempted_reqs",
        "enginePreemptions",
        "preemption_events",
        "preemptions (count)",
    ],
)
def test_the_preemption_column_goes_by_several_names(name):
    found = read(f"batch,tps,ms,{name}\n1,10,1,0\n2,20,2,7\n")
    assert [(row.key, row.reason) for row in found.dropped] == [(2, "7 preemptions")]
    assert read(f"batch,tps,ms,{name}_mode\n1,10,1,swap\n").dropped == []


@pytest.mark.parametrize("name", ["preemption_time_ms", "preempted_share", "preemption rate"])
def test_what_counts_no_preemptions_drops_nothing(name):
    assert read(f"batch,tps,ms,{name}\n1,10,1,0\n2,20,2,7\n").dropped == []


def test_every_column_of_preemptions_counts():
    found = read("batch,tps,ms,preemptions,preempted\n1,10,1,0,0\n2,20,2,0,7\n4,30,3,,0\n")
    assert [(row.key, row.reason) for row in found.dropped] == [(2, "7 preemptions")]


def test_what_no_engine_measures_is_no_reading():
    found = read("batch,tps,ms,preemptions\n1,1e308,1,0\n2,20,2,0\n")
    assert [row.key for row in found.dropped] == [1]


def test_a_missing_preemption_counter_is_said():
    found = read("batch,tps,ms,preemptions\n1,10,1,\n2,20,2,0\n")
    assert len(found.points) == 2
    assert found.notes == ("no reading of 'preemptions' at batch 1: kept",)


def test_columns_that_nobody_asked_for_may_share_a_name():
    assert len(read("batch,tps,ms,,\n1,10,1,,\n2,20,2,,\n").points) == 2


def test_keys_are_whole_numbers_numbers_or_names():
    assert [type(point.key) for point in read("batch,tps,ms\n1,1,1\n2.5,1,1\n").points] == [int, float]
    assert [point.key for point in read("batch,tps,ms\n1,1,1\nopt,1,1\n").points] == ["1", "opt"]


def test_repeats_become_rounds_with_an_interval():
    text = "batch,tps,ms\n1,10,1\n1,12,1\n2,20,2\n"
    found = read(text, repeats=True)
    assert [point.key for point in found.points] == [1, 2]
    assert found.points[0].values["tps"] == 11
    low, high = found.points[0].intervals["tps"]
    assert low < 10 < 12 < high  # two readings say little: t with one degree of freedom
    assert found.points[0].launches["tps"] == [[10.0], [12.0]]
    assert len(read(text).points) == 3


@pytest.mark.parametrize("text", ['{"max_num_seqs": 1}\n', '[{"max_num_seqs": 1}]', '\ufeff{"a": 1}\n{"a": 2}\n'])
def test_json_is_called_json(text):
    with pytest.raises(InvalidInput, match=r"p\.json: this is JSON; the table must be CSV"):
        read_points(text, "p.json", key="max_num_seqs", required=[])


@pytest.mark.parametrize("name", ["itl_mean", "p99_ttft_ms", "Inter Token Latency (ms)", "mean_e2e_latency"])
@pytest.mark.parametrize("cell", ["0", "-3"])
def test_a_latency_of_nothing_is_no_reading(name, cell):
    """It would dominate every point; benchmarks write 0 where all requests failed."""
    table = read_points(f"batch,tps,{name}\n1,10,5\n2,90,{cell}\n", "p.csv", key="batch", required=["tps", name])
    assert [point.key for point in table.points] == [1]
    assert [row.reason for row in table.dropped] == [f"{cell!r} is no time above 0 in column {name!r}"]


def test_a_share_of_nothing_is_a_reading():
    table = read_points("batch,tps,errors\n1,10,0\n", "p.csv", key="batch", required=["tps", "errors"])
    assert table.points[0].values["errors"] == 0


def test_a_key_of_thousands_of_digits_is_refused():
    with pytest.raises(InvalidInput, match=r"point 1: '9{39}…' in column 'batch' has 100000 characters"):
        read(f"batch,tps,ms\n{'9' * 100_000},10,1\n2,20,2\n")
