"""tidy: remove from out/ what the present settings no longer make, so that no stage reads a folder with leftovers.

Stages that read all rewards, probes, policies or fronts depend on the folder of all, as DVC has no dependency on a list
from params.yaml. A leftover in it would count as a change when it appears, and again when `bonesoup clean` removes it.
Each result stays in DVC's cache, and comes back from there when a setting is taken back.
"""

from pathlib import Path

from bonesoup.files import write_json
from bonesoup.paths import TIDY
from bonesoup.settings.schema import Settings
from bonesoup.workspace.declared import tidy


def run(settings: Settings, key: None) -> None:
    for path in tidy(Path(".")):
        print(f"tidy: removed {path}, which the present settings no longer make")
    # Always the same content: readers wait for this stage, but must not run again because of it.
    write_json(TIDY, {})
