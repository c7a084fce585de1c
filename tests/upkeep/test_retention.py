import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.entities.model_registry import ModelVersion, ModelVersionTag

from bonesoup.registry.versions import PREVIOUS, reference
from bonesoup.upkeep import retention


def version(model: str, number: int, alias: bool, pipeline: int | None, previous: int | None) -> ModelVersion:
    tags = {"pipeline": pipeline, PREVIOUS: previous}
    entities = [ModelVersionTag(key, str(value)) for key, value in tags.items() if value is not None]
    return ModelVersion(model, str(number), 0, tags=entities, aliases=["champion"] if alias else [])


@st.composite
def registries(draw) -> list[list[ModelVersion]]:
    """Make a soup with versions of runs 1..n, and a merged model that some of the runs have."""
    n = draw(st.integers(1, 12))
    champions = draw(st.sets(st.integers(1, n), max_size=2))
    soups = [
        version("x-soup", k, k in champions, k, draw(st.none() | st.integers(1, k - 1)) if k > 1 else None)
        for k in range(1, n + 1)
    ]
    runs = sorted(draw(st.sets(st.integers(1, n))))
    return [soups, [version("x-merged", number, False, run, None) for number, run in enumerate(runs, start=1)]]


@given(have=registries(), keep=st.integers(1, 4))
def test_kept_are_the_newest_the_aliased_the_rollback_targets_and_their_companions(have, keep):
    soups, merged = have
    kept = {reference(version) for version in retention.kept_versions(have, "x-soup", keep)}
    newest = {reference(version) for of_one in have for version in of_one[-keep:]}
    aliased = [version for version in soups if version.aliases]
    needed = list(aliased)
    for version in needed:
        # A rollback after a rollback, as far as it goes.
        needed += [old for old in soups if str(old.version) == version.tags.get(PREVIOUS) and old not in needed]
    companions = {
        reference(version) for version in merged if version.tags["pipeline"] in {n.tags["pipeline"] for n in needed}
    }
    assert newest | {reference(version) for version in needed} | companions <= kept
    assert len(kept) <= 4 * keep + 2 * len(needed) + 2, "nothing else piles up"


def test_champions_that_followed_each_other_in_a_ring_are_kept_once():
    soups = [version("x-soup", 1, True, 1, 2), version("x-soup", 2, False, 2, 1), version("x-soup", 3, False, 3, None)]
    assert [reference(one) for one in retention.kept_versions([soups], "x-soup", 1)] == [
        "x-soup/1",
        "x-soup/2",
        "x-soup/3",
    ]


@pytest.mark.parametrize(
    ("copies", "stays"),
    [
        ({"prod/1": "models:/x-soup/1"}, {"x-soup/1"}),
        ({"x-soup/2": "models:/x-soup/1", "prod/1": "models:/x-soup/2"}, {"x-soup/1", "x-soup/2"}),
        ({"prod/1": "models:/x-soup/9", "own/1": "runs:/abc/model", "empty/1": None}, set()),
    ],
)
def test_what_a_version_that_stays_was_copied_from_stays(copies, stays):
    sources = {"x-soup/1": "models:/m-1", "x-soup/2": "models:/m-2"} | copies
    everything = [ModelVersion(*name.split("/"), 0, source=source) for name, source in sources.items()]
    assert retention.copied(everything, {"x-soup/1", "x-soup/2"}) == stays


@pytest.mark.parametrize(
    ("tags", "source", "goes"),
    [({}, "models:/m-1", True), ({"base": "a"}, "models:/m-1", False), ({}, "models:/x-base/1", False)],
    ids=["nobody names it", "a version names it", "it was copied"],
)
def test_a_base_goes_unless_a_version_names_it_or_is_a_copy(tags, source, goes):
    base = ModelVersion("x-base", "1", 0, source="runs:/r/base", tags=[ModelVersionTag("digest", "a")])
    other = ModelVersion("y-soup", "1", 0, source=source, tags=[ModelVersionTag(*item) for item in tags.items()])
    assert retention.unnamed([base], [base, other]) == ([base] if goes else [])
