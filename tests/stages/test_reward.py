"""The reward stage, whole, for every kind of reward."""

import numpy as np
import pytest
import torch
from pinned import default
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from bonesoup.files import file_digest, read_json, write_jsonl
from bonesoup.paths import REWARDS, SFT
from bonesoup.rewards.features import CHUNK, Trunk, features
from bonesoup.rewards.head import BOUND
from bonesoup.rewards.score import judge_folders, load_reward, load_rewards
from bonesoup.settings import schema
from bonesoup.stages import reward as stage

FIT = {"steps": 40, "batch": 8, "learning_rate": 0.01}


def prompt(k: int) -> list[dict]:
    return [{"role": "user", "content": ["baking", "chess", "hacking"][k % 3]}]


def pairs() -> list[dict]:
    """Write pairs in which the better response has more 'yes'."""
    words = [("yes yes yes", "no no"), ("yes Use", "no Use"), ("yes", "no"), ("Try yes", "Try no no")]
    return [
        {"id": str(k), "split": "train" if k < 48 else "validation", "prompt": prompt(k), "chosen": a, "rejected": b}
        for k, (a, b) in enumerate(words * 16)
    ]


def labelled(labels: list[float]) -> list[dict]:
    texts = ["no no no", "no yes no", "yes yes no", "yes yes yes"]
    return [
        {"id": str(k), "split": "train" if k < 48 else "validation", "prompt": prompt(k), "response": t, "label": label}
        for k, (t, label) in enumerate(list(zip(texts, labels, strict=True)) * 16)
    ]


@pytest.fixture
def project(tmp_path, monkeypatch, tiny_policy):
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    SFT.parent.mkdir()
    SFT.symlink_to(tiny_policy)
    return tmp_path


def settings(repository, reward: dict) -> schema.Settings:
    raw = default()
    raw["rewards"]["helpful"] = reward
    # Without the rules across keys: the embedded source gives no labels.
    return schema.Settings.model_validate(raw, context=schema.Check())


@pytest.fixture
def repository(request):
    return request.config.rootpath


def run(repository, reward: dict) -> dict:
    stage.run(settings(repository, reward), "helpful")
    return read_json(REWARDS / "helpful/reward.json")


SOURCE = "out/data/rewards/helpful.jsonl"


def test_pairs_learn_the_preference(project, repository):
    write_jsonl(project / SOURCE, pairs())
    metrics = run(repository, {"kind": "pairs", "source": SOURCE, **FIT})
    assert metrics["accuracy"] > 0.9
    assert metrics["n"] == 16
    good, bad = load_reward(REWARDS / "helpful").score([prompt(0)] * 2, ["yes yes", "no no"])
    assert good > bad


@pytest.mark.parametrize(("loss", "labels"), [("regression", [0.0, 0.3, 0.7, 1.0]), ("classification", [0, 0, 1, 1])])
def test_labels_learn_their_order(project, repository, loss, labels):
    write_jsonl(project / SOURCE, labelled(labels))
    metrics = run(repository, {"kind": "labels", "source": SOURCE, "loss": loss, **FIT, "steps": 80})
    assert metrics["accuracy"] > 0.8
    assert metrics["correlation"] > 0.8


def test_classification_refuses_graded_labels(project, repository):
    write_jsonl(project / SOURCE, labelled([0.0, 0.3, 0.7, 1.0]))
    with pytest.raises(ValueError, match=r"label of row 1 is 0.3: classification needs 0 or 1"):
        run(repository, {"kind": "labels", "source": SOURCE, "loss": "classification", **FIT})
    assert not (REWARDS / "helpful").exists()


def test_pretrained_is_taken_as_it_is_and_measured(project, repository, tiny_policy):
    write_jsonl(project / SOURCE, pairs())
    torch.manual_seed(1)
    AutoModelForSequenceClassification.from_pretrained(tiny_policy, num_labels=2).save_pretrained("theirs")
    AutoTokenizer.from_pretrained(tiny_policy).save_pretrained("theirs")
    reward = {"kind": "pretrained", "model": "theirs", "input": "chat", "logit": 1, "source": SOURCE}
    metrics = run(repository, reward)
    assert metrics["n"] == 16
    assert not (REWARDS / "helpful/model").exists()


def test_a_pickle_that_is_named_is_converted_once(project, repository, tiny_policy):
    write_jsonl(project / SOURCE, pairs())
    torch.manual_seed(1)
    classifier = AutoModelForSequenceClassification.from_pretrained(tiny_policy, num_labels=2)
    classifier.save_pretrained("theirs")
    AutoTokenizer.from_pretrained(tiny_policy).save_pretrained("theirs")
    reward = {"kind": "pretrained", "model": "theirs", "input": "chat", "logit": 1, "source": SOURCE}
    run(repository, reward)
    expected = load_reward(REWARDS / "helpful").score([prompt(0)], ["yes no"])
    torch.save({name: value.clone() for name, value in classifier.state_dict().items()}, "theirs/pytorch_model.bin")
    (project / "theirs/model.safetensors").unlink()
    with pytest.raises(ValueError, match="`convert_bin: true`"):
        run(repository, reward)
    run(repository, reward | {"convert_bin": True})
    (project / "theirs/pytorch_model.bin").unlink()
    assert load_reward(REWARDS / "helpful").score([prompt(0)], ["yes no"]) == expected
    assert (REWARDS / "helpful/model/model.safetensors").is_file()
    assert read_json(REWARDS / "helpful/reward.json")["converted"] == {"model": "theirs", "revision": None}


def with_test_rows(rows: list[dict]) -> list[dict]:
    """Give every fourth group of rows to the test split, and each row a prompt that decides who learns from it."""
    for k, row in enumerate(rows):
        row["prompt"] = [
            {"role": "user", "content": ["baking", "chess", "hacking", "explain"][k % 4] + " no" * (k // 4)}
        ]
        row["split"] = ("train", "train", "validation", "test")[k // 4 % 4]
    return rows


@pytest.mark.parametrize("rows", [pairs(), labelled([0.0, 0.3, 0.7, 1.0])], ids=["pairs", "labels"])
def test_a_head_and_its_judge_learn_on_prompts_of_their_own(project, repository, rows, capsys):
    write_jsonl(project / SOURCE, with_test_rows(rows))
    metrics = run(repository, {"kind": "head", "source": SOURCE})
    judge = read_json(REWARDS / "helpful/judge/reward.json")
    assert metrics["accuracy"] > 0.8
    assert judge["accuracy"] > 0.8
    assert (metrics["judge"], judge["judge"]) == (False, True)
    assert metrics["rows"] + judge["rows"] == 32
    assert metrics["head"]["weight"] != judge["head"]["weight"]
    folder = REWARDS / "helpful"
    (reward, other) = load_rewards([folder, *judge_folders([folder])])
    for scorer in (reward, other):
        good, bad = scorer.score([prompt(0)] * 2, ["yes yes yes", "no no no"])
        assert BOUND > good > bad > -BOUND
    # A second run takes the features from disk.
    capsys.readouterr()
    assert run(repository, {"kind": "head", "source": SOURCE}) == metrics
    assert "features of" not in capsys.readouterr().out


def test_features_of_a_killed_stage_are_not_computed_again(project, monkeypatch):
    texts, kept = [f"yes no {k}" for k in range(3 * CHUNK)], project / "kept"
    prompts = [prompt(k) for k in range(len(texts))]
    layers, whole = features(SFT, prompts, texts, project / "unbroken", "cpu", "x")
    compute, calls = Trunk.features, []

    def dying(self, *args):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return compute(self, *args)

    monkeypatch.setattr(Trunk, "features", dying)
    with pytest.raises(KeyboardInterrupt):
        features(SFT, prompts, texts, kept, "cpu", "x")
    assert features(SFT, prompts, texts, kept, "cpu", "x")[0] == layers
    assert len(calls) == 4, "two chunks before the kill, the torn one and its repetition"
    assert (features(SFT, prompts, texts, kept, "cpu", "x")[1] == whole).all()


def test_features_are_those_of_the_row_alone(project):
    """Rows of unlike length share a batch; padding changes nothing."""
    trunk = Trunk.load(SFT)
    prompts, texts = [prompt(k) for k in range(4)], ["yes", "no no no", "", "Use flour. Stay careful!"]
    together = trunk.features(prompts, texts, trunk.layers)
    alone = [trunk.features([p], [t], trunk.layers)[0] for p, t in zip(prompts, texts, strict=True)]
    np.testing.assert_allclose(together, np.stack(alone), atol=1e-5)


def test_function_needs_no_data(project, repository):
    source = str(repository / "src/bonesoup/rewards/brevity.py")
    metrics = run(repository, {"kind": "function", "function": "bonesoup.rewards.brevity:brevity", "source": source})
    assert "accuracy" not in metrics
    short, long = load_reward(REWARDS / "helpful").score([prompt(0)] * 2, ["yes", "yes yes yes"])
    assert short > long


def test_a_missing_function_is_named(project, repository):
    reward = {"kind": "function", "function": "bonesoup.rewards.brevity:wit", "source": "x.py"}
    with pytest.raises(ValueError, match=r"reward function 'bonesoup.rewards.brevity:wit' cannot be imported"):
        run(repository, reward)


@pytest.mark.parametrize("source", ["mine.py", "nowhere.py"])
def test_the_source_of_a_function_is_the_file_that_defines_it(project, repository, source):
    """DVC watches the source: another file there, even with the same text, hides an edit of the function."""
    (project / "mine.py").write_text((repository / "src/bonesoup/rewards/brevity.py").read_text())
    reward = {"kind": "function", "function": "bonesoup.rewards.brevity:brevity", "source": source}
    with pytest.raises(ValueError, match=rf"defined in .*rewards/brevity\.py, not in its source {source}"):
        run(repository, reward)
    assert not (REWARDS / "helpful").exists()


@pytest.mark.parametrize("kind", [{"kind": "pairs"}, {"kind": "labels", "loss": "regression"}])
def test_the_same_run_gives_the_same_bytes(project, repository, kind):
    """Everything after a reward is keyed by its digest."""
    write_jsonl(project / SOURCE, pairs() if kind["kind"] == "pairs" else labelled([0.0, 0.3, 0.7, 1.0]))
    digests = []
    for _ in range(2):
        run(repository, {**kind, "source": SOURCE, **FIT, "steps": 3})
        digests.append(file_digest(REWARDS / "helpful"))
    assert digests[0] == digests[1]


def test_a_dialogue_that_does_not_fit_is_refused_not_cut(project, repository, tiny_policy):
    """Cut at the end, chosen and rejected would be the same tokens."""
    rows = pairs()
    rows[5]["prompt"] = [{"role": "user", "content": "baking " * 70}]
    write_jsonl(project / SOURCE, rows)
    with pytest.raises(ValueError, match=r"1 dialogues with their chosen do not fit model.context = 64: row 5 has 7"):
        run(repository, {"kind": "pairs", "source": SOURCE, **FIT})
