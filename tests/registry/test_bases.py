"""A base lies in the registry once; versions find it by its digest, and damage to it is noticed and repaired."""

import shutil
from pathlib import Path

import mlflow
import pytest
from miniature import another, copied, using
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from ruamel.yaml import YAML

from bonesoup.files import file_digest
from bonesoup.registry import bases, manifest
from bonesoup.registry.register import register_all
from bonesoup.registry.store import connect
from bonesoup.serving import source as sources
from bonesoup.settings.schema import Register
from bonesoup.upkeep import verify

PROMPTS = ["how do i bake bread ?"]
# So that a copy of the base cannot hide among code and adapters.
PADDING = 20_000_000


class Registry:
    """A store of its own, and a run that is registered there."""

    def __init__(self, project, folder: Path):
        self.project, self.folder = project, folder
        self.root = self.run(1)
        self.empty = self.bytes
        self.register(self.root)

    def run(self, seed: int) -> Path:
        """A run with other adapters on the same base."""
        root = another(self.project, self.folder / f"run-{seed}", {}, seed).root
        with open(root / "out/sft/padding.bin", "wb") as padding:
            padding.truncate(PADDING)
        return root

    def register(self, root: Path, name: str = "bonesoup", merged=()) -> dict:
        register = Register(name=name, merged=list(merged))
        text = self.project.settings_text.replace("name: bonesoup", f"name: {name}")
        return register_all(root, text, register, self.project.preferences, lambda line: None)

    @property
    def bytes(self) -> int:
        return sum(path.stat().st_size for path in (self.folder / "store").rglob("*") if path.is_file())

    @property
    def soup(self):
        return MlflowClient().get_model_version("bonesoup-soup", "1")

    def copy(self) -> Path:
        """Folder of the newest copy of the base in the store."""
        client = MlflowClient()
        newest = bases.copies(client, file_digest(self.root / "out/sft"))[0]
        return bases.local_folder(client.get_run(newest.run_id).info.artifact_uri) / bases.KIND


@pytest.fixture(scope="module")
def registry(project, empty_store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("registry")
    with using(f"sqlite:///{copied(empty_store, folder / 'store/mlflow.db')}"):
        yield Registry(project, folder)


def adapters(root: Path) -> int:
    return sum(path.stat().st_size for path in (root / "out/policies").rglob("adapter_model.safetensors"))


def test_a_second_run_on_a_base_adds_its_adapters_and_no_base(registry, tmp_path):
    second, one = registry.run(2), registry.bytes
    registry.register(second)
    two = registry.bytes
    assert PADDING < one - registry.empty < 2 * PADDING, "three models of the first run share one copy"
    # Backbones are stored in a version of their own and in the soup; code and lineage come with each version.
    code = sum(path.stat().st_size for path in (registry.folder / "store").glob("**/code/**/*.py")) / 2
    assert two - one < 2 * adapters(second) + 2 * code + 1_000_000
    client = MlflowClient()
    assert len(client.search_model_versions("name='bonesoup-base'")) == 1
    for name in ("bonesoup-soup", "bonesoup-backbone-1"):
        tags = [version.tags["base"] for version in client.search_model_versions(f"name='{name}'")]
        assert tags == 2 * [file_digest(second / "out/sft")]
    files = mlflow.artifacts.download_artifacts("models:/bonesoup-soup/2", dst_path=str(tmp_path))
    assert sum(path.stat().st_size for path in (Path(files) / "artifacts").rglob("*")) < adapters(second) + 100_000
    assert mlflow.pyfunc.load_model("models:/bonesoup-soup/2").predict(PROMPTS)


def test_merged_weights_have_no_base_and_another_project_uses_the_same_copy(registry):
    registry.register(registry.root, "other", ["balanced"])
    client = MlflowClient()
    assert client.search_model_versions("name='other-base'") == []
    assert client.get_model_version("other-backbone-1", "1").tags["base"] == registry.soup.tags["base"]
    assert mlflow.pyfunc.load_model("models:/other-soup/1").predict(PROMPTS)
    assert "base" not in client.get_model_version("other-merged-balanced", "1").tags


def test_an_upload_of_the_base_that_is_cut_short_is_done_again(registry, monkeypatch):
    """On a base that the registry does not have."""
    root, whole = registry.root, MlflowClient.log_artifacts
    (root / "out/sft/other.txt").write_text("another base")

    def half(client, run_id, folder, path=None):
        if path != bases.KIND:
            return whole(client, run_id, folder, path)
        client.log_artifact(run_id, f"{folder}/config.json", path)
        raise MlflowException("connection reset")

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_artifacts", half)
        with pytest.raises(ConnectionError, match="connection reset"):
            registry.register(root)
    client, digest = MlflowClient(), file_digest(root / "out/sft")
    assert bases.copies(client, digest) == []
    assert not client.search_model_versions(f"tags.base = '{digest}'")
    registry.register(root)
    assert file_digest(registry.copy()) == digest
    experiment = client.get_experiment_by_name("bonesoup").experiment_id
    assert len(client.search_runs([experiment], f"tags.key = '{digest}'")) == 1
    (root / "out/sft/other.txt").unlink()


def test_a_base_that_lost_a_file_is_noticed_and_sent_again_by_the_next_registration(registry, tmp_path):
    root = registry.root
    (registry.copy() / "config.json").unlink()
    store, version = connect(root, "bonesoup"), registry.soup
    files = manifest.inspect(store, version, tmp_path / "first")
    assert files.missing
    digest = file_digest(root / "out/sft")
    assert f"its base with SHA-256 {digest} is not whole in the registry (bonesoup-base/1 has " in files.text
    with pytest.raises(ValueError, match="bonesoup-soup/1: its base with SHA-256 .* sends it again"):
        manifest.download(version, tmp_path / "first")
    with pytest.raises(ValueError, match="of bonesoup-soup: its base with .* sends it again") as error:
        mlflow.pyfunc.load_model("models:/bonesoup-soup/1")
    assert digest in str(error.value)
    registry.register(root)
    assert manifest.inspect(store, version, tmp_path / "second").faults == ()
    assert mlflow.pyfunc.load_model("models:/bonesoup-soup/1").predict(PROMPTS)


def test_a_base_with_a_changed_bit_is_refused_until_the_next_registration_sends_it_again(registry, tmp_path):
    weights = registry.copy() / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    changed = file_digest(registry.copy())
    with pytest.raises(ValueError, match=f"bonesoup-base/1 has SHA-256 {changed}.* sends it again"):
        manifest.download(registry.soup, tmp_path / "first")
    registry.register(registry.root)
    assert (manifest.download(registry.soup, tmp_path / "first") / bases.PLACE / "model.safetensors").is_file()


def test_a_base_whose_version_was_deleted_is_sent_again(registry, tmp_path):
    root, version = registry.root, registry.soup
    MlflowClient().delete_model_version("bonesoup-base", "1")
    with pytest.raises(ValueError, match=r"\(no copy there\)"):
        manifest.download(version, tmp_path / "first")
    registry.register(root)
    assert (manifest.download(version, tmp_path / "first") / bases.PLACE / "model.safetensors").is_file()


def test_a_base_itself_is_checked_against_its_digest(registry, tmp_path):
    base = bases.copies(MlflowClient(), file_digest(registry.root / "out/sft"))[0]
    assert verify.version(registry.root, base, tmp_path).faults == []
    config = registry.copy() / "config.json"
    text = config.read_text()
    config.write_text(text + " ")
    checked = verify.version(registry.root, base, tmp_path)
    config.write_text(text)
    assert checked.listed
    assert "registered was" in checked.faults[0]


def test_downloaded_files_are_served_with_the_base_of_the_registry(registry, tmp_path):
    files = mlflow.artifacts.download_artifacts("models:/bonesoup-soup/1", dst_path=str(tmp_path / "files"))
    source = sources.from_folder(Path(files), tmp_path / "work")
    assert {soup.base for soup in source.soups.values()} == {source.soup.base}
    assert file_digest(source.soup.base) == registry.soup.tags["base"]


def test_a_version_that_holds_its_base_needs_no_other(registry, tmp_path):
    """As earlier releases registered it."""
    client, new = MlflowClient(), registry.soup
    expected = mlflow.pyfunc.load_model("models:/bonesoup-soup/1").predict(PROMPTS)
    files = manifest.download(new, tmp_path / "work")
    (files / bases.PLACE).unlink()
    shutil.copytree(registry.root / "out/sft", files / bases.PLACE)
    yaml = YAML()
    record = yaml.load(files / "MLmodel")
    del record["flavors"]["python_function"]["config"]["base"]
    yaml.dump(record, files / "MLmodel")
    manifest.write(files)
    model = client.create_logged_model(client.get_run(new.run_id).info.experiment_id, name="old", model_type="pyfunc")
    client.log_model_artifacts(model.model_id, str(files))
    client.finalize_logged_model(model.model_id, "READY")
    tags = {key: value for key, value in new.tags.items() if key != "base"}
    tags["manifest"] = file_digest(files / manifest.MANIFEST)
    client.create_registered_model("old-soup")
    old = client.create_model_version("old-soup", f"models:/{model.model_id}", new.run_id, tags=tags)
    client.delete_registered_model("bonesoup-base")
    assert mlflow.pyfunc.load_model("models:/old-soup/1").predict(PROMPTS) == expected
    assert manifest.inspect(connect(registry.root, "bonesoup"), old, tmp_path / "again").faults == ()
    source = sources.from_registry(registry.root, "models:/old-soup/1", tmp_path / "served")
    assert file_digest(source.soup.base) == new.tags["base"]


@pytest.mark.parametrize("digest", ["../../etc", "", 5])
def test_a_name_of_a_base_that_is_no_digest_is_refused(tmp_path, digest):
    with open(tmp_path / "MLmodel", "w") as out:
        YAML().dump({"flavors": {"python_function": {"config": {"base": digest}}}}, out)
    with pytest.raises(ValueError, match="is not a SHA-256"):
        bases.named(tmp_path)
