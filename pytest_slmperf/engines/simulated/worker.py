"""The simulated engine inside its process: a cost model on a virtual or real clock.

Standard library only and Python 3.10.  ``spec`` has the resolved specification, ``cost`` (the fields of
``cost_model.Cost``) and ``launch`` (number of earlier launches of this specification).
"""

from __future__ import annotations

import math
import os
import random
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_slmperf.engines.simulated import cost_model as model
    from pytest_slmperf.engines.simulated import serving
    from pytest_slmperf.engines.worker import tools
    from pytest_slmperf.load import rows
else:
    import slmperf_worker_tools as tools

    model = tools.load_own("engines/simulated/cost_model")
    rows = tools.load_own("load/rows")
    serving = tools.load_own("engines/simulated/serving")

FIRST_REQUEST = (8, 1)  # prompt and output tokens of the request that ends the start


class SimulatedEngine:
    def __init__(self, spec: dict[str, Any], report: tools.Report) -> None:
        self.report = report
        self.settings: dict[str, Any] = spec["settings"]
        self.max_model_len: int = spec["max_model_len"]
        self.cost = model.Cost(**spec["cost"])
        self.virtual = self.settings["clock"] == "virtual"
        self.now = time.monotonic()  # the virtual clock starts at the real time
        self.rounds = 0
        self.tokens = self.preemptions = 0
        seed = f"{os.environ.get('SLMPERF_SIMULATED_SEED', '')}/{self.settings['seed']}"
        self.rng = random.Random(f"{seed}/launch{spec['launch']}")
        self.factor = self._noise(random.Random(f"{seed}/session"), "noise_session")
        self.factor *= self._noise(self.rng, "noise_launch")

    def _noise(self, rng: random.Random, name: str) -> float:
        """A log-normal factor around 1, with the relative standard deviation of setting ``name``."""
        return math.exp(rng.gauss(0.0, self.settings[name]))

    def start(self) -> dict[str, Any]:
        self.report.progress("simulated: nothing is loaded")
        self._maybe_fail("start", 0)
        if prepared:
            self._maybe_fail("fork", 0)
        duration = self.settings["start_s"] * self.factor
        duration += self._run([(0.0, *FIRST_REQUEST)], self.factor).end
        if not self.virtual:
            time.sleep(duration)
        self.now += duration
        return {
            "version": "simulated",
            "device": "simulated",
            "weights": "simulated",
            "kv_cache_tokens": self.cost.kv_cache_tokens,
            "max_num_seqs": self.cost.max_num_seqs,
            "clock": self.settings["clock"],
            "start_time_s": duration,
        }

    def generate(
        self,
        batch: int,
        input_len: int,
        output_len: int,
        seed: int = 0,
        ignore_eos: bool = True,
        start_at: float | None = None,
    ) -> dict[str, Any]:
        tools.refuse_longer_than(self.max_model_len, input_len, output_len)  # a dry run must refuse what vLLM refuses
        return self.serve([[0.0, input_len, self._answered(output_len)]] * batch, start_at)

    def _answered(self, output_len: int) -> int:
        """Number of tokens in the answer to a request for ``output_len`` tokens."""
        share: float = self.settings["answer_share"]
        return max(1, round(output_len * share))

    def serve(self, requests: list[list[float]], start_at: float | None = None) -> dict[str, Any]:
        """Serve ``[arrival after the start of the round in seconds, prompt tokens, output tokens]``."""
        start, factor, evidence = self._round(start_at)
        out = self._run([(float(t), int(n_in), int(n_out)) for t, n_in, n_out in requests], factor)
        if self.virtual:
            self.now = start + out.end
        else:
            time.sleep(max(0.0, start + out.end - time.monotonic()))
        end = self.now if self.virtual else time.monotonic()
        self.tokens += sum(sequence.done for sequence in out.sequences)
        self.preemptions += out.preemptions
        served = [
            rows.RequestTiming(
                start + sequence.arrive,
                None if sequence.first is None else start + sequence.first,
                None if sequence.last is None else start + sequence.last,
                sequence.n_in,
                sequence.done,
            )
            for sequence in out.sequences
        ]
        return {
            "t_start": start,
            "t_end": end,
            "n_in": sum(sequence.n_in for sequence in out.sequences),
            "n_out": sum(sequence.done for sequence in out.sequences),
            "completed": len(served),
            "requests": served,
            "itl_s": out.gaps,
            "preemptions": out.preemptions,
            "kv_cache_peak": 100.0 * out.kv_peak,
            "mean_running": out.running_seconds / out.end if out.end else 0.0,
            "evidence": evidence | {"steps": out.steps},
        }

    def play(self, plan: dict[str, Any]) -> dict[str, Any]:
        """Play an open or closed loop (``engines/worker/player.py``)."""
        start, factor, evidence = self._round(None)
        try:
            cost = self._stretched(factor)
            report, made = serving.play(plan, cost, start, not self.virtual, evidence, self._answered)
        except model.CannotServe as error:
            raise cannot_serve(error) from error
        if self.virtual:
            self.now = start + made.end
        self.tokens += sum(record.n_out for record in report.records)
        self.preemptions += made.preemptions
        return report.to_wire()

    def _round(self, start_at: float | None) -> tuple[float, float, dict[str, Any]]:
        """The start of a round, the factor by which noise stretches its steps, and the evidence of a disturbance."""
        self.rounds += 1
        self._maybe_fail("round", self.rounds)
        start = self._begin(start_at)
        factor = self.factor * self._noise(self.rng, "noise_round")
        evidence: dict[str, Any] = {"simulated": True, "nivcsw": 0}
        if self.rng.random() < self.settings["burst_probability"]:
            factor *= self.settings["burst_factor"]
            evidence["nivcsw"] = 10_000
        return start, factor, evidence

    def _stretched(self, factor: float) -> model.Cost:
        """The costs with every step longer by ``factor``."""
        from dataclasses import replace

        return replace(self.cost, stretch=self.cost.stretch * factor)

    def _begin(self, start_at: float | None) -> float:
        if self.virtual:  # no replica's clock has passed the group's start time: the start is a barrier here too
            self.now = max(self.now, start_at or 0.0)
            return self.now
        if start_at is not None:
            time.sleep(max(0.0, start_at - time.monotonic()))
        return time.monotonic()

    def _run(self, requests: list[tuple[float, int, int]], factor: float) -> model.Outcome:
        try:
            return model.simulate(requests, self._stretched(factor))
        except model.CannotServe as error:
            raise cannot_serve(error) from error

    def reset_caches(self) -> dict[str, Any]:
        return {}

    def clock(self) -> dict[str, Any]:
        """The engine's time. Virtual clocks of pooled engines differ, since each advances by its own rounds."""
        return {"now": self.now if self.virtual else time.monotonic()}

    def counters(self) -> dict[str, Any]:
        return {"rounds": self.rounds, "output_tokens": self.tokens, "preemptions": self.preemptions}

    def _maybe_fail(self, where: str, number: int) -> None:
        """Fail as the setting ``fail`` demands, which lets tests see what a user sees when a real engine breaks."""
        fail = self.settings["fail"]
        if fail is None or not fail.startswith(where) or (where == "round" and number != self.settings["fail_round"]):
            return
        once = self.settings["fail_once"]
        if once is not None:
            if os.path.exists(once):
                return
            with open(once, "w"):
                pass
        print(f"simulated failure: {fail}", file=sys.stderr, flush=True)
        how = fail.partition("-")[2]
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif how == "exit":
            os._exit(3)
        elif how == "hang":
            time.sleep(86400)
        elif how == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
            return  # whoever continues it finds it in order
        elif how == "flood":
            for number in range(400):
                os.write(2, b"%06d flooding\n" % number + b"x" * 79 + b"\n" * 2**16)
            return
        elif how == "memory":
            raise tools.WorkerFault("memory", "out of memory (simulated)", "Lower kv_cache_tokens.")
        elif how == "guardian" and not prepared:
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(86400)  # the kernel kills this process with its guardian
        elif how == "host" and prepared:
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(86400)  # the kernel kills this process with its host
        elif how == "orphan":  # in a session of its own, without its parent and without any of this environment
            import subprocess

            subprocess.run(["/bin/sh", "-c", "sleep 86400 & echo started"], env={}, start_new_session=True)
            return
        elif how == "child":  # leaves the process group, so that only the marker finds it
            import subprocess

            subprocess.Popen(["sleep", "86400"], start_new_session=True)
            os.kill(os.getpid(), signal.SIGKILL)
        raise RuntimeError("simulated error")


def cannot_serve(error: model.CannotServe) -> tools.WorkerFault:
    return tools.WorkerFault("input", str(error), "Raise kv_cache_tokens or shorten the requests.")


prepared = False  # in a launch host, and so in what is forked from it


def prepare() -> None:
    """There is nothing to import."""
    global prepared
    prepared = True


def create(spec: dict[str, Any], report: tools.Report) -> SimulatedEngine:
    return SimulatedEngine(spec, report)
