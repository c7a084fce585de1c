"""Read dvc.yaml: which stage waits for which, which have to run, and which code each depends on."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bonesoup.imports import PACKAGE, closure
from bonesoup.workspace.repro import check_targets, dvc

# The part of a stage's deps that `make graph` writes.
CODE = re.compile(r"^( +)# Code: written by `make graph`\n(?:\1- src/.*\n)*", re.MULTILINE)
STAGE = re.compile(r"^  (\w+):$", re.MULTILINE)


@dataclass(frozen=True)
class Graph:
    """The stages of a project.

    Attributes:
        needs: stage -> the stages whose outs it reads, in running order.
        sources: .dvc files, for data that DVC tracks and no stage makes.
    """

    needs: dict[str, list[str]]
    sources: list[str]

    def upstream(self, stages: list[str]) -> list[str]:
        """Return `stages` and everything they need, in running order; all stages if the list is empty.

        A group, such as policy, stands for its stages.

        Raises:
            ValueError: there is no such stage.
        """
        check_targets(stages, list(self.needs))
        wanted = {name for name in self.needs if not stages or {name, name.split("@")[0]} & set(stages)}
        for name in reversed(self.needs):
            if name in wanted:
                wanted.update(self.needs[name])
        return [name for name in self.needs if name in wanted]

    def downstream(self, stages: set[str]) -> set[str]:
        """Return `stages` and everything that depends on them, directly or not."""
        reached = set(stages)
        for name, needed in self.needs.items():
            if reached & set(needed):
                reached.add(name)
        return reached


def read(root: Path) -> Graph:
    """Read the graph of the project in `root`."""
    import networkx as nx
    from dvc.repo import Repo

    with Repo(str(root)) as repo:
        graph = repo.index.graph
        order = [stage for stage in nx.dfs_postorder_nodes(graph) if hasattr(stage, "name")]
        needs = {
            stage.name: [other.name for other in graph.successors(stage) if hasattr(other, "name")] for stage in order
        }
        sources = sorted(stage.path_in_repo for stage in graph if not hasattr(stage, "name"))
    return Graph(needs, sources)


def status(root: Path, targets: Sequence[str] = ()) -> dict[str, list]:
    """Map each changed stage to what DVC reports about it.

    Args:
        targets: look only at these stages and those they depend on.

    Raises:
        RuntimeError: DVC failed; quotes its message.
    """
    chosen = ["--with-deps", *targets] if targets else []
    return json.loads(dvc(root, "--wait-for-lock", "status", "--json", *chosen))


def with_code(text: str) -> str:
    """Return dvc.yaml with the code dependencies of every stage brought up to date.

    Args:
        text: contents of dvc.yaml; each stage marks the place in its deps with a comment.
    """

    def current(match: re.Match) -> str:
        stage = STAGE.findall(text[: match.start()])[-1]
        files = [path.relative_to(PACKAGE.parents[1]) for path in closure(f"bonesoup.stages.{stage}")]
        lines = [match[0].split("\n")[0], *(f"{match[1]}- {file}" for file in files)]
        return "\n".join(lines) + "\n"

    return CODE.sub(current, text)


def main() -> None:
    """Write the code dependencies into dvc.yaml."""
    path = Path("dvc.yaml")
    path.write_text(with_code(path.read_text()))


if __name__ == "__main__":
    main()
