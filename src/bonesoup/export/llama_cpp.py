"""Export for llama.cpp: GGUF files of base and adapters, and `lora` with scales in each request."""

import json
import shutil
from pathlib import Path

from bonesoup.export.layout import Layout, base_folder
from bonesoup.export.readme import card, explanation, first_example

_TEXT = """\
Start llama.cpp's server with the adapters loaded and not applied:

```bash
llama-server -m base.gguf --lora {files} --lora-init-without-apply --cache-ram 0
```

`--cache-ram 0` is needed: llama.cpp keeps the keys and values of old prompts in memory and takes them up again without
looking at the scales with which they were computed.

{numbered}. This request asks for {name}:

```bash
curl -s localhost:8080/v1/chat/completions -H 'Content-Type: application/json' -d '{request}'
```

{explanation}

Rows with different scales are answered one after another: llama.cpp batches requests with equal `lora` only. Quantise
`base.gguf` if you like (`llama-quantize`); the adapters stay as they are, and the answers are then those of the
quantised base.
"""


def write(layout: Layout, out: Path) -> None:
    """Write base.gguf, an adapter a file, and README.md into the folder `out`.

    Raises:
        ValueError: the base cannot be written as GGUF, or an adapter changes more than the layers' matrices.
    """
    # gguf is needed here alone.
    from bonesoup.weights.gguf_write import write_adapter, write_base

    name, scales = first_example(layout)
    folder = base_folder(layout, out / "folded")
    write_base(folder, out / "base.gguf")
    for slot, adapter in layout.adapters.items():
        write_adapter(adapter, folder, out / f"{slot}.gguf")
    if layout.folded:
        shutil.rmtree(folder)
    lora = [{"id": number, "scale": scale} for number, scale in enumerate(scales.values())]
    request = {"messages": [{"role": "user", "content": "Hello"}], "lora": lora}
    text = _TEXT.format(
        files=",".join(f"{slot}.gguf" for slot in layout.adapters),
        numbered=", ".join(f"`{slot}` has id {number}" for number, slot in enumerate(layout.adapters)),
        name=name,
        request=json.dumps(request),
        explanation=explanation(layout),
    )
    (out / "README.md").write_text(card("A soup for llama.cpp", layout.recipe, text))
