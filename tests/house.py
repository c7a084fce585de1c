"""A project that registers one run after another, to clean."""

from dataclasses import dataclass
from pathlib import Path

from miniature import LEADS, make_fronts, make_soups

from bonesoup.files import digest
from bonesoup.promotion import champion
from bonesoup.registry.register import register_all
from bonesoup.registry.store import Store, connect
from bonesoup.registry.versions import reference, versions
from bonesoup.registry.yardstick import now
from bonesoup.settings import params
from bonesoup.settings.schema import Register
from bonesoup.upkeep import clean, verify
from bonesoup.workspace import objects


@dataclass
class House:
    """Hold a project that registers one run after another."""

    root: Path
    text: str
    preferences: dict
    runs: int = 0

    def run(self) -> None:
        """Make another run of the pipeline, registered as the next version of every model."""
        self.runs += 1
        settings = params.parse_yaml(self.text.encode(), "params.yaml")
        (self.root / "data").mkdir(exist_ok=True)
        # DVC tracks the data: every run has its own.
        (self.root / "data/tracked.txt").write_text(f"data of run {self.runs}")
        objects.dvc(self.root, "add", "--quiet", "data/tracked.txt")
        make_soups(self.root / "out", self.runs)
        for file in (self.root / "out/policies").glob("*/*/policy.json"):
            file.write_text(file.read_text().replace("{", f'{{"fingerprint": "{self.fingerprint()}",', 1))
        make_fronts(self.root / "out", settings, LEADS, self.runs)
        objects.dvc(self.root, "commit", "--force", "--quiet")
        (self.root / "scratch/policies" / self.fingerprint() / "adapter").mkdir(parents=True)
        register = Register(name="bonesoup", merged=["balanced"])
        register_all(self.root, self.text, register, self.preferences, lambda line: None)

    def fingerprint(self) -> str:
        return digest(self.runs)

    @property
    def store(self) -> Store:
        return connect(self.root, "bonesoup")

    @property
    def soups(self) -> list[str]:
        return [str(version.version) for version in versions(self.store.client, "bonesoup-soup")]

    def clean(self, keep: int, shared: bool = False) -> clean.Plan:
        plan = clean.plan(self.root, params.load(self.root / "params.yaml"), keep, shared)
        clean.carry_out(self.root, plan, lambda line: None)
        return plan

    def promote(self, number: int) -> None:
        """Move the alias as `bonesoup promote` does, without judging."""
        target = self.store.client.get_model_version("bonesoup-soup", str(number))
        before = champion.current(self.store, "bonesoup")
        decision = champion.Decision("promote", reference(target), "promoted", now(), None, reference(target))
        champion.carry_out(self.store, "bonesoup", decision, target, before, lambda line: None)

    def sound(self, name: str) -> bool:
        (verified,) = verify.versions(self.root, "bonesoup", [name], objects.cache(self.root))
        return not verified.damaged and not verified.objects.missing
