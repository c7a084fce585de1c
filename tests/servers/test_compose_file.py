"""compose.yaml as a file: valid, pinned, without a password, closed to the network."""

import re
import subprocess
import tomllib

import pytest
from composed import COMPOSE, SECRETS, document, interpolated
from projects import ROOT, TOOLS

SERVICES = interpolated(document(), SECRETS)["services"]
RAW = document()["services"]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
EXAMPLE = dict(
    line.split("=", 1) for line in (ROOT / ".env.example").read_text().splitlines() if line and line[0] != "#"
)


def test_the_schema_of_compose_accepts_it(tmp_path):
    check = [TOOLS / "check-jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*check, COMPOSE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    wrong = tmp_path / "compose.yaml"
    wrong.write_text(COMPOSE.read_text().replace("healthcheck:", "helthcheck:"))
    assert subprocess.run([*check, wrong], capture_output=True, check=False).returncode == 1


@pytest.mark.parametrize("name", SERVICES)
def test_an_image_is_pinned_by_a_version(name):
    tag = SERVICES[name]["image"].partition(":")[2]
    assert re.fullmatch(r"v?\d+\.\d+[\w.-]*", tag)
    if "build" in SERVICES[name]:
        assert tag == VERSION


def strings(value, at: str = ""):
    """List (dotted key, text) of every leaf."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from strings(item, f"{at}.{key}")
    elif isinstance(value, list):
        for item in value:
            yield from strings(item, at)
    else:
        yield at, str(value)


def test_a_secret_comes_from_the_environment_or_compose_stops():
    secret = [(at, text) for at, text in strings(RAW) if re.search(r"PASSWORD$|_KEY$|_KEY_ID$", at)]
    assert len(secret) >= 6
    for at, text in secret:
        assert re.fullmatch(r"\$\{\w+:\?.+\}", text), f"{at} is {text}"
    with pytest.raises(ValueError, match="POSTGRES_PASSWORD"):
        interpolated(document(), SECRETS | {"POSTGRES_PASSWORD": ""})


def test_the_example_names_every_variable_that_has_no_default_and_gives_no_value():
    used = set(re.findall(r"\$\{(\w+):\?", COMPOSE.read_text()))
    assert used <= set(EXAMPLE)
    assert not any(EXAMPLE.values())
    assert set(EXAMPLE) <= set(re.findall(r"\$\{(\w+)", COMPOSE.read_text()))
    ignored = subprocess.run(["git", "check-ignore", "--quiet", ".env"], cwd=ROOT, check=False)
    assert ignored.returncode == 0, "git would take .env"


def test_nothing_is_published_beyond_loopback():
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(published) == 3
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in published)
    assert not any("network_mode" in service for service in SERVICES.values())


def test_what_runs_on_has_a_health_check_and_a_restart():
    for name, service in SERVICES.items():
        if service["restart"] != "no":
            assert service["healthcheck"]["test"][0] == "CMD", name
    waits = [condition["condition"] for s in SERVICES.values() for condition in s.get("depends_on", {}).values()]
    assert set(waits) == {"service_healthy", "service_completed_successfully"}


def test_data_lies_in_volumes_that_have_a_name():
    kept = [volume.split(":")[0] for s in SERVICES.values() for volume in s.get("volumes", [])]
    named = [name for name in kept if not name.startswith(".")]
    assert sorted(named) == sorted(document()["volumes"]) == ["postgres", "s3"]
    for name in kept:
        assert name in named or (ROOT / name).exists()


def test_our_commands_exist():
    commands = [service["command"] for service in SERVICES.values() if "build" in service]
    assert len(commands) == 4
    for program, *arguments in commands:
        script = ROOT / (arguments[0] if program == "python" else program)
        assert script.is_file()
        assert program == "python" or script.stat().st_mode & 0o111


@pytest.mark.parametrize("script", sorted(ROOT.glob("*/*.sh")), ids=lambda path: path.name)
def test_scripts_are_valid_shell(script):
    subprocess.run(["sh", "-n", script], check=True)
