"""The short cut for events that differ in their text only: the same answer as without it, and never a wrong one."""

import json

import pytest

from pytest_slmperf.load.http.parser import Answer
from pytest_slmperf.load.http.sse_fast_path import Pattern

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(text, finish=None, **more) -> bytes:
    message = {"id": "cmpl-1", "choices": [{"index": 0, "text": text, "finish_reason": finish}], **more}
    return chunk(b"data: " + json.dumps(message, ensure_ascii=False).encode() + b"\n\n")


END = chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"
TEXTS = [" a", " longer", "é", '"', "\\", "\n", "", "日本", "}]}", '","text":"', "data: x", " a", "z" * 300, "\x7f"]


def played(reads) -> Answer:
    answer = Answer()
    answer.feed(list(range(len(reads))), list(reads))
    answer.finished(None)
    return answer


def test_any_text_gives_the_same_answer_read_by_read_and_cut_up():
    reads = [HEAD, *(event(text) for text in TEXTS), event("end", "stop"), END]
    whole = played(reads)
    assert whole.pattern is not None  # or the short cut was not taken
    assert whole.error is None
    assert len(whole.times) == len([text for text in TEXTS if text]) + 1
    every = b"".join(reads)
    cut = played([every[k : k + 7] for k in range(0, len(every), 7)])
    assert (cut.error, len(cut.times), cut.finish) == (None, len(whole.times), "stop")
    melted = played([*reads[:3], b"".join(reads[3:9]) + reads[9][:11], reads[9][11:] + b"".join(reads[10:])])
    assert (melted.error, len(melted.times), melted.finish) == (None, len(whole.times), "stop")


@pytest.mark.parametrize(
    ("read", "error"),
    [
        (event("b").replace(b'"b"', b'b"x'), "bad_json"),
        (event("b")[:-4] + b"x\n\r\n", "bad_json"),
        (event("b", error={"message": "died"}), "error_event"),
        (b"zz\r\n" + event("b").partition(b"\r\n")[2], "bad_http"),
    ],
)  # fmt: skip
def test_what_only_looks_alike_is_read_in_full(read, error):
    assert played([HEAD, event("a"), event("a"), read, END]).error == error


def test_reads_in_a_bundle_and_one_by_one_give_the_same_times():
    reads = [HEAD, *(event(text) for text in TEXTS), event("end", "stop"), END]
    singly = Answer()
    for at, read in enumerate(reads):
        singly.feed([at], [read])
    bundled = played(reads)
    assert (singly.times, singly.tokens) == (bundled.times, bundled.tokens)
    assert bundled.times == [at for at, text in enumerate(TEXTS, 1) if text] + [len(TEXTS) + 1]


def test_size_of_the_chunk_is_checked():
    good = event("abc")
    pattern = Pattern.of(good)
    assert pattern is not None
    assert pattern.fits([event("other"), good.replace(b"abc", b"abcd")]) == [True, False]


def test_counts_with_every_event_are_read():
    reads = [HEAD, *(event("ab", usage={"prompt_tokens": 3, "completion_tokens": 2 * k}) for k in (1, 2, 3))]
    answer = played([*reads, event("c", "stop", usage={"prompt_tokens": 3, "completion_tokens": 7}), END])
    assert answer.tokens == [2, 2, 2, 1]
    assert (answer.n_in, answer.n_out) == (3, 7)


COUNTED = {"prompt_tokens": 3, "completion_tokens": 2}
TWO = chunk(event("\n", usage=COUNTED).partition(b"\r\n")[2][:-2] + event("b").partition(b"\r\n")[2][:-2])


@pytest.mark.parametrize(
    ("reads", "error", "times"),
    [
        ([event("a"), event("a"), event("é").replace(b"\xc3\xa9", b"\xc3x"), event("b")], "bad_json", [1, 2, 4]),
        ([event("a"), event("a"), event("é").replace(b"\xc3", b"x"), event("b")], "bad_json", [1, 2, 4]),
        ([event("a"), TWO, TWO, TWO], None, [1, 2, 2, 3, 3, 4, 4]),  # an event with a count, then a plain event
        ([event("a"), event("a"), event("x") + b"zz\r\n" + event("y")], "bad_http", [1, 2, 3]),
    ],
    ids=["half a character", "the other half", "two events in a read", "a good event before a wrong chunk"],
)
def test_what_once_was_read_in_another_way_by_the_short_cut(reads, error, times):
    """Inputs of the fuzzing, and what it led to."""
    every = [HEAD, *reads, event("e", "stop"), END]
    answer, whole = played(every), b"".join(every)
    letters = played([whole[k : k + 1] for k in range(len(whole))])  # of which the short cut takes none
    assert (answer.error, answer.error_text, answer.tokens) == (letters.error, letters.error_text, letters.tokens)
    assert answer.error == error
    assert answer.times == [*times, *([len(reads) + 1] if error != "bad_http" else [])]
