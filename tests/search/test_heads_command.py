"""`structnet heads`: rows, pages and files of a run, tournaments on workers of their own, and what is refused."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.command_cases import assert_refused, structnet
from helpers.grid_cases import timeless
from helpers.report_cases import NASTY, write_run
from helpers.story_cases import told, values_of

from search.commands.heads import COMMAND
from search.commands.heads.results import cells_of, first_of, recovery_of, sentences_of
from search.commands.heads.run import fitted_to, networks_of
from search.report.blocks import Block, HeatMap, Side
from search.report.reports import write_report
from structnet.data.packing import description, pack
from structnet.errors import UserError
from structnet.heads.transformer import Transformer
from structnet.storage.tables import read_table
from structnet.trials.head_warm_up import WarmUpWork, warm_up_name
from structnet.trials.heads import HeadsWork
from structnet.trials.work import Shared

torch.set_num_threads(1)

SMALL: dict[str, Any] = {
    "strategies": "none,one_shot:entropy,tournament",
    "levels": "0.5",
    "rng_seeds": 2,
    "layers": 2,
    "token_width": 16,
    "images": 300,
    "warm_up_steps": 30,
    "steps": 40,
    "stages": 2,
    "heat_steps": 2,
    "evaluation_steps": 20,
}
LINE = [part for name, value in SMALL.items() for part in (f"--{name.replace('_', '-')}", str(value))]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, ray_session: None) -> tuple[Path, str]:
    """A finished experiment, and what it printed."""
    folder, said = tmp_path_factory.mktemp("heads"), StringIO()
    with redirect_stdout(said):
        COMMAND.run({**SMALL, "workers": 1, "results": str(folder), "name": "first"})
    return folder, said.getvalue()


def test_every_strategy_has_a_row_for_each_rng_seed(ran: tuple[Path, str]) -> None:
    rows = timeless(ran[0], "networks", "first")
    found = sorted((row["method"], row["rng_seed"]) for row in rows)
    names = ["none", "one_shot:entropy", "tournament", "warm_up"]
    assert found == [(name, seed) for name in names for seed in (0, 1)]
    assert {row["steps_all"] for row in rows if row["method"] != "warm_up"} == {40}
    scores = timeless(ran[0], "head_scores", "first")
    places = [(row["network"], row["layer"], row["index"]) for row in scores]
    assert places == [
        (f"warm_up_s{seed}", layer, at) for seed in (0, 1) for layer in (0, 1) for at in range(4)
    ]
    assert all(row["gradient"] > 0 and 0 <= row["entropy"] <= 1 and row["saliency"] > 0 for row in scores)


def test_it_prints_a_table_and_names_what_it_wrote(ran: tuple[Path, str]) -> None:
    folder, said = ran
    assert "2 layers of 4 heads" in said and "6 networks lose heads" in said
    assert said.count("warmed up after 30 steps") == 2
    assert "All spend the same steps" in said
    report = folder / "reports" / "first"
    assert f"Files of each network: {report}/NETWORK" in said and f"Report: {report}/index.html" in said
    page = (report / "index.html").read_text()
    assert "Saliency of the gate" in page and "one_shot:entropy" in page and "<svg" in page
    assert "tournament, 50% of the heads, rng_seed 1" in (report / "networks.html").read_text()
    # Twenty images in four phases; the control loses no heads, so it has three.
    assert (report / "samples.html").read_text().count("taken for") == 20 * (2 * 3 + 4 * 4)
    charts = ("test-loss", "validation-loss", "warm-up", "losses")
    assert all((report / f"{name}{ending}").is_file() for name in charts for ending in (".svg", ".png"))


def test_every_number_of_the_charts_is_in_the_tables(ran: tuple[Path, str]) -> None:
    charts = told(ran[0], drawn=False).charts
    rows, epochs = (timeless(ran[0], table, "first") for table in ("networks", "epochs"))
    warm = {row["network"] for row in rows if row["method"] == "warm_up"}
    tested = sorted({row["test_loss"] for row in rows if row["network"] not in warm})
    assert sorted({*values_of(charts["test-loss"], "loss")}) == pytest.approx(tested, rel=1e-5)
    losses = sorted({row["loss"] for row in epochs if row["network"] in warm})
    assert sorted({*values_of(charts["warm-up"], "loss")}) == pytest.approx(losses, rel=1e-5)
    first = [row["loss"] for row in epochs if row["network"].startswith("tournament") and row["epoch"] == 1]
    points = zip(*(values_of(charts["validation-loss"], name) for name in ("strategy", "look", "loss")))
    shown = {loss for strategy, look, loss in points if (strategy, look) == ("tournament", 1)}
    assert len(first) == 2 and [*shown] == pytest.approx([np.mean(first)], rel=1e-5)


def test_heads_that_went_are_framed_and_counted(ran: tuple[Path, str]) -> None:
    story = told(ran[0], drawn=False).story
    decisions = read_table(str(ran[0]), "decisions", "first").to_pylist()
    for seed in (0, 1):
        name = f"one_shot-entropy_l0.5_s{seed}"
        mine = [one for one in decisions if one["network"] == name]
        went = {(one["layer"], one["index"]) for one in mine if one["removed"]}
        (folded,) = [
            block
            for section in story.pages["networks.html"]
            for block in section.blocks
            if getattr(block, "title", "") == f"one_shot:entropy, 50% of the heads, rng_seed {seed}"
        ]
        (drawn,) = heat_maps(folded.blocks)  # type: ignore[attr-defined]
        assert drawn.marked == went and len(went) == 4
        assert drawn.values[1][2] == next(
            one["value"] for one in mine if (one["layer"], one["index"]) == (1, 2)
        )
    maps = {each.title: each for section in story.sections for each in heat_maps(section.blocks)}
    counted = maps["one_shot:entropy, 50%, of 2"].values
    assert sum(value or 0 for row in counted for value in row) == 2 * 4
    assert all(value is not None for row in maps["Saliency of the gate"].values for value in row)


def heat_maps(blocks: Iterable[Block]) -> list[HeatMap]:
    """Those that stand side by side."""
    sides = [block for block in blocks if isinstance(block, Side)]
    return [each for side in sides for column in side.columns for each in column if isinstance(each, HeatMap)]


def test_it_is_not_done_twice(ran: tuple[Path, str]) -> None:
    done = structnet("heads", *LINE, "--results", str(ran[0]), "--name", "first", "--resume")
    assert done.code == 0 and "finished already" in done.out


@pytest.mark.slow
def test_a_tournament_on_workers_of_its_own_is_the_same(ran: tuple[Path, str], tmp_path: Path) -> None:
    given = {**SMALL, "strategies": "tournament", "rng_seeds": 1, "workers_each": 2, "cpus_per_worker": 0.5}
    with redirect_stdout(StringIO()):
        COMMAND.run({**given, "results": str(tmp_path), "name": "first"})
    for table in ("networks", "epochs", "decisions", "candidates"):
        here, there = (
            [row for row in timeless(place, table, "first") if row["trial"] == "tournament_l0.5_s0"]
            for place in (tmp_path, ran[0])
        )
        assert here == there and here


def test_a_text_of_the_users(tmp_path: Path) -> None:
    text = tmp_path / "words.txt"
    text.write_text("the quick brown fox jumps over the lazy dog. " * 200)
    given = {**SMALL, "images": None, "text": str(text), "length": 16, "results": str(tmp_path / "results")}
    data, options = fitted_to(COMMAND.parse({**given, "strategies": "one_shot:gradient", "rng_seeds": 1}))
    assert options.dataset == str(text)
    shared = Shared(pack(data), description(data), options.results, "first", options.model_dump())
    (config,) = networks_of(options)
    for work in (
        lambda: WarmUpWork({"name": warm_up_name(0), "rng_seed": 0}, shared),
        lambda: HeadsWork(config, shared),
    ):
        assert work().step()["done"]
    rows = read_table(str(tmp_path / "results"), "networks", "first").to_pylist()
    row = next(row for row in rows if row["method"] != "warm_up")
    assert row["test_loss"] < np.log(28) and row["information"] is None
    folder = tmp_path / "results" / "reports" / "first" / row["network"]
    samples = (folder / "inference" / "final_samples.txt").read_text()
    assert len(samples.strip().split("\n\n")) == 3 and set(samples) <= set(text.read_text()) | set(
        "…\n\ufffd"
    )


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            ["--strategies", "greedy"],
            "strategy is 'greedy', but must be none, tournament, or one_shot or gradual",
        ),
        (["--strategies", "none,none"], "strategies are 'none,none', but must be some, each there once"),
        (["--levels", "1.5"], "level is 1.5, but must be in (0, 1)"),
        (["--levels", "0.05"], "of 16 heads that is none: give at least 0.0625"),
        (
            ["--levels", "0.9", "--floor", "2"],
            "14 heads are to go, but only 8 can, as each of 4 layers keeps 2",
        ),
        (["--token-width", "30"], "width is 30, but must be a multiple of the 4 heads"),
        (["--patch-size", "3"], "images of 8×8 pixels are cut into patches of side 1, 2, 4, 8"),
        (["--dataset", "teacher"], "teacher has plain columns, but heads look at images"),
        (["--images", "99999"], "images is 99,999, but must be from 1 to 1,078"),
        (["--text", "missing.txt"], "cannot be read: No such file"),
        (["--model", "gpt2"], "which needs a text: give --text FILE"),
        (["--steps", "8"], "steps is 8, but must be at least 9: scoring heads 2 times costs 8 of them"),
        (["--limit", "3"], "networks are more than the limit of 3"),
    ],
)
def test_what_cannot_be_is_one_line(given: list[str], said: str, tmp_path: Path) -> None:
    done = structnet("heads", *given, "--results", str(tmp_path))
    assert_refused(done, said)
    assert said in done.err
    assert not list(tmp_path.rglob("*.parquet"))


def test_a_model_that_gives_no_attentions_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(self: Transformer, inputs: torch.Tensor) -> list[torch.Tensor]:
        raise UserError("Silent gives the attentions of 0 of its 4 layers: take a model that gives them")

    monkeypatch.setattr(Transformer, "attentions", none)
    done = structnet("heads", "--results", str(tmp_path))
    assert_refused(done, "gives the attentions of 0 of its 4 layers")
    assert not list(tmp_path.rglob("*.parquet"))


def row_of(method: str, level: float, seed: int, test: float, **more: Any) -> dict[str, Any]:
    plain = {"pruned_loss": 2.0, "baseline_loss": 1.0, "loss": 1.25, "test_accuracy": 0.5, "heads": 4}
    rest = {"parameters": 10, "steps": 5, "seconds": 1.0, "trial": f"{method}{level}{seed}"}
    return {"method": method, "level": level, "rng_seed": seed, "test_loss": test, **plain, **rest, **more}


def test_strategies_are_compared_by_rng_seed() -> None:
    rows = [row_of("tournament", 0.5, seed, 1.0 + seed) for seed in (0, 1, 2)]
    rows += [row_of("one_shot:random", 0.5, seed, 1.2 + seed) for seed in (0, 1, 2)]
    rows += [row_of("none", 0.0, 0, 0.9, pruned_loss=None)]
    assert first_of(rows) == "tournament" and first_of(rows[3:]) == "one_shot:random"
    lines = {line[1]: line for line in cells_of(rows)}
    assert lines["one_shot:random"][-1] == "+0.200 (+0.200 to +0.200)"
    assert lines["tournament"][-1] == "" and lines["tournament"][6] == "0.75"
    assert recovery_of(rows[-1:]) == ""
    (line,) = sentences_of(rows)
    assert line.startswith("tournament against one_shot:random: -0.2000 (95 % interval -0.2000 to -0.2000)")
    assert line.endswith("better")


def test_sentences_are_of_the_mean_over_levels() -> None:
    rows = [row_of("tournament", level, 0, 1.0 + level) for level in (0.2, 0.4)]
    rows += [row_of("one_shot:random", level, 0, 1.0) for level in (0.2, 0.4)]
    assert sentences_of(rows) == [
        "tournament against one_shot:random: +0.3000 nats of test loss, of one rng_seed"
    ]


def write(results: Path, status: str, **tables: list[dict[str, Any]]) -> None:
    """The experiment `first`, with rows of these tables."""
    writer = write_run(results, "first", command="heads", status=status, config="{}")
    for table, rows in tables.items():
        writer.write(table, "rows", rows)


def ended(method: str, level: float, seed: int, test: float, **more: Any) -> dict[str, Any]:
    row = row_of(method, level, seed, test, **more)
    return {**row, "network": row["trial"], "status": "finished"}


def test_before_networks_have_ended_the_warm_ups_are_told(tmp_path: Path) -> None:
    write(tmp_path / "none", "running")
    assert "0 models are warmed up" in told(tmp_path / "none").story.lead
    warm = {"trial": "warm_up_s0", "network": "warm_up_s0", "method": "warm_up", "rng_seed": 0, "heads": 16}
    write(tmp_path, "running", networks=[{**warm, "parameters": 900, "status": "finished"}])
    found = told(tmp_path)
    assert "1 models are warmed up" in found.story.lead and not found.charts
    assert ("Heads", "16") in [(card.label, card.value) for card in found.story.cards]


def test_a_report_needs_neither_files_nor_epochs_nor_decisions(tmp_path: Path) -> None:
    rows = [ended("tournament", 0.5, seed, 1.0 + seed / 10) for seed in (0, 1)]
    rows += [ended("one_shot:random", 0.5, seed, 1.2 + seed / 10) for seed in (0, 1)]
    write(tmp_path, "finished", networks=[*rows, ended("none", 0.0, 0, 0.9, pruned_loss=None)])
    found = told(tmp_path)
    assert found.story.lead == (
        "Without 50% of its heads, a model has the lowest test loss by tournament: 1.050 ± 0.071 nats (n = 2). "
        "With all of them it has 0.900 nats (n = 1)."
    )
    assert list(found.charts) == ["test-loss"] and list(found.story.pages) == ["networks.html"]


def test_scores_of_heads_are_those_of_their_table(tmp_path: Path) -> None:
    warm = {"trial": "warm_up_s0", "network": "warm_up_s0", "method": "warm_up", "rng_seed": 0, "heads": 2}
    write(tmp_path, "running", networks=[{**warm, "parameters": 9, "status": "finished"}])
    assert "Heads after the warm-up" not in told(tmp_path).text
    place = {"trial": "warm_up_s0", "network": "warm_up_s0", "layer": 0}
    scores = [{"gradient": 0.125, "entropy": 0.75, "saliency": 0.0625}, {"gradient": 0.25, "entropy": 0.5}]
    write(tmp_path, "running", head_scores=[{**place, "index": at, **one} for at, one in enumerate(scores)])
    (section,) = [one for one in told(tmp_path).story.sections if one.title == "Heads after the warm-up"]
    side = next(block for block in section.blocks if isinstance(block, Side))
    maps = [block for column in side.columns for block in column if isinstance(block, HeatMap)]
    assert [one.values for one in maps] == [[[0.125, 0.25]], [[0.75, 0.5]], [[0.0625, None]]]


def test_what_models_say_and_names_are_texts(tmp_path: Path) -> None:
    row = ended(NASTY, 0.5, 0, 1.0) | {"network": "one", "trial": "one"}
    write(tmp_path, "finished", networks=[row])
    said = tmp_path / "reports" / "first" / "one" / "inference"
    said.mkdir(parents=True)
    (said / "final_samples.txt").write_bytes(NASTY.encode() + b"\xff")
    write_report(str(tmp_path), "first")
    for page in ("index.html", "networks.html", "samples.html"):
        assert NASTY not in (tmp_path / "reports" / "first" / page).read_text()
    assert "&lt;script&gt;alert(1)" in (tmp_path / "reports" / "first" / "samples.html").read_text()
