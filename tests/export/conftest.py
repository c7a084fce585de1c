"""A soup to export: adapters of different ranks, alphas and modules, with rows and without."""

import pytest
from exported import ROWS, write_adapters, write_model
from ruamel.yaml import YAML


@pytest.fixture(scope="session")
def mixed(tmp_path_factory):
    """Make a folder with `base`, three adapters, `soup.yaml` with rows of two of them, and `free.yaml` without."""
    root = tmp_path_factory.mktemp("exported")
    write_model(root / "base", "llama")
    write_adapters(root)
    pair = {"base": "base", "adapters": {"calm": "calm", "bold": "bold"}}
    steered = pair | {
        "rows": ROWS,
        "preferences": {"gentle": {"kind": 0.9, "brief": 0.1}},
        "presets": {"both": {"calm": 1.0, "bold": 1.0}},
    }
    free = {"base": "base", "adapters": {"calm": "calm", "bold": "bold", "odd": "odd"}}
    free["presets"] = {"wild": {"bold": 1.4, "calm": -0.4}}
    for name, content in (("soup", steered), ("free", free)):
        with open(root / f"{name}.yaml", "w") as out:
            YAML().dump(content, out)
    return root
