"""docs/answers.py writes answers whole and inert into the blocks of both pages."""

import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def answers(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    return pytest.importorskip("answers")


def test_markup_in_an_answer_stays_text(answers):
    shown = answers.escape("a | b\n<b>*c*</b> `d`\n")
    assert shown == "a \\| b<br>\\<b\\>\\*c\\*\\</b\\> \\`d\\`"


def test_both_pages_are_filled_again_and_again(answers, tmp_path, monkeypatch):
    readme, results = tmp_path / "README.md", tmp_path / "results.md"
    shutil.copy(ROOT / "README.md", readme)
    shutil.copy(ROOT / "docs/results.md", results)
    monkeypatch.setattr(answers, "README", readme)
    monkeypatch.setattr(answers, "DOCS", tmp_path)
    texts = [[f"answer {row}.{point}" for point in range(5)] for row in range(len(answers.PROMPTS))]
    for _ in range(2):
        answers.write(["informative", "harmless"], texts)
    assert readme.read_text().count("% | answer ") == 5
    row = answers.PROMPTS.index(answers.SHOWN)
    assert f"| 25% / 75% | answer {row}.1 |" in readme.read_text()
    assert results.read_text().count("\n| 100% / 0% | answer ") == len(answers.PROMPTS)
