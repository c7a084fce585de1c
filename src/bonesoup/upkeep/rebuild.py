"""`bonesoup rebuild`: make a registered version again from its commit, settings and data, and compare the results.

The clone runs the version's code with a separate DVC cache that starts empty, so that every stage really runs.
"""

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

from bonesoup.files import file_digest, read_json
from bonesoup.paths import POLICIES
from bonesoup.registry import lineage
from bonesoup.registry.manifest import download_lineage
from bonesoup.registry.store import connect, nothing_lost, tracking_uri
from bonesoup.registry.versions import find, reference, soup_name
from bonesoup.settings.profiles import yaml
from bonesoup.upkeep.verify import ADAPTER
from bonesoup.workspace import graph, objects, repro
from bonesoup.workspace.checkout import borrowed_paths, git, resolve, share_storage, variables
from bonesoup.workspace.dvc_lock import LOCK, Out, outs

LAST = "report"
SOURCE_CACHE = "cache-of-the-source"


@dataclass(frozen=True)
class Origin:
    """The record of how a version was made.

    Attributes:
        facts: lineage.json.
        settings: the text of params.yaml.
        outs: the results that its dvc.lock names.
        changes: git's status and diff, if the tree was not clean.
    """

    name: str
    facts: dict
    settings: str
    outs: list[Out]
    changes: str

    @property
    def data(self) -> dict[str, str]:
        """Map the path of the source file to its digest."""
        return {path: sha for path, sha in self.facts["sha256"].items() if not path.startswith("out/")}


@dataclass(frozen=True)
class Compared:
    """A recorded result and its digest after the rebuild; `now` is None if it was not made."""

    stage: str
    path: str
    recorded: str
    now: str | None

    @property
    def same(self) -> bool:
        return self.recorded == self.now


def read(root: Path, prefix: str, text: str) -> Origin:
    """Download the record of how a version was made.

    Raises:
        ConnectionError: the store does not answer.
        ValueError: it has no such version.
    """
    store = connect(root, prefix)
    with nothing_lost(tracking_uri(root)), tempfile.TemporaryDirectory(prefix="bonesoup-") as work:
        version = find(store.client, text, soup_name(prefix))
        folder = download_lineage(version, Path(work))

        def content(name: str) -> str:
            return (folder / name).read_text() if (folder / name).is_file() else ""

        facts = read_json(folder / "lineage.json")
        return Origin(reference(version), facts, content("params.yaml"), outs(folder / LOCK), content("changes.diff"))


def prepare(root: Path, origin: Origin, into: Path, echo: Callable[[str], None]) -> None:
    """Make the clone `into`: code, settings and data of the version, no results.

    Raises:
        ValueError: `into` exists, or something the version was made from is missing; nothing is left behind.
    """
    if into.exists():
        raise ValueError(f"{into} exists already: name a folder that does not")
    commit = origin.facts["git"]["commit"]
    if commit == "unknown":
        raise ValueError(f"{origin.name} was made outside git: there is no commit to go back to")
    try:
        resolve(root, commit)
    except ValueError:
        raise ValueError(
            f"{origin.name} was made from commit {commit}, which {root} does not have: `git fetch` it from where the "
            "version was made"
        ) from None
    try:
        git(root, "clone", "--quiet", "--no-checkout", str(root), str(into.absolute()))
        git(into, "checkout", "--quiet", "--detach", commit)
        if origin.facts["git"]["dirty"]:
            apply(into, origin, echo)
        (into / LOCK).unlink(missing_ok=True)
        (into / "params.yaml").write_text(origin.settings)
        bring_data(root, origin, into, echo)
    except BaseException:
        shutil.rmtree(into, ignore_errors=True)
        raise


def apply(into: Path, origin: Origin, echo: Callable[[str], None]) -> None:
    """Apply the uncommitted changes that the version was made with.

    Raises:
        ValueError: they were too long to be stored whole, or do not apply.
    """
    status, diff, rest = origin.changes.partition("diff --git ")
    if "\n... cut: the diff has " in origin.changes:
        raise ValueError(f"{origin.name} was made from a changed tree, and the changes were too long to keep whole")
    if untracked := [line[3:] for line in status.splitlines() if line.startswith("?? ")]:
        echo(f"files that git did not track are not part of the version: {', '.join(untracked)}")
    if not diff:
        return
    with tempfile.NamedTemporaryFile("w", suffix=".diff") as file:
        file.write(diff + rest)
        file.flush()
        try:
            git(into, "apply", "--whitespace=nowarn", file.name)
        except RuntimeError as error:
            raise ValueError(
                f"{origin.name} was made from a changed tree, and the changes do not apply: {error}"
            ) from None
    echo("the uncommitted changes of the tree are applied")


def bring_data(root: Path, origin: Origin, into: Path, echo: Callable[[str], None]) -> None:
    """Bring what DVC tracks, point settings at files outside the repository, and check the source file's digest.

    Raises:
        ValueError: the source file is not there, or is not the one the version was made from.
    """
    give_cache(root, into)
    if sources := graph.read(into).sources:
        pull(into, sources)
    document = yaml.load(origin.settings)
    for key, path in borrowed_paths(root, into).items():
        *outer, last = key.split(".")
        reduce(lambda section, part: section[part], outer, document)[last] = path
        echo(f"{key}: {path}, which is not part of the repository")
    with open(into / "params.yaml", "w") as file:
        yaml.dump(document, file)
    path = into / document["data"]["path"]
    if not path.exists():
        raise ValueError(f"the data of {origin.name}, {document['data']['path']}, is neither in the commit nor here")
    digest = file_digest(path)
    if digest not in origin.data.values():
        recorded = ", ".join(origin.data.values()) or "nothing"
        raise ValueError(
            f"{path} has SHA-256 {digest}, {origin.name} was made from {recorded}: bring back the file it was made from"
        )


def give_cache(root: Path, into: Path) -> None:
    """Give the clone the remotes of `root`, its cache as a further remote, and an empty cache."""
    from dvc.repo import Repo

    share_storage(root, into)
    with Repo(str(into)) as repo, repo.config.edit("local") as config:
        config["remote"][SOURCE_CACHE] = {"url": config["cache"].pop("dir")}
    objects.dvc(into, "cache", "dir", "--local", ".dvc/cache")


def pull(into: Path, sources: list[str]) -> None:
    """Bring DVC-tracked data from the source's cache, or else from its remote.

    Raises:
        ValueError: neither has it.
    """
    try:
        objects.dvc(into, "pull", "--remote", SOURCE_CACHE, *sources)
    except RuntimeError:
        try:
            objects.dvc(into, "pull", *sources)
        except RuntimeError as error:
            raise ValueError(f"neither the DVC cache nor a remote has {', '.join(sources)}: {error}") from None


def environment_differences(origin: Origin) -> list[str]:
    """List the differences between the installed software now and then, a line each."""
    then, now = origin.facts["environment"], lineage.environment()
    lines = [f"{key} {now[key]}, was {then[key]}" for key in ("python", "platform") if now[key] != then[key]]
    packages = sorted(then["packages"].keys() | now["packages"].keys(), key=str.lower)
    for name in packages:
        before, after = then["packages"].get(name), now["packages"].get(name)
        if before != after:
            lines.append(f"{name} {after or 'is not installed'}, was {before or 'not installed'}")
    return lines


def run(into: Path, echo: Callable[[str], None]) -> None:
    """Run every stage up to the report.

    Raises:
        RuntimeError: a stage failed; quotes its output.
    """
    process = repro.start_dvc(["repro", "--no-run-cache", LAST], into, variables(into))
    try:
        for kind, text in repro.follow(process):
            echo(text if kind == "ran" else f"  {text}")
    except RuntimeError as error:
        raise RuntimeError(f"in {into}: {error}") from None


def compare(origin: Origin, into: Path) -> list[Compared]:
    """Pair every recorded result with the one in the clone: those that dvc.lock names, then the adapters."""
    made = {(out.stage, out.path): out.name for out in outs(into / LOCK)}
    wanted = set(graph.read(into).upstream([LAST]))
    compared = [
        Compared(out.stage, out.path, out.name, made.get((out.stage, out.path)))
        for out in origin.outs
        if out.stage in wanted
    ]
    return compared + adapters(origin, into)


def adapters(origin: Origin, into: Path) -> list[Compared]:
    """Pair every recorded adapter with the clone's."""
    policies = origin.facts["policies"] | origin.facts.get("rewarded", {})
    made = {slot: next((into / POLICIES).glob(f"*/{slot}/{ADAPTER}"), None) for slot in policies}
    return [
        Compared("adapter", slot, facts["sha256"], file_digest(made[slot]) if made[slot] else None)
        for slot, facts in policies.items()
    ]
