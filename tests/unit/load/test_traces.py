import pytest

from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.load.prompts.segments import join
from pytest_slmperf.load.requests import Own
from pytest_slmperf.load.traces.reading import read_trace


def test_azure_csv(tmp_path):
    path = tmp_path / "azure.csv"
    path.write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2023-11-16 18:15:46.6805900,374,44\n2023-11-16 18:15:50.9951690,396,109\n2023-11-16 18:15:48.6805900,5,1\n"
    )
    rows = read_trace(path)
    assert [(row.n_in, row.n_out) for row in rows] == [(374, 44), (5, 1), (396, 109)]
    assert [row.at for row in rows] == pytest.approx([0.0, 2.0, 4.314579], abs=1e-6)


def test_jsonl_in_milliseconds(tmp_path):
    path = tmp_path / "mooncake.jsonl"
    path.write_text(
        '{"timestamp": 27482, "input_length": 6955, "output_length": 52}\n\n'
        '{"timestamp": 30535, "input_length": 1, "output_length": 2}\n'
    )
    rows = read_trace(path, unit="ms")
    assert [row.at for row in rows] == pytest.approx([0.0, 3.053])
    assert rows[0].n_in == 6955


def test_prompts_without_times(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text(
        '{"prompt": "Hello <b>", "max_tokens": 5}\n'
        '{"messages": [{"role": "user", "content": "é"}]}\n{"prompt_token_ids": [1, 2]}\n'
    )
    rows = read_trace(path)
    assert [row.at for row in rows] == [None, None, None]
    assert (rows[0].prompt, rows[0].n_out) == ("Hello <b>", 5)
    assert rows[2].n_in == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "holds no request"),
        ("{", r"t\.jsonl:1: not JSON"),
        ("[1]", "JSON object is needed"),
        ('{"t": 1, "input_len": 0}', "input length must be a whole number from 1 to .*, not .0"),
        ('{"t": 1, "input_len": 1.5}', "whole number"),
        ('{"t": 1, "input_len": 1e400}', "whole number"),
        ('{"t": 1, "input_len": 123456789012345678901}', "from 1 to 100000000"),
        ('{"prompt": "", "output_len": 1}', "'prompt' is empty"),
        ('{"t": 1, "input_len": true}', "whole number"),
        ('{"t": "soon", "input_len": 1}', "arrival time must be a number or an ISO 8601 date"),
        ('{"t": NaN, "input_len": 1}', "must be finite"),
        ('{"t": 1}', "needs an input length"),
        ('{"prompt": 5}', "must be text"),
        ('{"messages": []}', "list of objects"),
        ('{"prompt_token_ids": [1, -2]}', "list of whole numbers"),
        ('{"t": 1, "input_len": 1}\n{"input_len": 1}', "1 of 2 rows have no arrival time"),
    ],
)
def test_wrong_lines_are_named(tmp_path, text, says):
    path = tmp_path / "t.jsonl"
    path.write_text(text)
    with pytest.raises(InvalidInput, match=says):
        read_trace(path)


def test_other_wrong_files(tmp_path):
    with pytest.raises(InvalidInput, match="cannot be read"):
        read_trace(tmp_path / "absent.csv")
    binary = tmp_path / "b.csv"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidInput, match="not UTF-8"):
        read_trace(binary)
    with pytest.raises(InvalidInput, match="unit"):
        read_trace(binary, unit="h")
    ragged = tmp_path / "r.csv"
    ragged.write_text("t,input_len\n1,2,3\n")
    with pytest.raises(InvalidInput, match="more cells"):
        read_trace(ragged)
    ragged.write_text("t,input_len,output_len\n1,2,3\n2,2\n")
    with pytest.raises(InvalidInput, match=r"r\.csv:3: fewer cells"):
        read_trace(ragged)


def test_mooncake_is_in_milliseconds_and_its_hash_ids_are_shared_blocks(tmp_path):
    path = tmp_path / "mooncake.jsonl"
    path.write_text(
        '{"timestamp": 3000, "input_length": 900, "output_length": 30, "hash_ids": [0, 1]}\n'
        '{"timestamp": 4500, "input_length": 1025, "output_length": 31, "hash_ids": [0, 2, 3]}\n'
        '{"timestamp": 6000, "input_length": 600, "output_length": 32, "hash_ids": [0]}\n'
    )
    trace = read_trace(path)
    assert trace.format == "Mooncake"
    assert [row.at for row in trace] == [0.0, 1.5, 3.0]
    assert trace.notes() == ()
    items = Own(path.name, trace).items(4, seed=0)
    assert items[0].parts == (("block/0/0/0", 512), ("block/0/1/1", 388))
    assert items[1].parts == (("block/0/0/0", 512), ("block/0/1/2", 512), ("block/0/2/3", 1))
    assert items[2].parts == (("block/0/0/0", 512), ("own/2", 88))
    prompts = [join(item.parts or (), 1000, 0) for item in items]
    assert [len(prompt) for prompt in prompts] == [900, 1025, 600, 900]
    assert prompts[0][:512] == prompts[1][:512] == prompts[2][:512]
    assert prompts[0][512:900] != prompts[1][512:900]
    assert prompts[3][:512] != prompts[0][:512]  # a repeat of the trace is not cached as a whole


def test_bailian_is_in_seconds_with_blocks_of_16_tokens(tmp_path):
    path = tmp_path / "bailian.jsonl"
    path.write_text(
        '{"chat_id": 159, "parent_chat_id": -1, "timestamp": 61.5, "input_length": 33, "output_length": 2, '
        '"type": "text", "turn": 1, "hash_ids": [8, 9, 7]}\n'
        '{"chat_id": 160, "parent_chat_id": 159, "timestamp": 63.0, "input_length": 20, "output_length": 3, '
        '"type": "text", "turn": 2, "hash_ids": [8, 9]}\n'
    )
    trace = read_trace(path)
    assert [row.at for row in trace] == [0.0, 1.5]
    assert Own("b", trace).items(1, seed=0)[0].parts == (("block/0/0/8", 16), ("block/0/1/9", 16), ("block/0/2/7", 1))
    assert trace.unread == ("chat_id", "parent_chat_id", "type", "turn")
    assert trace.notes() == ("bailian.jsonl: columns that were not read: chat_id, parent_chat_id, type, turn",)


@pytest.mark.parametrize("ids", ["[1, 2, 3]", '"x"', "[1.5]"])
def test_hash_ids_that_do_not_fit_are_named(tmp_path, ids):
    path = tmp_path / "m.jsonl"
    path.write_text('{"timestamp": 0, "input_length": 1024, "output_length": 1, "hash_ids": ' + ids + "}\n")
    with pytest.raises(InvalidInput, match=r"m\.jsonl:1: field 'hash_ids'"):
        read_trace(path)


def test_a_unit_that_the_format_leaves_open_is_asked_for(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text('{"timestamp": 1500, "input_length": 9, "output_length": 1}\n' * 2)
    with pytest.raises(InvalidInput, match=r't\.jsonl:1: column .timestamp. .* trace_unit="s" or trace_unit="ms"'):
        read_trace(path)
    path.write_text('{"timestamp": 0, "input_length": 9, "output_length": 1}\n'
                    '{"timestamp": 1500, "input_length": 9, "output_length": 1}\n')  # fmt: skip
    assert [row.at for row in read_trace(path, unit="s")] == [0.0, 1500.0]
    assert [row.at for row in read_trace(path, unit="ms")] == [0.0, 1.5]


def test_a_missing_output_length_is_an_error_that_names_the_columns_that_were_not_read(tmp_path):
    path = tmp_path / "half.csv"
    path.write_text("timestamp,input_length,num_decode_tokens\n0.0,374,1044\n1.3,396,1109\n")
    with pytest.raises(InvalidInput, match=r"half\.csv:2: needs an output length .*not read: num_decode_tokens"):
        read_trace(path, lengths_required=True)
    trace = read_trace(path, unit="s")
    with pytest.raises(InvalidInput, match=r"half\.csv: request 1 \(line 2\) has no output length; give output_len"):
        Own("half.csv", trace).items(1, seed=0)
    assert trace.notes() == ("half.csv: columns that were not read: num_decode_tokens",)


def test_rows_of_0_tokens_are_refused_or_skipped_and_counted(tmp_path):
    path = tmp_path / "burst.csv"
    path.write_text(
        "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
        "5,ChatGPT,472,18,490,Conversation log\n45,ChatGPT,1087,0,1087,Conversation log\n"
        "118,GPT-4,417,276,693,API log\n"
    )
    with pytest.raises(InvalidInput, match=r"burst\.csv:3: output length .* not '0'; skip_empty=True"):
        read_trace(path)
    trace = read_trace(path, skip_empty=True)
    assert [(row.at, row.n_in, row.n_out, row.line) for row in trace] == [(0.0, 472, 18, 2), (113.0, 417, 276, 4)]
    assert trace.skipped == 1
    assert trace.notes() == (
        "burst.csv: columns that were not read: model, total tokens, log type",
        "burst.csv: 1 of 3 rows were skipped because they have 0 tokens",
    )
    assert Own("burst.csv", trace, rows_skipped=1).describe() == {
        "workload": "burst.csv", "requests_in_file": 2, "rows_skipped": 1,
    }  # fmt: skip
    path.write_text("Timestamp,Request tokens,Response tokens\n5,472,0\n")
    with pytest.raises(InvalidInput, match="no request beside 1 rows of 0 tokens"):
        read_trace(path, skip_empty=True)


def test_azure_layout_of_2024(tmp_path):
    path = tmp_path / "azure24.csv"
    path.write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2024-05-10 00:00:00.009930+00:00,2162,5\n2024-05-10 00:00:01.509930+00:00,2399,6\n"
    )
    trace = read_trace(path)
    assert [row.at for row in trace] == pytest.approx([0.0, 1.5], abs=1e-6)
    assert (trace.format, trace[1].n_in, trace[1].n_out) == ("Azure", 2399, 6)


def test_vidur(tmp_path):
    path = tmp_path / "vidur.csv"
    path.write_text("arrived_at,num_prefill_tokens,num_decode_tokens\n0.0,374,44\n4.25,396,109\n")
    trace = read_trace(path)
    assert [(row.at, row.n_in, row.n_out) for row in trace] == [(0.0, 374, 44), (4.25, 396, 109)]
    assert trace.format == "Vidur"


def test_a_column_without_a_name_is_named_by_its_place(tmp_path):
    """As an index that a table was saved with."""
    path = tmp_path / "vidur.csv"
    path.write_text(",arrived_at,num_prefill_tokens,num_decode_tokens\n0,0.5,10,20\n1,0.75,11,21\n")
    trace = read_trace(path)
    assert (trace.format, trace.unread) == ("Vidur", ("column 1 (without a name)",))


@pytest.mark.parametrize("name", ["arrival_time_ms", "request_timestamp", "start time", "Arrived", "ts_ms", "time_ms"])
def test_times_in_a_column_of_another_name_are_not_dropped(tmp_path, name):
    """The load was played without its pauses, and only a note said so."""
    path = tmp_path / "trace.csv"
    path.write_text(f"{name},input_tokens,completion_tokens\n500,10,20\n1500,11,21\n")
    with pytest.raises(
        InvalidInput, match=f"column '{name.lower()}' looks like arrival times and is not read; name it"
    ):
        read_trace(path)
    path.write_text("finish_time,arrival_time,input_tokens,completion_tokens\n900,500,10,20\n")
    assert read_trace(path).unread == ("finish_time",)


def test_a_row_longer_than_the_engine_takes_is_named_by_its_line(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("arrival_time,input_len,output_len\n1,3,2\n0,30,5\n")
    own = Own("t.csv", read_trace(path))
    assert own.longest() == "t.csv: request 1 (line 3) needs 30+5 tokens"
    with pytest.raises(
        InvalidInput, match=r"t\.csv: request 1 \(line 3\) needs 30\+5 tokens, more than the 16 .*larger"
    ):
        own.items(2, seed=0, limit=16)


def test_vllm_custom(tmp_path):
    path = tmp_path / "custom.jsonl"
    path.write_text('{"prompt": "one two", "output_tokens": 7}\n')
    trace = read_trace(path)
    assert (trace.format, trace[0].prompt, trace[0].n_out, trace.unread) == ("vLLM custom", "one two", 7, ())


@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv"])
def test_guidellm(tmp_path, suffix):
    path = tmp_path / f"guide.{suffix}"
    row = '{"question": "How many?", "prompt_tokens_count": 3, "output_tokens_count": 5, "system": "Be brief."}'
    path.write_text(
        {
            "jsonl": row,
            "json": f"[{row}]",
            "csv": "question,prompt_tokens_count,output_tokens_count,system\nHow many?,3,5,Be brief.\n",
        }[suffix]
    )
    trace = read_trace(path)
    assert (trace.format, trace[0].prompt, trace[0].n_in, trace[0].n_out) == ("GuideLLM", "How many?", 3, 5)
    assert trace.unread == ("system",)


def test_sharegpt(tmp_path):
    path = tmp_path / "sharegpt.json"
    path.write_text(
        '[{"id": "a", "conversations": [{"from": "human", "value": "Hello"}, {"from": "gpt", "value": "Hi there"}]},'
        ' {"id": "b", "conversations": []}]'
    )
    with pytest.raises(InvalidInput, match=r"sharegpt\.json:2: field 'prompt' is empty; skip_empty=True"):
        read_trace(path)
    with pytest.raises(InvalidInput, match=r"sharegpt\.json:1: needs an output length .* or give output_len"):
        read_trace(path, lengths_required=True)
    trace = read_trace(path, skip_empty=True)
    assert (trace.format, [row.prompt for row in trace], trace.skipped, trace.unread) == (
        "ShareGPT",
        ["Hello"],
        1,
        ("id",),
    )
    assert Own("s", trace, output_len=6).items(1, seed=0)[0].n_out == 6


def test_aiperf_single_turn_is_in_milliseconds(tmp_path):
    path = tmp_path / "single.jsonl"
    path.write_text(
        '{"type": "single_turn", "text": "one", "timestamp": 500}\n'
        '{"texts": ["two"], "timestamp": 2000, "output_length": 3}\n'
    )
    trace = read_trace(path)
    assert [(row.at, row.prompt, row.n_out) for row in trace] == [(0.0, "one", None), (1.5, "two", 3)]
    assert (trace.format, trace.unread) == ("AIPerf single-turn", ("type",))
    path.write_text('{"text": "one", "image": "a.png"}\n')
    with pytest.raises(InvalidInput, match=r"single\.jsonl:1: field 'image' cannot be played"):
        read_trace(path)
    path.write_text('{"texts": ["one", "two"]}\n')
    with pytest.raises(InvalidInput, match=r"single\.jsonl:1: field 'texts' must be a list of one text"):
        read_trace(path)


def test_aiperf_text_of_a_mooncake_trace(tmp_path):
    path = tmp_path / "text.jsonl"
    path.write_text(
        '{"timestamp": 250, "text_input": "b", "output_length": 4}\n'
        '{"timestamp": 0, "text_input": "a", "output_length": 2}\n'
    )
    assert [(row.at, row.prompt, row.n_out) for row in read_trace(path)] == [(0.0, "a", 2), (0.25, "b", 4)]


def test_aiperf_multi_turn_waits_for_answers_and_pauses(tmp_path):
    path = tmp_path / "multi.jsonl"
    path.write_text(
        '{"session_id": "b", "turns": [{"text": "late", "timestamp": 3000}]}\n'
        '{"session_id": "a", "turns": [{"text": "first", "timestamp": 1000}, '
        '{"text": "second", "delay": 250, "timestamp": 9, "mood": "calm"}, '
        '{"text": "third"}]}\n'
    )
    trace = read_trace(path)
    assert (trace.format, trace.unread, trace.shares_tokens) == (
        "AIPerf multi-turn",
        ("session_id", "turns.timestamp", "turns.mood"),
        True,
    )
    assert [(row.at, row.follows, row.pause) for row in trace] == [
        (0.0, False, 0.0), (0.0, True, 0.25), (0.0, True, 0.0), (2.0, False, 0.0),
    ]  # fmt: skip
    items = Own("multi.jsonl", trace, output_len=4).items(8, seed=0)
    assert [item.after for item in items] == [None, 0, 1, None, None, 4, 5, None]
    assert [item.pause for item in items[:3]] == [0.0, 0.25, 0.0]
    third = items[2].messages or ()
    assert [message["role"] for message in third] == ["user", "assistant", "user", "assistant", "user"]
    assert [message["content"] for message in third[::2]] == ["first", "second", "third"]
    assert [len(message["content"].split()) for message in third[1::2]] == [4, 4]
    assert third[:3] == items[1].messages
    path.write_text('{"turns": [{"text": "a"}, {"text": ""}]}\n{"turns": [{"text": "b"}]}\n')
    short = read_trace(path, skip_empty=True)
    assert ([row.line for row in short], short.skipped) == ([2], 2)
    path.write_text('{"turns": [{"input_length": 5}]}\n')
    with pytest.raises(InvalidInput, match=r"multi\.jsonl:1: turn 1 needs a 'text'"):
        read_trace(path)
    path.write_text('{"turns": []}\n')
    with pytest.raises(InvalidInput, match=r"multi\.jsonl:1: field 'turns' must be a list"):
        read_trace(path)


def test_a_json_file_that_is_no_list_is_refused(tmp_path):
    path = tmp_path / "t.json"
    (tmp_path / "long.csv").write_text("prompt,output_tokens\n" + "x" * 200_000 + ",1\n")
    with pytest.raises(InvalidInput, match=r"long\.csv:\d+: not CSV"):
        read_trace(tmp_path / "long.csv")
    for text in ('{"a": 1}', "[1]", "[", "[" * 100_000):
        path.write_text(text)
        with pytest.raises(InvalidInput, match=r"t\.json: "):
            read_trace(path)
