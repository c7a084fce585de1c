import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

from common import HARMLESS, HELPFUL, QUESTION, SYSTEM, URL, expected, steered, tried

# shown: config.yaml of `litellm --config`
CONFIG = """
model_list:
- model_name: helpful
  litellm_params:
    model: openai/bonesoup-soup@{HELPFUL}
    api_base: {URL}
    api_key: none
- model_name: harmless
  litellm_params:
    model: openai/bonesoup-soup
    api_base: {URL}
    api_key: none
    extra_headers:
      X-Bonesoup-Preference: {HARMLESS}
- model_name: bonesoup-soup*
  litellm_params:
    model: openai/bonesoup-soup*
    api_base: {URL}
    api_key: none
"""
# end


@contextmanager
def proxy():
    """Start the proxy; it refuses to run without a key of its own."""
    with socket.socket() as free, tempfile.TemporaryDirectory() as folder:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        config = Path(folder) / "config.yaml"
        config.write_text(CONFIG.format(HELPFUL=HELPFUL, HARMLESS=HARMLESS, URL=URL))
        key = f"sk-{secrets.token_hex(24)}"
        own = os.environ | {"LITELLM_MASTER_KEY": key, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
        command = [Path(sys.executable).with_name("litellm"), "--config", config, "--host", "127.0.0.1"]
        process = subprocess.Popen([*command, "--port", str(port)], env=own, stdout=subprocess.DEVNULL)
        try:
            url = f"http://127.0.0.1:{port}"
            deadline = time.monotonic() + 120
            while not answers(f"{url}/health/liveliness"):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise TimeoutError("the proxy did not start within two minutes")
                time.sleep(0.5)
            yield url, key
        finally:
            process.terminate()
            process.wait()


def answers(url):
    try:
        return urllib.request.urlopen(url).status == 200
    except OSError:
        return False


with proxy() as (url, key):
    from openai import OpenAI

    client = OpenAI(base_url=f"{url}/v1", api_key=key)
    question = [{"role": "user", "content": QUESTION}]
    names = {HELPFUL: "helpful", HARMLESS: "harmless"}

    def ask(model, messages=question, **options):
        answer = client.chat.completions.create(model=model, messages=messages, temperature=0, **options)
        return answer.choices[0].message.content

    def streamed(preference):
        options = {"model": names[preference], "messages": question, "temperature": 0, "stream": True}
        chunks = client.chat.completions.create(**options)
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)

    steered("model name and header in its config", lambda preference: ask(names[preference]))
    steered("model name from the client", lambda preference: ask(f"bonesoup-soup@{preference}"))
    steered("body", lambda preference: ask("bonesoup-soup", extra_body={"preference": preference}))
    steered("streaming", streamed)
    messages = [{"role": "system", "content": SYSTEM}, *question]
    tried("system message", lambda: ask("helpful", messages) == expected(HELPFUL, SYSTEM))
