import pytest

from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.load.traces import read_trace


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
