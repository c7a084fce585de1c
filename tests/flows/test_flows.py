"""The parts of the flows that need no server, and prefect.yaml."""

import json
import sys
import uuid
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prefect.client.schemas.schedules import CronSchedule
from prefect.events import DeploymentEventTrigger
from prefect.flows import load_flow_from_entrypoint
from prefect.server.events.schemas.automations import EventTrigger
from prefect.server.events.schemas.events import ReceivedEvent
from prefect.server.utilities.user_templates import render_user_template_sync
from prefect.states import Failed
from ruamel.yaml import YAML

from bonesoup.promotion import prefect_event
from bonesoup.promotion.champion import Decision
from bonesoup.workspace import schedule
from bonesoup.workspace.repro import Busy

ROOT = Path(__file__).parents[2]
DEPLOYMENTS = YAML(typ="safe").load((ROOT / "prefect.yaml").read_text())["deployments"]


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])


@pytest.mark.parametrize(
    ("given", "slots"),
    [
        (("cpu", 1, 4, None), [None] * 4),
        (("cpu", 2, 4, "0,1"), [None] * 2),
        (("cpu", 8, 4, None), [None]),
        (("cuda", 1, 16, "2,5"), ["2", "5"]),
        (("cuda", 1, 16, "GPU-3a, GPU-4b"), ["GPU-3a", "GPU-4b"]),
        (("cuda", 1, 16, ""), [None]),
    ],
)
def test_one_stage_a_gpu_or_as_many_as_threads_fit_the_cores(given, slots):
    assert schedule.slots_of(*given) == slots


def test_gpus_are_counted_where_nothing_narrows_them(tmp_path, monkeypatch):
    listing = tmp_path / "nvidia-smi"
    lines = ["GPU 0: A (UUID: GPU-1)", "  MIG 1g.10gb     Device  0: (UUID: MIG-3)", "GPU 1: A (UUID: GPU-2)"]
    listing.write_text("#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in lines))
    listing.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert schedule.slots_of("cuda", 1, 16, None) == ["0", "1"]


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (Busy("'out/sft' is busy, it is being blocked by"), True),
        (RuntimeError("stage register failed: the MLflow store http://127.0.0.1:5000 failed: refused"), True),
        (RuntimeError("dvc push failed: Could not connect to the endpoint URL"), True),
        (RuntimeError("dvc push failed: Cannot connect to host 127.0.0.1:1 [Connect call failed]"), True),
        (RuntimeError("the MLflow store http://x failed: API request failed with error code 503"), True),
        (RuntimeError("the MLflow store http://x failed: API request failed with error code 401"), False),
        (RuntimeError("gate@reward failed:\n  - reward helpful: held-out accuracy 0.41"), False),
        (RuntimeError("params.yaml has 1 fault"), False),
        (RuntimeError("the disk is full while writing out/x"), False),
    ],
)
def test_a_retry_is_for_what_may_pass(error, again):
    from flows.common import worth_retrying

    assert worth_retrying(None, None, Failed(data=error)) == again


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda d: d["name"])
def test_every_deployment_loads_and_its_parameters_fit(deployment):
    flow = load_flow_from_entrypoint(deployment["entrypoint"], use_placeholder_flow=False)
    given = deployment.get("parameters")
    if given is not None:
        flow.validate_parameters(given)
    else:
        assert "stage" in flow.parameters.properties, "its parameters come with each run"
    for planned in deployment.get("schedules", []):
        CronSchedule(cron=planned["cron"], timezone=planned["timezone"])


def test_only_the_cheap_schedule_is_on():
    on = [d["name"] for d in DEPLOYMENTS for planned in d.get("schedules", []) if planned["active"]]
    assert on == ["hourly"]


def test_deployments_named_in_the_flows_exist():
    from flows import stages, train_soup, watch_data

    names = set()
    for deployment in DEPLOYMENTS:
        flow = load_flow_from_entrypoint(deployment["entrypoint"], use_placeholder_flow=False)
        names.add(f"{flow.name}/{deployment['name']}")
    assert {stages.DEPLOYMENT, train_soup.APPROVAL, watch_data.DEPLOYMENT} <= names


# A registered model has a name without slash; MLflow allows much else, but no halves of characters.
NAMING = st.characters(exclude_characters="/:", exclude_categories=["Cs"])
REFERENCES = st.builds("{}/{}".format, st.text(NAMING, min_size=1), st.integers(1))


@settings(deadline=None)
@given(before=st.none() | REFERENCES, after=st.none() | REFERENCES, reason=st.none() | st.text())
def test_a_new_champion_starts_its_evaluation_and_nothing_else_does(before, after, reason):
    (deployment,) = (d for d in DEPLOYMENTS if d["name"] == "on-new-champion")
    (declared,) = deployment["triggers"]
    deployed = DeploymentEventTrigger.model_validate(declared)
    deployed.set_deployment_id(uuid.uuid4())
    trigger = EventTrigger.model_validate_json(deployed.as_automation().trigger.model_dump_json())
    version = after or before or "x-soup/1"
    sent = prefect_event.event(Decision("promote", version, "promoted", "now", before, after, reason=reason))
    event = ReceivedEvent.model_validate_json(json.dumps(sent))
    assert trigger.immediate
    assert trigger.covers(event) == (after is not None)
    (template,) = declared["parameters"]["versions"]
    assert after is None or render_user_template_sync(template, {"event": event}) == after


def test_an_answer_longer_than_a_pipe_holds_arrives(tmp_path):
    from prefect.logging import disable_run_logger

    from flows.common import ask

    package = tmp_path / "src/bonesoup"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    program = (
        "import json, sys\nprint(json.dumps(['x' * 300_000, sys.argv[1:]]))\nprint('y' * 300_000, file=sys.stderr)\n"
    )
    (package / "cli.py").write_text(program)
    with disable_run_logger():
        long, arguments = ask(tmp_path, "evaluate", "--prompts", "p", of=["-3"])
    assert len(long) == 300_000
    assert arguments == ["evaluate", "--prompts", "p", "--json", "--", "-3"], "what users name is no option"
