"""The trials of `heads` with a small GPT-2 of random values: dropout, files that load again, and what does not fit."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from helpers.grid_cases import timeless

from structnet.data.dataset import Dataset
from structnet.data.packing import description, pack
from structnet.errors import UserError
from structnet.heads.building import check_fits, model_of, text_data
from structnet.heads.hugging_face import load_adapted, load_pruned
from structnet.storage.tables import read_table
from structnet.trials import head_warm_up, heads
from structnet.trials.head_warm_up import WarmUpWork, warm_up_name
from structnet.trials.heads import HeadsWork
from structnet.trials.work import Shared

WORDS = "the quick brown fox jumps over a lazy dog and sees nothing at all"
OPTIONS: dict[str, Any] = {
    "length": 8,
    "batch_size": 4,
    "learning_rate": 1e-3,
    "touched_rate": 3.0,
    "ramp": 4,
    "warm_up_steps": 30,
    "evaluation_steps": 10,
    "steps": 40,
    "stages": 2,
    "heat_steps": 1,
    "floor": 1,
}
CONFIG = {"name": "tournament_l0.5_s0", "strategy": "tournament", "level": 0.5, "rng_seed": 0}


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A folder with a model and its tokenizer, and a text."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("gpt2")
    known = {word: number for number, word in enumerate(["[UNK]", *WORDS.split()])}
    tokenizer = Tokenizer(models.WordLevel(known, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder / "model")
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=len(known), n_positions=8, n_embd=8, n_layer=2, n_head=4)
    GPT2LMHeadModel(config).save_pretrained(folder / "model")
    (folder / "text.txt").write_text(f"{WORDS} " * 140)
    return {**OPTIONS, "model": str(folder / "model"), "text": str(folder / "text.txt")}


@pytest.fixture(scope="module")
def data(options: dict[str, Any]) -> Dataset:
    return text_data(options)


def run(results: Path, data: Dataset, options: dict[str, Any], *, cut: bool) -> None:
    given = {**options, "results": str(results)}
    shared = Shared(pack(data), description(data), str(results), "test", given)
    for make, config in ((WarmUpWork, {"name": warm_up_name(0), "rng_seed": 0}), (HeadsWork, CONFIG)):
        work, number = make(config, shared), 0
        while not work.step()["done"]:
            if cut:
                folder = results / f"{make.__name__}-{number}"
                folder.mkdir(parents=True)
                work.save(folder)
                work, number = make(config, shared), number + 1
                work.load(folder)


def test_who_is_stopped_comes_to_the_same_rows_in_spite_of_dropout(
    data: Dataset, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert model_of(options, data, 0).module.config.resid_pdrop == 0.1
    run(tmp_path / "whole", data, options, cut=False)
    for module in (heads, head_warm_up):
        monkeypatch.setattr(module, "STRETCH_SECONDS", 0.0)
    run(tmp_path / "cut", data, options, cut=True)
    for table in ("networks", "epochs", "decisions", "candidates"):
        here, there = (timeless(tmp_path / name, table) for name in ("whole", "cut"))
        assert here == there and here
    row = next(
        row for row in read_table(str(tmp_path / "whole"), "networks", "test").to_pylist() if row["level"]
    )
    folder = row["snapshot"]
    assert folder.endswith("model/hugging_face") and row["heads"] == 4
    adapter = load_adapted(folder)
    assert sum(layer.heads for layer in adapter.layers) == 4
    inputs = data.test.stored[:3].long()
    with torch.no_grad():
        found = load_pruned(folder)(inputs).logits
    assert torch.equal(found, adapter.logits(inputs)) and found.shape == (3, 8, data.classes)
    said = (Path(folder).parents[1] / "inference" / "final_samples.txt").read_text()
    assert set(said.replace("…", " ").split()) <= {*WORDS.split(), "[UNK]"}
    assert np.isfinite(row["test_loss"])


def test_what_does_not_fit_is_one_line(data: Dataset, options: dict[str, Any]) -> None:
    config = SimpleNamespace(max_position_embeddings=8, vocab_size=data.classes)
    check_fits(config, options, data)
    with pytest.raises(UserError, match=r"length is 9, but .* takes at most 8 tokens: lower --length"):
        check_fits(config, {**options, "length": 9}, data)
    config.vocab_size -= 1
    with pytest.raises(UserError, match="has 15 tokens, but its model 14: save those"):
        check_fits(config, options, data)
