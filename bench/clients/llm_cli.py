import os
import subprocess
import sys
import tempfile
from pathlib import Path

from common import HARMLESS, HELPFUL, QUESTION, SYSTEM, URL, expected, steered, tried

# shown: extra-openai-models.yaml in the folder that `llm logs path` names
MODELS = """
- model_id: helpful
  model_name: bonesoup-soup@{HELPFUL}
  api_base: {URL}
- model_id: harmless
  model_name: bonesoup-soup@{HARMLESS}
  api_base: {URL}
"""


# end
def ask(model, *options):
    command = [Path(sys.executable).with_name("llm"), "-m", model, QUESTION, "-o", "temperature", "0", *options]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


with tempfile.TemporaryDirectory() as folder:
    os.environ |= {"LLM_USER_PATH": folder, "OPENAI_API_KEY": "none"}
    (Path(folder) / "extra-openai-models.yaml").write_text(MODELS.format(HELPFUL=HELPFUL, HARMLESS=HARMLESS, URL=URL))
    names = {HELPFUL: "helpful", HARMLESS: "harmless"}
    steered("model name", lambda preference: ask(names[preference], "--no-stream"))
    steered("streaming", lambda preference: ask(names[preference]))
    tried("system message", lambda: ask("helpful", "-s", SYSTEM) == expected(HELPFUL, SYSTEM).strip())
