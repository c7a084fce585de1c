import pytest

from bonesoup.data.new_prompts import read_prompts


def write(tmp_path, text: str, name: str = "new"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8", newline="")
    return path


def contents(rows: list[dict]) -> list[str]:
    return [row["prompt"][-1]["content"] for row in rows]


def test_plain_text_is_one_prompt_a_line(tmp_path):
    rows = read_prompts(write(tmp_path, "Who wrote this?\r\nWhat is \u2028 rain?\n"))
    assert contents(rows) == ["Who wrote this?", "What is \u2028 rain?"]
    assert rows[0]["prompt"] == [{"role": "user", "content": "Who wrote this?"}]


def test_json_lines_hold_strings_or_messages(tmp_path):
    text = '{"prompt": "one", "other": 1}\n{"prompt": [{"role": "system", "content": "be kind"}, '
    text += '{"role": "user", "content": "two"}]}\n'
    rows = read_prompts(write(tmp_path, text))
    assert contents(rows) == ["one", "two"]
    assert [turn["role"] for turn in rows[1]["prompt"]] == ["system", "user"]


def test_the_same_prompt_twice_has_two_ids(tmp_path):
    ids = [row["id"] for row in read_prompts(write(tmp_path, "again\nagain\n"))]
    assert len(set(ids)) == 2


def test_every_bad_line_is_named(tmp_path):
    lines = [
        '{"prompt": "fine"}',
        '{"prompt": 3}',
        "not json",
        "",
        "[1]",
        '{"text": "x"}',
        '{"prompt": []}',
        '{"prompt": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}',
        '{"prompt": [{"role": "robot", "content": "a"}]}',
        '{"prompt": [{"role": "user", "content": " "}]}',
        '{"prompt": " "}',
        r'{"prompt": "\ud800"}',
    ]
    with pytest.raises(ValueError, match="new.jsonl has 11 bad lines") as error:
        read_prompts(write(tmp_path, "\n".join(lines) + "\n", "new.jsonl"))
    for number in range(2, 13):
        assert f"line {number}: " in str(error.value)
    assert "line 1: " not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("only one\n", "has 1 prompt: an interval needs two"),
        ("one\n\ntwo\n", "line 2: the line is empty"),
        ("", "empty"),
    ],
)
def test_too_few_prompts_and_empty_lines(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read_prompts(write(tmp_path, text))


@pytest.mark.parametrize(
    "text", ['[{"prompt": "one"}, {"prompt": "two"}]\n', '\n [\n  "one",\n  "two"\n]\n', "[a] b\nc\n"]
)
def test_an_array_is_refused_and_told_what_to_give(tmp_path, text):
    with pytest.raises(
        ValueError, match=r"begins with \[ like a JSON array.*one JSON object a line.*one prompt a line"
    ):
        read_prompts(write(tmp_path, text))


@pytest.mark.parametrize(
    "text", ["one\ntw\x00o\n", "one\n\x1b[31mtwo\n", "one\ntw\x7fo", '{"prompt": "one"}\n{"prompt": "tw\\u0000o"}']
)
def test_control_characters_are_no_prompt(tmp_path, text):
    with pytest.raises(ValueError, match=r"line 2: holds the control character U\+00.*one JSON object a line") as error:
        read_prompts(write(tmp_path, text))
    assert "line 1: " not in str(error.value)


def test_tabs_and_new_lines_inside_a_prompt_are_fine(tmp_path):
    assert contents(read_prompts(write(tmp_path, '{"prompt": "a\\n\\tb"}\n{"prompt": "c"}\n'))) == ["a\n\tb", "c"]
    assert contents(read_prompts(write(tmp_path, "a\tb\nc\n"))) == ["a\tb", "c"]


def test_no_file_and_no_text(tmp_path):
    with pytest.raises(ValueError, match="no such file"):
        read_prompts(tmp_path / "nowhere")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="not valid UTF-8"):
        read_prompts(tmp_path / "binary")
