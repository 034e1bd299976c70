"""Tiny models of transformers with random weights, and what is taken out of them."""

from __future__ import annotations

import copy
from typing import Any

import torch

from structnet.heads import surgery
from structnet.heads.hugging_face import HuggingFaceHeads, adapt

TOKENS = torch.randint(3, 50, (3, 9), generator=torch.Generator().manual_seed(1))
GONE = [(0, 1), (1, 0), (1, 2)]  # a different number of each layer
MULTI_HEAD = {"num_attention_heads": 4, "num_key_value_heads": 4}
WHOLE = {"num_attention_heads": 8, "num_key_value_heads": 4}  # two query heads of each


def model_of(kind: str, **settings: Any) -> Any:
    """Two layers of 4 heads, 32 wide, with random weights large enough for each head to matter; in evaluation."""
    import transformers

    torch.manual_seed(0)
    sizes: dict[str, Any] = {"vocab_size": 50, "bos_token_id": 1, "eos_token_id": 2}
    if kind == "gpt2":
        sizes |= {"n_embd": 32, "n_head": 4, "n_layer": 2, "n_positions": 64}
    else:
        sizes |= {
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "intermediate_size": 24,
            "pad_token_id": 0,
            **WHOLE,
        }
        sizes |= {"max_position_embeddings": 64} | ({"head_dim": 4} if kind.startswith("gemma") else {})
    if kind in ("mixtral", "qwen2_moe", "qwen3_moe"):
        sizes |= {
            "num_local_experts": 4,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 8,
        }
        sizes |= {"shared_expert_intermediate_size": 8}
    model = transformers.AutoModelForCausalLM.from_config(
        transformers.AutoConfig.for_model(kind, **{**sizes, **settings})
    )
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(3)
            else:
                parameter.add_(torch.randn_like(parameter) * 0.1)  # biases too
    return model.eval()


def adapted(kind: str, **settings: Any) -> HuggingFaceHeads:
    return adapt(model_of(kind, **settings))


def removed(model: HuggingFaceHeads, heads: list[surgery.Head]) -> HuggingFaceHeads:
    other = copy.deepcopy(model)
    surgery.remove(other, heads)
    return other


def difference(first: torch.Tensor, second: torch.Tensor) -> float:
    return float((first - second).detach().abs().max())
