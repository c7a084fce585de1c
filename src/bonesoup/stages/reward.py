"""reward@OBJECTIVE: train, fit, load or import the reward of one objective, and measure it on held-out rows."""

import shutil
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from bonesoup.files import appearing, digest, file_digest, read_json, read_jsonl, write_json
from bonesoup.imports import code_digest
from bonesoup.paths import METRICS, REWARDS, SCRATCH, SFT
from bonesoup.rewards.head import JUDGE
from bonesoup.rewards.score import load_classifier, load_reward, source_of
from bonesoup.settings import schema
from bonesoup.settings.schema import Settings
from bonesoup.weights.pretrained import load_tokenizer


def run(settings: Settings, key: str) -> None:
    reward = settings.rewards[key]
    spec = {"objective": key, "kind": reward.kind}
    with appearing(REWARDS / key) as folder:
        folder.mkdir()
        if reward.kind == "function":
            check_source(reward.function, reward.source)
            spec |= {"function": reward.function, "digest": file_digest(Path(reward.source))}
            write_json(folder / "reward.json", spec)
        elif reward.kind == "head":
            spec = fit_heads(settings, key, reward, folder)
        else:
            if reward.kind == "pretrained":
                spec |= adopt(reward, folder)
            else:
                spec |= train(settings, key, reward, folder)
            write_json(folder / "reward.json", spec)
            spec |= measured(folder, settings.device, read(reward, "validation"))
    write_json(METRICS / f"reward-{key}.json", {k: v for k, v in spec.items() if type(v) in (float, int)})
    if "accuracy" in spec:
        interval = f"[{spec['accuracy_low']:.3f}, {spec['accuracy_high']:.3f}]"
        print(f"reward@{key}: held-out accuracy {spec['accuracy']:.3f} {interval} on {spec['n']}")


def read(reward: schema.Reward, split: str) -> list[dict]:
    return [row for row in read_jsonl(Path(reward.source)) if row["split"] == split]


def measured(folder: Path, device: str, rows: list[dict]) -> dict:
    """Measure the reward in `folder`, and add what comes out to its reward.json."""
    from bonesoup.rewards.held_out import held_out

    facts = held_out(load_reward(folder, device), rows)
    write_json(folder / "reward.json", read_json(folder / "reward.json") | facts)
    return facts


def adopt(reward: schema.PretrainedReward, folder: Path) -> dict:
    """Name a model that exists, or convert its pickle into `folder`."""
    spec = reward.model_dump(include={"input", "logit"})
    named = reward.model_dump(include={"model", "revision"})
    if not reward.convert_bin:
        return spec | named
    load_classifier(reward.model, reward.revision, convert_bin=True).save_pretrained(folder / "model")
    load_tokenizer(reward.model, reward.revision).save_pretrained(folder / "model")
    return spec | {"converted": named}


def train(settings: Settings, key: str, reward: schema.PairReward | schema.LabelReward, folder: Path) -> dict:
    """Train a whole model into `folder`."""
    # Imported here, since it takes 8 s and no other kind of reward needs TRL.
    from bonesoup.rewards.train import train_reward

    rows = read(reward, "train")
    libraries = [version(package) for package in ("torch", "transformers", "trl", "accelerate", "peft")]
    machine = [settings.seed, settings.threads, settings.device]
    code = code_digest("bonesoup.rewards.train")
    scratch = SCRATCH / "rewards" / digest(reward.model_dump(), rows, file_digest(SFT), libraries, machine, code)
    spec = train_reward(f"reward@{key}", SFT, rows, reward, settings.seed, folder / "model", scratch, settings.device)
    shutil.rmtree(scratch, ignore_errors=True)
    return spec


def fit_heads(settings: Settings, key: str, reward: schema.HeadReward, folder: Path) -> dict:
    """Fit the reward and its judge on disjoint prompts, and measure both on the test split.

    The validation split chooses layer and penalty.
    """
    from bonesoup.rewards.fit_head import fit, parted

    train, validation = (parted(read(reward, split), reward.judge) for split in ("train", "validation"))
    parts = zip(train, validation, strict=True)
    spec = {}
    for place, judge, (rows, validation) in zip((folder, folder / JUDGE), (False, True), parts, strict=True):
        name = f"reward@{key}, judge" if judge else f"reward@{key}"
        head = fit(SFT, rows, validation, SCRATCH / "features", settings.device, name)
        facts = {"objective": key, "kind": "head", "model": str(SFT), "head": asdict(head), "judge": judge}
        write_json(place / "reward.json", facts | {"rows": len(rows)})
        measures = measured(place, settings.device, read(reward, "test"))
        print(
            f"{name}: layer {head.layer}, accuracy {measures['accuracy']:.3f} on {measures['n']} test rows", flush=True
        )
        spec |= {f"judge_{fact}": value for fact, value in measures.items()} if judge else measures
    return spec


def check_source(name: str, source: str) -> None:
    """Check that DVC watches the right file: if another one ran, an edited reward would re-run nothing.

    Raises:
        ValueError: the function cannot be imported, or another file defines it.
    """
    file = source_of(name)
    if not (file and Path(source).exists() and Path(file).samefile(source)):
        raise ValueError(f"reward function {name!r} is defined in {file}, not in its source {source}: correct `source`")
