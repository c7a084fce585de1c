"""A packed soup serves the same answers as the run it was made from, on a base that is made again from its source."""

import json

import pytest
import torch

from bonesoup.files import write_json
from bonesoup.generation.soup import SoupModel
from bonesoup.serving.demo import FACTS, pack, unpack
from bonesoup.serving.source import from_folder
from bonesoup.settings.schema import Model


@pytest.fixture
def model(version) -> Model:
    return Model(source=str(version / "artifacts/base"), context=256)


def test_the_packed_soup_is_the_run_with_adapters_in_bfloat16(version, model, tmp_path):
    source = from_folder(version)
    facts = pack(source, model, tmp_path / "demo")
    said = []
    demo = unpack(said.append, tmp_path / "demo", tmp_path / "cache")
    assert len(said) == 1
    unpack(said.append, tmp_path / "demo", tmp_path / "cache")
    assert len(said) == 1, "the base was made twice"
    assert (demo.front, demo.preferences, demo.objectives) == (source.front, source.preferences, source.objectives)
    assert list(demo.soups) == ["bone", "rewarded", "sft"]
    assert str(tmp_path) not in json.dumps(facts)
    logits = []
    for each in (source, demo):
        policy = SoupModel.load(each.soup)
        policy.at([0.9, 0.1])
        with torch.inference_mode():
            logits.append(policy.model(torch.tensor([[6, 7, 8, 9]])).logits)
    torch.testing.assert_close(*logits, rtol=0.05, atol=0.05)


def test_a_changed_file_and_another_base_are_refused(version, model, tmp_path):
    pack(from_folder(version), model, tmp_path / "demo")
    facts = json.loads((tmp_path / "demo" / FACTS).read_text())
    write_json(tmp_path / "demo" / FACTS, facts | {"base": "0" * 64})
    with pytest.raises(ValueError, match="the demo was made on 0000"):
        unpack(print, tmp_path / "demo", tmp_path / "cache")
    write_json(tmp_path / "demo" / FACTS, facts)
    (tmp_path / "demo/bone.json").write_text("{}")
    with pytest.raises(ValueError, match=r"bone.json is missing or not as packed"):
        unpack(print, tmp_path / "demo", tmp_path / "cache")
    with pytest.raises(ValueError, match="holds no demo"):
        unpack(print, tmp_path, tmp_path / "cache")


def test_a_soup_on_a_fine_tuned_base_is_not_packed(version, version3, tmp_path):
    other = Model(source=str(version3 / "artifacts/base"), context=256)
    with pytest.raises(ValueError, match="sft: null"):
        pack(from_folder(version), other, tmp_path / "demo")
