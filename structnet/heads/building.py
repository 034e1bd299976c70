"""Models for `heads` by the options that name them, and their training states on disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch

from structnet.data.dataset import Dataset
from structnet.data.text import load_text, load_tokens
from structnet.errors import UserError
from structnet.heads.layers import HeadModel
from structnet.heads.surgery import remove
from structnet.heads.training import HeadState
from structnet.heads.transformer import Form, Transformer
from structnet.modules.files import read_module, write_module
from structnet.modules.optimizer import load_state_tensors, state_tensors


def form_of(options: Mapping[str, Any], data: Dataset) -> Form:
    """Of the transformer of our own that these options ask for; raises UserError for what does not fit the data."""
    shape = data.input_shape
    if len(shape) not in (1, 3) or (len(shape) == 1 and data.preprocessing["kind"] == "columns"):
        raise UserError(
            f"{data.name} has plain columns, but heads look at images or, with --text, at characters: give either"
        )
    side = options["patch_size"] or max(1, shape[-1] // 4)
    return Form(shape, data.classes, options["layers"], options["heads"], options["token_width"], side)


def model_of(options: Mapping[str, Any], data: Dataset, rng_seed: int, device: str = "cpu") -> HeadModel:
    """The model at its beginning; raises UserError for one that cannot be had."""
    model: HeadModel
    if options["model"]:
        from structnet.heads.hugging_face import load_adapted, quiet

        quiet()
        model = load_adapted(options["model"])
        check_fits(model.module.config, options, data)
    else:
        model = Transformer(form_of(options, data), rng_seed)
    model.module.to(device)
    return model


def check_fits(config: Any, options: Mapping[str, Any], data: Dataset) -> None:
    """Raises UserError for windows longer than a model of transformers has places, or tokens that it does not know."""
    longest = getattr(config, "max_position_embeddings", None)
    if longest and options["length"] > longest:
        raise UserError(
            f"length is {options['length']}, but {options['model']} takes at most {longest} tokens: lower --length"
        )
    if data.classes > config.vocab_size:
        raise UserError(
            f"the tokenizer of {options['model']} has {data.classes:,} tokens, but its model {config.vocab_size:,}: "
            "save those that belong together in one folder"
        )


def text_data(options: Mapping[str, Any]) -> Dataset:
    """The windows of a text file, of characters or of the tokens of a model."""
    if not options["model"]:
        return load_text(options["text"], options["length"])
    from structnet.heads.hugging_face import load_tokenizer, quiet

    quiet()
    tokenizer = load_tokenizer(options["model"])
    encode = partial(tokenizer.encode, add_special_tokens=False, verbose=False)
    return load_tokens(options["text"], options["length"], encode, len(tokenizer))


def write_state(path: str, state: HeadState, about: Mapping[str, Any] | None = None) -> None:
    """Writes a training state to go on from to the bit; about: plain data that goes with it. Raises StoreFailed."""
    module = state.model.module
    tensors = {f"model/{name}": tensor for name, tensor in module.state_dict().items()}
    optimizer = state_tensors(module, state.optimizer)
    tensors |= {f"optimizer/{name}": tensor for name, tensor in optimizer.items()}
    layers = [
        {"kept": layer.kept, "gate": layer.gate.tolist(), "frozen": sorted(layer.frozen)}
        for layer in state.model.layers
    ]
    content = {
        "form": module.form.to_plain() if isinstance(module, Transformer) else None,
        "layers": layers,
        "step": state.step,
        "begun": [[*head, step] for head, step in state.begun.items()],
        "touched": sorted(state.touched),
        "about": dict(about or {}),
    }
    write_module(path, tensors, content)


def load_transformer(path: str) -> Transformer:
    """A transformer of our own with the heads that it has left, in evaluation, as `heads` leaves it in model/model.

    Raises UserError for a file that is missing, damaged or of another model.
    """
    _, content = read_module(path)
    if not content.get("form"):
        raise UserError(
            f"{path} is no transformer of structnet: give the path of a model/model that `heads` wrote"
        )
    model = Transformer(Form.from_plain(content["form"]))
    read_state(path, model)
    return model.eval()


def decoder_of(options: Mapping[str, Any], data: Dataset) -> Callable[[Sequence[int]], str]:
    """What makes a text of numbers of characters or tokens."""
    if not options["model"]:
        return lambda numbers: "".join(data.class_names[number] for number in numbers)
    from structnet.heads.hugging_face import load_tokenizer

    found: Callable[[Sequence[int]], str] = load_tokenizer(options["model"]).decode
    return found


def read_state(path: str, fresh: HeadModel) -> tuple[HeadState, dict[str, Any]]:
    """The state of `write_state`, and what went with it. fresh: the model at its beginning, which is changed."""
    tensors, content = read_module(path)
    for number, (layer, stored) in enumerate(zip(fresh.layers, content["layers"])):
        remove(fresh, [(number, head) for head in set(layer.kept) - set(stored["kept"])])
        layer.gate = layer.gate.new_tensor(stored["gate"])
        layer.frozen = frozenset(stored["frozen"])
    parts: dict[str, dict[str, torch.Tensor]] = {"model": {}, "optimizer": {}}
    for name, tensor in tensors.items():
        kind, _, rest = name.partition("/")
        parts[kind][rest] = tensor
    fresh.module.load_state_dict(parts["model"])
    state = HeadState.fresh(fresh)
    load_state_tensors(fresh.module, state.optimizer, parts["optimizer"])
    state.step, state.touched = content["step"], set(content["touched"])
    state.begun = {(layer, number): step for layer, number, step in content["begun"]}
    return state, content["about"]
