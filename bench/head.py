"""Measure what contiguous hidden states save a frozen head of 49,152 words: interleaved rounds, medians.

    python bench/head.py

A Llama of SmolLM2-135M's width and vocabulary with two layers, untrained; 32 rows of 36 sampled tokens after prompts of
24. `before` is the model as Transformers loads it, `after` as `bonesoup.weights.pretrained` does. Measured are the
head alone and whole log-probabilities, forward only, on one thread. Bounds, or exit status 1: the head's product ten
times faster in bfloat16, and no slower in float32; equal log-probabilities.

The bound in bfloat16 holds on CPUs with instructions for it (AVX512-BF16, AMX); on others it may not.
"""

import argparse
import os
import statistics
import sys
import time

import torch
from transformers import LlamaConfig, LlamaForCausalLM
from trl.trainer.utils import selective_log_softmax

from bonesoup.weights.pretrained import fold_head

ROWS, PROMPT, NEW = 32, 24, 36
# Times faster that the head's product has to be, at least.
LEAST = {torch.bfloat16: 10.0, torch.float32: 1.0}


def model(dtype: torch.dtype) -> LlamaForCausalLM:
    config = LlamaConfig(
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=2,
        num_attention_heads=9,
        num_key_value_heads=3,
        vocab_size=49152,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    return LlamaForCausalLM(config).to(dtype).requires_grad_(False).eval()


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rounds", type=int, default=3)
    options = arguments.parse_args()
    torch.set_num_threads(1)
    print(f"1 thread, load {os.getloadavg()[0]:.1f}, torch {torch.__version__}")
    missed = []
    for dtype, least in LEAST.items():
        before, after = model(dtype), model(dtype)
        fold_head(after)
        ids = torch.randint(0, 49152, (ROWS, PROMPT + NEW), generator=torch.Generator().manual_seed(1))
        hidden = torch.randn(ROWS, PROMPT + NEW, 576, generator=torch.Generator().manual_seed(2)).to(dtype)
        head, whole, results = {}, {}, {}
        with torch.inference_mode():
            for _ in range(options.rounds + 1):
                for name, side in (("before", before), ("after", after)):
                    started = time.perf_counter()
                    side.lm_head(hidden[:, -(NEW + 1) :])
                    head.setdefault(name, []).append(time.perf_counter() - started)
                    started = time.perf_counter()
                    logits = side(ids, logits_to_keep=NEW + 1).logits[:, :-1]
                    results[name] = selective_log_softmax(logits, ids[:, -NEW:])
                    whole.setdefault(name, []).append(time.perf_counter() - started)
        # The first round only warmed up.
        savings = {kind: ratio(seconds) for kind, seconds in (("head", head), ("log-probabilities", whole))}
        apart = float((results["before"] - results["after"]).abs().max())
        print(f"{str(dtype).removeprefix('torch.')}:")
        for kind, seconds in (("head", head), ("log-probabilities", whole)):
            before_ms, after_ms = (1e3 * statistics.median(seconds[name][1:]) for name in ("before", "after"))
            print(f"  {kind}: {before_ms:.0f} ms before, {after_ms:.0f} ms after, {savings[kind]:.1f} times faster")
        print(f"  largest difference of a log-probability: {apart:.2g} nats")
        if not savings["head"] >= least:
            missed.append(f"{dtype}: the head is {savings['head']:.2f} times faster, bound {least:g}")
        if not apart <= 1e-4:
            missed.append(f"{dtype}: log-probabilities are {apart:.2g} nats apart")
    print("\n" + ("\n".join(missed) if missed else "every bound is met"))
    sys.exit(bool(missed))


def ratio(seconds: dict[str, list[float]]) -> float:
    return statistics.median(b / a for b, a in zip(seconds["before"][1:], seconds["after"][1:], strict=True))


if __name__ == "__main__":
    main()
