import pytest

from bonesoup.registry.versions import CHAMPION, aliased, find, parse, versions


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3", ("bonesoup-soup", "3")),
        (" 3 ", ("bonesoup-soup", "3")),
        ("@champion", ("bonesoup-soup", "@champion")),
        ("bonesoup-merged-balanced/2", ("bonesoup-merged-balanced", "2")),
        ("bonesoup-soup@champion", ("bonesoup-soup", "@champion")),
        ("models:/other-soup/12", ("other-soup", "12")),
        ("models:/other-soup@champion", ("other-soup", "@champion")),
        ("@Champion", ("bonesoup-soup", "@Champion")),
        ("bonesoup-soup@Prod_2", ("bonesoup-soup", "@Prod_2")),
        ("@beste-Suppe", ("bonesoup-soup", "@beste-Suppe")),
        ("Prod/3", ("Prod", "3")),
    ],
)
def test_references(text, expected):
    assert parse(text, "bonesoup-soup") == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "-1",
        "-x",
        "--force",
        "-soup/3",
        "--reason=x",
        "models:/-soup/3",
        "soup",
        "soup/",
        "soup/0",
        "soup/latest",
        "../soup/3",
        "soup/../3",
        "soup/3/artifacts",
        "soup'/3",
        "soup%2F/3",
        "@",
        "models:/m-0123456789abcdef",
        "runs:/abc/model",
        "file:///etc",
    ],
)
def test_anything_else_is_refused_before_it_reaches_the_store(text):
    with pytest.raises(ValueError, match="names no version; expected 3, bonesoup-soup/3"):
        parse(text, "bonesoup-soup")


def test_versions_come_with_their_aliases(league):
    client = league.store.client
    client.set_registered_model_alias(league.model, CHAMPION, "2")
    try:
        assert [(v.version, v.aliases) for v in versions(client, league.model)] == [
            (1, []),
            (2, [CHAMPION]),
            (3, []),
            (4, []),
        ]
        assert find(client, "@champion", league.model).version == 2
        assert find(client, "league-soup/3", "other").version == 3
        assert aliased(client, league.model, CHAMPION).version == 2
    finally:
        client.delete_registered_model_alias(league.model, CHAMPION)
    assert aliased(client, league.model, CHAMPION) is None
    assert aliased(client, "no-such-model", CHAMPION) is None
    with pytest.raises(ValueError, match=r"league-soup has no @champion; it has versions 1, 2, 3, 4; aliases: none"):
        find(client, "@champion", league.model)
    with pytest.raises(ValueError, match="the registry has no version of no-such-model"):
        find(client, "no-such-model/1", league.model)
