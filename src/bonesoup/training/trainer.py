"""Train several policies in one process on one frozen base, each by RLOO as in TRL's RLOOTrainer.

A step: one generation for all policies; per policy the rewards, log pi and log pi_sft of its responses; the
leave-one-out advantage of row . rewards - kl * log(pi / pi_sft); one backward pass; clipping and AdamW. A policy's
`Goal` says which row each prompt has, what the policy reads there, and which adapters answer.

The objective is that of `rloo` (Ahmadian et al., 2024, arXiv 2402.14740).

On the CPU an adapter is the same bit for bit whichever policies train next to it, since no matrix product mixes rows of
two policies, and whether or not training was interrupted.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM
from trl.trainer.utils import disable_dropout_in_model

from bonesoup.chat import never_sampled
from bonesoup.generation.reward_context import in_context
from bonesoup.generation.sample import Messages, Response, render, responses_of
from bonesoup.resume import Due
from bonesoup.rewards.score import score_all
from bonesoup.training.goals import Goal, Row
from bonesoup.training.learner import Learner
from bonesoup.training.log_probs import Batch, check_head, log_probabilities
from bonesoup.training.reward_tokens import silence
from bonesoup.training.rollout import roll_out, uniforms
from bonesoup.training.stack import AdapterStack, Mixture
from bonesoup.training.task import Task, check_prompts
from bonesoup.weights.pretrained import load_model, load_tokenizer


class JointTrainer:
    """One frozen base and the policies that train on it."""

    def __init__(self, task: Task, wanted: Mapping[str, tuple[Goal, Path]]):
        """Load the base and attach untrained adapters for each of `wanted` {name: (goal, scratch folder)}."""
        for name in wanted:
            check_prompts(task, name)
        self.task = task
        self.tokenizer = load_tokenizer(task.base)
        model = load_model(AutoModelForCausalLM, task.base)
        counts = [goal.adapters for goal, _ in wanted.values()]
        self.stack = AdapterStack(model, task.rl.lora, sum(counts), task.seed)
        self.model = model.to(task.device).eval()
        factors = self.stack.to_device()
        self._shared = not task.hardware.gradient_checkpointing
        if task.hardware.gradient_checkpointing:
            # Checkpointing works in training mode only. Dropout would make the policy differ from its rollouts and
            # reference.
            disable_dropout_in_model(self.model)
            self.model.gradient_checkpointing_enable({"use_reentrant": False})
        # Place in the stack of each learner's first adapter.
        self._first = np.cumsum([0, *counts]).tolist()
        self.learners = [
            Learner(task, name, goal, folder, factors[slice(*place)])
            for (name, (goal, folder)), place in zip(wanted.items(), pairwise(self._first), strict=True)
        ]
        self.prompts = self._encoded(task.prompts)
        self.barred = never_sampled(self.tokenizer)
        if silent := [token for goal, _ in wanted.values() for token in goal.silent]:
            silence(self.model, self.tokenizer.convert_tokens_to_ids(silent))
        check_head(self.model, self.prompts[0])

    def train(self, last: int) -> None:
        """Train every policy to the step `last`, from its newest checkpoint; one that collapses stops."""
        for learner in self.learners:
            learner.resume(last)
        due = Due()
        while active := self.behind(last):
            self.step(active)
            late = due.now()
            for learner in (self.learners[k] for k in active if not self.learners[k].collapsed):
                if late or learner.step == last or learner.step % self.task.rl.checkpoint_every == 0:
                    learner.save()
            if late:
                due.saved()

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
        generation, steps = self.task.generation, [self.learners[k].step for k in active]
        rows = [self.learners[k].goal.rows(step, len(chosen)) for k, step in zip(active, steps, strict=True)]
        size = self.task.rl.generations, generation.max_new_tokens
        noise = [uniforms(self.task.seed, each, step, chosen, *size) for each, step in zip(rows, steps, strict=True)]
        with self._precision():
            tokens = roll_out(
                self.stack,
                [self._mixture(k, each) for k, each in zip(active, rows, strict=True)],
                [self._asked(k, chosen, each) for k, each in zip(active, rows, strict=True)],
                np.stack(noise),
                generation.temperature,
                self.tokenizer.eos_token_id,
                self.tokenizer.pad_token_id,
                self.barred,
            )
        return [responses_of(self.tokenizer, rows) for rows in tokens]

    def learn(self, k: int, chosen: Sequence[int], responses: list[Response]) -> dict[str, float]:
        """Leave the gradient of policy `k` on responses [prompt * generations] to the prompts `chosen`.

        Returns:
            The entries of its log for this step.
        """
        rl, learner = self.task.rl, self.learners[k]
        rows = learner.goal.rows(learner.step, len(chosen))
        read_prompts = self._asked(k, chosen, rows)
        asked = [self.task.prompts[i] for i in chosen for _ in range(rl.generations)]
        scores = self.scores(asked, responses)
        rewards = (scores * np.repeat(np.asarray(rows, float), rl.generations, axis=0)).sum(1)
        # Whole prompts, since an advantage needs all responses to one.
        prompts_a_pass = max(1, rl.micro_batch // rl.generations)
        kl, entropy = [], []
        for start in range(0, len(chosen), prompts_a_pass):
            part = slice(start * rl.generations, (start + prompts_a_pass) * rl.generations)
            here = slice(start, start + prompts_a_pass)
            plain, read = (
                Batch.of(
                    prompts[here],
                    [response.token_ids for response in responses[part]],
                    self.tokenizer.pad_token_id,
                    self.model.device,
                )
                for prompts in ([self.prompts[i] for i in chosen], read_prompts)
            )
            mixture = self._mixture(k, rows[here])
            divergence, entropies = self._backward(mixture, read, plain, rewards[part], len(responses))
            kl.append(divergence)
            entropy.append(entropies)
        facts = {
            f"reward/{reward.objective}": float(mean)
            for reward, mean in zip(self.task.rewards, scores.mean(0), strict=True)
        }
        texts = [response.text for response in responses]
        facts |= {f"judge/{name}": judge.mean_score(asked, texts) for name, judge in self.task.judges.items()}
        return facts | {
            "kl": float(torch.cat(kl).mean()),
            "entropy": float(torch.cat(entropy).mean()),
            "length": float(np.mean([len(response.token_ids) for response in responses])),
        }

    def scores(self, prompts: list, responses: list[Response]) -> np.ndarray:
        """Return normalised rewards [response, objective]."""
        texts = [response.text for response in responses]
        return self.task.normaliser(score_all(self.task.rewards, prompts, texts))

    def _encoded(self, prompts: list[Messages]) -> list[list[int]]:
        return self.tokenizer(render(self.tokenizer, prompts), add_special_tokens=False)["input_ids"]

    def _asked(self, k: int, chosen: Sequence[int], rows: Sequence[Row]) -> list[list[int]]:
        """Return the token ids of prompts as policy `k` reads them."""
        learner = self.learners[k]
        if contexts := learner.goal.contexts(learner.step, rows):
            prompts = [self.task.prompts[i] for i in chosen]
            return self._encoded([in_context(*pair) for pair in zip(prompts, contexts, strict=True)])
        return [self.prompts[i] for i in chosen]

    def _mixture(self, k: int, rows: Sequence[Row]) -> Mixture:
        return self.learners[k].goal.mixture(self._first[k], rows)

    def _backward(
        self, policy: Mixture, batch: Batch, plain: Batch, rewards: np.ndarray, of: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Add the gradient of these rows to that of the adapters in use.

        Each step draws new samples, so the ratio to the sampling policy is 1: its gradient is that of the
        log-probability, and nothing is clipped.

        Args:
            batch: the prompts as the policy reads them.
            plain: the prompts as the SFT policy reads them.
            rewards: row . normalised rewards [row].
            of: number of rows in the whole step.

        Returns:
            log(pi / pi_sft) [row] and token entropies [token], in nats.
        """
        temperature, coefficient = self.task.generation.temperature, self.task.rl.kl
        reference = None
        if coefficient:
            with torch.no_grad(), self._precision():
                reference, _ = log_probabilities(self.model, plain, temperature, self._shared)
        self.model.train(not self._shared)
        with self.stack.using([policy]):
            with self._precision():
                log_probs, entropy = log_probabilities(self.model, batch, temperature, self._shared)
            kl = torch.zeros_like(log_probs) if reference is None else log_probs.detach() - reference
            total = torch.tensor(rewards, device=kl.device) - coefficient * kl
            advantage = leave_one_out(total.view(-1, batch.responses)).flatten()
            # The adapter is still in use: checkpointed activations are recomputed here.
            (-(log_probs * advantage.to(log_probs.dtype)).sum() / of).backward()
        self.model.eval()
        return kl, entropy

    def _precision(self) -> AbstractContextManager:
        """Return the context for bfloat16 arithmetic on a GPU, as the other trainers use it."""
        return torch.autocast("cuda", torch.bfloat16) if self.task.device == "cuda" else nullcontext()


def leave_one_out(rewards: torch.Tensor) -> torch.Tensor:
    """Subtract from each reward [prompt, response] the mean of the other responses to its prompt."""
    others = (rewards.sum(1, keepdim=True) - rewards) / (rewards.shape[1] - 1)
    return rewards - others
