"""What the bytes meant, whatever pieces they came in."""

import json

import pytest

from pytest_slmperf.load.http.parser import Answer
from pytest_slmperf.load.http.wire import Dechunker
from pytest_slmperf.load.token_counter import Tally, bin_of, middle, spread

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunked(*parts: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def event(text="a", finish=None, usage=None, **more) -> bytes:
    choice = {"index": 0, "text": text, "finish_reason": finish, **more}
    message: dict[str, object] = {"choices": [choice]}
    if usage is not None:
        message["usage"] = {"prompt_tokens": 3, "completion_tokens": usage}
    return b"data: " + json.dumps(message).encode() + b"\n\n"


def answered(data: bytes, step: int | None = None, ended: str | None = None) -> Answer:
    answer = Answer()
    step = step or len(data) or 1
    for at, begin in enumerate(range(0, len(data), step)):
        answer.feed([at], [data[begin : begin + step]])
    answer.finished(ended)
    return answer


@pytest.mark.parametrize("step", [1, 2, 3, 7, 50, 10_000])
def test_any_cut_of_the_bytes_gives_the_same_answer(step):
    last = b'data: {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 3}}\n\n'
    data = HEAD + chunked(event(), event("bc"), event("d", "length"), last, b"data: [DONE]\n\n")
    answer = answered(data, step)
    assert answer.error is None
    assert (answer.status, answer.n_in, answer.n_out, len(answer.times)) == (200, 5, 3, 3)
    assert answer.done


def test_an_event_has_the_time_of_the_read_that_completed_it():
    answer = Answer()
    data = chunked(event("a"))
    answer.feed([10], [HEAD + data[:20]])
    assert answer.times == []
    answer.feed([30], [data[20:]])
    assert (answer.times, answer.tokens) == ([30], [0])


def test_two_chunks_in_one_read_and_one_event_over_two_chunks():
    one = event("x")
    answer = answered(HEAD + chunked(one[:9], one[9:] + event("y"), event("z", "stop"), b"data: [DONE]\n\n"))
    assert len(answer.times) == 3


def test_role_only_and_empty_first_events_are_no_first_token():
    role = (
        b'data: {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": null}]}\n\n'
    )
    word = b'data: {"choices": [{"index": 0, "delta": {"content": "hi"}, "finish_reason": "stop"}]}\n\n'
    answer = Answer()
    answer.feed([1], [HEAD + b"%x\r\n%b\r\n" % (len(role), role)])
    empty = event("")
    answer.feed([2], [b"%x\r\n%b\r\n" % (len(empty), empty)])
    answer.feed([3], [chunked(word)])
    answer.finished(None)
    assert (answer.times, answer.tokens) == ([3], [0])


def test_usage_says_that_a_token_came_though_its_text_is_held_back():
    answer = answered(HEAD + chunked(event("", usage=1), event("é", "length", usage=2), b"data: [DONE]\n\n"))
    assert answer.tokens == [1, 1]


@pytest.mark.parametrize(
    ("usage", "n_out", "reasoning"),
    [
        ({"completion_tokens": 5, "total_tokens": 8, "completion_tokens_details": {"reasoning_tokens": 3}}, 5, 3),
        ({"completion_tokens": 2, "total_tokens": 8, "completion_tokens_details": {"reasoning_tokens": 3}}, 5, 3),
        ({"completion_tokens": 2, "total_tokens": 8, "reasoning_tokens": 3}, 5, 3),
        ({"completion_tokens": 5, "reasoning_tokens": 3}, 5, 3),
        ({"completion_tokens": 5, "total_tokens": 8, "completion_tokens_details": None}, 5, 0),
        ({"completion_tokens": 5, "total_tokens": 8, "completion_tokens_details": {"reasoning_tokens": "3"}}, 5, 0),
    ],
    ids=["among", "apart", "apart-flat", "no-total", "none", "text"],
)
@pytest.mark.parametrize("sent", [True, False], ids=["sent", "hidden"])
def test_tokens_of_reasoning_are_output_whether_the_server_counts_them_apart_or_not(usage, n_out, reasoning, sent):
    thought = [b'data: {"choices": [{"index": 0, "delta": {"reasoning_content": "hm"}}]}\n\n'] * 3 if sent else []
    last = b'data: {"choices": [], "usage": %b}\n\n' % json.dumps({"prompt_tokens": 3, **usage}).encode()
    answer = answered(HEAD + chunked(*thought, event(), event("b", "stop"), last, b"data: [DONE]\n\n"))
    assert (answer.error, answer.n_in, answer.n_out) == (None, 3, n_out)
    assert (answer.reasoning, answer.thought) == (reasoning, sent)


def test_tokens_of_a_chunk_from_usage_or_ids():
    answer = answered(HEAD + chunked(event("abc", usage=3), event("de", "length", usage=5), b"data: [DONE]\n\n"))
    assert answer.tokens == [3, 2]
    answer = answered(HEAD + chunked(event("abc", token_ids=[1, 2, 3]), event("d", "length", token_ids=[4])))
    assert answer.tokens == [3, 1]


def test_reasoning_and_comments_and_crlf():
    thought = b'data: {"choices": [{"delta": {"reasoning_content": "hm"}}]}\r\n\r\n'
    answer = answered(HEAD + chunked(b": ping\n\n", thought, event("a", "stop"), b"data: [DONE]\n\n"), step=5)
    assert len(answer.times) == 2
    assert answer.error is None


@pytest.mark.parametrize(
    ("data", "ended", "error"),
    [
        (HEAD + chunked(event(), b"nonsense\n\n"), None, "malformed_sse"),
        (HEAD + chunked(event(), b"data: {oops\n\n"), None, "bad_json"),
        (HEAD + chunked(event(), b"data: 5\n\n"), None, "bad_json"),
        (HEAD + chunked(event(), b'data: {"x": 1}\n\n'), None, "bad_json"),
        (HEAD + chunked(event(), b'data: {"error": {"message": "dead", "code": 500}}\n\n'), None, "error_event"),
        (HEAD + chunked(event()), None, "cut_short"),
        (HEAD + chunked(event())[:-5], "disconnected", "disconnected"),
        (HEAD + chunked(event("", "stop"), b"data: [DONE]\n\n"), None, "no_tokens"),
        (HEAD + b"zz\r\n", None, "bad_http"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", None, "bad_http"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n" + b'{"text": 1}', None, "not_a_stream"),
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy", None, "http_503"),
        (b"", "stalled", "stalled"),
        (b"HTTP/1.1 20", "reset", "reset"),
    ],
)
def test_what_went_wrong_is_named(data, ended, error):
    for step in (None, 4):
        assert answered(data, step, ended).error == error


def test_http_errors_keep_their_message_and_retry_after():
    body = b'{"error": {"message": "slow down"}}'
    answer = answered(b"HTTP/1.1 429 Too\r\nRetry-After: 9\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    assert (answer.error, answer.error_text, answer.retry_after) == ("http_429", "slow down", "9")


def test_dechunker_ignores_extensions_and_refuses_nonsense():
    dechunker = Dechunker()
    assert dechunker.feed(b"3;name=value\r\nabc\r\n0\r\n\r\n") == b"abc"
    assert dechunker.done
    faulty = Dechunker()
    assert faulty.feed(b"3\r\nabc\r\ng\r\n") == b"abc"
    assert faulty.fault == "a chunk of size b'g'"


def test_chunk_of_k_tokens_gives_k_gaps_of_gap_over_k():
    tally = Tally(0, 10**9, 1)
    tally.add([0, 40_000, 80_000], [4, 4, 2], measured=True)
    # trap: per network chunk there would be two gaps of 40 µs; per token there are six, and the sum stays
    assert tally.gap_count == 6
    assert tally.gap_sum == 80_000
    assert tally.gaps == [(pytest.approx(10_000, rel=2**-12), 4), (pytest.approx(20_000, rel=2**-12), 2)]


def test_tokens_are_spread_evenly_when_only_their_sum_is_known():
    tokens = spread([0, 0, 0, 0], 10)
    assert sum(tokens) == 10
    assert set(tokens) == {2, 3}
    assert spread([1, 3], 4) == [1, 3]


def test_rounding_of_gaps_is_within_its_bound():
    values = [1, 2047, 2048, 4095, 123_456, 10**9, 987_654_321_987]
    for value, place in zip(values, bin_of(values), strict=True):
        assert abs(middle(place) - value) <= max(0.5, value * 2**-12 * 1.001)
    assert middle(bin_of([0])[0]) == 0


def test_only_tokens_inside_the_window_count_for_throughput():
    tally = Tally(100, 200, 2)
    assert tally.add([50, 120, 199, 200], [1, 2, 1, 5], measured=False) == 3
    assert tally.tiles == [2, 1]
    assert tally.gap_count == 0


COUNTS = b'data: {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}}\n\n'
GOOD = HEAD + chunked(event("a"), event("b"))[:-5]


@pytest.mark.parametrize(
    ("data", "error", "tokens"),
    [
        (GOOD + b"zz\r\n", "bad_http", 2),  # the tokens of the read with the wrong chunk were lost
        (GOOD + b"1" * 256 + b"\r\n" + event("c"), "bad_http", 2),
        (GOOD + b"0;" + b"x" * 300 + b"\r\n\r\n", "bad_http", 2),
        (GOOD + b"0\r\n\r\nmore", "bad_http", 2),
        (HEAD + chunked(event("a"), event("x" * 3000), event("c")), "too_large", 1),
        (HEAD + chunked(*[event("a")] * 1100), "too_large", 1028),
        (b"HTTP/1.1 500 E\r\nContent-Length: 40000\r\n\r\n" + b"e" * 40000, "http_500", 0),
        (b"HTTP/1.1 400 E\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"e" * 17000, b"f"), "http_400", 0),
        (b"HTTP/2 200\r\n\r\n", "bad_http", 0),
    ],
)
def test_what_once_was_read_in_other_ways_from_other_reads(data, error, tokens):
    """Inputs of the fuzzing."""
    answers = []
    for step in (len(data), 4000, 1000, 7, 1):
        answer = Answer(1, most_event=2000)
        for begin in range(0, len(data), step):
            answer.feed([begin], [data[begin : begin + step]])
        answer.finished(None)
        answers.append((answer.error, answer.error_text, answer.n_in, answer.tokens))
    assert answers == answers[:1] * 5
    assert answers[0][0] == error
    assert len(answers[0][3]) == tokens
