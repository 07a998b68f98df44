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
