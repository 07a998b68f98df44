"""Sample results for tests, screenshots and benchmarks of the reports.

Everything here is made up by a seeded generator and marked as a sample; nothing was measured.
"""

from __future__ import annotations

import math
import random
from typing import Any

from pytest_slmperf.model.charts import (
    Charts,
    FrontierChart,
    HistoryChart,
    HistoryChartPoint,
    LatencySample,
    ReplicationRow,
    RooflineChart,
    RooflinePoint,
    SweepCharts,
)
from pytest_slmperf.model.energy import DeviceEnergy, Energy, PowerTrace, Witness
from pytest_slmperf.model.result import (
    BaselineReading,
    BaselineSide,
    Commit,
    Engine,
    Launch,
    Machine,
    MetricValue,
    Result,
    Results,
    Round,
    Session,
)
from pytest_slmperf.model.verdict import Difference, VerdictRecord

HOSTILE_IDS = [
    "perf_tests/test_x.py::test_names[<script>window.__owned=1</script>]",
    "perf_tests/test_x.py::test_names[</script><img src=x onerror=window.__owned=1>]",
    'perf_tests/test_x.py::test_names["quotes\' & <b>ampersands</b>"]',
    "perf_tests/test_x.py::test_names[emoji \U0001f680\U0001f469\u200d\U0001f52c \u2028 line]",
    "perf_tests/test_x.py::test_names[new\nline\ttab \x1b[31mred]",
    "perf_tests/test_x.py::test_names[{{ 7*7 }} {% raw %} ${1} __proto__]",
]
REASONS = {
    "regressed": "{better_word} by {amount}, more than the tolerance of 1 %; two fresh launches confirm it",
    "improved": "better by {amount}, more than the tolerance of 1 %",
    "same": "not worse by the limit of 5 %: at most {bound}",
    "inconclusive": "between {low} and {high}: neither under the limit of 5 % nor above the tolerance when the time was up",
    "new": "no baseline for this test",
    "incomparable": "the baseline was taken on another GPU (Sample GPU 40GB, here Sample GPU 80GB)",
}


def sample_results(tests: int | None = None, seed: int = 7) -> Results:
    """The gallery (``tests`` None: one of each case), or so many ordinary tests."""
    draw = random.Random(seed)
    machine = Machine(
        fingerprint="sample-gpu80-cpu48-driver-570",
        cpu={"model": "Sample CPU, 48 cores", "cores": 48, "governor": "performance"},
        gpus=[{"name": "Sample GPU 80GB", "uuid": "GPU-00000000-sample", "memory_bytes": 85520809984, "mig": False}],
        memory_bytes=810 * 2**30,
        driver="570.86.15",
        os={"system": "Linux", "kernel": "6.8.0-51-generic", "distribution": "Ubuntu 24.04"},
        python="3.12.8",
    )
    session = Session(
        id="sample-20260731-0a1b",
        started_at="2026-07-31T09:12:44Z",
        finished_at="2026-07-31T09:31:02Z",
        plugin_version="0.1.0",
        commit=Commit(id="5e1c9b7a40d2f6a1c3e4b5d60718293a4b5c6d7e", branch="upgrade-engine", dirty=False),
        profile="quick",
        alpha=0.01,
        options={"tolerance": 0.01, "limit": 0.05, "max_time": 1200},
        notes=["SAMPLE DATA: made up by a generator to show the report; nothing here was measured"],
    )
    if tests is not None:
        results = [ordinary(draw, index) for index in range(tests)]
    else:
        results = gallery(draw)
    return Results(session=session, machine=machine, results=results)


def gallery(draw: random.Random) -> list[Result]:
    """One test of each case a report must show."""
    results = []
    for batch in (1, 4, 16, 64, 128, 256):
        change = {64: -0.031, 128: -0.116, 256: -0.148}.get(batch, draw.uniform(-0.004, 0.004))
        verdict = "regressed" if change < -0.02 else "same"
        results.append(offline(draw, batch, change, verdict, energy_change=0.09 if batch == 256 else 0.002))
    results.append(offline(draw, 32, 0.084, "improved", identifier="perf_tests/test_prefix.py::test_shared_prefix[32]"))
    results.append(
        offline(
            draw,
            8,
            -0.021,
            "inconclusive",
            identifier="perf_tests/test_model_size.py::test_decode[opt-2.7b-8]",
            spread=0.03,
        )
    )
    results.append(offline(draw, 48, 0.0, "new", identifier="perf_tests/test_context.py::test_context_length[520]"))
    results.append(
        offline(draw, 96, 0.0, "incomparable", identifier="perf_tests/test_replication.py::test_two_replicas[mps]")
    )
    results.append(serving(draw))
    results.append(sweep(draw))
    results.append(duet(draw))
    results.append(unmetered(draw))
    results.append(failed())
    return results


def ordinary(draw: random.Random, index: int) -> Result:
    """One of many: mostly the same, some of each other verdict."""
    verdict = draw.choices(["same", "regressed", "improved", "inconclusive", "new"], [88, 4, 3, 3, 2])[0]
    change = {"regressed": -0.09, "improved": 0.07, "inconclusive": -0.02}.get(verdict, 0.0) + draw.uniform(
        -0.005, 0.005
    )
    family, batch = divmod(index, 10)
    name = f"perf_tests/test_family_{family // 10:02d}.py::test_case_{family % 10}[batch{2**batch}]"
    result = offline(draw, 2**batch, change, verdict, identifier=name)
    result.scenario["input_len"] = 32 + 16 * family
    return result


def engine(**changes: Any) -> Engine:
    values: dict[str, Any] = {
        "name": "vllm",
        "version": "0.32.0",
        "model": "opt-1.3b",
        "weights": "dummy",
        "device": "cuda:0",
        "dtype": "bfloat16",
        "settings": {"enable_prefix_caching": False, "max_num_seqs": 256},
        "facts": {"kv_cache_tokens": 262144, "torch": "2.13.0", "cuda": "12.9"},
    }
    return Engine(**(values | changes))


def _launches(
    draw: random.Random, mean: float, count: int, spread: float, rounds: int = 8, seconds: float = 1.3
) -> tuple[list[list[float]], list[Launch]]:
    values, launches, clock = [], [], 1000.0
    for index in range(count):
        centre = mean * math.exp(draw.gauss(0, spread))
        row: list[float] = []
        records: list[Round] = []
        for number in range(rounds):
            value = centre * math.exp(draw.gauss(0, 0.012))
            spoiled = number == 3 and index % 3 == 1
            if spoiled:
                value *= 0.72
            records.append(
                Round(
                    t_start=clock,
                    t_end=clock + seconds,
                    values={"output_throughput": value},
                    evidence={"nivcsw": 4120 if spoiled else draw.randint(0, 9), "steal_s": 0.21 if spoiled else 0.0},
                    contaminated="4,120 involuntary context switches: another process ran on the engine's cores"
                    if spoiled
                    else None,
                )
            )
            clock += seconds + 0.05
            if not spoiled:
                row.append(value)
        values.append(row)
        launches.append(Launch(index=index, start_time_s=24.1 + draw.random(), warmup_rounds=4, rounds=records))
    return values, launches


def _latencies(draw: random.Random, centre: float, count: int = 160) -> list[float]:
    return sorted(centre * math.exp(draw.gauss(0, 0.18)) for _ in range(count))


def _verdict(
    metric: str, better: str, change: float, verdict: str, half: float, detail: dict[str, Any]
) -> VerdictRecord:
    ci = None if verdict in ("new", "incomparable") else (change - half, change + half)
    reason = REASONS[verdict].format(
        better_word="slower" if better == "higher" else "more",
        amount=f"{abs(change) * 100:.1f} %",
        bound=f"{(abs(change) + half) * 100:.1f} %",
        low=f"{(change - half) * 100:.1f} %",
        high=f"{(change + half) * 100:+.1f} %",
    )
    return VerdictRecord(
        metric=metric,
        verdict=verdict,  # type: ignore[arg-type]
        change=None if ci is None else change,
        ci=ci,
        baseline=None if verdict == "new" else "main",
        tolerance=0.01,
        limit=0.05,
        reason=reason,
        detail=detail if ci else {},
        more_launches=6 if verdict == "inconclusive" else None,
    )


def offline(
    draw: random.Random,
    batch: int,
    change: float,
    verdict: str,
    *,
    energy_change: float = 0.0,
    identifier: str | None = None,
    spread: float = 0.006,
) -> Result:
    """An offline batch test on a GPU with energy."""
    base = 11000 * batch / (batch + 90)
    old, _ = _launches(draw, base, 6, spread)
    new, launches = _launches(draw, base * (1 + change), 6, spread)
    joules = 410 / base * (1 + 12 / batch)
    old_energy = [[joules * math.exp(draw.gauss(0, 0.008)) for _ in rounds] for rounds in old]
    new_energy = [[joules * (1 + energy_change) * math.exp(draw.gauss(0, 0.008)) for _ in rounds] for rounds in new]
    latency = batch * 1000 * 64 / base
    half = 0.032 if verdict == "inconclusive" else 0.011
    detail = {
        "launches": [6, 6],
        "looks": 2,
        "launch_sd": 0.0061,
        "round_sd": 0.012,
        "confirmation": {"launches": 2, "change": change * 0.97},
    }
    gated_energy = verdict if verdict in ("new", "incomparable") else "regressed" if energy_change > 0.02 else "same"
    verdicts = [
        _verdict("output_throughput", "higher", change, verdict, half, detail),
        _verdict("energy_per_output_token", "lower", energy_change, gated_energy, 0.012, detail),
    ]
    seconds = sum(round_.t_end - round_.t_start for launch in launches for round_ in launch.rounds)
    watts = 330 + 90 * batch / (batch + 40)
    compared = verdict != "new"
    return Result(
        id=identifier or f"perf_tests/test_offline.py::test_batch[{batch}]",
        scenario={
            "kind": "offline",
            "batch": batch,
            "input_len": 161,
            "output_len": 64,
            "location": "perf_tests/test_offline.py:12",
        },
        engine=engine(),
        metrics={
            "output_throughput": MetricValue(
                unit="tok/s",
                better="higher",
                value=base * (1 + change),
                ci=(base * (1 + change) * 0.994, base * (1 + change) * 1.006),
                launches=new,
                gate=True,
            ),
            "energy_per_output_token": MetricValue(
                unit="J/tok",
                better="lower",
                value=joules * (1 + energy_change),
                launches=new_energy,
                gate=True,
            ),
            "e2el_p50": MetricValue(unit="ms", better="lower", value=latency / (1 + change)),
            "e2el_p99": MetricValue(unit="ms", better="lower", value=latency / (1 + change) * 1.5),
            "mean_power": MetricValue(unit="W", better="lower", value=watts),
            "kv_cache_peak": MetricValue(unit="%", better="none", value=min(99.0, batch * 0.31)),
            "goodput": MetricValue(unit="req/s", better="higher", value=None, reason="the scenario states no SLO"),
        },
        energy=_energy(draw, watts, seconds),
        discarded_rounds=sum(bool(round_.contaminated) for launch in launches for round_ in launch.rounds),
        verdicts=verdicts,
        launches=launches,
        differences=[
            Difference(what="engine version", baseline="0.31.2", candidate="0.32.0"),
            Difference(what="torch", baseline="2.12.1", candidate="2.13.0"),
            Difference(what="commit", baseline="c0ffee1", candidate="5e1c9b7"),
            Difference(what="SM clock (MHz, median)", baseline=1980, candidate=1965),
        ]
        if compared
        else [],
        baseline=BaselineSide(
            name="main",
            commit="c0ffee1d4b",
            saved_at="2026-07-24T16:00:11Z",
            metrics={
                "output_throughput": BaselineReading(unit="tok/s", value=base, launches=old),
                "energy_per_output_token": BaselineReading(unit="J/tok", value=joules, launches=old_energy),
                "e2el_p50": BaselineReading(unit="ms", value=latency),
                "e2el_p99": BaselineReading(unit="ms", value=latency * 1.5),
            },
            samples={"e2el": LatencySample(values=_latencies(draw, latency))},
        )
        if compared
        else None,
        samples={"e2el": LatencySample(values=_latencies(draw, latency / (1 + change)))},
        charts=Charts(history={"output_throughput": _history(draw, base, change)} if verdict == "regressed" else {}),
        log_tail="INFO 07-31 09:14:02 [core.py:71] Initializing a V1 LLM engine (v0.32.0)\n"
        "INFO 07-31 09:14:19 [kv_cache_utils.py:1087] GPU KV cache size: 262,144 tokens\n"
        "INFO 07-31 09:14:21 [gpu_model_runner.py:3480] Graph capturing finished in 2 secs, took 0.41 GiB",
    )


def _history(draw: random.Random, base: float, change: float) -> HistoryChart:
    points = [
        HistoryChartPoint(
            at=f"2026-{5 + index // 28:02d}-{1 + index % 28:02d}T10:00:00Z",
            commit=f"{index * 7919 % 0xFFFFFFF:07x}",
            value=base * (0.93 if index < 18 else 1.0) * math.exp(draw.gauss(0, 0.008)),
        )
        for index in range(40)
    ]
    points.append(HistoryChartPoint(at="2026-07-31T09:12:44Z", commit="5e1c9b7", value=base * (1 + change)))
    return HistoryChart(points=points, changes=[18])


def _energy(draw: random.Random, watts: float, seconds: float) -> Energy:
    times = [index * 0.1 for index in range(240)]
    trace = [122.0 if not 3 < t < 21 else watts * (1 - math.exp(-(t - 3) / 0.6)) + draw.gauss(0, 6) + 40 for t in times]
    return Energy(
        source="nvml-counter",
        scope="gpu",
        joules=watts * seconds,
        bound_j=watts * 0.021,
        gain=0.05,
        tick_s=0.1,
        window_s=seconds,
        idle_w_before=121.8,
        idle_w_after=123.4,
        idle_w_bare=72.1,
        net_joules=(watts - 122) * seconds,
        devices=[
            DeviceEnergy(
                name="Sample GPU 80GB", uuid="GPU-00000000-sample", source="nvml-counter", joules=watts * seconds
            )
        ],
        witness=Witness(source="nvml-power", joules=watts * seconds * 1.004, bound_j=watts * 0.05, disagreement=0.004),
        trace=PowerTrace(t_s=times, watts={"Sample GPU 80GB": trace}),
    )


def serving(draw: random.Random) -> Result:
    """An online serving test with latency gates."""
    result = offline(draw, 24, -0.006, "same", identifier="perf_tests/test_serving.py::test_poisson[80% of peak]")
    result.scenario = {
        "kind": "serving",
        "arrival": "poisson",
        "rate": 22.4,
        "requests": 1200,
        "slo": {"ttft_p99": 200},
    }
    samples: dict[str, Any] = {}
    before: dict[str, Any] = {}
    for name, centre, shift in (("ttft", 61.0, 1.31), ("itl", 9.2, 1.01), ("e2el", 3050.0, 1.04)):
        before[name] = LatencySample(values=_latencies(draw, centre))
        samples[name] = LatencySample(values=_latencies(draw, centre * shift))
        for stat, factor in (("p50", 1.0), ("p99", 1.6)):
            result.metrics[f"{name}_{stat}"] = MetricValue(
                unit="ms",
                better="lower",
                value=centre * shift * factor,
                gate=stat == "p99",
                launches=[[centre * shift * factor]] * 3,
            )
    result.samples = samples
    assert result.baseline is not None
    result.baseline.samples = before
    result.verdicts = [
        _verdict("ttft_p99", "lower", 0.312, "regressed", 0.041, {"launches": [6, 6]}),
        _verdict("itl_p99", "lower", 0.011, "same", 0.018, {"launches": [6, 6]}),
        *result.verdicts,
    ]
    return result


def sweep(draw: random.Random) -> Result:
    """A max_num_seqs sweep whose frontier moved back at large batch."""
    sizes = [1, 2, 4, 8, 16, 32, 64, 96, 128, 192, 256, 384, 512, 640, 768]

    def points(slow: float) -> list[dict[str, Any]]:
        rows = []
        for size in sizes:
            factor = slow if size >= 256 else 1.0
            throughput = (
                11900 * size / (size + 70) * factor * math.exp(draw.gauss(0, 0.004)) * (0.97 if size > 640 else 1)
            )
            rows.append(
                {
                    "key": size,
                    "output_throughput": throughput,
                    "itl_mean": 1000 * size / throughput,
                    "energy_per_output_token": (300 + 160 * size / (size + 60)) / throughput,
                    "kv_cache_peak": min(100.0, size * 0.16),
                    "preemptions": 543 if size == 768 else 0,
                    "on_frontier": size <= 640,
                    "dropped": "543 preemptions" if size == 768 else None,
                }
            )
        return rows

    result = offline(draw, 256, -0.07, "regressed", identifier="perf_tests/test_sweep.py::test_max_num_seqs")
    result.scenario = {"kind": "sweep", "key": "max_num_seqs", "input_len": 161, "output_len": 338}
    result.metrics = {
        "hypervolume": MetricValue(unit="1", better="higher", value=0.871, gate=True, launches=[[0.871], [0.868]])
    }
    verdict = _verdict("hypervolume", "higher", -0.07, "regressed", 0.012, {"points": [256, 384, 512]})
    verdict.reason = "the frontier moved back by 7 % at max_num_seqs 256, 384 and 512"
    result.verdicts = [verdict]
    result.points = points(0.93)
    for point in result.points:
        worse = point["key"] in (256, 384, 512)
        point["verdicts"] = {"output_throughput": {"verdict": "regressed" if worse else "same"}}
    assert result.baseline is not None
    result.baseline.points = points(1.0)
    result.charts = Charts(
        sweep=SweepCharts(
            key="max_num_seqs",
            frontiers=[
                FrontierChart(max="output_throughput", min="itl_mean", knee=256, advice=192),
                FrontierChart(max="output_throughput", min="energy_per_output_token", knee=256),
            ],
        ),
        roofline=RooflineChart(
            device="Sample GPU 80GB",
            points=[
                RooflinePoint(
                    key=point["key"],
                    output_throughput=point["output_throughput"],
                    limit=1280.0 * point["key"] / (1 + point["key"] / 40),
                    bound="memory bandwidth",
                )
                for point in result.points
            ],
        ),
        replication=[
            ReplicationRow(replicas=1, batch=768, mode="alone", output_throughput=10968.0),
            ReplicationRow(replicas=2, batch=256, mode="time slicing", output_throughput=12110.0),
            ReplicationRow(replicas=2, batch=256, mode="MPS", output_throughput=14669.0),
            ReplicationRow(replicas=4, batch=256, mode="MPS", output_throughput=14720.0),
            ReplicationRow(replicas=4, batch=96, mode="time slicing", output_throughput=9940.0),
        ],
    )
    return result


def duet(draw: random.Random) -> Result:
    """Both sides measured in one session, launches in ABBA order."""
    result = offline(draw, 128, 0.002, "same", identifier="perf_tests/test_offline.py::test_upgrade[duet]")
    old, before = _launches(draw, 6100.0, 4, 0.004)
    new, after = _launches(draw, 6112.0, 4, 0.004)
    for launch in before:
        launch.side = "baseline"
    result.launches = [launch for pair in zip(before, after, strict=True) for launch in pair]
    assert result.baseline is not None
    result.baseline.name = "python=venv-0.31/bin/python"
    result.baseline.metrics = {"output_throughput": BaselineReading(unit="tok/s", value=6100.0, launches=old)}
    result.metrics["output_throughput"].launches = new
    result.verdicts[0].baseline = "duet against python=venv-0.31/bin/python"
    return result


def unmetered(draw: random.Random) -> Result:
    """A CPU test with the simulated engine and no energy source."""
    result = offline(draw, 2, 0.001, "same", identifier="perf_tests/test_dry_run.py::test_simulated[2]")
    result.engine = engine(name="simulated", version="1", weights="simulated", device="cpu")
    reason = "no NVML library and no RAPL on this machine"
    result.energy = Energy(reason=reason)
    result.metrics["energy_per_output_token"] = MetricValue(unit="J/tok", better="lower", value=None, reason=reason)
    result.verdicts = result.verdicts[:1]
    return result


def failed() -> Result:
    """A test whose engine died."""
    return Result(
        id="perf_tests/test_model_size.py::test_decode[opt-13b-512]",
        scenario={
            "kind": "offline",
            "batch": 512,
            "input_len": 161,
            "output_len": 338,
            "location": "perf_tests/test_model_size.py:31",
        },
        engine=engine(model="opt-13b"),
        failure="the engine stopped in round 3 of launch 1 (exit status -9, killed)",
        log_tail="INFO 07-31 09:29:40 [gpu_model_runner.py:2602] Model loading took 24.2 GiB\n"
        "ERROR 07-31 09:29:58 [core.py:708] torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.50 GiB",
    )


def hostile_results() -> Results:
    """Names that must be inert wherever they are shown."""
    draw = random.Random(3)
    results = sample_results(0)
    for number, identifier in enumerate(HOSTILE_IDS):
        result = offline(
            draw, 2**number, -0.1 if number % 2 else 0.0, "regressed" if number % 2 else "same", identifier=identifier
        )
        result.engine = engine(
            model="<script>window.__owned=2</script>", settings={"<b>": "</script><script>window.__owned=3</script>"}
        )
        result.log_tail = "</script></template><script>window.__owned=4</script>\x1b[31m"
        result.notes = ["<img src=x onerror='window.__owned=5'>"]
        result.differences = [
            Difference(what="<i>x</i>", baseline="<script>1</script>", candidate="javascript:alert(1)")
        ]
        results.results.append(result)
    results.machine.cpu["model"] = "<svg onload=window.__owned=6>"
    return results
