"""The whole method on whole runs: seek by probes, custom basis rows, every rival, five objectives."""

import numpy as np
import pytest
from ruamel.yaml import YAML

from bonesoup.files import read_json
from bonesoup.generation.soup import Soup
from bonesoup.method.basis import NOISE, coefficients
from bonesoup.method.methods import METHODS
from bonesoup.serving.source import from_folder

pytestmark = pytest.mark.slow

RIVALS = ["sft", "rewarded", "bone", "unmapped", "mod", "oracle"]
SOUPS = ["rewarded", "bone", "lattice", "piecewise", "least-norm", "curved", "clp"]
# Two more objectives, computed; with the task's own three they make five.
EXTRA = '''
"""Computed rewards."""

import numpy as np


def questions(prompts, responses):
    return np.array([response.count("?") + 0.01 * len(response) for response in responses], float)


def shouts(prompts, responses):
    return np.array([response.count("!") - 0.01 * len(response) for response in responses], float)
'''


def report(project) -> dict:
    return read_json(project.folder / "out/metrics/report.json")


def test_seek_trains_the_first_part_of_the_full_run_and_goes_on_with_it(project):
    """Its rows' adapters are those of a run that never probed."""
    before = project.files("out/policies/backbones")
    project.set(seek={"betas": [0.6, 0.7], "share": 0.34, "samples": 16})
    again = project.repro("soup")
    assert again.status == 0, again.output
    assert [stage for stage in again.ran if stage != "tidy"][:4] == ["candidates", "probe@0.6", "probe@0.7", "seek"]
    choice = read_json(project.folder / "out/beta.json")
    assert (choice["steps"], choice["full"]) == (2, 6)
    assert {candidate["beta"] for candidate in choice["candidates"]} == {0.6, 0.7}
    # The policies of the beta that is there already are not trained again.
    assert ("policy@backbones" in again.ran) == (choice["beta"] != 0.7)
    # The other beta from its probe, and from nothing.
    project.set(basis__beta=0.6, seek__betas=[])
    resumed = project.repro("policy@backbones")
    assert "resuming at step 2 of 6" in resumed.output
    kept = project.files("out/policies/backbones")
    project.run("rm", "-rf", "scratch", ".dvc/cache/runs", "out/policies/backbones")
    fresh = project.repro("policy@backbones")
    assert "resuming" not in fresh.output
    assert project.files("out/policies/backbones") == kept != before


def test_every_rival_on_the_same_prompts_with_its_costs(project):
    project.set(methods=RIVALS, extrapolation={"scales": [1.0, 1.25], "per_objective": True, "samples": 8, "kl": 10})
    done = project.repro("report")
    assert done.status == 0, done.output
    assert not {"policy@specialists", "policy@backbones"} & set(done.ran)
    assert "scale@mod: harmless: 1.25" in done.output
    document = report(project)
    # The oracles of these settings answer the whole grid of three.
    assert set(document["grids"]["full_grid"]["gold"]["methods"]) == set(RIVALS)
    costs = document["costs"]
    assert costs["bone"] == {"policies": 2, "updates": 12, "scored": 192, "passes": 1, "held": 2}
    assert costs["mod"]["passes"] == 2
    assert costs["oracle"]["updates"] == 18
    assert set(document["scales"]) == set(RIVALS)
    # At the even preference both soups of the backbones are one mixture, but for their scales; elsewhere they differ.
    mixtures = {
        m: read_json(project.folder / f"out/fronts/{m}/front.json")["coefficients"] for m in ("bone", "unmapped")
    }
    plain = {m: [c / sum(mixture[1]) for c in mixture[1]] for m, mixture in mixtures.items()}
    assert plain["bone"] == pytest.approx(plain["unmapped"])
    assert mixtures["bone"][2][1] < 0 <= mixtures["unmapped"][2][1]
    shown = project.run("bonesoup", "summary")
    assert "Bone Soup, λ = μ" in shown.output
    assert "MOD" in shown.output
    answer = project.run(
        "bonesoup", "generate", "--method", "mod", "--preference", "balanced", "--prompt", "Please explain baking"
    )
    assert answer.status == 0, answer.output


def test_every_soup_of_one_total_of_updates_from_training_to_the_server(project):
    """The policies of each share the total. The soup that the settings name is registered with its mapping."""
    counts = {"specialist": 2, "backbone": 2, "lattice": 3, "curve": 3, "clp": 2, "prompt": 1}
    project.set(
        methods=["sft", *SOUPS, "prompt"],
        oracles=[],
        basis__beta="auto",
        basis__distribution="uniform",
        rl__updates=30,
        register__method="curved",
        policies={f"{kind}s": {"slots": [f"{kind}-{k + 1}" for k in range(n)]} for kind, n in counts.items()},
    )
    done = project.run("bonesoup", "run")
    assert done.status == 0, done.output
    assert read_json(project.folder / "out/beta.json")["beta"] == 0.7887
    assert "curves/curve-3: 6 steps on 0.5 helpful + 0.5 harmless, from the soup of curve-1, curve-2" in done.output
    assert "lattices/lattice-2: 10 steps on 0.5 helpful + 0.5 harmless" in done.output
    assert "clps/clp-1: 30 steps on 1 helpful, mixed with clp-2 at every preference" in done.output
    costs = report(project)["costs"]
    assert {costs[method]["updates"] for method in SOUPS} == {30}
    assert {costs[method]["scored"] for method in SOUPS} == {480}
    page = (project.folder / "out/report/index.html").read_text()
    assert "Unequal budgets" not in page
    assert "Curved Soup against Rewarded Soup" in page
    assert all(METHODS[method].title in page for method in SOUPS)
    middle = {m: read_json(project.folder / f"out/fronts/{m}/front.json")["coefficients"][1] for m in SOUPS}
    for method in ("lattice", "piecewise"):
        np.testing.assert_allclose(middle[method], [0, 1, 0], atol=1e-12)
    np.testing.assert_allclose(middle["least-norm"], [1 / 3, 1 / 3, 1 / 3])
    np.testing.assert_allclose(middle["curved"], [0.5, 0.5, 1])
    np.testing.assert_allclose(middle["clp"], [0.5, 0.5])
    assert costs["prompt"] == {"policies": 1, "updates": 30, "scored": 480, "passes": 1, "held": 1}
    models = read_json(project.folder / "out/registered.json")["models"]
    assert set(models) == {f"bonesoup-{name}" for name in ("curve-1", "curve-2", "soup", "merged-balanced")}
    recipes = (project.folder / "var").rglob("artifacts/rewarded.json")
    (version,) = [file.parents[1] for file in recipes if file.with_name("soup.json").is_file()]
    assert list(from_folder(version).soups) == ["curved", "rewarded", "sft"]
    stored = Soup.read(version / "artifacts/soup.json", version / "artifacts")
    np.testing.assert_allclose(stored.coefficients([0.2, 0.8]), [0.2, 0.8, 0.64])
    card = (version / "README.md").read_text()
    assert "| curve-3 | 0.5 helpful + 0.5 harmless, from the even soup of curve-1, curve-2 | 6 |" in card
    asked = ["bonesoup", "generate", "--preference", "careful", "--prompt", "Please explain baking"]
    answer = project.run(*asked)
    assert answer.status == 0, answer.output
    assert answer.output == project.run(*asked, "--method", "curved").output


ROWS = [[0.8, 0.2], [0.5, 0.5], [0.2, 0.8]]


def test_more_policies_than_objectives(project):
    project.set(
        basis__kind="rows",
        basis__rows=ROWS,
        policies__backbones={"slots": ["backbone-1", "backbone-2", "backbone-3"]},
    )
    done = project.run("bonesoup", "run", "report")
    assert done.status == 0, done.output
    front = read_json(project.folder / "out/fronts/bone/front.json")
    # The middle policy answers most of the even preference, where least norm would take a third of each.
    assert front["coefficients"][1] == pytest.approx(coefficients(ROWS, [0.5, 0.5], degree=2, noise=NOISE).tolist())
    assert front["coefficients"][1][1] > 0.6
    # Singular values along (1, 1), where every row has 1, and along (1, -1), where they have .6, 0 and -.6.
    assert report(project)["basis"]["condition"] == pytest.approx(1.5**0.5 / 0.6)


def test_a_loud_basis_is_warned_about(project):
    project.set(basis__beta=0.56)
    done = project.run("bonesoup", "run", "basis")
    assert "WARNING: coefficients of norm 8.33 amplify" in done.output


@pytest.mark.parametrize("n", [4, 5])
def test_four_and_five_objectives(untouched, n):
    project = untouched
    names = ["helpful", "harmless", "humor", "questions", "shouts"][:n]
    (project.folder / "src/extra.py").write_text(EXTRA)
    settings = YAML(typ="safe").load(project.folder / "params.yaml")
    pairs = settings["rewards"]["helpful"]
    computed = {"kind": "function", "source": "src/extra.py"}
    project.set(
        objectives=names,
        data__labels=names[:3],
        rewards={name: pairs | {"source": f"out/data/rewards/{name}.jsonl"} for name in names[:3]}
        | {name: computed | {"function": f"extra:{name}"} for name in names[3:]},
        rl__steps=2,
        oracles=[],
        methods=["rewarded", "bone", "unmapped", "mod"],
        policies={f"{kind}s": {"slots": [f"{kind}-{k + 1}" for k in range(n)]} for kind in ("specialist", "backbone")},
        preferences={"balanced": dict.fromkeys(names, 1 / n)},
        evaluation__references=[-3, -2],
        data__source="embedded",
    )
    done = project.run("bonesoup", "run", "report")
    assert done.status == 0, done.output
    grid = report(project)["grids"]["full_grid"]
    assert grid["points"] == n * (n + 1) // 2
    assert set(grid["reward"]["methods"]) == {"rewarded", "bone", "unmapped", "mod"}
    front = read_json(project.folder / "out/fronts/bone/front.json")
    assert all(abs(sum(row) - 1) < 1e-9 for row in front["coefficients"])
    assert (project.folder / "out/report/index.html").is_file()
