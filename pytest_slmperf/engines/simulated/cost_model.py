"""The cost model of the simulated engine: continuous batching with a KV cache of blocks, on a virtual clock.

Pure functions, standard library only and Python 3.10: the engine's process loads this by path, and campaigns that
only plan import it.

A step of the engine costs device time, ``step_s + seq_s·n + context_s·C + prefill_s·p`` (n: sequences that get a token, C:
tokens of KV cache that they read, p: prompt tokens computed), and then host time, ``host_step_s + host_seq_s·n +
host_prompt_s·q`` (scheduling, sampling and detokenising; q: prompts started), during which the device waits.  ``curve``
replaces ``step_s + seq_s·n`` where that is not linear (matrix kernels change with the batch): device seconds at some n, with
linear interpolation and extrapolation.

Between two events (a sequence starts or ends, the KV cache fills) steps differ in C only and are summed in closed form.  A
sequence that needs a block when none is free preempts the youngest running sequence, which is computed again later, as in
vLLM.

Replicas share the time of the device but not of the host: one engine's host time is device time for the others.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

FAR = 1 << 62
MAX_GAPS = 4096  # inter-token gaps kept per round, evenly spaced among all gaps


@dataclass(frozen=True)
class Cost:
    """The costs of a step and the limits of the engine. ``slowdown`` 0.3: steps take 30 % longer."""

    step_s: float
    seq_s: float = 0.0
    curve: Sequence[Sequence[float]] = ()  # (n, seconds) by rising n; none or at least two
    context_s: float = 0.0
    prefill_s: float = 0.0
    host_step_s: float = 0.0
    host_seq_s: float = 0.0
    host_prompt_s: float = 0.0
    mixed: bool = True  # one step computes prompts and running sequences; False: prompts in steps of their own
    max_num_seqs: int = 256
    max_batched_tokens: int = 8192
    kv_cache_tokens: int = 1 << 20
    block_size: int = 16
    slowdown: float = 0.0
    slow_min_batch: int = 0  # least number of sequences in a step to which the slowdown applies
    replicas: int = 1  # engines that share the device, all equally busy
    interference: float = 1.0  # waiting time for each other replica ÷ the step's own device time
    stretch: float = 1.0  # noise

    def device_seconds(self, running: int, context: float, prefill: int) -> float:
        """Seconds of a step on a device that no other engine uses."""
        step = self._on_curve(running) if self.curve else self.step_s + self.seq_s * running
        return step + self.context_s * context + self.prefill_s * prefill

    def _on_curve(self, running: int) -> float:
        right = min(max(bisect_left(self.curve, float(running), key=lambda knot: knot[0]), 1), len(self.curve) - 1)
        (low, start), (high, end) = self.curve[right - 1], self.curve[right]
        return start + (end - start) * (running - low) / (high - low)

    def seconds(self, running: int, context: float, prefill: int, prompts: int = 0) -> float:
        """Duration of one step."""
        device = self.device_seconds(running, context, prefill)
        host = self.host_step_s + self.host_seq_s * running + self.host_prompt_s * prompts
        others = self.replicas - 1
        whole = max(host + device * (1.0 + self.interference * others), device * self.replicas)
        slow = 1.0 + self.slowdown if running >= self.slow_min_batch else 1.0
        return whole * slow * self.stretch


@dataclass
class Request:
    """One request on its way through the engine. Times in seconds of the virtual clock."""

    index: int
    arrive: float
    n_in: int
    n_out: int
    done: int = 0  # output tokens so far
    blocks: int = 0  # blocks of KV cache that it holds
    first: float | None = None
    last: float | None = None

    @property
    def length(self) -> int:
        return self.n_in + self.done


@dataclass
class Outcome:
    """The result of a simulated run. ``gaps``: at most MAX_GAPS inter-token gaps, evenly spaced among all gaps."""

    sequences: list[Request]
    end: float
    preemptions: int = 0
    kv_peak: float = 0.0  # share of blocks, 0 … 1
    running_seconds: float = 0.0  # integral of running sequences over time
    busy_s: float = 0.0
    device_s: float = 0.0  # seconds in which the device computed for this engine
    steps: int = 0
    gaps: list[float] = field(default_factory=list)


class CannotServe(ValueError):
    """A request that does not even fit into an empty KV cache."""


def simulate(requests: Sequence[tuple[float, int, int]], cost: Cost, start: float = 0.0) -> Outcome:
    """Serve requests ``(arrival time, prompt tokens, output tokens)``, in order of arrival.

    CannotServe for a request that is longer than the KV cache.
    """
    return _Run(requests, cost, start).finish()


def simulate_together(shares: Sequence[Sequence[tuple[float, int, int]]], cost: Cost) -> list[Outcome]:
    """Serve each share with an engine of its own, all on one device, which a finished engine leaves to the others.

    The number of shares replaces ``cost.replicas``.  CannotServe as in ``simulate``.
    """
    runs = [_Run(share, cost, 0.0) for share in shares]
    crowd = {count: replace(cost, replicas=count) for count in range(1, len(runs) + 1)}
    while active := [run for run in runs if run.unfinished]:
        first = min(active, key=lambda run: run.now)
        first.cost = crowd[len(active)]
        first.to_next_event()
    return [run.finish() for run in runs]


class _Run:
    def __init__(self, requests: Sequence[tuple[float, int, int]], cost: Cost, start: float) -> None:
        self.cost = cost
        self.blocks = cost.kv_cache_tokens // cost.block_size
        self.free = self.blocks
        self.now = start
        everything = [Request(i, t, n_in, n_out) for i, (t, n_in, n_out) in enumerate(requests)]
        for request in everything:
            self._check(request)
        self.due = deque(sorted(everything, key=lambda request: request.arrive))
        self.waiting: deque[Request] = deque()
        self.running: list[Request] = []
        self.outcome = Outcome(everything, start)
        self.segments: list[tuple[float, float, int]] = []  # first gap, last gap, number of gaps
        self.stalled = 0.0  # seconds that running sequences waited for other prompts, since their last token

    def _check(self, request: Request) -> None:
        if self.needs(request.n_in + request.n_out) > self.blocks:
            raise CannotServe(
                f"a request of {request.n_in}+{request.n_out} tokens does not fit the KV cache of "
                f"{self.cost.kv_cache_tokens}"
            )

    def needs(self, tokens: int) -> int:
        return -(-tokens // self.cost.block_size)

    @property
    def unfinished(self) -> bool:
        return bool(self.due or self.waiting or self.running)

    def finish(self) -> Outcome:
        while self.unfinished:
            self.to_next_event()
        return self.ended()

    def to_next_event(self) -> None:
        self._arrivals()
        if not self.waiting and not self.running:
            self.now = max(self.now, self.due[0].arrive)
        else:
            self._advance()

    def ended(self) -> Outcome:
        self.outcome.end = self.now
        self.outcome.gaps = draw_gaps(self.segments)
        return self.outcome

    def _advance(self, most: int | None = None) -> list[Request]:
        """One step that computes prompts, or equal steps, at most ``most`` of them; the requests that got tokens."""
        preempted = self._provide()
        started = [] if preempted else self._admit()
        served = started if started and not self.cost.mixed else self.running + started
        if started:
            self._prefill(started)
        else:
            self._decode(most)
        return served

    def _arrivals(self) -> None:
        while self.due and self.due[0].arrive <= self.now:
            self.waiting.append(self.due.popleft())

    def _provide(self) -> bool:
        """Give every running sequence the block that its next token needs; whether that preempted a sequence."""
        before = self.outcome.preemptions
        position, size = 0, self.cost.block_size
        while position < len(self.running):
            request = self.running[position]
            if request.n_in + request.done < request.blocks * size:  # there is room: so it is for nearly all
                position += 1
                continue
            want = self.needs(request.length + 1)
            while want - request.blocks > self.free and len(self.running) > position:
                youngest = self.running.pop()  # may be the sequence itself
                self._give_back(youngest)
                self.waiting.appendleft(youngest)
                self.outcome.preemptions += 1
            if position < len(self.running):
                self._take(request, want)
            position += 1
        return self.outcome.preemptions > before

    def _take(self, request: Request, want: int) -> None:
        if want > request.blocks:
            self.free -= want - request.blocks
            request.blocks = want

    def _give_back(self, request: Request) -> None:
        self.free += request.blocks
        request.blocks = 0

    def _admit(self) -> list[Request]:
        """Waiting sequences whose prompts this step computes: as many as seats, blocks and tokens allow."""
        started: list[Request] = []
        budget = self.cost.max_batched_tokens - len(self.running)
        while self.waiting and len(self.running) + len(started) < self.cost.max_num_seqs:
            request = self.waiting[0]
            want = self.needs(request.length + 1)
            if want > self.free or (started and request.length > budget):
                break
            self._take(request, want)
            budget -= request.length
            started.append(self.waiting.popleft())
        return started

    def _prefill(self, started: list[Request]) -> None:
        """One step that computes prompts; in a mixed step every running sequence gets its next token too."""
        tokens = sum(request.length for request in started)
        others = self.running if self.cost.mixed else []
        context = sum(request.length for request in others)
        count = len(others) + len(started)
        seconds = self.cost.seconds(count, context, tokens, len(started))
        self._spend(seconds, 1, len(self.running) + len(started), self.cost.device_seconds(count, context, tokens))
        if self.cost.mixed:
            self._gap(seconds, seconds, len(others))
            self.running += started
            self._tokens(1, self.running)
        else:
            self.stalled += seconds * len(self.running)
            self.running += started
            self._tokens(1, started)

    def _decode(self, most: int | None) -> None:
        """All equal steps until a sequence ends, a request arrives, or the KV cache is full, at most ``most``."""
        n, context = len(self.running), sum([request.n_in + request.done for request in self.running])
        count = self._fitting(min(most or FAR, min([request.n_out - request.done for request in self.running])))
        first = self.cost.seconds(n, context, 0)
        if self.due and count > 1:
            growth = self.cost.seconds(n, context + n, 0) - first  # each step reads n more tokens of KV cache
            count = min(count, _steps_until(self.due[0].arrive - self.now, first, growth))
        last = self.cost.seconds(n, context + n * (count - 1), 0)
        device = self.cost.device_seconds(n, context + n * (count - 1) / 2, 0)
        self._spend((first + last) / 2 * count, count, n, device * count)
        if self.stalled:  # the first of these gaps holds the wait
            self._gap(first + self.stalled / n, first + self.stalled / n, n)
            self.stalled = 0.0
            self._gap(first, last, n * (count - 1))
        else:
            self._gap(first, last, n * count)
        self._tokens(count, self.running)

    def _fitting(self, count: int) -> int:
        """The largest number of steps, from 1 to ``count``, for which the free blocks suffice."""

        def extra(steps: int) -> int:
            return sum(max(0, self.needs(request.length + steps) - request.blocks) for request in self.running)

        if len(self.running) * (count // self.cost.block_size + 1) <= self.free:  # each has the block of its next token
            return count
        low, high = 1, count
        while low < high:
            middle = (low + high + 1) // 2
            if extra(middle) <= self.free:
                low = middle
            else:
                high = middle - 1
        return low

    def _spend(self, seconds: float, steps: int, running: int, device: float) -> None:
        self.now += seconds
        out = self.outcome
        out.device_s += device
        out.busy_s += seconds
        out.steps += steps
        out.running_seconds += seconds * running

    def _tokens(self, count: int, got: Sequence[Request]) -> None:
        """Give each of these sequences ``count`` tokens; finished sequences leave."""
        stay, size = [], self.cost.block_size
        for request in got:
            request.done += count
            request.last = self.now
            if request.first is None:
                request.first = self.now
            if request.n_in + request.done > request.blocks * size:
                self._take(request, self.needs(request.length))
        self.outcome.kv_peak = max(self.outcome.kv_peak, 1.0 - self.free / self.blocks)
        for request in self.running:
            if request.done >= request.n_out:
                self._give_back(request)
            else:
                stay.append(request)
        self.running = stay

    def _gap(self, first: float, last: float, count: int) -> None:
        if count:
            self.segments.append((first, last, count))


class Stepwise(_Run):
    """The same engine, which accepts requests while it runs; ``now``: seconds after its start."""

    def __init__(self, cost: Cost) -> None:
        super().__init__([], cost, 0.0)
        self.requests: dict[int, Request] = {}

    @property
    def idle(self) -> bool:
        return not self.waiting and not self.running

    def add(self, index: int, n_in: int, n_out: int) -> None:
        """Add a request that arrives now. CannotServe if it is longer than the KV cache."""
        request = Request(index, self.now, n_in, n_out)
        self._check(request)
        self.requests[index] = request
        self.waiting.append(request)

    def step(self) -> list[Request]:
        """One step; the requests that got a token in it."""
        return self._advance(1)

    def drop(self, index: int) -> None:
        """Remove a request that its sender has given up."""
        request = self.requests[index]
        self._give_back(request)
        self.running = [other for other in self.running if other is not request]
        self.waiting = deque(other for other in self.waiting if other is not request)


def _steps_until(seconds: float, first: float, growth: float) -> int:
    """The least number of steps (at least 1) that together take ``seconds``; each step takes ``growth`` longer than the
    step before, and the first takes ``first``."""
    low, high = 1, max(1, int(seconds / first) + 1)
    while low < high:
        middle = (low + high) // 2
        if middle * first + growth * middle * (middle - 1) / 2 >= seconds:
            high = middle
        else:
            low = middle + 1
    return low


def draw_gaps(segments: Sequence[tuple[float, float, int]], limit: int = MAX_GAPS) -> list[float]:
    """All gaps in order, or ``limit`` of them, evenly spaced, if there are more."""
    total = sum(count for _, _, count in segments)
    wanted = min(limit, total)
    gaps: list[float] = []
    passed = 0
    for first, last, count in segments:
        while len(gaps) < wanted:
            index = (len(gaps) * total) // wanted - passed
            if index >= count:
                break
            gaps.append(first + (last - first) * (index / (count - 1) if count > 1 else 0.0))
        passed += count
    return gaps
