"""Policies to mix, on several architectures."""

from dataclasses import replace

import pytest
import torch
from architectures import CONFIGS, base, policy
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from bonesoup.files import write_json
from bonesoup.generation.soup import Soup

ROWS = {"backbone-1": [0.7, 0.3], "backbone-2": [0.3, 0.7]}


@pytest.fixture(scope="session", params=list(CONFIGS))
def mixed_policies(request, tmp_path_factory):
    """Make (base folder, [adapter folders]) with unequal ranks, unequal targets, rsLoRA."""
    folder = tmp_path_factory.mktemp(request.param)
    base(request.param).save_pretrained(folder / "base")
    attention = {"gpt2": "c_attn", "gpt_neox": "query_key_value"}.get(request.param, "q_proj")
    policies = [
        policy(folder / "base", folder / "0", 1, r=2, lora_alpha=4, target_modules="all-linear"),
        policy(folder / "base", folder / "1", 2, r=5, lora_alpha=3, target_modules=[attention]),
        policy(folder / "base", folder / "2", 3, r=3, lora_alpha=6, target_modules="all-linear", use_rslora=True),
    ]
    return folder / "base", policies


@pytest.fixture(scope="session")
def recipe(tiny_policy, tmp_path_factory) -> Soup:
    root = tmp_path_factory.mktemp("soup")
    for k, slot in enumerate(ROWS, start=1):
        torch.manual_seed(k)
        config = LoraConfig(r=2 * k, lora_alpha=3, target_modules="all-linear", task_type="CAUSAL_LM")
        policy = get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_policy), config)
        for name, value in policy.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(value, std=0.2)
        policy.save_pretrained(root / slot)
    policies = [{"slot": slot, "path": slot, "row": row, "digest": ""} for slot, row in ROWS.items()]
    soup = {"method": "bone", "base": "sft", "objectives": ["a", "b"], "mapping": "solve"}
    write_json(root / "bone.json", soup | {"policies": policies, "preferences": [[0, 1], [0.5, 0.5], [1, 0]]})
    return replace(Soup.read(root / "bone.json", root), base=tiny_policy)
