"""DVC's own commands work on the finished pipeline, and so do the commands that a run suggests at its end."""

import json

import pytest

pytestmark = pytest.mark.slow


def test_dag_shows_every_stage(project):
    shown = project.run("dvc", "dag", "--dot")
    assert shown.status == 0, shown.output
    for stage in ("prepare", "policy@backbones", "front@bone", "register"):
        assert f'"{stage}"' in shown.output
    assert '"basis" -> "policy@backbones"' in shown.output
    assert project.run("dvc", "dag").status == 0


def test_status_is_clean_after_a_run(project):
    assert "up to date" in project.run("dvc", "status").output


def test_metrics_diff_names_what_moved(project):
    project.run("git", "add", "dvc.lock")
    project.run("git", "commit", "--quiet", "--message", "a run")
    # Fewer resamples move the intervals.
    project.set(evaluation__bootstrap=20)
    assert project.repro("report").status == 0
    diff = project.run("dvc", "metrics", "diff", "--json")
    assert diff.status == 0, diff.output
    moved = json.loads(diff.output)
    assert "out/metrics/report.json" in moved.get("diff", moved)
    table = project.run("dvc", "metrics", "diff")
    assert "out/metrics/report.json" in table.output
    assert "out/metrics/sft.json" not in table.output


def test_plots_show_draws_the_fronts(project):
    shown = project.run("dvc", "plots", "show")
    assert shown.status == 0, shown.output
    page = project.folder / "dvc_plots/index.html"
    assert str(page) in shown.output
    text = page.read_text()
    for method in ("sft", "rewarded", "bone", "oracle"):
        assert f'"{method}"' in text or method in text


@pytest.mark.parametrize("where", [[], ["--temp"]], ids=["workspace", "temp"])
def test_an_experiment_with_another_seed_runs_and_is_listed(project, where):
    project.run("git", "add", "dvc.lock")
    project.run("git", "commit", "--quiet", "--message", "a run")
    done = project.run("dvc", "exp", "run", *where, "--name", "second", "-S", "seed=2", "gate@data")
    assert done.status == 0, done.output
    assert "prepare" in done.ran
    listed = project.run("dvc", "exp", "show", "--csv", "--no-pager")
    row = next(line for line in listed.output.splitlines() if "second" in line)
    assert listed.status == 0
    assert row
    seed = project.run("dvc", "params", "diff", "HEAD", "second", "--targets", "params.yaml")
    assert "seed" in seed.output, seed.output


def test_generate_and_soup_answer_as_the_end_of_a_run_suggests(project):
    answered = project.run("bonesoup", "generate", "--preference", "balanced", "--prompt", "Please explain baking")
    assert answered.status == 0, answered.output
    assert len(answered.output.splitlines()) == 1, answered.output
    outcome = ("--preference", "maximize=helpful", "--prompt", "Please explain baking")
    answered = project.run("bonesoup", "generate", *outcome)
    assert answered.status == 0, answered.output
    assert "scores are the" in answered.output
    written = "helpful=0.7,harmless=0.3"
    for kind, options, lines in (("full", ["--full"], 1), ("adapter", [], 2)):
        made = project.run("bonesoup", "soup", "--preference", written, *options, "--out", f"soups/{kind}")
        assert made.status == 0, made.output
        assert len(made.output.splitlines()) == lines, made.output
    assert (project.folder / "soups/full/model.safetensors").is_file()
    assert (project.folder / "soups/adapter/adapter_model.safetensors").is_file()
    again = project.run("bonesoup", "soup", "--preference", "balanced", "--out", "soups/full")
    assert again.status == 1
    assert "exists already" in again.output
