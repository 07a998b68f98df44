import json

import jsonschema
import msgspec
import pytest

from pytest_slmperf.baselines.stores.files import FileStore
from pytest_slmperf.model import schema
from pytest_slmperf.model.energy import Energy, PowerTrace
from pytest_slmperf.model.result import Launch, Result, Round
from pytest_slmperf.model.results_file import encode, load_results
from pytest_slmperf.model.verdict import Verdict, VerdictRecord

DOCUMENTED = """
{"schema_version": 1,
 "session": {"id": "s", "started_at": "2026-01-01T00:00:00Z", "plugin_version": "0.1.0",
             "commit": {"id": "abc", "branch": "main", "dirty": false}},
 "machine": {"fingerprint": "f", "cpu": {}, "gpus": [], "memory_bytes": 0, "driver": null},
 "results": [
  {"id": "perf_tests/test_offline.py::test_batch[16]",
   "scenario": {"kind": "offline", "batch": 16, "input_len": 32, "output_len": 32},
   "engine": {"name": "vllm", "version": "0.32.0", "model": "opt-125m", "weights": "dummy", "device": "cpu", "replicas": 1},
   "metrics": {"output_throughput": {"unit": "tok/s", "better": "higher", "value": 347.0, "ci": [343.1, 350.8],
                                     "launches": [[346.2, 347.9], [345.8, 348.1]]}},
   "energy": {"source": null, "reason": "no NVML library and no RAPL on this machine"},
   "discarded_rounds": 0, "preemptions": 0,
   "verdicts": [{"metric": "output_throughput", "verdict": "same", "change": -0.003, "ci": [-0.011, 0.005],
                 "baseline": "main"}]}]}
"""


@pytest.fixture
def published():
    return json.loads((schema.FOLDER / "results-1.schema.json").read_text())


@pytest.mark.parametrize("name", schema.generate())
def test_the_published_schema_is_the_generated_one(name):
    expected = schema.text(schema.generate()[name])
    assert (schema.FOLDER / name).read_text() == expected, "run: python -m pytest_slmperf.model.schema"


@pytest.mark.parametrize("name", schema.generate())
def test_it_is_a_valid_schema(name):
    jsonschema.Draft202012Validator.check_schema(schema.generate()[name])


def test_the_documented_example_validates_and_loads(published, tmp_path):
    jsonschema.validate(json.loads(DOCUMENTED), published)
    (tmp_path / "r.json").write_text(DOCUMENTED)
    assert load_results(tmp_path / "r.json").results[0].metrics["output_throughput"].value == 347.0


def test_what_the_product_writes_validates(published, make_result, make_results):
    result = make_result(
        fields={
            "energy": Energy(source="nvml-counter", joules=10.0, bound_j=0.2, trace=PowerTrace(t_s=[0.0])),
            "launches": [Launch(index=0, rounds=[Round(t_start=0.0, t_end=1.0, values={"joules": 1.0})])],
            "verdicts": [VerdictRecord(metric="output_throughput", verdict=Verdict.NEW)],
        }
    )
    jsonschema.validate(json.loads(encode(make_results(result))), published)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("schema_version",), 2),
        (("session",), None),
        (("results", 0, "id"), 7),
        (("results", 0, "metrics", "output_throughput", "value"), "347"),
        (("results", 0, "metrics", "output_throughput", "launches"), [1.0]),
        (("results", 0, "verdicts", 0, "verdict"), "slower"),
        (("results", 0, "metrics", "output_throughput", "better"), "up"),
    ],
)
def test_what_is_wrong_is_refused_by_schema_and_reader_alike(published, tmp_path, path, value):
    document = json.loads(DOCUMENTED)
    place = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, published)
    (tmp_path / "r.json").write_text(json.dumps(document))
    with pytest.raises(Exception, match=r"r\.json") as caught:
        load_results(tmp_path / "r.json")
    assert type(caught.value).__name__ == "BaselineError"


def test_a_stored_baseline_validates(make_result, make_session, make_machine, tmp_path):
    store = FileStore(tmp_path)
    store.save("main", make_result(), make_session(), make_machine(), "why")
    (path,) = store.paths()
    jsonschema.validate(
        json.loads(path.read_text()), json.loads((schema.FOLDER / "baseline-1.schema.json").read_text())
    )


def test_every_field_of_the_records_is_described(published):
    described = published["$defs"]["Result"]["properties"]
    assert set(described) == {field.name for field in msgspec.structs.fields(Result)}
