"""Write the model card and the manifest of merged weights and adapters."""

from collections.abc import Sequence
from pathlib import Path

import bonesoup
from bonesoup.files import file_digest, write_json
from bonesoup.weights.checkpoint import CARD, MANIFEST

Models = Sequence[tuple[Path, float]]

_CARD = """\
---
library_name: transformers
tags:
- merge
---

# A merge of {count}

{formula}, summed in float32 and stored in {dtype}.

| model | coefficient |
|---|---|
{rows}

Settings and tokenizer are those of the first model. {left_out}`{manifest}` holds the digest of every file.

Made by bonesoup {version}:

```
{command}
```
"""


def write_card(
    folder: Path, models: Models, base: Path | None, dtypes: Sequence[str], left_out: Sequence[str], command: str
) -> None:
    """Write README.md: formula, models, coefficients, and the command that repeats the merge.

    Args:
        left_out: tensors of the inputs that the merge does not have.
    """
    formula = "base + sum of coefficient * (model - base)" if base else "The sum of coefficient * model"
    rows = [f"| `{path}` | {coefficient!r} |" for path, coefficient in models]
    if base:
        rows.append(f"| `{base}` | base |")
    count = "one model" if len(models) == 1 else f"{len(models)} models"
    text = _CARD.format(
        count=count,
        formula=formula,
        dtype=" and ".join(dtypes),
        rows="\n".join(rows),
        left_out=f"Not copied, since loading computes them: {', '.join(left_out)}. " if left_out else "",
        manifest=MANIFEST,
        version=bonesoup.__version__,
        command=command,
    )
    (folder / CARD).write_text(text)


def write_manifest(folder: Path, models: Models, base: Path | None, weights: dict[str, dict]) -> None:
    """Write merge.json: the recipe, and bytes and SHA-256 of every other file of the folder.

    Args:
        weights: {file name: {"bytes", "sha256"}} of the files whose digests are known.
    """
    others = sorted(p for p in folder.rglob("*") if p.is_file() and p.name not in weights)
    files = {str(p.relative_to(folder)): {"bytes": p.stat().st_size, "sha256": file_digest(p)} for p in others}
    recipe = {
        "models": [{"path": str(path), "coefficient": coefficient} for path, coefficient in models],
        "base": str(base) if base else None,
        "bonesoup": bonesoup.__version__,
        "files": dict(sorted((files | weights).items())),
    }
    write_json(folder / MANIFEST, recipe)


_ADAPTER = """\
---
library_name: peft
tags:
- merge
---

# A soup{preference}

One LoRA adapter on `{base}`: the sum of these adapters with these coefficients.

| adapter | coefficient |
|---|---|
{rows}

{exactness}

Made by bonesoup {version}.
"""


def adapter_card(
    base: str, coefficients: dict[str, float], errors: dict[str, float] | None = None, preference: str | None = None
) -> str:
    """Return README.md of an adapter: the recipe, and how exact it is.

    Args:
        coefficients: {policy or adapter: coefficient}.
        errors: {module: relative error} of a compressed adapter; None if it is exact.
        preference: what the coefficients stand for, if it is a preference.
    """
    exactness = "It is exact: its rank is the sum of theirs."
    if errors:
        worst = max(errors, key=errors.get)
        exactness = (
            f"Compressed: the relative error of a module's weights is at most {errors[worst]:.2%} (`{worst}`), "
            f"{sum(errors.values()) / len(errors):.2%} on average."
        )
    return _ADAPTER.format(
        preference=f" at {preference}" if preference else "",
        base=base,
        rows="\n".join(f"| {slot} | {value:.10g} |" for slot, value in coefficients.items()),
        exactness=exactness,
        version=bonesoup.__version__,
    )
