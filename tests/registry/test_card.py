from pathlib import Path

import pytest

from bonesoup.registry.card import DESCRIPTION_CHARACTERS, description, render

REPOSITORY = Path(__file__).parents[2]


def test_the_templates_folder_does_not_shadow_the_mlflow_package():
    import mlflow

    assert not list((REPOSITORY / "mlflow").rglob("*.py"))
    assert hasattr(mlflow, "start_run")


@pytest.mark.parametrize(
    ("text", "message"),
    [("{{ nmae }}", "'nmae' is undefined"), ("fine\n{% if %}", "line 2")],
)
def test_a_faulty_template_is_named(tmp_path, text, message):
    (tmp_path / "card.md").write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        render(tmp_path / "card.md", {"name": "x"})
    assert "card.md" in str(error.value)


def test_a_missing_template_is_named(tmp_path):
    with pytest.raises(ValueError, match="nowhere.md does not exist"):
        render(tmp_path / "nowhere.md", {})


def test_a_long_card_is_cut_to_what_the_registry_holds():
    text = description("---\nlicense: x\n---\n# Title\n" + "word " * 3000)
    assert text.startswith("# Title")
    assert len(text) <= DESCRIPTION_CHARACTERS
    assert text.endswith("README.md of this version.")
