"""Frames survive any cut of the stream, and rubbish is refused."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_slmperf.util.framing import HEADER, MAX_FRAME_BYTES, Decoder, WireError, pack, read_message, write_all

JSON = st.dictionaries(
    st.text(), st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)


@given(st.lists(JSON, max_size=5), st.integers(1, 40))
def test_messages_come_back_whole_however_the_stream_is_cut(messages: list[dict[str, object]], size: int) -> None:
    stream = b"".join(map(pack, messages))
    decoder, got = Decoder(), []
    for start in range(0, len(stream), size):
        decoder.feed(stream[start : start + size])
        while (message := decoder.next()) is not None:
            got.append(message)
    assert got == messages


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_json_lacks_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        pack({"x": value})


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (HEADER.pack(MAX_FRAME_BYTES + 1), "claims"),
        (HEADER.pack(3) + b"{,}", "no JSON"),
        (HEADER.pack(2) + b"[]", "not an object"),
        (b"Loading weights: 100%", "claims"),
    ],
)
def test_what_is_no_frame_is_refused(data: bytes, says: str) -> None:
    decoder = Decoder()
    decoder.feed(data)
    with pytest.raises(WireError, match=says):
        decoder.next()


def test_reading_from_a_pipe_ends_with_it() -> None:
    reader, writer = os.pipe()
    try:
        write_all(writer, pack({"a": 1}))
        os.close(writer)
        decoder = Decoder()
        assert read_message(reader, decoder) == {"a": 1}
        assert read_message(reader, decoder) is None
    finally:
        os.close(reader)


def test_a_stream_that_ends_inside_a_frame_is_refused() -> None:
    reader, writer = os.pipe()
    try:
        write_all(writer, pack({"a": 1})[:-1])
        os.close(writer)
        with pytest.raises(WireError, match="ended inside a frame"):
            read_message(reader, Decoder())
    finally:
        os.close(reader)
