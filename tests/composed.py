"""Read compose.yaml as Compose does and start its services as plain processes: tests run what containers run."""

import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
from prefect_server import free_port, stop
from projects import ROOT, TOOLS
from ruamel.yaml import YAML

COMPOSE = ROOT / "compose.yaml"
# What a person writes into .env.
SECRETS = {
    "POSTGRES_PASSWORD": "planted-postgres-password",
    "AWS_ACCESS_KEY_ID": "planted-access-key",
    "AWS_SECRET_ACCESS_KEY": "planted-secret-key",
}
# Service -> the port it listens on in its container.
PORTS = {"postgres": 5432, "s3": 7070, "mlflow": 5000, "prefect": 4200}
VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")


def interpolated(value: Any, variables: dict[str, str]) -> Any:
    """Replace ${NAME}, ${NAME:-default} and ${NAME:?message}.

    Raises:
        ValueError: a variable with :? has no value.
    """
    if isinstance(value, dict):
        return {key: interpolated(item, variables) for key, item in value.items()}
    if isinstance(value, list):
        return [interpolated(item, variables) for item in value]
    if not isinstance(value, str):
        return value

    def replacement(match: re.Match) -> str:
        name, kind, rest = match.groups()
        if variables.get(name):
            return variables[name]
        if kind == "?":
            raise ValueError(f"{name}: {rest}")
        return rest or ""

    return VARIABLE.sub(replacement, value)


def document() -> dict:
    return YAML(typ="safe").load(COMPOSE.read_text())


def postgres_tools() -> Path | None:
    """Find the folder of PostgreSQL's server programs."""
    if program := shutil.which("initdb"):
        return Path(program).resolve().parent
    return next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)


@dataclass
class Stack:
    """Run services of compose.yaml on free ports of loopback.

    Attributes:
        ports: service -> port here.
        logs: folder of a log per service.
    """

    ports: dict[str, int]
    logs: Path
    services: dict[str, dict] = field(default_factory=lambda: interpolated(document(), SECRETS)["services"])
    processes: list[subprocess.Popen] = field(default_factory=list)

    def url(self, service: str) -> str:
        return f"http://127.0.0.1:{self.ports[service]}"

    def here(self, value: str) -> str:
        """Replace the addresses of containers in a value of compose.yaml by those of the processes here."""
        for name, port in PORTS.items():
            value = re.sub(rf"(//|@)({name}|127\.0\.0\.1):{port}\b", rf"\g<1>127.0.0.1:{self.ports[name]}", value)
        return value

    def environment(self, service: str) -> dict[str, str]:
        """Return the variables of a service, and from this process only those that name no server."""
        variables = {name: self.here(value) for name, value in self.services[service]["environment"].items()}
        ports = {str(port): str(self.ports[name]) for name, port in PORTS.items()}
        for name, value in variables.items():
            if name.endswith("_HOST"):
                variables[name] = "127.0.0.1"
            elif name.endswith("_PORT"):
                variables[name] = ports[value]
        foreign = ("MLFLOW_", "PREFECT_", "AWS_", "PG", "BONESOUP_", "DVC_")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        tools = {"PATH": f"{TOOLS}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
        home = {"PREFECT_HOME": str(self.logs / f"home-{service}")}
        return inherited | tools | home | variables

    def run(self, service: str) -> str:
        """Run a service that ends by itself; return what it printed."""
        command = self.services[service]["command"]
        done = subprocess.run(
            command, cwd=ROOT, env=self.environment(service), capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self, service: str) -> None:
        """Start a service, and wait until its health check passes."""
        log = self.logs / f"{service}.log"
        with open(log, "w") as out:
            process = subprocess.Popen(
                self.services[service]["command"],
                cwd=ROOT,
                env=self.environment(service),
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self.processes.append(process)
        self.wait(service, process, log)

    def wait(self, service: str, process: subprocess.Popen, log: Path, **more: str) -> None:
        kind, *check = self.services[service]["healthcheck"]["test"]
        assert kind == "CMD"
        environment = os.environ | {"PATH": f"{TOOLS}{os.pathsep}{os.environ['PATH']}"} | more
        deadline = time.monotonic() + 120
        while subprocess.run([self.here(word) for word in check], env=environment, capture_output=True).returncode:
            assert process.poll() is None, f"{service} ended:\n{log.read_text()[-3000:]}"
            assert time.monotonic() < deadline, f"{service} is not healthy:\n{log.read_text()[-3000:]}"
            time.sleep(0.5)

    def stop(self) -> None:
        for process in reversed(self.processes):
            stop(process)


@contextmanager
def stack(logs: Path) -> Iterator[Stack]:
    """Start PostgreSQL with both databases, and moto's S3 server with the buckets."""
    tools = postgres_tools()
    if tools is None:
        pytest.skip("PostgreSQL's server programs are not installed: apt-get install postgresql")
    made = Stack({name: free_port() for name in PORTS}, logs)
    # Not below pytest's folders, which only their owner may enter: PostgreSQL refuses to run as root.
    data = Path(tempfile.mkdtemp(prefix="postgres-"))
    try:
        start_postgres(made, tools, data)
        with open(logs / "s3.log", "w") as out:
            command = [TOOLS / "moto_server", "-H", "127.0.0.1", "-p", str(made.ports["s3"])]
            made.processes.append(subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True))
        deadline = time.monotonic() + 60
        while not answers(made.ports["s3"]):
            assert time.monotonic() < deadline, (logs / "s3.log").read_text()
            time.sleep(0.2)
        yield made
    finally:
        made.stop()
        shutil.rmtree(data, ignore_errors=True)


def answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def listening(process: psutil.Process) -> set[str]:
    """List the addresses on which a process and its children accept connections."""
    family = [process, *process.children(recursive=True)]
    connections = [c for member in family for c in member.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
    return {connection.laddr.ip for connection in connections}


def start_postgres(made: Stack, tools: Path, data: Path) -> None:
    """Start PostgreSQL as the image of compose.yaml does: a superuser with a password, then the init scripts."""
    variables = made.services["postgres"]["environment"]
    password = data / "password"
    password.write_text(variables["POSTGRES_PASSWORD"])
    account = {}
    if os.geteuid() == 0:
        account = {"user": "nobody", "group": "nogroup", "extra_groups": []}
        shutil.chown(data, "nobody", "nogroup")
        shutil.chown(password, "nobody", "nogroup")
    cluster = data / "cluster"
    options = ["--username", variables["POSTGRES_USER"], "--pwfile", password, "--auth", "scram-sha-256"]
    command = [
        tools / "initdb",
        "--pgdata",
        cluster,
        "--locale",
        "C.UTF-8",
        "--encoding",
        "UTF8",
        "--no-sync",
        *options,
    ]
    subprocess.run(command, check=True, capture_output=True, cwd=data, **account)
    log = made.logs / "postgres.log"
    server = [tools / "postgres", "-D", cluster, "-h", "127.0.0.1", "-p", str(made.ports["postgres"]), "-k", ""]
    with open(log, "w") as out:
        process = subprocess.Popen(
            [*server, "-c", "fsync=off"], cwd=data, stdout=out, stderr=out, start_new_session=True, **account
        )
    made.processes.append(process)
    at = {"PGHOST": "127.0.0.1", "PGPORT": str(made.ports["postgres"]), "PGPASSWORD": variables["POSTGRES_PASSWORD"]}
    made.wait("postgres", process, log, **at)
    for volume in made.services["postgres"]["volumes"]:
        source, target, *_ = volume.split(":")
        if target.startswith("/docker-entrypoint-initdb.d/"):
            command = [
                tools / "psql",
                "--username",
                variables["POSTGRES_USER"],
                "--dbname",
                "postgres",
                "--file",
                source,
            ]
            subprocess.run(command, check=True, capture_output=True, cwd=ROOT, env=os.environ | at)
