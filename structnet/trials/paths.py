"""PathsWork: one plastic residual network, static or not, or the residual network it is compared with."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from structnet.data.dataset import Dataset
from structnet.errors import UserError
from structnet.modules.evaluation import evaluate_module, image_batch, parameters_in
from structnet.modules.files import read_module, write_module
from structnet.modules.optimizer import load_state_tensors, state_tensors
from structnet.paths.evolution import Decision, History, Rules, change
from structnet.paths.files import about_network, rebuilt, save_plastic
from structnet.paths.growth import BATCHES
from structnet.paths.network import Plan, PlasticNetwork
from structnet.paths.registry import start_network, start_rival, variant_named
from structnet.paths.removal import REMOVALS, GradientRecord
from structnet.storage.tables import TableWriter
from structnet.training.batches import steps_per_epoch
from structnet.training.evaluation import Evaluation
from structnet.training.recipe import Recipe
from structnet.training.schedules import SCHEDULES
from structnet.trials.rows import Reference
from structnet.trials.work import Shared

STRETCH_SECONDS = 10.0
PLASTIC, STATIC, RESNET = "plastic", "static", "resnet"
ARMS = (PLASTIC, STATIC, RESNET)
UNIFORM = "uniform"
SAVED = ("epoch", "seconds", "parameter_steps")


@dataclass(frozen=True)
class Member:
    """A network by what it is made from. arm: one of ARMS; the last three but rng_seed are of plastic ones only."""

    arm: str
    variant: str
    rng_seed: int
    removal: str | None = None
    growth: str | None = None
    frequency: int | None = None

    @property
    def key(self) -> str:
        """Its name in tables."""
        how = f"_{self.removal}_{self.growth}_f{self.frequency}" if self.arm == PLASTIC else ""
        return f"{self.variant}_{self.arm}{how}_s{self.rng_seed}"


def plan_of(member: Member, options: Mapping[str, Any], data: Dataset) -> Plan:
    """What its network is made for."""
    channels, height, width = data.input_shape
    return Plan(member.variant, (channels, height, width), data.classes, options["width"])


def network_of(member: Member, options: Mapping[str, Any], data: Dataset) -> nn.Module:
    """The network as it begins, on the CPU; raises UserError for what cannot be.

    Plastic and static networks of a variant and rng_seed begin as the same, and the residual one has as many parameters
    as they, as nearly as can be.
    """
    plan = plan_of(member, options, data)
    budget = options["budget"]
    usual = variant_named(member.variant).budget
    network = start_network(plan, usual if budget is None else budget, member.rng_seed)
    if member.arm == RESNET:
        return start_rival(plan, network.parameter_count, member.rng_seed)
    return network


def rules_of(member: Member, options: Mapping[str, Any]) -> Rules | None:
    """How its paths come and go, None where nothing does; raises UserError for what cannot be."""
    if member.arm != PLASTIC:
        return None
    assert member.removal is not None and member.growth is not None and member.frequency is not None
    threshold = options["threshold"]
    return Rules(
        member.removal,
        member.growth,
        member.frequency,
        options["until"],
        variant_named(member.variant).threshold if threshold is None else threshold,
        new_scalars_of(options["new_scalars"]),
        member.rng_seed,
    )


def new_scalars_of(text: str) -> float | None:
    """A number, or None for `uniform`; raises UserError for anything else."""
    if text == UNIFORM:
        return None
    try:
        return float(text)
    except ValueError as error:
        raise UserError(f"new_scalars is '{text}', but must be {UNIFORM} or a number such as 0.1") from error


def recipe_of_paths(options: Mapping[str, Any], rng_seed: int = 0) -> Recipe:
    """What the batches are made by. Raises UserError for what cannot be."""
    return Recipe(rng_seed=rng_seed, **{name: options[name] for name in ("batch_size", "shift", "flip")})


class PathsWork:
    """Trains one network with Adam, an epoch at a time, and writes its rows at the end of each.

    config: name, and `network`, a Member as a dict. shared.options: those of `paths`, fitted to the data. Test is read
    once, after the last epoch. A network that diverges is a failed row.
    """

    def __init__(self, config: dict[str, Any], shared: Shared) -> None:
        self.name, self.shared, self.options = config["name"], shared, shared.options
        self.member = Member(**config["network"])
        self.data: Dataset = shared.dataset()
        self.writer = TableWriter(shared.results, shared.experiment)
        self.recipe = recipe_of_paths(self.options, self.member.rng_seed)
        self.rules = rules_of(self.member, self.options)
        self.per_epoch = steps_per_epoch(len(self.data.train), self.recipe.batch_size)
        self.steps = self.options["epochs"] * self.per_epoch
        self.rate = SCHEDULES[self.options["schedule"]](self.options["learning_rate"], 0, self.steps)
        self.history = History()
        self.epoch, self.seconds, self.parameter_steps = 0, 0.0, 0
        self.is_failed = False
        self._take(network_of(self.member, self.options, self.data))

    def step(self) -> dict[str, Any]:
        """As many epochs as fit in a stretch, at least one."""
        started, accuracy = time.perf_counter(), None
        while not self._done:
            accuracy = self._epoch()
            if time.perf_counter() - started >= STRETCH_SECONDS:
                break
        return {
            "done": self._done,
            "name": self.name,
            "network": self.member.key,
            "networks": int(self._done),
            "epoch": self.epoch,
            "accuracy": accuracy,
        }

    def save(self, folder: Path) -> None:
        """Writes the network, its moments, and what its rules look back at."""
        tensors = {f"network/{name}": value for name, value in self.network.state_dict().items()}
        moments = state_tensors(self.network, self.optimizer)
        tensors |= {f"optimizer/{name}": value for name, value in moments.items()}
        record = self.history.record
        if record.sums is not None:
            tensors["gradients"] = record.sums
        about = {name: getattr(self, name) for name in SAVED}
        about |= {"record_steps": record.steps, "emptied": [*self.history.emptied.items()]}
        if isinstance(self.network, PlasticNetwork):
            about["network"] = about_network(self.network)
        write_module(str(folder / "training"), tensors, about)

    def load(self, folder: Path) -> None:
        """Goes on exactly where `save` was."""
        tensors, about = read_module(str(folder / "training"))
        for name in SAVED:
            setattr(self, name, about[name])
        if "network" in about:
            self._take(rebuilt(about["network"]))
        self.network.load_state_dict(_below("network/", tensors))
        load_state_tensors(self.network, self.optimizer, _below("optimizer/", tensors))
        self._lay_out_moments()
        sums = tensors.get("gradients")
        record = GradientRecord(None if sums is None else sums.to(self.shared.device), about["record_steps"])
        self.history = History({(place[0], place[1]): step for place, step in about["emptied"]}, record)

    def _take(self, network: nn.Module) -> None:
        """Trains this network from now on."""
        self.network = network.to(self.shared.device).train()
        self.parameters = parameters_in(self.network)
        # The fused step is a tenth faster on a CPU; on CUDA it would keep its counts where they are not restored to.
        is_fused = torch.device(self.shared.device).type == "cpu"
        self.optimizer = torch.optim.Adam(self.network.parameters(), self.rate(0), fused=is_fused)

    def _lay_out_moments(self) -> None:
        """Moments lie in memory as their parameters do: the fused step goes by the one order for both."""
        for parameter, state in self.optimizer.state.items():
            for kind, value in state.items():
                if value.dim():
                    state[kind] = torch.empty_like(parameter).copy_(value)

    @property
    def _done(self) -> bool:
        return self.is_failed or self.epoch == self.options["epochs"]

    def _epoch(self) -> float | None:
        """An epoch with its changes, and its rows; the accuracy on validation data, None where it diverged."""
        started, decisions = time.perf_counter(), dict[int, list[Decision]]()
        total = torch.zeros((), dtype=torch.float64, device=self.shared.device)
        first, last = self.epoch * self.per_epoch, (self.epoch + 1) * self.per_epoch
        for step in range(first, last):
            total += self._train(step)
            if step + 1 < last:
                self._change(step + 1, decisions)
        found, loss, parameters = self._judge(), float(total) / self.per_epoch, self.parameters
        if not (math.isfinite(loss) and math.isfinite(found.loss)):
            self._fail()
            return None
        # What has just come is not trained yet, so the epoch is judged before a change that follows it.
        self._change(last, decisions)
        self.epoch += 1
        seconds = time.perf_counter() - started
        self.seconds += seconds
        row = {
            "parameters": parameters,
            "learning_rate": self.rate(last - 1),
            "train_loss": loss,
            "loss": found.loss,
            "accuracy": found.accuracy,
            "seconds": seconds,
            "moved": [sum(one.is_removal for some in decisions.values() for one in some)],
        }
        self._write(row, decisions)
        return found.accuracy

    def _train(self, step: int) -> torch.Tensor:
        """One step; its loss, ()."""
        images, labels = image_batch(self.data.train, self.recipe, step)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(step)
        self.optimizer.zero_grad()
        loss = cross_entropy(self.network(images), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.rules is not None and REMOVALS[self.rules.removal].reads_gradients:
            self.history.record.note(self._plastic)
        self.optimizer.step()
        self.parameter_steps += self.parameters
        return loss.detach()

    def _change(self, step: int, decisions: dict[int, list[Decision]]) -> None:
        """The change that is due after so many steps, if one is."""
        if self.rules is None or not self.rules.are_due(step, self.steps):
            return
        batches = (image_batch(self.data.train, self.recipe, step + number) for number in range(BATCHES))
        decisions[step] = change(
            self._plastic, self.optimizer, self.rules, self.history, step, batches, self.data.validation
        )
        self.parameters = parameters_in(self.network)

    @property
    def _plastic(self) -> PlasticNetwork:
        assert isinstance(self.network, PlasticNetwork)
        return self.network

    def _judge(self) -> Evaluation:
        return evaluate_module(self.network, self.data.validation)

    def _write(self, row: dict[str, Any], decisions: Mapping[int, list[Decision]]) -> None:
        """The rows of an epoch that has ended, one part for each table; after the last, that of the network."""
        part, key = f"{self.name}-{self.epoch:05d}", {"trial": self.name, "network": self.member.key}
        rows = [
            {**key, "step": step, **_columns_of(decision)}
            for step, some in decisions.items()
            for decision in some
        ]
        if rows:
            self.writer.write("decisions", part, rows)
        self.writer.write("epochs", part, [{**key, "epoch": self.epoch, **row}])
        if self._done:
            self.writer.write("networks", self.name, [self._network_row(row)])

    def _named(self) -> dict[str, Any]:
        """What a row of `networks` has of its making, and of what it has cost."""
        member, backbone = self.member, None
        if isinstance(self.network, PlasticNetwork):
            backbone = self.network.backbone_count
        return {
            "trial": self.name,
            "network": member.key,
            "method": member.arm,
            **{
                name: getattr(member, name)
                for name in ("variant", "removal", "growth", "frequency", "rng_seed")
            },
            "parameters": self.parameters,
            "parameters_dense": self.parameters,
            "parameters_backbone": backbone,
            "epochs": self.epoch,
            "steps": self.epoch * self.per_epoch,
            "parameter_steps": self.parameter_steps,
            "seconds": self.seconds,
        }

    def _fail(self) -> None:
        self.is_failed = True
        error = f"training diverged in epoch {self.epoch + 1}"
        self.writer.write("networks", self.name, [{**self._named(), "status": "failed", "error": error}])

    def _network_row(self, last: Mapping[str, Any]) -> dict[str, Any]:
        """Of a network whose training has ended. last: the row of its last epoch."""
        reference, test = (
            Reference(self.data.validation, self.data.classes),
            evaluate_module(self.network, self.data.test),
        )
        snapshot = None
        if isinstance(self.network, PlasticNetwork):
            place = f"snapshots/{self.shared.experiment}/{self.member.key}"
            save_plastic(f"{self.shared.results}/{place}", self.network)
            snapshot = f"{self.options['results']}/{place}"
        return {
            **self._named(),
            "train_loss": last["train_loss"],
            **reference.columns(last["accuracy"], last["loss"], self.parameters),
            "test_loss": test.loss,
            "test_accuracy": test.accuracy,
            "snapshot": snapshot,
            "status": "finished",
        }


def trials_of(members: Sequence[Member]) -> list[dict[str, Any]]:
    """Configs of trials, one for each network."""
    return [{"name": f"paths-{number:04d}", "network": asdict(one)} for number, one in enumerate(members)]


def _columns_of(decision: Decision) -> dict[str, Any]:
    """What a row of `decisions` has of one."""
    found, without = decision.found, decision.without
    return {
        "layer": decision.place[1],
        "index": decision.place[0],
        "method": decision.method,
        "value": decision.value,
        "removed": decision.is_removal,
        "regrown": not decision.is_removal,
        "loss": found and found.loss,
        "accuracy": found and found.accuracy,
        "loss_without": without and without.loss,
        "accuracy_without": without and without.accuracy,
    }


def _below(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
