"""Policies to mix, on several architectures."""

import pytest
from architectures import CONFIGS, base, policy


@pytest.fixture(scope="session", params=list(CONFIGS))
def mixed_policies(request, tmp_path_factory):
    """(base folder, [adapter folders]): unequal ranks, unequal targets, rsLoRA."""
    folder = tmp_path_factory.mktemp(request.param)
    base(request.param).save_pretrained(folder / "base")
    attention = {"gpt2": "c_attn", "gpt_neox": "query_key_value"}.get(request.param, "q_proj")
    policies = [
        policy(folder / "base", folder / "0", 1, r=2, lora_alpha=4, target_modules="all-linear"),
        policy(folder / "base", folder / "1", 2, r=5, lora_alpha=3, target_modules=[attention]),
        policy(folder / "base", folder / "2", 3, r=3, lora_alpha=6, target_modules="all-linear", use_rslora=True),
    ]
    return folder / "base", policies
