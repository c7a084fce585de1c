"""docs/architecture.md names the rooms and modules that exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src/bonesoup"
PAGE = (ROOT / "docs/architecture.md").read_text()


def test_every_room_has_its_line_and_every_line_its_room():
    rooms = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()}
    assert set(re.findall(r"^\| `(\w+)/` \|", PAGE, re.MULTILINE)) == rooms


def test_the_picture_shows_every_room_and_no_other():
    picture = re.search(r"```mermaid\ngraph TD\n(.*?)```", PAGE, re.DOTALL).group(1)
    picture = re.sub(r'\w+\["[^"]*"\]|\|"[^"]*"\|', "", picture)
    rooms = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()}
    assert set(re.findall(r"\b[a-z]\w+\b", picture)) - {"user", "flows"} == rooms


def test_every_arrow_between_rooms_is_an_import():
    picture = re.search(r"```mermaid\ngraph TD\n(.*?)```", PAGE, re.DOTALL).group(1)
    arrows = re.findall(r"^  ([a-z &]+) --> ([a-z &]+)$", picture, re.MULTILINE)
    assert len(arrows) > 10
    for tails, heads in arrows:
        for tail in set(tails.split(" & ")) - {"flows"}:
            text = "\n".join(path.read_text() for path in (PACKAGE / tail).rglob("*.py"))
            used = set(re.findall(r"^ *(?:from|import) bonesoup[ .](?:import )?(\w+)", text, re.MULTILINE))
            assert set(heads.split(" & ")) <= used, f"{tail} does not import all of {heads}"


def test_every_module_named_on_the_way_exists():
    for name in re.findall(r"`([a-z]+/\w+\.py)`", PAGE):
        assert (PACKAGE / name).is_file() or (ROOT / name).is_file(), name
