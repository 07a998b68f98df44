from itertools import pairwise

import pytest

from pytest_slmperf.errors import InvalidInput
from pytest_slmperf.load.prompts.prompt_text import Writer, plain_text
from pytest_slmperf.load.prompts.segments import draw, join
from pytest_slmperf.load.requests import Conversations, Drawn, Own, fixed
from pytest_slmperf.load.traces.formats import TraceRow


def ids(item, vocabulary=1000, seed=0):
    return join(item.parts, vocabulary, seed)


def test_drawn_prompts_have_their_length_and_differ():
    items = Drawn(fixed(12, 5)).items(20, seed=1)
    prompts = [tuple(ids(item)) for item in items]
    assert {len(prompt) for prompt in prompts} == {12}
    assert len(set(prompts)) == 20
    assert all(item.n_out == 5 for item in items)


def test_shared_prefix_is_shared_within_a_group_only():
    items = Drawn(fixed(12, 5), prefix_len=8, prefix_groups=2).items(6, seed=1)
    prompts = [ids(item) for item in items]
    assert prompts[0][:8] == prompts[2][:8] == prompts[4][:8]
    assert prompts[0][:8] != prompts[1][:8]
    assert prompts[0][8:] != prompts[2][8:]
    assert {len(prompt) for prompt in prompts} == {12}
    longer = Drawn(fixed(4, 5), prefix_len=8).items(2, seed=1)
    assert [len(ids(item)) for item in longer] == [4, 4]  # each keeps a token of its own
    assert ids(longer[0]) != ids(longer[1])


def test_turns_hold_the_whole_history():
    items = Conversations(fixed(10, 4), turns=3).items(7, seed=1)
    assert [item.n_in for item in items] == [10, 24, 38, 10, 24, 38, 10]
    assert [item.after for item in items] == [None, 0, 1, None, 3, 4, None]
    first, second = ids(items[0]), ids(items[1])
    assert second[:10] == first
    assert len(second) == 24
    with pytest.raises(InvalidInput, match=r"turn 3 .* 38\+4 tokens, more than the 40"):
        Conversations(fixed(10, 4), turns=3).items(3, seed=1, limit=40)


def test_own_rows_are_repeated_and_checked():
    rows = (TraceRow(0.0, 5, None), TraceRow(1.0, None, 3, prompt="hi"), TraceRow(2.0, 2, 4, prompt_ids=(7, 8)))
    items = Own("mine.jsonl", rows, output_len=9).items(4, seed=0)
    assert [item.n_out for item in items] == [9, 3, 4, 9]
    assert items[1].text == "hi"
    assert items[2].ids == (7, 8)
    assert len(ids(items[3])) == 5
    with pytest.raises(InvalidInput, match=r"mine\.jsonl: request 1 needs 5"):
        Own("mine.jsonl", rows, output_len=9).items(4, seed=0, limit=8)


def test_segments_are_the_same_everywhere_and_inside_the_vocabulary():
    assert draw("a", 5, 50_000, 0) == draw("a", 5, 50_000, 0)
    assert draw("a", 5, 50_000, 0) != draw("a", 5, 50_000, 1)
    assert all(256 <= token < 47_500 for token in draw("b", 1000, 50_000, 0))
    assert draw("tiny", 3, 2, 0)  # a toy vocabulary still gives ids


class Melting:
    """A tokenizer with a special token, in which some neighbours melt into one token: length is not a sum."""

    WORDS = tuple(chr(97 + i) + chr(97 + j) + chr(97 + k) for i in range(20) for j in range(20) for k in range(20))

    def encode(self, text):
        words = text.split()
        melted = sum(a[-1] == b[0] and a != b for a, b in pairwise(words))
        return [0] * (1 + len(words) - melted)

    def decode(self, found):
        return " " + " ".join(self.WORDS[one % len(self.WORDS)] for one in found)


def test_text_is_exact_under_the_tokenizer_though_words_melt():
    tokenizer = Melting()
    writer = Writer(tokenizer)
    for tokens in (2, 10, 100, 333):
        assert len(tokenizer.encode(writer.text([("own/1", tokens)], 0))) == tokens
        assert len(tokenizer.encode(writer.text([("prefix/0", 7), ("own/1", tokens)], 0))) == 7 + tokens
    with pytest.raises(InvalidInput, match="no room"):
        writer.text([("own/1", 1)], 0)


class Plain:
    """A word is a token; a chat template adds four tokens to each message and three to the whole."""

    chat_template = "yes"

    def encode(self, text):
        return [len(word) for word in text.split()]

    def decode(self, found):
        return " " + " ".join(Melting.WORDS[one] for one in found)

    def apply_chat_template(self, messages, tokenize, add_generation_prompt, return_dict):
        return [0] * (3 + sum(4 + len(message["content"].split()) for message in messages))


def test_chats_are_exact_with_their_template_and_later_turns_begin_with_the_earlier():
    writer, tokenizer = Writer(Plain()), Plain()
    lengths = [tuple(parts.parts) for parts in Conversations(fixed(30, 9), 3).items(3, seed=0)]
    chats = [writer.messages(parts, 0) for parts in lengths]
    for parts, chat in zip(lengths, chats, strict=True):
        assert len(tokenizer.apply_chat_template(chat, True, True, False)) == sum(n for _, n in parts)
        assert [message["role"] for message in chat] == (["user", "assistant"] * 3)[: len(chat)]
    assert chats[2][:3] == chats[1]
    assert chats[1][:1] == chats[0]
    shared = [writer.messages([("prefix/0", 20), (f"own/{k}", 15)], 0) for k in (1, 2)]
    assert [len(tokenizer.apply_chat_template(chat, True, True, False)) for chat in shared] == [35, 35]
    texts = [chat[0]["content"].split() for chat in shared]
    assert texts[0][:13] == texts[1][:13]  # the template's seven come first
    assert texts[0] != texts[1]
    assert len(writer.messages([("own/1", 2)], 0)[0]["content"].split()) == 1  # the shortest there is


def test_plain_text_has_a_word_per_token():
    assert len(plain_text(17, "s").split()) == 17
    assert plain_text(5, "s") == plain_text(5, "s")
