"""Failures in fields that no format knows, and files of other devices: never green."""

import pytest
from support.result_files import AIPERF, GUIDELLM, INFERENCE_PERF, INFERENCEX, OPTIMUM, SERVE, SGLANG, seconds

FAILED = {
    "a field of no known format": (SERVE, SERVE | {"failed_requests": 7}, "failed_requests is 7"),
    "sglang, several processes": (
        SGLANG | {"num_prompts": 40, "failed": 0}, SGLANG | {"num_prompts": 40, "failed": 5}, "15 requests failed",
    ),
    "sglang, none counted": (
        SGLANG | {"num_prompts": 40},
        SGLANG | {"num_prompts": 40, "completed": 35, "total_input_tokens": 4480, "total_output_tokens": 1120,
                  "duration": 17.5},
        "15 requests failed",
    ),
    "inference-perf": (INFERENCE_PERF, INFERENCE_PERF | {"error_rate": 0.2}, "error_rate is 0.2"),
}  # fmt: skip


@pytest.mark.parametrize(("before", "after", "words"), FAILED.values(), ids=FAILED)
def test_failures_that_stand_in_another_field_are_failures(three, judged, before, after, words):
    code, verdicts = judged(three("old", before), three("new", after))
    assert code == 2
    assert words in verdicts["ttft_p50"]["reason"]
    assert verdicts["tpot_mean"]["verdict"] == "incomparable"


def test_errors_outside_the_time_that_guidellm_measures_are_failures(three, judged):
    def counted(name, **made):
        files = []
        for number in range(3):
            first = GUIDELLM["benchmarks"][0] | {
                "run_id": f"{name}{number}",
                "scheduler_metrics": {"requests_made": made},
            }
            files += three(f"{name}{number}-", GUIDELLM | {"benchmarks": [first]})[:1]
        return files

    fine, failed = counted("old", successful=33, errored=0), counted("new", successful=33, errored=7)
    assert judged(fine, counted("again", successful=33, errored=0))[0] == 0
    code, verdicts = judged(fine, failed)
    assert code == 2
    assert "21 requests failed" in verdicts["ttft_p50"]["reason"]


def of(document, *path, **more):
    """The document with more fields in the object at the path."""
    return document | ({path[0]: of(document.get(path[0], {}), *path[1:], **more)} if path else more)


def watched(name):
    return {
        "telemetry_data": {
            "endpoints": {"x:9400": {"gpus": {"gpu_0": {"gpu_name": name}, "gpu_1": {"gpu_name": name}}}}
        }
    }


STEADY = of(OPTIMUM, "report", prefill=seconds(0.1, 0.1001), decode=seconds(0.9, 0.9001))
CUDA = of(STEADY, "config", environment={"gpu": ["A100", "A100"], "cpu": " EPYC"})
OTHER_DEVICES = {
    "optimum-benchmark, GPU": (CUDA, of(CUDA, "config", environment={"gpu": ["H100"]}), "device cuda, a100 → cuda, h100"),
    "optimum-benchmark, several": (
        of(CUDA, "config", "backend", device_ids="0"), of(CUDA, "config", "backend", device_ids="0,1"),
        "device cuda, a100 → cuda, 2 × a100",
    ),
    "optimum-benchmark, dtype": (
        of(STEADY, "config", "backend", torch_dtype="float16"), of(STEADY, "config", "backend", torch_dtype="float32"),
        "dtype float16 → float32",
    ),
    "aiperf": (AIPERF | watched("A100"), AIPERF | watched("H100"), "device a100 → h100"),
    "inferencex, pipeline": (INFERENCEX, INFERENCEX | {"pp": 4}, "pp 2 → 4"),
    "inferencex, context": (INFERENCEX, INFERENCEX | {"pcp_size": 2}, "pcp_size none → 2"),
    "inferencex, roles": (
        INFERENCEX | {"num_prefill_gpu": 2, "num_decode_gpu": 2}, INFERENCEX | {"num_prefill_gpu": 2, "num_decode_gpu": 4},
        "num_decode_gpu 2 → 4",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("before", "after", "words"), OTHER_DEVICES.values(), ids=OTHER_DEVICES)
def test_other_devices_are_not_compared(three, judged, before, after, words):
    assert judged(three("old", before), three("again", before))[0] == 0
    code, verdicts = judged(three("old", before), three("new", after))
    assert code == 2
    assert all(words in row["reason"] for row in verdicts.values())
