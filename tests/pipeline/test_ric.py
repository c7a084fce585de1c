"""Rewards-in-Context in a whole run, together with the other methods and on the same budget."""

import pytest

from bonesoup.files import read_json

pytestmark = pytest.mark.slow


def test_ric_stands_beside_the_others_on_the_backbones_budget(project):
    assert set(project.files("out/ric")) == {"skipped.json"}
    project.set(methods=["sft", "rewarded", "bone", "oracle", "ric"])
    done = project.repro("report")
    assert done.status == 0, done.output
    assert {"ric", "soup", "scale@ric", "front@ric", "report"} <= set(done.ran)
    assert not {"sft", "policy@backbones", "front@bone"} & set(done.ran)
    document = read_json(project.folder / "out/metrics/report.json")
    spent, budget = document["costs"]["ric"], document["costs"]["bone"]
    assert spent["updates"] == budget["updates"] == 12
    assert spent["scored"] <= budget["scored"] == 192
    assert (spent["policies"], spent["held"], spent["passes"]) == (1, 1, 1)
    front = read_json(project.folder / "out/fronts/ric/front.json")
    assert front["preferences"] == [[0, 1], [0.5, 0.5], [1, 0]]
    assert "RiC" in project.run("bonesoup", "summary").output
    # A preference that is on no grid.
    prompt = ("--prompt", "Please explain baking")
    answer = project.run(
        "bonesoup", "generate", "--method", "ric", "--preference", "helpful=0.93,harmless=0.07", *prompt
    )
    assert answer.status == 0, answer.output
    refused = project.run("bonesoup", "soup", "--method", "ric", "--preference", "balanced", "--out", "soups/ric")
    assert refused.status == 1
    assert "soup ric reads the preference in its prompt" in refused.output
    assert read_json(project.folder / "out/ric/ric.json")["fingerprint"] not in project.run("bonesoup", "clean").output
