"""Export for PEFT: a Transformers folder, adapters whose scale is 1, and the lines that set their weights."""

from pathlib import Path

from bonesoup.export.layout import Layout, base_folder
from bonesoup.export.readme import card, explanation, first_example
from bonesoup.weights.adapter_files import save

_TEXT = """\
These lines ask for {name}:

```python
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from transformers import AutoModelForCausalLM

scales = {scales}
first, *others = scales
model = AutoModelForCausalLM.from_pretrained({base!r})
model = PeftModel.from_pretrained(model, f"adapters/{{first}}", adapter_name=first)
for name in others:
    model.load_adapter(f"adapters/{{name}}", adapter_name=name)
model.base_model.set_adapter(list(scales))
for layer in model.modules():
    if isinstance(layer, LoraLayer):
        for name, scale in scales.items():
            if name in layer.scaling:
                layer.set_scale(name, scale)
model.eval()
```

Another preference needs the last loop alone. {explanation}
"""


def write(layout: Layout, out: Path) -> None:
    """Write the base where it changed, the adapters and README.md into the folder `out`."""
    name, scales = first_example(layout)
    folder = base_folder(layout, out / "base")
    # README.md is read in `out`.
    base = "base" if layout.folded else str(folder.absolute())
    for slot, adapter in layout.adapters.items():
        save(adapter, out / "adapters" / slot, base)
    text = _TEXT.format(name=name, scales=scales, base=base, explanation=explanation(layout))
    (out / "README.md").write_text(card("A soup for PEFT", layout.recipe, text))
