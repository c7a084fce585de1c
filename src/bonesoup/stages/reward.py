"""reward@OBJECTIVE: train, load or import the reward of one objective, and measure it on held-out rows."""

from pathlib import Path

from bonesoup.config import Settings
from bonesoup.files import appearing, file_digest, read_jsonl, write_json
from bonesoup.paths import METRICS, REWARDS, SFT
from bonesoup.rewards.score import load_function, load_reward
from bonesoup.rewards.train import held_out, train_reward


def run(settings: Settings, key: str) -> None:
    reward = settings.rewards[key]
    spec = {"objective": key, "kind": reward.kind}
    with appearing(REWARDS / key) as folder:
        folder.mkdir()
        if reward.kind == "function":
            load_function(reward.function)
            spec |= {"function": reward.function, "digest": file_digest(Path(reward.source))}
        elif reward.kind == "pretrained":
            spec |= reward.model_dump(include={"model", "revision", "input", "logit"})
        else:
            rows = [row for row in read_jsonl(Path(reward.source)) if row["split"] == "train"]
            spec |= train_reward(f"reward@{key}", SFT, rows, reward, settings.seed, folder / "model", settings.device)
        write_json(folder / "reward.json", spec)
        if reward.kind != "function":
            rows = [row for row in read_jsonl(Path(reward.source)) if row["split"] == "validation"]
            spec |= held_out(load_reward(folder, settings.device), rows)
            write_json(folder / "reward.json", spec)
    write_json(METRICS / f"reward-{key}.json", {k: v for k, v in spec.items() if isinstance(v, float | int)})
    if "accuracy" in spec:
        interval = f"[{spec['accuracy_low']:.3f}, {spec['accuracy_high']:.3f}]"
        print(f"reward@{key}: held-out accuracy {spec['accuracy']:.3f} {interval} on {spec['n']}")
