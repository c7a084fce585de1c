"""Train one adapter for one weight row: RLOO by TRL on a weighted sum of normalised rewards.

The objective is the paper's: maximise sum_i row_i r_i(x, y) - kl * log(pi(y|x) / pi_sft(y|x)), a plain weighted
sum, with a leave-one-out baseline and no division by a group's standard deviation (which would undo the scale
of the row). Backbones, Rewarded Soup's specialists and oracles differ only in their row.

Training is resumable bit for bit: every optimiser step draws a fresh batch of rollouts, and a checkpoint
holds adapter, optimiser, schedule and random states.
"""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

from accelerate import PartialState
from datasets import Dataset
from transformers import AutoModelForCausalLM, TrainerCallback
from trl import RLOOConfig, RLOOTrainer

from bonesoup.callbacks import quiet
from bonesoup.chat import never_sampled
from bonesoup.files import appearing, write_json
from bonesoup.progress import Throttle
from bonesoup.training.scratch import adapter_folder, state_folder
from bonesoup.training.task import Task, check_log, check_prompts, check_step, step_line
from bonesoup.weights.lora import lora_config, settle_config
from bonesoup.weights.pretrained import load_model, load_tokenizer

COMPLETE = "complete.json"


def train_policy(task: Task, name: str, row: list[float], scratch: Path, until: int | None = None) -> Path:
    """Train the policy of `row` [objective] from its checkpoint in `scratch`, if there is one.

    Args:
        until: end after this step of the full schedule. A later call without it continues from the checkpoint there,
            with the same result as a run that never stopped.

    Returns:
        Folder with the complete adapter and steps.jsonl. It stays in `scratch` for other slots with this row.

    Raises:
        Collapse: KL above its limit, entropy below its limit.
        ValueError: a reward that is not finite, or too few prompts for one step.
    """
    check_prompts(task, name)
    last = until or task.rl.steps
    state = state_folder(scratch, until, read_step(last_checkpoint(scratch)))
    done = adapter_folder(state, until)
    if done.is_dir():
        check_log(name, done, task.rl.limits)
        return done
    trainer = _trainer(task, row, state)
    processes = trainer.accelerator
    # Killed between this checkpoint and its adapter: train the last step again.
    torn = [path for path in state.glob("checkpoint-*") if until and read_step(path) >= until]
    checkpoint = last_checkpoint(state, torn)
    # Every process looks before the main one changes anything.
    processes.wait_for_everyone()
    if processes.is_main_process:
        for path in torn:
            shutil.rmtree(path)
    log = _StepLog(name, task, state / "steps.jsonl", read_step(checkpoint), processes.is_main_process)
    trainer.add_callback(log)
    if until:
        trainer.add_callback(_StopAt(until))
    quiet(trainer)
    if checkpoint and processes.is_main_process:
        print(f"{name}: resuming at step {read_step(checkpoint)} of {last}", flush=True)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if trainer.state.global_step != last:
        raise RuntimeError(f"{name}: training ended at step {trainer.state.global_step} of {last}")
    # If the weights are sharded over processes, all of them must take part in gathering.
    weights = processes.get_state_dict(trainer.model_wrapped) if trainer.is_fsdp_enabled else None
    if processes.is_main_process:
        with appearing(done) as folder:
            trainer.model.save_pretrained(folder, state_dict=weights, selected_adapters=["default"])
            (folder / "README.md").unlink(missing_ok=True)
            settle_config(folder)
            shutil.copyfile(state / "steps.jsonl", folder / "steps.jsonl")
        # Keep the checkpoint that a full run continues from.
        if not until or state != scratch:
            for leftover in state.glob("checkpoint-*"):
                shutil.rmtree(leftover)
    processes.wait_for_everyone()
    return done


def _trainer(task: Task, row: list[float], scratch: Path) -> RLOOTrainer:
    rl, vllm = task.rl, task.hardware.vllm
    batch = rl.prompts * rl.generations
    processes = PartialState(cpu=task.device == "cpu").num_processes
    if batch % (rl.micro_batch * processes):
        raise ValueError(
            f"rl.micro_batch: {processes} processes with {rl.micro_batch} rows each do not divide "
            f"prompts * generations = {batch}"
        )
    if vllm and find_spec("vllm") is None:
        raise ValueError("hardware.vllm: vLLM is not installed; `pip install vllm`, or set it to false")
    tokenizer = load_tokenizer(task.base, padding_side="left")
    barred = never_sampled(tokenizer)
    arguments = RLOOConfig(
        output_dir=str(scratch),
        max_steps=rl.steps,
        per_device_train_batch_size=rl.micro_batch,
        gradient_accumulation_steps=batch // rl.micro_batch // processes,
        # One generation batch per optimiser step: on-policy, and nothing buffered that a checkpoint would lose.
        generation_batch_size=batch,
        num_generations=rl.generations,
        max_completion_length=task.generation.max_new_tokens,
        temperature=task.generation.temperature,
        top_k=0,
        top_p=1.0,
        # vLLM excludes a token by the lowest bias it accepts.
        generation_kwargs={"logit_bias": dict.fromkeys(barred, -100)} if vllm else {"suppress_tokens": barred},
        use_vllm=vllm,
        vllm_mode="colocate",
        beta=rl.kl,
        reward_weights=list(row),
        learning_rate=rl.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=rl.warmup_steps,
        weight_decay=0.0,
        max_grad_norm=rl.max_grad_norm,
        # Dropout would make the policy differ from its rollouts, and from its reference at step 1.
        disable_dropout=True,
        shuffle_dataset=False,
        seed=task.seed,
        logging_steps=1,
        save_strategy="steps",
        save_steps=rl.checkpoint_every,
        save_total_limit=2,
        report_to="none",
        disable_tqdm=True,
        use_cpu=task.device == "cpu",
        bf16=task.device == "cuda",
        gradient_checkpointing=task.hardware.gradient_checkpointing,
        dataloader_pin_memory=False,
    )
    model = load_model(AutoModelForCausalLM, task.base)
    return RLOOTrainer(
        model=model,
        args=arguments,
        processing_class=tokenizer,
        reward_funcs=[_reward_function(task, i) for i in range(len(row))],
        train_dataset=Dataset.from_list([{"prompt": prompt} for prompt in task.prompts]),
        peft_config=lora_config(rl.lora, "CAUSAL_LM", model),
    )


def _reward_function(task: Task, i: int) -> Callable[..., list[float]]:
    """Return normalised reward i in the form TRL calls; it scores the decoded tokens that are trained on.

    TRL averages what it logs, the judge's score, over the processes.
    """
    reward, mean, std = task.rewards[i], task.normaliser.mean[i], task.normaliser.std[i]
    judge = task.judges.get(reward.objective)

    def score(prompts, completions, *, log_metric, **_) -> list[float]:
        responses = [completion[0]["content"] for completion in completions]
        scores = (reward.score(prompts, responses) - mean) / std
        if judge:
            log_metric(f"judge/{reward.objective}", judge.mean_score(prompts, responses))
        return scores.tolist()

    score.__name__ = reward.objective
    return score


def last_checkpoint(scratch: Path, without: Sequence[Path] = ()) -> Path | None:
    """Return the newest complete checkpoint; one torn by a kill while saving is ignored."""
    complete = [path.parent for path in scratch.glob(f"checkpoint-*/{COMPLETE}")]
    return max((path for path in complete if path not in without), key=read_step, default=None)


def read_step(checkpoint: Path | None) -> int:
    return int(checkpoint.name.removeprefix("checkpoint-")) if checkpoint else 0


class _StopAt(TrainerCallback):
    """Ends training after a step of a longer schedule, with a checkpoint to go on from."""

    def __init__(self, step: int):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step >= self.step:
            control.should_save = True
            control.should_training_stop = True


class _StepLog(TrainerCallback):
    """Writes steps.jsonl, shows progress, marks whole checkpoints, and stops a run that has collapsed."""

    def __init__(self, name: str, task: Task, path: Path, start: int, main: bool):
        self.name, self.task, self.path, self.main = name, task, path, main
        self.throttle = Throttle()
        kept = path.read_text().splitlines()[:start] if path.exists() else []
        for line in kept:
            check_step(name, json.loads(line), task.rl.limits)
        if main:
            with appearing(path) as temporary:
                temporary.write_text("".join(line + "\n" for line in kept))

    def on_log(self, args, state, control, logs=None, **kwargs):
        if "reward" not in logs:
            return
        step = self._step(state.global_step, logs)
        if self.main:
            with open(self.path, "a") as out:
                out.write(json.dumps(step) + "\n")
            if state.global_step == state.max_steps or self.throttle.ready():
                print(step_line(self.name, step, self.task.rl.steps, self.task.rewards), flush=True)
        check_step(self.name, step, self.task.rl.limits)

    def on_save(self, args, state, control, **kwargs):
        # Each process has written its part of the checkpoint.
        PartialState().wait_for_everyone()
        if not self.main:
            return
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        # The log must be on disk before the checkpoint counts, or a resumed run would miss steps of it.
        with open(self.path) as out:
            os.fsync(out.fileno())
        write_json(folder / COMPLETE, {"step": state.global_step})

    def _step(self, number: int, logs: dict) -> dict[str, float]:
        length = float(logs["completions/mean_length"])
        step = {"step": number}
        for reward in self.task.rewards:
            step[f"reward/{reward.objective}"] = float(logs[f"rewards/{reward.objective}/mean"])
        step |= {key: float(logs[key]) for key in (f"judge/{name}" for name in self.task.judges)}
        # TRL logs the mean over tokens; times tokens per response it is the mean over responses.
        step["kl"] = float(logs["kl"]) * length if "kl" in logs else 0.0
        return step | {
            "entropy": float(logs["entropy"]),
            "length": length,
            "grad_norm": float(logs["grad_norm"]),
        }
