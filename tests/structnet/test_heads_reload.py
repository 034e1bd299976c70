"""Models of transformers on disk with heads removed: the same in a fresh process, and what is damaged is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.hugging_face_cases import GONE, MULTI_HEAD, TOKENS, adapted, difference, model_of
from safetensors.torch import load_file, save_file

from structnet.errors import UserError, WorkFailed
from structnet.heads import surgery
from structnet.heads.hugging_face import load_adapted, load_pruned, save_pruned

transformers = pytest.importorskip("transformers")
transformers.logging.disable_progress_bar()
transformers.logging.set_verbosity_error()
torch.set_num_threads(1)

# A process of its own, with nothing but these lines, loads what another one has saved.
CHILD = """
import sys
from pathlib import Path
import structnet.heads.surgery, structnet.heads.hugging_face
assert "transformers" not in sys.modules
from safetensors.torch import load_file, save_file
import transformers
transformers.logging.set_verbosity_error()
folder = Path(sys.argv[1])
ids = load_file(folder / "tokens.safetensors")["tokens"]
found = {}
for name in sys.argv[2].split(","):
    from structnet.heads.hugging_face import load_pruned
    model = load_pruned(folder / name)
    found[f"{name}/load_pruned"] = model(ids).logits.detach()
    try:
        model = transformers.AutoModelForCausalLM.from_pretrained(folder / name)
        found[f"{name}/from_pretrained"] = model(ids).logits.detach()
    except RuntimeError as error:
        assert "mismatched_sizes" in str(error), error
save_file(found, folder / "logits.safetensors")
try:
    structnet.heads.hugging_face.load_adapted("no-one/no-such-model")
except structnet.errors.UserError as error:
    print(error)
"""

# Name -> the model, whether transformers alone can load it, whether there is a sidecar.
SAVED: dict[str, tuple[str, dict[str, Any], list[surgery.Head], bool, bool]] = {
    "gpt2": ("gpt2", {}, GONE, False, True),
    "gpt2-whole": ("gpt2", {}, [], True, False),
    "gpt2-layers": ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, GONE, False, True),
    "uniform": ("mistral", {}, [(0, 1), (1, 0)], True, True),
    "grouped": ("llama", {}, [(0, 1), (0, 3), (1, 0), (1, 2)], True, True),
    "multi-head": ("llama", MULTI_HEAD, [(0, 1), (0, 3), (1, 0), (1, 2)], True, True),
    # transformers refuses a Llama of 3 heads that is 32 wide.
    "refused": ("llama", MULTI_HEAD, [(0, 1), (1, 0)], False, True),
    "uneven": ("llama", {}, GONE, False, True),
    "tied": ("qwen2", {"tie_word_embeddings": True}, GONE, False, True),
    "experts": ("mixtral", {}, GONE, False, True),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the folders of SAVED, and two of models that are gated only; logits of before and after."""
    folder = tmp_path_factory.mktemp("saved")
    logits = {}
    for name, (kind, settings, gone, _, _) in SAVED.items():
        model = adapted(kind, **settings)
        surgery.remove(model, gone)
        logits[name] = model.logits(TOKENS).detach()
        save_pruned(model, folder / name)
    for kind in ("gpt2", "llama"):
        model = adapted(kind)
        surgery.set_gates(model, GONE, 0.0)
        surgery.set_gates(model, [(0, 2)], 0.3)
        logits[f"gated-{kind}"] = model.logits(TOKENS).detach()
        save_pruned(model, folder / f"gated-{kind}")
        assert difference(model.logits(TOKENS), logits[f"gated-{kind}"]) == 0
    save_file(logits, folder / "expected.safetensors")
    save_file({"tokens": TOKENS}, folder / "tokens.safetensors")
    offline = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(folder), ",".join(logits)],
        capture_output=True,
        text=True,
        env=offline,
    )
    assert done.returncode == 0, done.stderr
    (folder / "printed.txt").write_text(done.stdout)
    return folder


@pytest.mark.parametrize("name", [*SAVED, "gated-gpt2", "gated-llama"])
def test_a_fresh_process_has_the_same_logits(saved: Path, name: str) -> None:
    """And transformers alone, or it says that it cannot."""
    *_, is_plain, has_sidecar = SAVED.get(name, (True, False))
    expected = load_file(saved / "expected.safetensors")[name]
    found = load_file(saved / "logits.safetensors")
    # Gates in the weights are multiplied before the sum, not after: rounded otherwise.
    limit = 1e-6 if name.startswith("gated") else 0.0
    assert difference(found[f"{name}/load_pruned"], expected) <= limit
    assert (f"{name}/from_pretrained" in found) == is_plain
    assert (saved / name / "structnet_heads.json").exists() == has_sidecar
    if is_plain:
        assert difference(found[f"{name}/from_pretrained"], expected) <= limit


def test_a_name_that_is_nowhere_is_told_in_one_line(saved: Path) -> None:
    (line,) = (saved / "printed.txt").read_text().splitlines()
    assert line.startswith("there is no folder no-one/no-such-model, and no such model on the hub")


@pytest.mark.parametrize("name", ["gpt2", "grouped", "uneven"])
def test_heads_keep_their_numbers_on_disk(saved: Path, tmp_path: Path, name: str) -> None:
    """And what is frozen, so that they can grow again under their numbers; saved again, it is the same."""
    model = load_adapted(saved / name)
    expected = load_file(saved / "expected.safetensors")[name]
    gone = SAVED[name][2]
    assert surgery.all_heads(model) == [(i, n) for i in range(2) for n in range(4) if (i, n) not in gone]
    surgery.zero(model, [(1, 3)])
    save_pruned(model, tmp_path / "again", tokenizer=None)
    again = load_adapted(tmp_path / "again")
    assert [one.frozen for one in again.layers] == [frozenset(), {3}]
    surgery.regrow(again, [(1, 0)], torch.Generator().manual_seed(0))
    assert difference(again.logits(TOKENS), model.logits(TOKENS)) <= 1e-6
    assert difference(again.logits(TOKENS), expected) > 0.01
    loaded = load_pruned(saved / name)
    assert type(loaded) is type(model_of(SAVED[name][0]))
    assert not loaded.training
    written = loaded.generate(TOKENS, max_new_tokens=4, do_sample=False)
    assert written.shape[1] > TOKENS.shape[1]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"format": "other"}, "format structnet_heads, version 1"),
        ({"version": 2}, "format structnet_heads, version 1"),
        ({"model_type": "llama"}, "is of a llama, the model beside it a gpt2"),
        ({"kept": [[0, 1]]}, "which heads of each of 2 layers"),
        ({"kept": [[0, 2, 3], []]}, "which heads of each of 2 layers"),
        ({"kept": [[0, 3, 2], [1, 3]]}, "which heads of each of 2 layers"),
        ({"kept": [[0, 2, "3"], [1, 3]]}, "which heads of each of 2 layers"),
        ({"kept": {"0": [1]}}, "which heads of each of 2 layers"),
        ({"frozen": [[1], []]}, "which heads of each of 2 layers"),
        ({"kept": [[0, 2, 3], [0, 1, 3]]}, r"lack transformer\.h\.1\.attn\.c_.*another shape"),
    ],
)
def test_a_foreign_sidecar_is_told_in_one_line(
    saved: Path, tmp_path: Path, change: dict[str, Any], told: str
) -> None:
    for source in (saved / "gpt2").iterdir():
        (tmp_path / source.name).symlink_to(source)
    sidecar = tmp_path / "structnet_heads.json"
    about = json.loads(sidecar.read_text())
    sidecar.unlink()
    sidecar.write_text(json.dumps(about | change))
    with pytest.raises(UserError, match=told) as caught:
        load_pruned(tmp_path)
    assert "\n" not in str(caught.value)


def test_damaged_files_are_told_in_one_line(saved: Path, tmp_path: Path) -> None:
    for damage in ("structnet_heads.json", "config.json", "model.safetensors"):
        folder = tmp_path / damage
        folder.mkdir()
        for source in (saved / "gpt2").iterdir():
            content = source.read_bytes()
            (folder / source.name).write_bytes(
                content[: len(content) // 2] if source.name == damage else content
            )
        with pytest.raises(UserError) as caught:
            load_pruned(folder)
        assert "\n" not in str(caught.value)
    lacking = tmp_path / "lacking"
    save_pruned(model_of("gpt2"), lacking)
    tensors = load_file(lacking / "model.safetensors")
    del tensors["transformer.h.0.mlp.c_fc.weight"]
    save_file(tensors, lacking / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"lack transformer\.h\.0\.mlp\.c_fc\.weight"):
        load_pruned(lacking)
    with pytest.raises(UserError, match="check the path"):
        load_pruned(tmp_path / "nowhere")


def test_weights_that_are_pickled_are_not_read(tmp_path: Path) -> None:
    model = model_of("gpt2")
    save_pruned(model, tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "model" / "pytorch_model.bin")
    with pytest.raises(UserError, match="safetensors"):
        load_pruned(tmp_path / "model")


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Tokenizer:
        def save_pretrained(self, folder: Path) -> None:
            raise OSError("no space left")

    model = adapted("gpt2")
    with pytest.raises(WorkFailed, match="no space left"):
        save_pruned(model, tmp_path / "model", Tokenizer())
    assert not list(tmp_path.iterdir())
    (tmp_path / "model").mkdir()
    save_pruned(model, tmp_path / "model")
    with pytest.raises(UserError, match="something in"):
        save_pruned(model, tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    model.layers[0].gate = torch.ones(3, 4)
    with pytest.raises(ValueError, match="single samples"):
        save_pruned(model, tmp_path / "other")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match=r"pip install 'structnet\[heads\]'"):
        load_adapted("gpt2")
