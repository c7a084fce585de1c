"""Soup files are read, and faults are named by file and key."""

import architectures
import pytest
from ruamel.yaml import YAML

from bonesoup.generation import soup_file

ROWS = {"calm": {"kind": 0.75, "brief": 0.25}, "bold": {"kind": 0.25, "brief": 0.75}}


@pytest.fixture
def write(tmp_path):
    """Write a soup file of two adapters that never have to be read."""
    architectures.base("llama").save_pretrained(tmp_path / "base")

    def write(**more):
        content = {"base": "base", "adapters": {"calm": "adapters/calm", "bold": "adapters/bold"}} | more
        with open(tmp_path / "mine.yaml", "w") as out:
            YAML().dump(content, out)
        return tmp_path / "mine.yaml"

    return write


def test_paths_are_those_next_to_the_file_and_names_have_a_meaning(write, tmp_path):
    read = soup_file.read(write(presets={"wild": {"bold": 1.4, "calm": -0.4}}))
    assert (read.name, read.base, read.adapters["bold"]) == ("mine", tmp_path / "base", tmp_path / "adapters/bold")
    assert read.mixtures == {"calm": {"calm": 1.0}, "bold": {"bold": 1.0}, "wild": {"bold": 1.4, "calm": -0.4}}
    assert read.soup.objectives == ()
    assert read.soup.coefficients([1.4, -0.4]).tolist() == [1.4, -0.4]


def test_with_rows_a_preference_is_solved_for(write):
    soup = soup_file.read(write(rows=ROWS, preferences={"gentle": {"brief": 0.0, "kind": 1.0}})).soup
    assert soup.objectives == ("kind", "brief")
    # lambda with rows^T lambda = (1, 0).
    assert soup.coefficients([1.0, 0.0]).tolist() == pytest.approx([1.5, -0.5])


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        ({"adaptors": {}}, "adaptors: unknown key"),
        ({"adapters": {}}, "adapters: "),
        ({"adapters": {"a+b": "x"}}, r"adapters.a\+b"),
        ({"base": 3}, "base: "),
        ({"presets": {"wild": {"blod": 1.0}}}, "presets.wild: no adapter 'blod': did you mean bold?"),
        ({"presets": {"wild": {"bold": float("nan")}}}, "presets.wild.bold: "),
        ({"presets": {"calm": {"bold": 1.0}}}, "presets.calm: adapters has this name too"),
        ({"preferences": {"gentle": {"kind": 1.0}}}, "preferences.gentle: a preference needs rows"),
        ({"rows": {"calm": ROWS["calm"]}}, "rows: no row for adapter bold"),
        ({"rows": ROWS | {"odd": ROWS["calm"]}}, "rows.odd: no adapter has this name"),
        ({"rows": ROWS | {"bold": {"kind": 1.0}}}, "rows.bold: it weighs kind, the first row kind, brief"),
        ({"rows": dict.fromkeys(ROWS, ROWS["calm"])}, "rows: soup adapters: the rows are singular"),
        ({"rows": ROWS, "preferences": {"gentle": {"kind": 0.7, "brief": 0.7}}}, "weights sum to 1.4"),
        (
            {"adapters": {"kind": "x", "brief": "y"}, "rows": {"kind": ROWS["calm"], "brief": ROWS["bold"]}},
            "rows.kind: an adapter with an objective's name has weight 1",
        ),
        ({"temperature": 3}, "temperature: "),
    ],
)
def test_what_is_wrong_is_named_by_file_and_key(write, more, fault):
    path = write(**more)
    with pytest.raises(ValueError, match=fault.replace("?", r"\?")) as caught:
        soup_file.read(path)
    assert str(caught.value).startswith(f"{path} has ")


def test_a_file_that_is_no_mapping_or_not_there(tmp_path):
    with pytest.raises(ValueError, match="nowhere.yaml does not exist: a soup file names"):
        soup_file.read(tmp_path / "nowhere.yaml")
    (tmp_path / "list.yaml").write_text("- a\n")
    with pytest.raises(ValueError, match="must be a mapping with the keys base and adapters, found list"):
        soup_file.read(tmp_path / "list.yaml")


def test_a_base_that_is_no_model_is_refused(write, tmp_path):
    with pytest.raises(ValueError, match="config.json does not exist: not the folder of a Transformers model"):
        soup_file.read(write(base="adapters"))
