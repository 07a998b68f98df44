"""Text for each place that it goes to, and that a second time changes nothing."""

from __future__ import annotations

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.hostile import BEGINNINGS, REST, acts

from pytest_slmperf import text_out

TEXTS = st.text(st.characters(), max_size=40) | st.sampled_from([start + REST for start in BEGINNINGS])
WORDS = st.lists(
    st.sampled_from(
        ["::", "error", "##", "[", "a", " ", "\n", "\r", "\x1b", "\\", "=", "https://", "www.", "@", "\u2028"]
    )
).map("".join)


@given(TEXTS | WORDS)
def test_nothing_acts_in_a_terminal_and_twice_is_once(text: str) -> None:
    for place in (text_out.printable, text_out.message, lambda text: text_out.log_line(text_out.printable(text))):
        shown = place(text)
        assert place(shown) == shown
    assert acts(text_out.message(text)) == []
    assert acts("x " + text_out.printable(text)) == []


@given(TEXTS | WORDS)
def test_json_holds_the_same_and_steers_nothing(text: str) -> None:
    shown = text_out.json_text({text: [text, 1.5]})
    assert acts(shown) == []
    kept = text.encode("utf-8", "replace").decode()
    assert json.loads(shown) == {kept: [kept, 1.5]}


@given(st.lists(st.lists(TEXTS | WORDS | st.none() | st.integers(), min_size=2, max_size=4), min_size=1, max_size=4))
def test_a_table_has_its_cells_and_no_formula(rows: list[list[object]]) -> None:
    text = text_out.csv_table(rows)
    assert acts(text) == []
    back = list(csv.reader(io.StringIO(text, newline="")))
    assert [len(row) for row in back] == [len(row) for row in rows]
    assert all(not cell.lstrip().startswith(("=", "+", "@")) for row in back for cell in row)


def test_a_cell_that_other_programs_would_split_is_quoted() -> None:
    assert text_out.csv_table([["a;=cmd()", 1, None]]) == '"a;=cmd()","1",""\n'
    assert text_out.csv_table([["a", -1.5, None], ["-1", "=x", " @x"]]) == "a,-1.5,\n'-1,'=x,' @x\n"


@given(TEXTS | WORDS)
def test_a_workflow_command_is_one_line_with_its_own_properties(text: str) -> None:
    command = text_out.workflow_command("error", text, {"file": text, "line": "3"})
    assert "\n" not in command
    assert "\r" not in command
    properties = command.removeprefix("::error ").partition("::")[0]
    assert [part.partition("=")[0] for part in properties.split(",")] == ["file", "line"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("see https://a.example/b", "see https:<!-- -->//a.example/b"),
        ("www.a.example", "www<!-- -->.a.example"),
        ("GH-12 fixes #12 of @me", "GH<!-- -->-12 fixes #<!-- -->12 of @<!-- -->me"),
        ("a|b <b> [c](d)", "a\\|b &lt;b&gt; \\[c\\](d)"),
        ("a\n::error::b", "a\\\\n::error::b"),
    ],
)
def test_markdown_makes_no_link_and_no_markup(text: str, shown: str) -> None:
    assert text_out.markdown(text) == shown


def test_markup_is_text() -> None:
    assert text_out.markup('<b a="\'">\x1b') == "&lt;b a=&quot;&#x27;&quot;&gt;\\x1b"


def test_long_messages_lose_their_middle() -> None:
    shown = text_out.message("\n".join(f"line {number} " + "x" * 9_000 for number in range(500)), lines=6, columns=100)
    rows = shown.split("\n")
    assert len(rows) == 6
    assert max(map(len, rows)) <= 100
    assert rows[0].startswith("line 0 x")
    assert rows[-1].startswith("line 499 x")
    assert rows[3] == "… 495 lines left out"
    assert text_out.some(["a", "b"]) == "a, b"
    assert text_out.some(map(str, range(100_000)), most=3) == "0, 1, 2 and 99,997 more"


def test_a_row_that_begins_with_a_command_is_broken() -> None:
    assert text_out.log_line("  ::error::x") == "  \\::error::x"
    assert text_out.log_line("a.py::test") == "a.py::test"
    assert text_out.printable("x ##[error]") == "x #\\#[error]"
