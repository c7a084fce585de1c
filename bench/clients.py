"""Steer a running server with the clients that people use, each installed in an environment of its own.

    bonesoup serve --port 8000 &
    python bench/clients.py http://localhost:8000            all of them, and write docs/clients.md
    python bench/clients.py http://localhost:8000 llm        only those whose name begins so, and print

The server must have the embedded task's objectives, helpful and harmless. An environment is removed after its client. A
client's script (bench/clients/) compares what it gets with the server's answer to a plain request.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

SCRIPTS = Path(__file__).with_name("clients")
PAGE = Path(__file__).parents[1] / "docs/clients.md"
INTRO = """\
# Clients

Ten clients of OpenAI's API were tried with a real server, and each can send a preference. This page has the code for
each, ready to copy.

In the code, `URL` is `http://localhost:8000/v1` and `QUESTION` is your prompt. A preference is text such as
`helpful:0.3+harmless:0.7`, a name, a mapping of weights, or an outcome ([steering.md](steering.md)).

| client | version | works | does not |
|---|---|---|---|
"""


@dataclass(frozen=True)
class Client:
    """Name a client: its title, the script that tries it, and the packages it needs, the client itself first."""

    title: str
    script: str
    packages: tuple[str, ...]

    @property
    def node(self) -> bool:
        """Return True if npm installs it."""
        return self.script.endswith(".mjs")


CLIENTS = (
    Client("openai (Python)", "openai_python.py", ("openai",)),
    Client("openai (Node)", "openai_node.mjs", ("openai",)),
    Client("LiteLLM", "litellm_python.py", ("litellm",)),
    Client("LiteLLM proxy", "litellm_proxy.py", ("litellm[proxy]",)),
    Client("llm", "llm_cli.py", ("llm",)),
    Client("LangChain", "langchain_python.py", ("langchain-openai",)),
    Client("Pydantic AI", "pydantic_ai_python.py", ("pydantic-ai-slim[openai]",)),
    Client("Inspect", "inspect_python.py", ("inspect-ai", "openai")),
    Client("lm-evaluation-harness", "lm_eval_cli.py", ("lm-eval[api]",)),
    Client("Vercel AI SDK", "ai_sdk.mjs", ("ai", "@ai-sdk/openai-compatible", "@ai-sdk/openai")),
)


@dataclass(frozen=True)
class Result:
    """Record a client's version, and what was tried with it: {"what", "works", "why"}."""

    client: Client
    version: str
    tried: list[dict]


def attempt(client: Client, server: str) -> Result:
    """Install a client, run its script against the server, and remove it."""
    with tempfile.TemporaryDirectory(prefix="client-") as name:
        folder = Path(name)
        for script in SCRIPTS.iterdir():
            if script.is_file():
                (folder / script.name).write_text(script.read_text())
        command, version = (_node if client.node else _python)(client, folder)
        # Nothing of this environment, and no telemetry.
        variables = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
        variables |= {"SERVER": server, "HOME": name, "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(
            command, cwd=folder, env=variables, capture_output=True, text=True, timeout=900, check=False
        )
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"what"')]
    if done.returncode:
        reason = (done.stderr.strip() or "no message").splitlines()[-1]
        lines.append({"what": "the script itself", "works": False, "why": reason})
    return Result(client, version, lines)


def _python(client: Client, folder: Path) -> tuple[list[str], str]:
    """Install by pip; return the command and the client's version."""
    subprocess.run([sys.executable, "-m", "venv", folder / "env"], check=True)
    python = str(folder / "env/bin/python")
    subprocess.run([python, "-m", "pip", "install", "-q", *client.packages], check=True)
    listed = json.loads(subprocess.check_output([python, "-m", "pip", "list", "--format", "json"]))
    versions = {row["name"].lower().replace("_", "-"): row["version"] for row in listed}
    return [python, client.script], versions[client.packages[0].partition("[")[0]]


def _node(client: Client, folder: Path) -> tuple[list[str], str]:
    """Install by npm; return the command and the client's version."""
    quiet = ["npm", "install", "--silent", "--no-audit", "--no-fund"]
    subprocess.run([*quiet, *client.packages], cwd=folder, check=True)
    version = json.loads((folder / "node_modules" / client.packages[0] / "package.json").read_text())["version"]
    return ["node", client.script], version


def row(result: Result) -> str:
    """Write a client's row of the table."""
    works = ", ".join(each["what"] for each in result.tried if each["works"])
    fails = "; ".join(f"{each['what']}: {_reason(each['why'])}" for each in result.tried if not each["works"])
    cells = [result.client.title, result.version, works, fails]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _reason(why: str) -> str:
    """Keep the server's own message of an error that a client wraps."""
    message = re.search(r"'message': '([^']*)'", why)
    return message.group(1) if message else why or "another answer"


def section(client: Client) -> str:
    """Show how a client steers: the part of its script between `shown` and `end`."""
    text = (SCRIPTS / client.script).read_text()
    shown = re.search(r"^(?:#|//) shown.*?\n(.*?)^(?:#|//) end", text, re.DOTALL | re.MULTILINE).group(1)
    language = "js" if client.node else "py"
    return f"## {client.title}\n\n```{language}\n{shown.strip()}\n```\n"


def main() -> int:
    """Try the clients; return 1 if a preference did not arrive in one of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("server")
    parser.add_argument("name", nargs="?", default="")
    arguments = parser.parse_args()
    chosen = [client for client in CLIENTS if client.title.lower().startswith(arguments.name.lower())]
    results = []
    for client in chosen:
        results.append(attempt(client, arguments.server.rstrip("/")))
        print(row(results[-1]), flush=True)
    if not arguments.name:
        rows = "\n".join(map(row, results))
        PAGE.write_text(f"{INTRO}{rows}\n{NOTES}\n" + "\n".join(map(section, chosen)))
    return int(not all(any(each["works"] for each in result.tried) for result in results))


NOTES = """
Tools are refused on purpose ([serving.md](serving.md#request-fields)). Typed output was tried on a model that can write
any text; the embedded task's model cannot ([serving.md](serving.md#json-schemas)). LiteLLM's proxy starts only with a
key (`LITELLM_MASTER_KEY`). Clients with a page of their own, such as Open WebUI, were not tried.

`bench/clients.py` writes this page. It installs each client into a separate environment and lets it ask the server. A
feature counts as working only if the client's answer equals that of a plain request and answers at two preferences
differ:

```bash
python bench/clients.py http://localhost:8000
```
"""

if __name__ == "__main__":
    sys.exit(main())
