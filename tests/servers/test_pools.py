"""The templates of Docker and Kubernetes work pools, against Prefect's descriptions of those workers."""

import json
import re
import subprocess
from pathlib import Path

import prefect
import pytest
from projects import ROOT, TOOLS

TEMPLATES = sorted((ROOT / "flows/pools").glob("*.json"))
KNOWN = json.loads(
    (Path(prefect.__file__).parent / "server/api/collections_data/views/aggregate-worker-metadata.json").read_text()
)


def known(template: Path) -> dict:
    kind = template.stem
    return KNOWN[f"prefect-{kind}"][kind]["default_base_job_configuration"]


def placeholders(value) -> set[str]:
    """List the names in {{ }}, without the blocks of the server."""
    names = re.findall(r"\{\{\s*([\w.-]+)\s*\}\}", json.dumps(value))
    return {name for name in names if not name.startswith("prefect.blocks.")}


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.stem)
def test_a_template_fits_the_worker(template):
    written, described = json.loads(template.read_text()), known(template)
    assert set(written["job_configuration"]) <= set(described["job_configuration"])
    variables = written["variables"]["properties"]
    assert placeholders(written["job_configuration"]) == set(variables)
    for name, variable in variables.items():
        if name in described["variables"]["properties"]:
            assert variable["type"] == described["variables"]["properties"][name]["type"], name
        assert variable["description"]
    # What the worker fills in itself.
    assert {"command", "env", "labels", "name"} <= placeholders(written["job_configuration"])


def test_both_kinds_are_there():
    assert [template.stem for template in TEMPLATES] == ["docker", "kubernetes"]


def test_a_kubernetes_job_asks_for_a_gpu_its_secret_and_the_project():
    template = json.loads((ROOT / "flows/pools/kubernetes.json").read_text())
    pod = template["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "{{ gpus }}"
    assert container["envFrom"] == [{"secretRef": {"name": "{{ secret }}"}}]
    assert pod["securityContext"]["runAsNonRoot"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert {volume["name"] for volume in pod["volumes"]} == set(mounts)
    home = template["variables"]["properties"]["env"]["default"]["BONESOUP_HOME"]
    assert home in mounts.values()


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.stem)
def test_no_template_holds_a_secret(template):
    defaults = json.loads(template.read_text())["variables"]["properties"]["env"]["default"]
    for name, value in defaults.items():
        if re.search(r"PASSWORD|SECRET|KEY|TOKEN", name):
            assert value.startswith("{{ prefect.blocks.secret."), name


@pytest.mark.slow
@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.stem)
def test_a_server_takes_a_template(template, prefect, tmp_path):
    """`prefect` is the server of tests/prefect_server.py."""
    variables = prefect.variables() | {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    command = [TOOLS / "prefect", "--no-prompt", "work-pool", "create", template.stem, "--type", template.stem]
    done = subprocess.run(
        [*command, "--base-job-template", template], env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    kept = prefect.get(f"work_pools/{template.stem}")
    assert kept["type"] == template.stem
    assert kept["base_job_template"] == json.loads(template.read_text())
