import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_slmperf.baselines import codec
from pytest_slmperf.baselines.stores.files import file_for

SAFE = set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")
IDS = st.text(st.characters(exclude_categories=()), max_size=400)


@given(IDS)
def test_every_id_gives_a_safe_relative_path(test_id):
    path = file_for(test_id, ".json")
    assert len(path.parts) == 2
    for part in path.parts:
        assert set(part) <= SAFE
        assert not part.startswith((".", "-"))
        assert len(part) < 100


@given(IDS, IDS)
def test_two_ids_never_share_a_file(one, other):
    if one != other:
        assert str(file_for(one, ".json")).lower() != str(file_for(other, ".json")).lower()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=("Cs",)))
    | st.floats(allow_nan=False, allow_infinity=False, min_value=-1e300, max_value=1e300),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner, max_size=5),
    max_leaves=20,
)  # fmt: skip


def _same(one, other):
    if isinstance(one, float) or isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-5, abs_tol=1e-300)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    return one == other


@given(JSON)
def test_what_is_written_reads_back_to_six_digits_and_is_stable(value):
    written = codec.render({"value": value})
    read = json.loads(written)["value"]
    assert _same(value, read)
    assert codec.render({"value": read}) == written
    assert json.loads(codec.line({"value": value}))["value"] == read


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_json_has_not_is_refused(value):
    with pytest.raises(ValueError, match="JSON compliant"):
        codec.render({"x": [value]})


def test_text_from_files_cannot_steer_a_terminal():
    assert codec.plain("a\x1b[31mb\r\nc") == "a\\x1b[31mb\\r\\nc"
    assert len(codec.plain("x" * 500)) == 80
