"""`structnet import`: follows a torch network, checks that the logits are the same, and writes a snapshot."""

from __future__ import annotations

import re
from math import prod
from typing import TYPE_CHECKING

import torch
from torch import nn

from search.commands.importing.command import EPOCHS, ImportOptions
from search.commands.importing.given import current_folder_first, load_weights, module_of
from search.session.console import Console, outcome
from search.session.program import program
from search.session.run import one_thread, shape_of, size_of
from search.session.waiting import HowFar, waiting
from structnet.data.datasets import load_dataset
from structnet.errors import UserError
from structnet.network.architecture import dashed
from structnet.network.from_module import Taken, largest_difference, take_over, takes
from structnet.network.from_module_values import WrongSize
from structnet.network.state import TrainState
from structnet.seeds import torch_seed
from structnet.storage.snapshot import save_snapshot
from structnet.training.evaluation import evaluate
from structnet.training.pruning import pruned_to
from tournament.settings import fitted_batch

if TYPE_CHECKING:
    from structnet.data.dataset import Dataset
    from structnet.network.network import StructNet

RANDOM_INPUTS = 1_000
OF_DATASETS = ("data_dir", "label", "size")


def run(options: ImportOptions) -> None:
    """Runs the command."""
    _check(options)
    console = Console()
    with one_thread(), current_folder_first():
        data = _data(options, console)
        module = module_of(options.factory)
        if options.weights:
            load_weights(module, options.weights)
        if options.raw and data is not None:
            module = Unscaled(module, data)
        taken = _taken(module, data)
        _say_what_it_is(module, taken, console)
        _say_difference(module, taken, data, console)
        network = _pruned(taken.network, options, data, console)
    stem = re.sub(
        r"\.(json|safetensors)$", "", options.output or f"imported/{options.factory.replace(':', '-')}"
    )
    save_snapshot(
        stem,
        TrainState.fresh(network),
        preprocessing=data.preprocessing if data else {},
        class_names=data.class_names if data else _names(options),
        metadata={"imported": options.factory},
    )
    console.say(f"Snapshot: {stem}.safetensors", markup=False)
    outcome(
        snapshot=stem,
        architecture=dashed(network.architecture),
        parameters=network.parameter_count,
        connections=network.connection_count,
    )
    _say_what_next(stem, options, console)


class Unscaled(nn.Module):
    """A network that takes raw values, as one that takes the inputs of a dataset."""

    def __init__(self, module: nn.Module, data: Dataset) -> None:
        super().__init__()
        kind = data.preprocessing["kind"]
        if kind not in ("image", "columns"):
            raise UserError(
                f"raw is given, but {data.name} is a {kind}: only pixels are scaled and nothing else"
            )
        shape = (-1, 1, 1) if kind == "image" else (-1,)
        self.module = module
        like = next(module.parameters(), torch.empty(0))
        self.offset, self.scale = (
            torch.tensor(data.preprocessing[name]).to(like).reshape(shape) for name in ("offset", "scale")
        )

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Logits of inputs as the dataset has them."""
        logits: torch.Tensor = self.module(inputs * self.scale + self.offset)
        return logits


def _check(options: ImportOptions) -> None:
    """Raises UserError for options that need another one, or go without it."""
    if options.dataset is None:
        given = [name for name in (*OF_DATASETS, "standardise") if getattr(options, name) is not None]
        given += ["raw"] * options.raw + ["epochs"] * bool(options.epochs)
        if given:
            raise UserError(f"{given[0]} is given, but no dataset: add --dataset, or leave it out")
    elif options.class_names:
        raise UserError("class_names is given, and so is dataset: the dataset has them")
    if options.epochs is not None and options.max_parameters is None:
        raise UserError(
            f"epochs is {options.epochs}, but trains while it prunes to --max-parameters, which is not given: train "
            "the snapshot on with `structnet train --snapshot`"
        )


def _names(options: ImportOptions) -> tuple[str, ...]:
    return tuple(name.strip() for name in options.class_names.split(",")) if options.class_names else ()


def _data(options: ImportOptions, console: Console) -> Dataset | None:
    if options.dataset is None:
        return None
    with waiting(f"reading {options.dataset}", console):
        data = load_dataset(
            options.dataset,
            data_dir=options.data_dir,
            standardise=options.standardise,
            label=options.label,
            size=size_of(options.size) if options.size else None,
        )
    for note in data.notes:
        console.say(note)
    console.say(f"{data.name}: {shape_of(data)}", markup=False)
    return data


def _taken(module: nn.Module, data: Dataset | None) -> Taken:
    """What the network becomes; raises UserError if it does not fit the dataset."""
    if data is None:
        return take_over(module)
    # A network without Flatten takes images that somebody has flattened before it, as ours do themselves.
    features = data.input_shape if takes(module, data.input_shape) else (data.input_units,)
    try:
        taken = take_over(module, features)
    except WrongSize as wrong:
        if wrong.given != data.input_units:
            raise
        raise UserError(
            f"{data.name} has {data.input_units} inputs, but the network takes {wrong.taken}: give its own dataset"
        ) from wrong
    if taken.network.architecture[-1] != data.classes:
        raise UserError(
            f"{data.name} has {data.classes} classes, but the network {taken.network.architecture[-1]} outputs: give "
            "its own dataset"
        )
    return taken


def _say_what_it_is(module: nn.Module, taken: Taken, console: Console) -> None:
    had = sum(parameter.numel() for parameter in module.parameters())
    console.say(
        f"Taken over: {taken.network.describe()}, {taken.network.activation}; the torch network has {had:,}"
    )
    if taken.ignored:
        console.say(f"Left out, as it does nothing in evaluation: {', '.join(taken.ignored)}", markup=False)
    if taken.folded:
        console.say(f"Part of the connections now: {', '.join(taken.folded)}", markup=False)
    if taken.kept:
        console.say(f"Feature maps are normalised by: {', '.join(taken.kept)}", markup=False)


def _say_difference(module: nn.Module, taken: Taken, data: Dataset | None, console: Console) -> None:
    """Compares logits, on random inputs and on those of the dataset; raises UserError if they differ."""
    kind = taken.network.values.dtype
    generator = torch.Generator().manual_seed(torch_seed(0, "import"))
    random = torch.randn(RANDOM_INPUTS, prod(taken.features), generator=generator, dtype=kind)
    compared = {f"{RANDOM_INPUTS:,} random inputs": random}
    if data is not None:
        compared[f"{len(data.validation):,} of validation"] = data.validation.images.to(kind)
    device, found = taken.network.values.device, []
    for name, inputs in compared.items():
        shaped = inputs.reshape(-1, *taken.features).to(device)
        largest, allowed = largest_difference(module, taken.network, shaped)
        found.append(f"{largest:.1e} on {name} (allowed {allowed:.1e})")
    console.say(f"Logits differ by at most {', '.join(found)}.")


def _pruned(network: StructNet, options: ImportOptions, data: Dataset | None, console: Console) -> StructNet:
    """The network within its size, with its accuracy before and after where there is a dataset."""
    network = network.to("cpu")
    before = None if data is None else evaluate(network, data.validation).accuracy
    if before is not None:
        console.say(f"Validation {before:.2%}")
    if options.max_parameters is None:
        return network
    epochs = EPOCHS if options.epochs is None else options.epochs
    if data is None or not epochs:
        smaller = pruned_to(network, options.max_parameters)
    else:
        with HowFar(console, epochs, "epochs") as progress:
            smaller = pruned_to(
                network,
                options.max_parameters,
                data,
                epochs=epochs,
                batch_size=fitted_batch(len(data.train)),
                rng_seed=options.rng_seed,
                on_epoch=lambda row: progress.at(
                    row["epoch"],
                    f"epoch {row['epoch']}  parameters {row['parameters']:,}  validation {row['accuracy']:.2%}",
                ),
            )
    after = (
        ""
        if data is None
        else f"; validation {evaluate(smaller, data.validation).accuracy:.2%}, {before:.2%} before"
    )
    console.say(f"Pruned: {smaller.describe()}{after}")
    return smaller


def _say_what_next(stem: str, options: ImportOptions, console: Console) -> None:
    if options.dataset is None:
        console.say(
            "It says nothing about raw inputs: `predict`, `train` and `export` need one made with --dataset."
        )
        return
    told = {name: value for name in ("dataset", *OF_DATASETS) if (value := getattr(options, name))}
    same = {name: f"--{name.replace('_', '-')} {value}" for name, value in told.items()}
    if options.standardise is not None:
        same["standardise"] = "--standardise" if options.standardise else "--no-standardise"
    where = " ".join(same[name] for name in ("dataset", "data_dir") if name in same)
    console.say(f"Train it on: {program()} train {' '.join(same.values())} --snapshot {stem}", markup=False)
    console.say(f"Take it elsewhere: {program()} export {stem} --to torch {where}", markup=False)
