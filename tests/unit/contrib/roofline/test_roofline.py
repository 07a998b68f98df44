import pytest

from pytest_slmperf.contrib.roofline.__main__ import main
from pytest_slmperf.contrib.roofline.limits import (
    ModelFigures,
    Peaks,
    decode_step_s,
    offline_limit,
    ridge_batch,
    saturated_throughput,
    sequences_in_memory,
)
from pytest_slmperf.contrib.roofline.measure import DEVICES, Device, figures, measured_cpu, published
from pytest_slmperf.contrib.roofline.page import device_table, page, shares
from pytest_slmperf.errors import InvalidInput

TOY = ModelFigures("toy", weight_bytes=1000, kv_bytes_per_token=2, flops_per_token=1000, attention_flops=0)
PEAKS = Peaks(bandwidth=1000.0, flops=100_000.0)


def test_opt_1_3b_on_an_h100_by_hand():
    model = figures("opt-1.3b", "float16")
    assert model.weight_bytes == pytest.approx(2 * 1.3158e9, rel=1e-3)
    assert model.kv_bytes_per_token == 2 * 24 * 2048 * 2
    assert model.attention_flops == 4 * 24 * 2048
    peaks = Peaks(3350e9, 989e12)
    seconds, bound = decode_step_s(model, peaks, 1, 0)
    assert (seconds, bound) == (pytest.approx(model.bytes_per_step / 3350e9), "bandwidth")


def test_published_sweep_stays_below_the_limit_and_is_bound_by_bandwidth_at_every_batch():
    # OPT-1.3B on the H100 of arXiv 2503.08311, mean 111 tokens in and 292 out: the plateau is the KV cache's traffic.
    model, peaks = figures("opt-1.3b", "float16"), Peaks(3350e9, 989e12)
    for running, throughput, itl in ((1, 276.59, 3.623), (51.53, 5907.81, 10.396), (402.41, 8196.39, 61.677)):
        limit = offline_limit(model, peaks, batch=round(running), input_len=111, output_len=292)
        assert limit.bound == "bandwidth"
        assert 0 < limit.share(throughput) < 1
        assert limit.itl_ms < itl
    assert ridge_batch(model, peaks, 257) is None
    assert saturated_throughput(model, peaks, 257) == pytest.approx(3350e9 / (257 * model.kv_bytes_per_token))


def test_a_step_reads_the_weights_it_multiplies():
    # Llama-3.2-1B: 16 layers, 8 KV heads of 64, embeddings tied to the output layer, so all 1,235,814,400 weights are read.
    tied = figures("llama-3.2-1b", "float16")
    assert (tied.weight_bytes, tied.bytes_per_step) == (2 * 1_235_814_400, 2 * 1_235_814_400)
    assert tied.kv_bytes_per_token == 16 * 2 * 8 * 64 * 2
    # TinyLlama: a table of 32,000 × 2048 embeddings of its own, of which a step reads one row per sequence.
    apart = figures("tinyllama-1.1b", "float16")
    assert apart.weight_bytes - apart.bytes_per_step == 2 * 32000 * 2048
    assert apart.kv_bytes_per_token == 22 * 2 * 4 * 64 * 2


def test_step_turns_from_bandwidth_to_compute():
    assert decode_step_s(TOY, PEAKS, 1, 0) == (1.0, "bandwidth")
    assert decode_step_s(TOY, PEAKS, 200, 0) == (2.0, "compute")
    assert ridge_batch(TOY, PEAKS, 0) == 100
    assert decode_step_s(TOY, PEAKS, 100, 0)[0] == pytest.approx(1.0)


def test_limit_counts_the_prefill():
    limit = offline_limit(TOY, PEAKS, batch=1, input_len=1, output_len=11)
    assert limit.output_throughput == pytest.approx(11 / (1.0 + 10 * (1000 + 6.5 * 2) / 1000))


def test_memory():
    assert sequences_in_memory(TOY, 1100, 10) == 5
    assert sequences_in_memory(TOY, 900, 10) == 0


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"input_len": 0}, {"output_len": -1}])
def test_wrong_work(wrong):
    with pytest.raises(InvalidInput, match=next(iter(wrong))):
        offline_limit(TOY, PEAKS, **({"batch": 1, "input_len": 1, "output_len": 1} | wrong))


def test_wrong_peaks_and_unknown_models():
    with pytest.raises(InvalidInput, match="bandwidth"):
        Peaks(0, 1)
    with pytest.raises(InvalidInput):
        figures("no-such-model")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("NVIDIA H100 80GB HBM3", "NVIDIA H100 80GB HBM3"),
        ("NVIDIA L40S", "NVIDIA L40S"),
        ("NVIDIA L4", "NVIDIA L4"),
        ("NVIDIA A10G", "NVIDIA A10G"),
        ("Tesla V100-SXM2-32GB", "Tesla V100-SXM2-32GB"),
        ("NVIDIA L40", None),  # neither an L4 nor an L40S
        ("NVIDIA A100-SXM-64GB", None),  # no A10
        ("NVIDIA H200 NVL", None),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", None),  # a slice has a part of the peaks
        ("NVIDIA GeForce GTX 1050", None),
    ],
)
def test_devices_by_the_name_nvml_gives(name, expected):
    found = published(name)
    assert (found and found.name) == expected


def test_every_device_says_its_source_and_peaks():
    for device in DEVICES:
        assert device.source
        assert device.bandwidth > 1e11
        assert device.flops_for("float16") > 1e13
    assert published("Tesla T4").flops_for("bfloat16") is None  # Turing has no bfloat16


def test_points_as_a_share_of_the_limit():
    device = Device("toy", 1000.0, {"float16": 100_000.0}, 2000, "made up")
    records: list[dict[str, float]] = [
        {"key": 1, "output_throughput": 0.5},
        {"key": 100, "output_throughput": 10.0},
        {"key": 8},
    ]
    found = shares(records, TOY, device, "float16", input_len=1, output_len=11)
    assert [row.key for row in found.points] == [1, 100]
    assert found.points[0].share is not None
    assert 0 < found.points[0].share < 1
    assert shares(records, TOY, device, "fp8", input_len=1, output_len=11) is None


def test_page_holds_every_model_and_device():
    text = page([figures("opt-125m", "float16"), TOY])
    assert text.count("| opt-125m |") == 1 + len(DEVICES)
    assert "No fp8 peak of Tesla T4 is known" in device_table([TOY], published("Tesla T4"), "fp8", 512)


def test_page_says_what_the_kv_cache_is_kept_in():
    opt = figures("opt-125m", "float16", "fp8")
    assert opt.kv_bytes_per_token == 2 * 12 * 768
    assert page([opt], kv_dtype="fp8").startswith("Weights in float16, KV cache in fp8; limits at")
    assert page([opt]).startswith("Weights and KV cache in float16; limits at")


def test_cpu_peaks_are_measured():
    device = measured_cpu("float32", seconds=0.05)
    assert device.source.startswith("measured")
    assert 1e8 < device.bandwidth < 1e13
    assert 1e8 < device.flops_for("float32") < 1e16


def test_a_dtype_that_cpus_do_not_multiply_is_refused():
    with pytest.raises(InvalidInput, match="measured in float32, bfloat16, float16, not in fp8"):
        measured_cpu("fp8")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--dtype", "foo"], "--dtype: 'foo' is not known; one of"),
        (["--kv-cache-dtype", "foo"], "--kv-cache-dtype: how many bytes 'foo' takes is not known here"),
        (["--context", "1"], "--context: must be at least 2, not 1"),
    ],
)
def test_command_names_the_option_and_the_mend(arguments, told, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["roofline", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert told in capsys.readouterr().err
