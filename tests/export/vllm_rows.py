"""Ask vLLM offline for greedy tokens and log-probabilities; runs in an environment of its own.

    python vllm_rows.py BASE ADAPTERS < prompts.json > answers.json

ADAPTERS is a folder of adapters. Answers are {adapter: [[token, {token: log-probability}], ...] for each prompt}.
"""

import json
import sys
from pathlib import Path

from vllm import LLM, SamplingParams, TokensPrompt
from vllm.lora.request import LoRARequest

base, adapters = sys.argv[1:]
given = json.load(sys.stdin)
engine = LLM(
    base,
    dtype="float32",
    enable_lora=True,
    max_lora_rank=8,
    max_loras=2,
    max_model_len=128,
    enforce_eager=True,
    kv_cache_memory_bytes=1 << 28,
    skip_tokenizer_init=True,
)
sampling = SamplingParams(temperature=0, max_tokens=8, logprobs=5, detokenize=False, ignore_eos=True)
answers = {}
for number, folder in enumerate(sorted(Path(adapters).iterdir()), start=1):
    request = LoRARequest(folder.name, number, str(folder))
    rows = engine.generate([TokensPrompt(prompt_token_ids=ids) for ids in given], sampling, lora_request=request)
    answers[folder.name] = [
        [
            [token, {other: entry.logprob for other, entry in likely.items()}]
            for token, likely in zip(row.outputs[0].token_ids, row.outputs[0].logprobs, strict=True)
        ]
        for row in rows
    ]
with open(3, "w") as out:
    json.dump(answers, out)
