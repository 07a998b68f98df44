"""Batch sweep of OPT-1.3B on one H100 64 GB (fp16, vLLM 0.5.2, 2000 ShareGPT prompts sent at once).

Computed from the public raw logs of "Mind the Memory Gap" (Recasens et al., IEEE CLOUD 2025, arXiv 2503.08311).
Per row: max_num_seqs, output tok/s, mean ITL in ms, KV-cache peak in %, mean power in W, duration in s, output tokens.
"""

from typing import NamedTuple


class Row(NamedTuple):
    max_num_seqs: int
    output_tok_s: float
    mean_itl_ms: float
    kv_peak_pct: float
    mean_power_w: float
    duration_s: float
    output_tokens: int


_TABLE = [
    (1, 276.59, 3.623, 0.63, 255.3, 2111.31, 583972),
    (2, 529.99, 3.782, 0.98, 248.3, 1101.85, 583972),
    (4, 1014.66, 3.933, 1.43, 258.5, 575.53, 583972),
    (8, 1740.77, 4.566, 2.09, 249.5, 335.47, 583973),
    (16, 2931.48, 5.381, 3.58, 273.9, 199.21, 583973),
    (32, 4159.89, 7.51, 5.78, 259.5, 140.57, 584756),
    (64, 5907.81, 10.396, 10.24, 300.6, 98.97, 584714),
    (96, 6552.55, 13.894, 15.98, 289.5, 89.22, 584632),
    (128, 6897.16, 17.346, 18.86, 290.9, 84.79, 584836),
    (192, 7485.37, 23.579, 28.3, 312.0, 78.13, 584836),
    (256, 7841.94, 29.273, 38.05, 291.2, 74.56, 584714),
    (384, 8084.77, 40.876, 54.3, 300.2, 72.32, 584712),
    (512, 8127.63, 52.111, 70.42, 299.2, 71.94, 584712),
    (640, 8196.39, 61.677, 85.31, 304.6, 71.34, 584713),
    (768, 8016.71, 72.889, 96.77, 300.9, 72.95, 584835),
]
ROWS = [Row(*row) for row in _TABLE]
COLUMNS = Row._fields
BATCHES = [row.max_num_seqs for row in ROWS]
ITL_32 = 7.51


def as_csv() -> str:
    """The table as CSV text."""
    return "\n".join(",".join(map(str, row)) for row in [COLUMNS, *ROWS]) + "\n"


def joules_per_token() -> dict[int, float]:
    """Mean power × duration ÷ output tokens, per batch."""
    return {row.max_num_seqs: row.mean_power_w * row.duration_s / row.output_tokens for row in ROWS}
