"""Roofline figures of models, from their architecture alone."""

from __future__ import annotations

from pytest_slmperf.contrib.roofline.limits import ModelFigures
from pytest_slmperf.engines.presets import Model, resolve_model
from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.model import architecture


def figures(name: str, dtype: str | None = None, kv_dtype: str | None = None) -> ModelFigures:
    """Figures of a preset or model folder at this dtype. InvalidInput for a model whose architecture is not known here."""
    model = resolve_model(name, "dummy")
    known = figures_of(model, dtype, kv_dtype)
    if known is None:
        raise InvalidInput(
            f"model {name!r}: its architecture is not one whose parameters can be counted from the config"
        )
    return known


def figures_of(model: Model, dtype: str | None = None, kv_dtype: str | None = None) -> ModelFigures | None:
    """The same for a resolved model; None where the config does not tell. ``kv_dtype``: the KV cache's, None: the same."""
    weights, kv = model.weight_bytes(dtype), model.kv_bytes_per_token(kv_dtype or dtype)
    try:
        flops = architecture.flops_per_token(model.config)
        attention = architecture.flops_per_token(model.config, context=1) - flops
        read = architecture.read_bytes(model.config, dtype)
    except (KeyError, TypeError, architecture.UnknownArchitecture):
        return None
    if weights is None or kv is None:
        return None
    return ModelFigures(model.name, weights, kv, flops, attention, read)
