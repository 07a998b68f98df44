import pytest
from support import published_points as published

from pytest_slmperf.frontier.points import Point


@pytest.fixture
def sweep() -> list[Point]:
    """The published sweep as points, energy per token derived."""
    joules = published.joules_per_token()
    return [
        Point(
            row[0],
            {
                "output_throughput": row[1],
                "itl_mean": row[2],
                "kv_cache_peak": row[3],
                "energy_per_output_token": joules[row[0]],
            },
        )
        for row in published.ROWS
    ]
