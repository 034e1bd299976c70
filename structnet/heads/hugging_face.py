"""Causal language models of transformers as models of heads: adapted, saved and loaded with heads removed.

transformers 5 neither masks nor removes heads: `head_mask=` is taken and ignored. Here a hook before the output
projection multiplies what each head found by its gate, whatever computes the attention. A folder of `save_pruned` is
one of transformers, with a file beside the weights where the configuration does not say which heads are left
(structnet.heads.reload). Weights are read from safetensors alone, and nothing on disk is executed.
"""

from __future__ import annotations

import copy
import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from structnet.errors import UserError, WorkFailed, one_line
from structnet.heads import reload
from structnet.heads.layers import GATE, HeadLayer, Part


@dataclass(frozen=True)
class Kind:
    """Where a type of model has its attention, and the names of the projections there.

    blocks: path to the list of blocks. attention: in each. inputs: projections of what comes in, the values last.
    output: the projection of what the heads found. fused: query, key and value in one projection. free_size: the
    configuration gives the size of a head apart from how many there are.
    """

    blocks: str
    attention: str
    inputs: tuple[str, ...]
    output: str
    fused: int
    free_size: bool


_GPT2 = Kind("transformer.h", "attn", ("c_attn",), "c_proj", fused=3, free_size=False)
_LLAMA = Kind("model.layers", "self_attn", ("q_proj", "k_proj", "v_proj"), "o_proj", fused=1, free_size=True)

# model_type -> Kind. Each was run with random weights; a type whose attention normalises over all heads together, as
# that of olmo2, or has other values of each head, as the sinks of gpt_oss, is none of these.
KINDS: dict[str, Kind] = {
    "gpt2": _GPT2,
    "arcee": _LLAMA,
    "gemma": _LLAMA,
    "gemma2": _LLAMA,
    "gemma3_text": _LLAMA,
    "granite": _LLAMA,
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "mixtral": _LLAMA,
    "olmo": _LLAMA,
    "qwen2": _LLAMA,
    "qwen2_moe": _LLAMA,
    "qwen3": _LLAMA,
    "qwen3_moe": _LLAMA,
    "seed_oss": _LLAMA,
    "smollm3": _LLAMA,
    "starcoder2": _LLAMA,
}

# Weights that do not fit are told by name afterwards (_check).
_LOADING = {
    "trust_remote_code": False,
    "use_safetensors": True,
    "ignore_mismatched_sizes": True,
    "output_loading_info": True,
}
_LOADING_ERRORS = (OSError, ValueError, KeyError, RuntimeError, SafetensorError)


@dataclass(eq=False)
class HuggingFaceHeads:
    """A causal language model of transformers with its heads (structnet.heads.layers.HeadModel); made by `adapt`.

    Where query heads share key and value, a head here is all that share one. module: the PreTrainedModel.
    """

    module: Any
    layers: list[HeadLayer]

    @property
    def is_causal(self) -> bool:
        """Always."""
        return True

    def logits(self, inputs: torch.Tensor) -> torch.Tensor:
        """(batch, length, vocabulary) of tokens, (batch, length) int64."""
        found: torch.Tensor = self.module(input_ids=inputs, use_cache=False).logits
        return found

    def attentions(self, inputs: torch.Tensor) -> list[torch.Tensor]:
        """Of every layer the probabilities, (batch, query heads, length, length), without dropout.

        Other implementations than "eager" never have them, so that it is set for as long. Raises UserError where the
        model gives none all the same, and for inputs longer than a sliding window, of which a query does not see all.
        """
        config = self.module.config
        window = getattr(config, "sliding_window", None)
        if window and inputs.shape[1] > window:
            raise UserError(
                f"inputs of {inputs.shape[1]} tokens are longer than the window of {window} that {config.model_type} "
                "looks at: attentions are compared over all tokens before, so take shorter ones"
            )
        before, was_training = config._attn_implementation, self.module.training
        self.module.eval()
        self.module.set_attn_implementation("eager")
        try:
            found = self.module(input_ids=inputs, use_cache=False, output_attentions=True).attentions
        finally:
            self.module.set_attn_implementation(before)
            self.module.train(was_training)
        given = [one for one in found or () if one is not None]
        if len(given) != len(self.layers):
            raise UserError(
                f"{type(self.module).__name__} gives the attentions of {len(given)} of its {len(self.layers)} layers: "
                "heads are scored by them too, so take a model that gives them"
            )
        return given


def adapt(model: Any) -> HuggingFaceHeads:
    """The heads of a causal language model of transformers, in place: layers have gates from here on, 1 at first.

    Heads are numbered from 0 in each layer, as they are now. Raises UserError for a type of model that is not in KINDS,
    and for projections that are not plain matrices, such as quantised ones.
    """
    layers = _layers_of(model)
    for one in layers:
        if not hasattr(one.owner, GATE):
            weight = one.parts[0].parameter
            gate = torch.ones(one.heads, dtype=weight.dtype, device=weight.device)
            one.owner.register_buffer(GATE, gate, persistent=False)
            # Not a closure: a copy of the model has to look at its own gates.
            output = next(part.owner for part in one.parts if part.is_output)
            output.register_forward_pre_hook(partial(_gated, one.owner))
    return HuggingFaceHeads(model, layers)


def save_pruned(model: Any, folder: str | Path, tokenizer: Any = None) -> None:
    """Writes a model with what its heads have become to a new folder, which appears whole or not at all.

    model: of `adapt`, or one of transformers, whose heads are then numbered as they are now. tokenizer: written there
    too. Gates are multiplied into the output projections, so that those of the loaded model are 1. AutoModelForCausalLM
    loads the folder as well if every layer has as many heads, and the configuration gives the size of a head apart from
    that; else it raises RuntimeError for shapes that differ, and `load_pruned` loads it.
    Raises UserError if there is something in the folder, ValueError for gates of single samples, WorkFailed for a disk
    that cannot be written.
    """
    adapter = model if isinstance(model, HuggingFaceHeads) else adapt(model)
    target = Path(folder)
    if target.is_file() or (target.is_dir() and any(target.iterdir())):
        raise UserError(f"there is something in {target} already: choose another folder, or remove it")
    tensors = _with_gates(adapter)
    beside = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
    try:
        beside.mkdir(parents=True)
        adapter.module.save_pretrained(beside, state_dict=tensors)
        _expressed(adapter).save_pretrained(beside)
        reload.write(beside, adapter.module.config, adapter.layers)
        if tokenizer is not None:
            tokenizer.save_pretrained(beside)
        beside.replace(target)
    except (OSError, SafetensorError) as error:
        raise WorkFailed(
            f"{target} cannot be written ({one_line(error)}): free space, or choose another"
        ) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def load_pruned(folder: str | Path) -> Any:
    """The transformers model of a folder, of `save_pruned` or of transformers itself, in evaluation.

    Raises UserError for a folder that is none, and for files that are damaged, foreign or do not fit each other.
    """
    return _load(Path(folder))[0]


def load_adapted(name_or_folder: str | Path) -> HuggingFaceHeads:
    """A model of a folder, its heads numbered and frozen as they were, or of a name on the Hugging Face hub.

    Raises UserError as `load_pruned`, and where there is no model of this name, or no network.
    """
    if Path(name_or_folder).is_dir():
        model, about = _load(Path(name_or_folder))
        adapter = adapt(model)
        for one, kept, frozen in zip(adapter.layers, about.get("kept", ()), about.get("frozen", ())):
            one.kept, one.frozen = kept, frozenset(frozen)
        return adapter
    source = _transformers().AutoModelForCausalLM
    try:
        model, report = source.from_pretrained(name_or_folder, **_LOADING)
    except _LOADING_ERRORS as error:
        raise UserError(
            f"there is no folder {name_or_folder}, and no such model on the hub or no way there ({one_line(error)}): "
            "check the name and the network"
        ) from error
    _check(report, name_or_folder)
    return adapt(model)


def quiet() -> None:
    """From here on transformers shows no bars and no warnings, for commands that say themselves what matters."""
    logging = _transformers().utils.logging
    logging.disable_progress_bar()
    logging.set_verbosity_error()


def load_tokenizer(name_or_folder: str | Path) -> Any:
    """The tokenizer that goes with a model; raises UserError where there is none."""
    try:
        return _transformers().AutoTokenizer.from_pretrained(name_or_folder, trust_remote_code=False)
    except _LOADING_ERRORS as error:
        raise UserError(
            f"there is no tokenizer in {name_or_folder} ({one_line(error)}): save it beside the model"
        ) from error


def _gated(attention: nn.Module, projection: nn.Module, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
    """(batch, length, heads · size), by gates that are (heads,) or (batch, heads)."""
    (found,) = inputs
    gate: torch.Tensor = getattr(attention, GATE)
    by_head = found.view(*found.shape[:-1], gate.shape[-1], -1)
    factor = gate[..., None] if gate.dim() == 1 else gate[:, None, :, None]
    # Gates of single samples may be of another number type than the model, which has to see its own.
    return ((by_head * factor).flatten(-2).to(found.dtype),)


def _layers_of(model: Any) -> list[HeadLayer]:
    """Changes nothing."""
    name = getattr(getattr(model, "config", None), "model_type", type(model).__name__)
    if name not in KINDS:
        raise UserError(f"models of type {name!r} are not known: take one of {', '.join(sorted(KINDS))}")
    kind = KINDS[name]
    if model.get_output_embeddings() is None:
        raise UserError(
            f"{type(model).__name__} is no causal language model: load it by AutoModelForCausalLM"
        )
    return [
        _layer_of(block.get_submodule(kind.attention), kind) for block in model.get_submodule(kind.blocks)
    ]


def _layer_of(attention: nn.Module, kind: Kind) -> HeadLayer:
    """Counted by the weights, as the configuration says nothing of heads that were removed."""
    projections = [attention.get_submodule(name) for name in (*kind.inputs, kind.output)]
    for one in projections:
        if not _is_conv(one) and type(one) is not nn.Linear:
            raise UserError(
                f"a projection of attention is a {type(one).__name__}: heads lie in plain matrices only, so load the "
                "model without quantisation, and merge what was adapted"
            )
    *inputs, output = projections
    size: int = attention.head_dim  # type: ignore[assignment]
    heads = _features(inputs[-1])[1] // kind.fused // size
    parts = []
    for one in inputs:
        rows = _features(one)[1] // kind.fused // heads
        parts.append(Part(one, "weight", 1 if _is_conv(one) else 0, rows, kind.fused))
        if one.bias is not None:
            parts.append(Part(one, "bias", 0, rows, kind.fused))
    rows = _features(output)[0] // heads
    parts.append(Part(output, "weight", 0 if _is_conv(output) else 1, rows, is_output=True))
    told = partial(_resized, attention, projections, rows, rows // size)
    return HeadLayer(attention, tuple(parts), list(range(heads)), told, group=rows // size)


def _is_conv(projection: nn.Module) -> bool:
    """Whether it is the transposed matrix of transformers, (in, out), of which GPT-2 is made."""
    from transformers.pytorch_utils import Conv1D

    return type(projection) is Conv1D


def _features(projection: nn.Module) -> tuple[int, int]:
    """In and out."""
    rows, columns = projection.get_parameter("weight").shape
    return (rows, columns) if _is_conv(projection) else (columns, rows)


def _resized(
    attention: nn.Module, projections: Sequence[nn.Module], rows: int, group: int, heads: int
) -> None:
    """What the modules know of their sizes besides their weights; the scale goes by the size of a head and stays."""
    for one in projections:
        names = ("nx", "nf") if _is_conv(one) else ("in_features", "out_features")
        for name, value in zip(names, _features(one)):
            setattr(one, name, value)
    # Each type of model has some of these.
    sizes = {"num_heads": heads * group, "num_key_value_heads": heads, "split_size": heads * rows}
    for name, value in sizes.items():
        if hasattr(attention, name):
            setattr(attention, name, value)


def _with_gates(adapter: HuggingFaceHeads) -> dict[str, torch.Tensor]:
    """The model's tensors by name, gates other than 1 multiplied into the output projections."""
    tensors: dict[str, torch.Tensor] = adapter.module.state_dict()
    names = {id(parameter): name for name, parameter in adapter.module.named_parameters()}
    for one in adapter.layers:
        if one.gate.dim() > 1:
            raise ValueError("gates of single samples cannot be saved")
        for part in one.parts:
            if part.is_output and bool((one.gate != 1).any()):
                factor = one.gate.repeat_interleave(part.size)
                rows = part.parameter.detach() * (factor if part.dim else factor[:, None])
                tensors[names[id(part.parameter)]] = rows.to(part.parameter.dtype)
    return tensors


def _expressed(adapter: HuggingFaceHeads) -> Any:
    """A configuration that says how many heads are left, if there can be one; else the model's own."""
    from huggingface_hub.errors import StrictDataclassError

    config = adapter.module.config
    numbers = {(one.heads, one.group) for one in adapter.layers}
    if not KINDS[config.model_type].free_size or len(numbers) > 1:
        return config
    ((heads, group),) = numbers
    changed = copy.deepcopy(config)
    changed.head_dim = adapter.layers[0].owner.head_dim
    changed.num_attention_heads, changed.num_key_value_heads = heads * group, heads
    try:
        # Some types refuse a width that is no multiple of the heads, though they have no need of it.
        return type(config).from_dict(changed.to_dict())
    except (StrictDataclassError, ValueError):
        return config


def _load(folder: Path) -> tuple[Any, dict[str, Any]]:
    """The model, and what its sidecar says, if there is one."""
    transformers = _transformers()
    if not (folder / "config.json").is_file():
        raise UserError(f"there is no model in {folder}, which would have a config.json: check the path")
    try:
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
        about = reload.read(folder, config)
        source = transformers.MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
        built = _with_kept(source, about["kept"]) if about else source
        model, report = built.from_pretrained(folder, config=config, **_LOADING)
    except UserError:
        raise
    except _LOADING_ERRORS as error:
        raise UserError(
            f"the model in {folder} cannot be loaded ({one_line(error)}): use another copy"
        ) from error
    _check(report, folder)
    # One of a few lines, made for the loading alone: from here on it is what its own type says.
    model.__class__ = source
    return model, about


def _check(report: Mapping[str, Any], source: str | Path) -> None:
    """transformers draws what it does not find, or finds in another shape, at random, and goes on."""
    if wrong := {*report["missing_keys"], *(name for name, *_ in report["mismatched_keys"])}:
        raise UserError(
            f"the weights of {source} lack {min(wrong)}, or have it in another shape than what is beside them says: "
            "use another copy"
        )


def _with_kept(source: Any, kept: Sequence[Sequence[int]]) -> Any:
    """A class whose models have so many heads before transformers fills in weights, which it so does only once."""

    def __init__(self: Any, config: Any, *arguments: Any, **options: Any) -> None:
        source.__init__(self, config, *arguments, **options)
        for one, numbers in zip(_layers_of(self), kept, strict=True):
            for part in one.parts:
                old = part.parameter
                shape = list(old.shape)
                shape[part.dim] = part.fused * part.size * len(numbers)
                setattr(part.owner, part.name, nn.Parameter(old.new_empty(shape)))
            one.resized(len(numbers))

    return type(source.__name__, (source,), {"__init__": __init__, "__module__": source.__module__})


def _transformers() -> Any:
    """Imported only by who asks for it: nothing else of structnet needs it."""
    try:
        import transformers
    except ImportError as error:
        raise UserError("models of the hub need transformers: pip install 'structnet[heads]'") from error
    return transformers
