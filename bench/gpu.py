"""Check the joint trainer and steering on a GPU against the CPU, and measure both.

    make gpu                                   # converts the packaged base first, then runs this
    python bench/gpu.py --base out/base        # a converted base, or any folder of a causal language model
    python bench/gpu.py                        # random weights of the same shape, where nothing can be fetched

On a GPU machine without a package index this needs torch, transformers, peft and accelerate, and as wheels: trl,
pydantic (with pydantic-core, annotated-types, typing-inspection) and ruamel.yaml.

Settings are those of the profile smollm2. Compared with the same computation in float32 on the CPU: logits of the base
in bfloat16; a batch of rows at several preferences; the gradients of one training step on given rollouts, for every
policy. Measured: seconds a step, tokens a second while training and over a sweep of 11 preferences, peak memory next to
the estimate. Ends with status 1 if a comparison is outside its bound. Writes bench/gpu/<date>-<device>.json.
"""

import argparse
import json
import os
import platform
import sys
import time
import warnings
from dataclasses import replace
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
import transformers
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from bonesoup.generation.sample import Response, render
from bonesoup.generation.soup import Policy, Soup, SoupModel
from bonesoup.generation.sweep import sweep
from bonesoup.method.basis import circulant
from bonesoup.method.preferences import lattice
from bonesoup.rewards import computed
from bonesoup.rewards.normalise import Normaliser
from bonesoup.rewards.score import Reward
from bonesoup.settings import params, profiles
from bonesoup.settings.estimate import figures
from bonesoup.settings.evaluation import Estimate, Machine
from bonesoup.settings.schema import Settings
from bonesoup.training.goals import Fixed
from bonesoup.training.joint import train_policies
from bonesoup.training.task import Task
from bonesoup.training.trainer import JointTrainer
from bonesoup.weights.pretrained import load_model, load_tokenizer

PROMPTS = Path("src/bonesoup/data/prompts.jsonl")
# bfloat16 keeps 8 bits: logits may differ by about 2^-8 of their size per layer that adds up, gradients in direction
# by a few percent.
BOUNDS = {"logits": 0.05, "steering": 0.05, "cosine": 0.97}
STEPS = 10
BACKBONES = ("backbone-1", "backbone-2")


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--base", type=Path, help="folder of a converted base; random weights without it")
    arguments.add_argument("--device", default="cuda", help="cuda; cpu to try the script itself")
    arguments.add_argument("--steps", type=int, default=STEPS)
    chosen = arguments.parse_args()
    warnings.filterwarnings("ignore")
    if chosen.device == "cuda" and not torch.cuda.is_available():
        print("no CUDA device: nothing measured", file=sys.stderr)
        return 2
    with TemporaryDirectory() as folder:
        base = chosen.base or random_base(Path(folder) / "base")
        task = the_task(base, chosen.device, chosen.steps)
        facts = {
            "date": date.today().isoformat(),
            "base": str(chosen.base or "random weights"),
            **machine(chosen.device),
        }
        facts["logits"] = say("logits", logits_agree(base, chosen.device, task))
        facts["step"] = say("one training step", gradients_agree(task, Path(folder)))
        facts["training"] = say("joint training", training(task, Path(folder) / "run") | estimated(task))
        facts["steering"] = say("steering", steering(task, Path(folder) / "run"))
    facts["verdict"] = verdict(facts)
    out = Path("bench/gpu") / f"{facts['date']}-{facts['device'].lower().replace(' ', '-')}.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(facts, indent=2) + "\n")
    print(f"{facts['verdict']}; written to {out}")
    return int(facts["verdict"] != "every comparison is within its bound")


def machine(device: str) -> dict[str, str]:
    name = torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine()
    return {"device": name, "torch": torch.__version__, "transformers": transformers.__version__}


def say(name: str, facts: dict) -> dict:
    print(f"{name}: " + ", ".join(f"{key} {value:.4g}" for key, value in facts.items()), flush=True)
    return facts


def random_base(folder: Path) -> Path:
    """Save a Llama of SmolLM2-135M's shape with random weights, and a byte tokenizer with a chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    specials = ["<|im_start|>", "<|im_end|>"]
    words = {word: k for k, word in enumerate([*specials, *alphabet])}
    inner = Tokenizer(models.BPE(words, []))
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        bos_token=specials[0],
        eos_token=specials[1],
        pad_token=specials[1],
        model_max_length=2048,
    )
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
        num_key_value_heads=3, tie_word_embeddings=True, max_position_embeddings=2048,
        bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def the_settings() -> Settings:
    return params.check(profiles.plain(profiles.compose("smollm2")), "smollm2")


def the_task(base: Path, device: str, steps: int) -> Task:
    """Make the trainer's task of the profile smollm2: two specialists and two backbones on computed rewards."""
    settings = the_settings()
    prompts = [[{"role": "user", "content": json.loads(line)["prompt"]}] for line in PROMPTS.open()]
    rewards = [Reward(name, scorer(getattr(computed, name))) for name in settings.objectives]
    return Task(
        base=base,
        prompts=prompts,
        rewards=rewards,
        normaliser=Normaliser(np.zeros(len(rewards)), np.ones(len(rewards))),
        rl=settings.rl.model_copy(update={"steps": steps, "checkpoint_every": steps}),
        generation=settings.generation,
        hardware=settings.hardware,
        seed=0,
        device=device,
    )


def scorer(function):
    return lambda prompts, texts: np.array(function(prompts, texts))


def the_rows() -> dict[str, list[float]]:
    backbones = circulant(2, 0.7).tolist()
    return {
        "specialist-1": [1.0, 0.0],
        "specialist-2": [0.0, 1.0],
        "backbone-1": backbones[0],
        "backbone-2": backbones[1],
    }


def logits_agree(base: Path, device: str, task: Task) -> dict[str, float]:
    """Compare the base's logits in bfloat16 on the device with float32 on the CPU, on eight prompts."""
    tokenizer = load_tokenizer(base)
    inputs = tokenizer(render(tokenizer, task.prompts[:8]), return_tensors="pt", padding=True, add_special_tokens=False)
    real = inputs["attention_mask"].bool()
    with torch.inference_mode():
        here = load_model(AutoModelForCausalLM, base).to(device)(**inputs.to(device)).logits.float().cpu()[real]
        there = load_model(AutoModelForCausalLM, base).float()(**inputs.to("cpu")).logits[real]
    return {
        "relative_error": float((here - there).norm() / there.norm()),
        "same_next_token": float((here.argmax(-1) == there.argmax(-1)).float().mean()),
    }


def gradients_agree(task: Task, folder: Path) -> dict[str, float]:
    """Compare every policy's gradient of one step on the CPU's rollouts: cosine between device and CPU in float32."""
    names = the_rows()
    wanted = {
        side: {name: (Fixed(row), folder / side / name) for name, row in names.items()} for side in ("here", "there")
    }
    there = JointTrainer(replace(task, device="cpu"), wanted["there"])
    there.model.float()
    here = JointTrainer(task, wanted["here"])
    worst = 1.0
    prompts = there.prompts_at(0)
    rollouts: list[list[Response]] = there.roll_out(range(len(names)), prompts)
    for k, responses in enumerate(rollouts):
        gradients = []
        for trainer in (there, here):
            trainer.learn(k, prompts, responses)
            gradients.append(torch.cat([p.grad.float().flatten().cpu() for p in trainer.learners[k].parameters]))
        worst = min(worst, float(torch.cosine_similarity(*gradients, dim=0)))
    return {"worst_cosine": worst}


def training(task: Task, folder: Path) -> dict[str, float]:
    """Train two specialists and two backbones together; return seconds a step, tokens a second, peak memory in GB."""
    rows = the_rows()
    if task.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    trained = train_policies(task, rows, {name: folder / name for name in rows})
    seconds = time.perf_counter() - started
    steps = [json.loads(line) for path in trained.values() for line in (path / "steps.jsonl").open()]
    responses = task.rl.prompts * task.rl.generations
    facts = {
        "policies": len(rows),
        "steps": task.rl.steps,
        "seconds_a_step": seconds / task.rl.steps,
        "sampled_tokens_a_second": sum(step["length"] for step in steps) * responses / seconds,
    }
    if task.device == "cuda":
        facts["peak_memory_gb"] = torch.cuda.max_memory_allocated() / 1e9
    return facts


def estimated(task: Task) -> dict[str, float]:
    """Estimate the memory in GB that PyTorch allocates in `training`, by the formula of `bonesoup profile --estimate`.

    The formula is for one policy: adapters and the KV cache of the rollouts count once for each.
    """
    model = load_model(AutoModelForCausalLM, task.base)
    config, layer = model.config, model.base_model.layers[0]
    matrices = {
        name.rpartition(".")[2]: [part.in_features, part.out_features]
        for name, part in layer.named_modules()
        if isinstance(part, torch.nn.Linear)
    }
    sizes = Estimate(
        parameters=model.num_parameters(),
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        kv_width=matrices["k_proj"][1],
        vocabulary=config.vocab_size,
        matrices=matrices,
        rewards={},
        prompt_tokens=40,
        machine=Machine(name="any", memory=1, tflops=1, float32_tflops=1, bandwidth=1),
    )
    parts = figures(the_settings().model_copy(update={"estimate": sizes})).memory
    policies = len(the_rows())
    fixed = parts["weights"] + policies * parts["adapter and optimiser"]
    return {
        "estimated_memory_gb": fixed + max(policies * parts["KV cache of rollouts"], parts["activations of an update"])
    }


def steering(task: Task, folder: Path) -> dict[str, float]:
    """Sweep 64 prompts over 11 preferences with the trained backbones; compare a mixed batch with the CPU's."""
    rows = the_rows()
    policies = tuple(
        Policy(name, folder / name / "adapter", tuple(rows[name])) for name in ("backbone-1", "backbone-2")
    )
    objectives = tuple(reward.objective for reward in task.rewards)
    soup = Soup("bone", task.base, objectives, mapping="solve", policies=policies, preferences=())
    model = SoupModel.load(soup, task.device)
    limits = task.generation
    prompts = task.prompts[:64]
    started, tokens = time.perf_counter(), 0
    for _, responses, _ in sweep(
        model,
        soup.coefficients(lattice(2, 10)),
        prompts,
        list(range(len(prompts))),
        limits.temperature,
        limits.max_new_tokens,
        704,
    ):
        tokens += sum(len(response.token_ids) for response in responses)
    seconds = time.perf_counter() - started
    return {
        "sweep_seconds": seconds,
        "sweep_tokens_a_second": tokens / seconds,
        "relative_error": mixed_error(task, soup),
    }


def mixed_error(task: Task, soup: Soup) -> float:
    """Return the relative error of one batch's logits at 11 preferences, device in bfloat16 against CPU in float32."""
    grid = lattice(2, 10)
    logits = []
    for device in (task.device, "cpu"):
        model = SoupModel.load(soup, device)
        if device == "cpu":
            model.model.float()
        model.mix(soup.coefficients(grid))
        inputs = model.tokenizer(
            render(model.tokenizer, task.prompts[:1]), return_tensors="pt", add_special_tokens=False
        )
        ids = inputs["input_ids"].repeat(len(grid), 1).to(device)
        with torch.inference_mode():
            logits.append(model.model(input_ids=ids).logits.float().cpu())
    return float((logits[0] - logits[1]).norm() / logits[1].norm())


def verdict(facts: dict) -> str:
    outside = []
    if facts["logits"]["relative_error"] > BOUNDS["logits"]:
        outside.append("logits")
    if facts["step"]["worst_cosine"] < BOUNDS["cosine"]:
        outside.append("gradients of a step")
    if facts["steering"]["relative_error"] > BOUNDS["steering"]:
        outside.append("steering")
    return f"outside their bounds: {', '.join(outside)}" if outside else "every comparison is within its bound"


if __name__ == "__main__":
    sys.exit(main())
