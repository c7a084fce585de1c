"""Train all policies of a group in one process on one frozen base, each by RLOO as in TRL's RLOOTrainer.

A step: one generation for all policies; per policy the rewards, log pi and log pi_sft of its responses; the
leave-one-out advantage of row . rewards - kl * log(pi / pi_sft); one backward pass; clipping and AdamW.

The objective is the paper's: maximise sum_i row_i r_i(x, y) - kl * log(pi(y|x) / pi_sft(y|x)), without division by a
group's standard deviation, which would undo the scale of the row (Ahmadian et al., 2024, arXiv 2402.14740).

On the CPU an adapter is the same bit for bit whichever policies train next to it, since no matrix product mixes rows of
two policies, and whether or not training was interrupted.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM
from trl.trainer.utils import disable_dropout_in_model

from bonesoup.chat import never_sampled
from bonesoup.files import read_jsonl
from bonesoup.generation.sample import Response, render, responses_of
from bonesoup.resume import Due
from bonesoup.training.learner import Learner, newest_step
from bonesoup.training.log_probs import Batch, check_head, log_probabilities
from bonesoup.training.rollout import roll_out, uniforms
from bonesoup.training.stack import AdapterStack
from bonesoup.training.task import Collapse, Task, check_prompts, check_step
from bonesoup.weights.pretrained import load_model, load_tokenizer

# A weight row [objective] for all samples of a policy.
Row = Sequence[float]


def train_policies(
    task: Task, rows: Mapping[str, Row], scratch: Mapping[str, Path], until: int | None = None
) -> dict[str, Path | Collapse]:
    """Train the policies of `rows` {name: weight row} together, each from its checkpoint in `scratch`.

    A policy that collapses stops; the others continue.

    Args:
        until: end after this step of the full schedule. A later call without it continues there, with the same
            result as a run that never stopped.

    Returns:
        For each policy the folder in scratch with its adapter and steps.jsonl, or the reason for its collapse.

    Raises:
        ValueError: a reward that is not finite, or too few prompts for one step.
    """
    last = until or task.rl.steps
    folders = {name: _folder(scratch[name], until) for name in rows}
    done = {name: adapter for name, folder in folders.items() if (adapter := _adapter(folder, until)).is_dir()}
    results = {name: _still_within_limits(task, name, adapter) for name, adapter in done.items()}
    wanted = {name: (list(row), folders[name]) for name, row in rows.items() if name not in done}
    if not wanted:
        return results
    trainer = JointTrainer(task, wanted)
    for learner in trainer.learners:
        learner.resume(last)
    due = Due()
    while active := trainer.behind(last):
        trainer.step(active)
        late = due.now()
        for learner in (trainer.learners[k] for k in active if not trainer.learners[k].collapsed):
            if late or learner.step == last or learner.step % task.rl.checkpoint_every == 0:
                learner.save()
        if late:
            due.saved()
    for learner in trainer.learners:
        results[learner.name] = learner.collapsed or _adapter(learner.scratch, until)
        if not learner.collapsed:
            # Keep the checkpoint that a full run continues from.
            learner.finish(
                results[learner.name],
                trainer.stack.config,
                keep=learner.scratch == scratch[learner.name] and bool(until),
            )
    return results


def train_policy(task: Task, name: str, row: Row, scratch: Path) -> Path:
    """Train one policy; see `train_policies`.

    Raises:
        Collapse: KL above its limit, entropy below its limit.
        ValueError: a reward that is not finite, or too few prompts for one step.
    """
    result = train_policies(task, {name: row}, {name: scratch})[name]
    if isinstance(result, Collapse):
        raise result
    return result


def _folder(scratch: Path, until: int | None) -> Path:
    """Choose where a policy's state lies: a step that the full run has left behind is trained again in a folder
    within."""
    past = until and ((scratch / "adapter").is_dir() or newest_step(scratch) > until)
    return scratch / "short" if past and not _adapter(scratch, until).is_dir() else scratch


def _adapter(scratch: Path, until: int | None) -> Path:
    return scratch / (f"adapter-{until}" if until else "adapter")


def _still_within_limits(task: Task, name: str, adapter: Path) -> Path | Collapse:
    """Check the log of a policy that is trained already: the limits may be tighter by now."""
    try:
        for step in read_jsonl(adapter / "steps.jsonl"):
            check_step(name, step, task.rl.limits)
    except Collapse as collapse:
        return collapse
    return adapter


class JointTrainer:
    """One frozen base and the policies that train on it."""

    def __init__(self, task: Task, wanted: dict[str, tuple[list[float], Path]]):
        """Load the base and attach an untrained adapter for each of `wanted` {name: (row, scratch folder)}."""
        for name in wanted:
            check_prompts(task, name)
        self.task = task
        self.tokenizer = load_tokenizer(task.base)
        model = load_model(AutoModelForCausalLM, task.base)
        self.stack = AdapterStack(model, task.rl.lora, len(wanted), task.seed)
        self.model = model.to(task.device).eval()
        factors = self.stack.to_device()
        self._shared = not task.hardware.gradient_checkpointing
        if task.hardware.gradient_checkpointing:
            # Checkpointing works in training mode only. Dropout would make the policy differ from its rollouts and
            # reference.
            disable_dropout_in_model(self.model)
            self.model.gradient_checkpointing_enable({"use_reentrant": False})
        self.learners = [
            Learner(task, name, row, folder, factors[k]) for k, (name, (row, folder)) in enumerate(wanted.items())
        ]
        self.prompts = self.tokenizer(render(self.tokenizer, task.prompts), add_special_tokens=False)["input_ids"]
        self.barred = never_sampled(self.tokenizer)
        check_head(self.model, self.prompts[0])

    def behind(self, last: int) -> list[int]:
        """List the policies at the lowest step that is not `last`; those that collapsed are out."""
        open_ = [k for k, learner in enumerate(self.learners) if not learner.collapsed and learner.step < last]
        lowest = min((self.learners[k].step for k in open_), default=last)
        return [k for k in open_ if self.learners[k].step == lowest]

    def step(self, active: Sequence[int]) -> None:
        """Make one step of every policy in `active`, all of which are at the same step."""
        chosen = self.prompts_at(self.learners[active[0]].step)
        for k, responses in zip(active, self.roll_out(active, chosen), strict=True):
            facts = self.learn(k, chosen, responses)
            self.learners[k].update(facts)

    def prompts_at(self, step: int) -> list[int]:
        """List the prompts of a step counted from 0: the next ones in order, from the front where too few are left."""
        size = self.task.rl.prompts
        start = step % (len(self.prompts) // size) * size
        return list(range(start, start + size))

    def roll_out(self, active: Sequence[int], chosen: Sequence[int]) -> list[list[Response]]:
        """Sample responses [policy][prompt * generations]."""
        rl, generation = self.task.rl, self.task.generation
        noise = np.stack(
            [
                uniforms(self.task.seed, who.row, who.step, chosen, rl.generations, generation.max_new_tokens)
                for who in (self.learners[k] for k in active)
            ]
        )
        with self._precision():
            tokens = roll_out(
                self.stack,
                active,
                [self.prompts[i] for i in chosen],
                noise,
                generation.temperature,
                self.tokenizer.eos_token_id,
                self.tokenizer.pad_token_id,
                self.barred,
            )
        return [responses_of(self.tokenizer, rows) for rows in tokens]

    def learn(
        self, k: int, chosen: Sequence[int], responses: list[Response], weights: np.ndarray | None = None
    ) -> dict[str, float]:
        """Leave the gradient of policy `k` on responses [prompt * generations] to the prompts `chosen`.

        Args:
            weights: of the rewards, [objective] or, to change from sample to sample, [response, objective]; the
                policy's row if None.

        Returns:
            The entries of its log for this step.
        """
        rl, weights = self.task.rl, np.asarray(self.learners[k].row if weights is None else weights)
        asked = [self.task.prompts[i] for i in chosen for _ in range(rl.generations)]
        scores = self.scores(asked, responses)
        rewards = (scores * weights).sum(1)
        # Whole prompts, since an advantage needs all responses to one.
        prompts_a_pass = max(1, rl.micro_batch // rl.generations)
        kl, entropy = [], []
        for start in range(0, len(chosen), prompts_a_pass):
            part = slice(start * rl.generations, (start + prompts_a_pass) * rl.generations)
            batch = Batch.of(
                [self.prompts[i] for i in chosen[start : start + prompts_a_pass]],
                [response.token_ids for response in responses[part]],
                self.tokenizer.pad_token_id,
                self.model.device,
            )
            divergence, entropies = self._backward(k, batch, rewards[part], len(responses))
            kl.append(divergence)
            entropy.append(entropies)
        facts = {
            f"reward/{reward.objective}": float(mean)
            for reward, mean in zip(self.task.rewards, scores.mean(0), strict=False)
        }
        return facts | {
            "kl": float(torch.cat(kl).mean()),
            "entropy": float(torch.cat(entropy).mean()),
            "length": float(np.mean([len(response.token_ids) for response in responses])),
        }

    def scores(self, prompts: list, responses: list[Response]) -> np.ndarray:
        """Return normalised rewards [response, objective]."""
        texts = [response.text for response in responses]
        return self.task.normaliser(np.stack([r.score(prompts, texts) for r in self.task.rewards], axis=1))

    def _backward(self, k: int, batch: Batch, rewards: np.ndarray, of: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Add the gradient of these rows to the policy's.

        Each step draws new samples, so the ratio to the sampling policy is 1: its gradient is that of the
        log-probability, and nothing is clipped.

        Args:
            rewards: row . normalised rewards [row].
            of: number of rows in the whole step.

        Returns:
            log(pi / pi_sft) [row] and token entropies [token], in nats.
        """
        temperature, coefficient = self.task.generation.temperature, self.task.rl.kl
        reference = None
        if coefficient:
            with torch.no_grad(), self._precision():
                reference, _ = log_probabilities(self.model, batch, temperature, self._shared)
        self.model.train(not self._shared)
        with self.stack.using([k]):
            with self._precision():
                policy, entropy = log_probabilities(self.model, batch, temperature, self._shared)
            kl = torch.zeros_like(policy) if reference is None else policy.detach() - reference
            total = torch.tensor(rewards, device=kl.device) - coefficient * kl
            advantage = leave_one_out(total.view(-1, batch.responses)).flatten()
            # The adapter is still in use: checkpointed activations are recomputed here.
            (-(policy * advantage.to(policy.dtype)).sum() / of).backward()
        self.model.eval()
        return kl, entropy

    def _precision(self) -> AbstractContextManager:
        """Return the context for bfloat16 arithmetic on a GPU, as the other trainers use it."""
        return torch.autocast("cuda", torch.bfloat16) if self.task.device == "cuda" else nullcontext()


def leave_one_out(rewards: torch.Tensor) -> torch.Tensor:
    """Subtract from each reward [prompt, response] the mean of the other responses to its prompt."""
    others = (rewards.sum(1, keepdim=True) - rewards) / (rewards.shape[1] - 1)
    return rewards - others
