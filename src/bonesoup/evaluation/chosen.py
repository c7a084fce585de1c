"""The soup of a run that is registered and served."""

from pathlib import Path

from bonesoup.files import read_json
from bonesoup.method.methods import AUTO
from bonesoup.paths import CHOICE
from bonesoup.settings.schema import Register


def chosen_method(register: Register, root: Path = Path(".")) -> str:
    """Return the method that `register.method` names or, if it is `auto`, the one that the run in `root` chose.

    Raises:
        ValueError: the run has not chosen yet.
    """
    if register.method != AUTO:
        return register.method
    if not (root / CHOICE).is_file():
        raise ValueError(
            f"register.method is auto, and {root / CHOICE} does not exist: `bonesoup run` chooses the soup; "
            "or name a method"
        )
    return read_json(root / CHOICE)["method"]
