"""The benchmark's vectorised rule and the product's Comparison are one: same data, same verdicts."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from pytest_slmperf.judging import rule as product
from pytest_slmperf.judging.comparison import Comparison
from pytest_slmperf.judging.launch_planning import next_look
from pytest_slmperf.model.verdict import Gate, LaunchSample
from pytest_slmperf.statistics.crossover import order_of_pairs
from pytest_slmperf.statistics.estimate import against_stored, paired
from pytest_slmperf.statistics.launch_centre import centres
from pytest_slmperf.statistics.variance import VariancePrior

PRIOR = VariancePrior(1.1e-4, 30, 2.2e-4, 30, 2.5e-5, 20, "history")
SIZE, MOST, ROUNDS = 60, 16, 10


@pytest.mark.parametrize("mode", ["stored", "duet"])
def test_vectorised_and_single_agree(mode):
    rng = np.random.default_rng(1)
    shift = rng.choice([0.0, 0.03, 0.06, -0.06], SIZE)
    logs = {
        side: rng.normal(0, 0.01, (SIZE, MOST, 1)) + rng.normal(0, 0.015, (SIZE, MOST, ROUNDS)) + add
        for side, add in (("candidate", shift[:, None, None]), ("baseline", 0.0))
    }
    sessions = [0, 4, 9, 16]  # the baseline's launches by session, of unequal size

    rule = product.Rule(SIZE, math.log(1.01), math.log(1.05), 0.0005, 0.01, MOST)
    centre, se, _ = (
        dict(zip(logs, each, strict=True)) for each in zip(*(centres(v) for v in logs.values()), strict=True)
    )
    done, none = 0, np.zeros(SIZE)
    while done < MOST:
        done = next_look(done, MOST)
        chosen = np.arange(done)[None, :] >= np.where(rule.suspected_at > 0, rule.suspected_at, done)[:, None]
        cand = centre["candidate"][:, :done]
        floors = {
            side: (se[side] ** 2)[:, : done if mode == "duet" or side == "candidate" else None].mean(1) for side in se
        }
        if mode == "duet":
            floor, turn = floors["candidate"] + floors["baseline"], order_of_pairs(range(done))
            found = [paired(cand - centre["baseline"][:, :done], PRIOR, floor, none, c, turn) for c in (None, chosen)]
        else:
            base = [centre["baseline"][:, a:b] for a, b in itertools.pairwise(sessions)]
            floor = np.maximum(floors["candidate"], floors["baseline"])
            found = [against_stored(cand, base, PRIOR, floor, none, c) for c in (None, chosen)]
        rule.look(done, *found)

    def sample(side, row, launch):
        session = f"s{np.searchsorted(sessions, launch, side='right')}"
        return LaunchSample(
            [float(v) for v in np.exp(logs[side][row, launch])], session, launch if mode == "duet" else None
        )

    verdicts = []
    for row in range(SIZE):
        full = [sample("baseline", row, i) for i in range(MOST)]
        comparison = Comparison([Gate("ttft_p50", "lower")], {"ttft_p50": full}, alpha=0.0005, mode=mode, prior=PRIOR)
        done = comparison.first_launches
        while True:
            cand = [sample("candidate", row, i) for i in range(done)]
            decision = comparison.decide({"ttft_p50": cand}, {"ttft_p50": full[:done]} if mode == "duet" else None)
            if decision.done:
                break
            done += decision.next_launches
        (judgement,) = decision.judgements
        verdicts.append(judgement.verdict)
        late = judgement.detail["interval_level"] == 0.9  # same, at the last look
        assert late == (judgement.verdict == "same" and rule.upper[row] >= math.log(1.05))
        low, high = (rule.last_lower, rule.last_upper) if late else (rule.lower, rule.upper)
        assert math.log1p(judgement.ci[0]) == pytest.approx(low[row], abs=1e-9)
        assert math.log1p(judgement.ci[1]) == pytest.approx(high[row], abs=1e-9)
    assert verdicts == [product.VERDICTS[code] for code in rule.verdict]
    assert {"regressed", "same", "improved"} <= set(verdicts)
