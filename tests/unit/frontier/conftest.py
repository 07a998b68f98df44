import pytest
from support import published_points as published

from pytest_slmperf.frontier.points import Point


@pytest.fixture
def sweep() -> list[Point]:
    """The published sweep as points, energy per token derived."""
    joules = published.joules_per_token()
    return [
        Point(
            row.max_num_seqs,
            {
                "output_throughput": row.output_tok_s,
                "itl_mean": row.mean_itl_ms,
                "kv_cache_peak": row.kv_peak_pct,
                "energy_per_output_token": joules[row.max_num_seqs],
            },
        )
        for row in published.ROWS
    ]
