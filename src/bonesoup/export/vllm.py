"""Export for vLLM: an exact adapter for each named mixture, since vLLM neither mixes nor scales adapters by request."""

import json
from pathlib import Path

from bonesoup.export.layout import Recipe, check
from bonesoup.export.readme import card
from bonesoup.weights.adapter_files import save
from bonesoup.weights.adapters import concatenate
from bonesoup.weights.mixing import read_on

# What --max-lora-rank takes (vllm/config/lora.py).
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)

_TEXT = """\
vLLM takes one adapter for a request, as it is. Every named mixture is an adapter here, exactly: {names}. In this
folder:

```bash
vllm serve {base} --enable-lora --max-lora-rank {rank} --max-loras {count} --lora-modules {modules}
```

vLLM rounds a base saved in float32, and the adapters, to 16 bits unless `--dtype float32` is given.

The mixture is the model of a request. This one asks for {first}:

```bash
curl -s localhost:8000/v1/chat/completions -H 'Content-Type: application/json' -d '{request}'
```

The coefficients of each:

{table}

The base is served as it is. For a mixture without a name, name it and export again, or use `bonesoup serve`, which
mixes per request.
"""


def write(recipe: Recipe, out: Path) -> None:
    """Write an adapter for each name and README.md into the folder `out`.

    Raises:
        ValueError: nothing has a name, or an adapter does not fit its base or has a rank that vLLM does not take.
    """
    check(recipe.soup)
    named = recipe.named()
    if not named:
        raise ValueError("no preference and no preset has a name, and vLLM serves named adapters: name one")
    parts = read_on(recipe.soup.base, {policy.slot: policy.path for policy in recipe.soup.policies})
    # README.md is read in `out`.
    base, ranks = recipe.soup.base.absolute(), []
    for name, values in named.items():
        pairs = [(part, float(value)) for part, value in zip(parts.values(), values, strict=True) if value]
        mixed = concatenate(pairs or [(next(iter(parts.values())), 0.0)])
        ranks += [len(a) for a, _ in mixed.tensors.values()]
        save(mixed, out / "adapters" / name, str(base))
    if (largest := max(ranks)) > RANKS[-1]:
        raise ValueError(
            f"a mixture has rank {largest}, vLLM takes {RANKS[-1]} at most: `bonesoup soup --rank` compresses"
        )
    table = [f"| name | {' | '.join(recipe.slots)} |", "|---" * (1 + len(recipe.slots)) + "|"]
    table += [f"| {name} | {' | '.join(f'{value:.6g}' for value in values)} |" for name, values in named.items()]
    first = next(iter(named))
    text = _TEXT.format(
        names=", ".join(named),
        base=base,
        rank=next(rank for rank in RANKS if rank >= largest),
        count=len(named),
        modules=" ".join(f"{name}=adapters/{name}" for name in named),
        first=first,
        request=json.dumps({"model": first, "messages": [{"role": "user", "content": "Hello"}]}),
        table="\n".join(table),
    )
    (out / "README.md").write_text(card("A soup for vLLM", recipe, text))
