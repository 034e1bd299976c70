"""`structnet validate`: what it prints, writes and returns, for good input, bad data and bad options."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from search.cli import main
from search.commands.validate import COMMAND
from structnet.storage.tables import read_table

QUICK = ["--epochs", "3", "--density", "0.2", "--batch-size", "64"]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Call:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return Call(monkeypatch, capsys)


class Call:
    """Runs the command in this process: exit code, what it printed, what it complained about."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
        self.monkeypatch, self.capsys = monkeypatch, capsys

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        self.monkeypatch.setattr(sys, "argv", ["structnet", "validate", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        said = self.capsys.readouterr()
        return int(end.value.code or 0), said.out, said.err


@pytest.mark.slow
def test_without_ray_the_defaults_pass_on_digits(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['ray'] = None\n"
        "sys.argv = ['structnet', 'validate', '--name', 'first']\n"
        "from search.cli import main\nmain()\n"
    )
    here = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(here)!r})\n{code}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "17 of 17 checks passed" in done.stdout
    row = read_table(str(tmp_path / "results"), "experiments", "first").to_pylist()[0]
    assert row["command"] == "validate"
    assert row["status"] == "finished"
    assert row["error"] is None
    assert row["dense_accuracy"] > 0.9 > row["accuracy"] > 0.21
    assert row["test_accuracy"] is None
    assert json.loads(row["config"])["batch_size"] == 32


def test_it_writes_both_networks_and_is_repeated_exactly(call: Call) -> None:
    rows = []
    for name in ("one", "two"):
        code, said, _ = call(*QUICK, "--name", name)
        assert code == 0, said
        rows.append(read_table("results", "networks", name).to_pylist())
    for row in rows[0] + rows[1]:
        row.pop("experiment")
        assert row.pop("seconds") > 0
        assert row["test_accuracy"] is None
    assert rows[0] == rows[1]
    dense, sparse = rows[0]
    assert (dense["network"], sparse["network"]) == ("dense", "sparse")
    assert dense["parameters"] == dense["parameters_dense"] == sparse["parameters_dense"] == 2410
    assert sparse["density"] == 0.2
    assert sparse["parameters"] == round(0.2 * 2368) + 42
    assert 0 < sparse["accuracy"] < dense["accuracy"]
    assert sparse["efficiency"] == pytest.approx((sparse["accuracy"] - 44 / 359) / sparse["parameters"])


def test_a_failed_check_ends_with_1_and_advice(call: Call) -> None:
    code, said, err = call(*QUICK, "--name", "slow", "--learning-rate", "1e-9")
    assert code == 1
    assert "FAILED" in said
    assert "dense version learns: look at the labels" in said
    assert not err
    row = read_table("results", "experiments", "slow").to_pylist()[0]
    assert row["status"] == "finished"
    assert "base network learns" in row["error"]
    assert call(*QUICK, "--name", "slow", "--learning-rate", "1e-9", "--resume")[0] == 1


def test_a_diverged_network_is_a_failed_row(call: Call) -> None:
    code, said, _ = call(*QUICK, "--name", "wild", "--learning-rate", "1e30")
    assert code == 1
    assert "diverged" in said
    for row in read_table("results", "networks", "wild").to_pylist():
        assert (row["status"], row["accuracy"]) == ("failed", None)


def test_a_file_whose_validation_repeats_its_training_fails(call: Call) -> None:
    rows = "".join(f"{index % 7},{index % 5},{'ab'[index % 2]}\n" for index in range(400))
    Path("rows.csv").write_text("x,y,label\n" + rows)
    small = ["--architecture", "input,8,classes", "--density", "0.9"]
    code, said, _ = call(*QUICK, *small, "--dataset", "rows.csv", "--name", "csv")
    assert code == 1
    assert "no duplicates between the splits: remove the duplicates" in said


BAD = [
    (["--density", "1.5"], "density is 1.5"),
    (["--density", "0.001"], "raise the density"),
    (["--architecture", "63,16,10"], "64 inputs"),
    (["--architecture", "64;10"], "must be sizes"),
    (["--allocation", "fair"], "allocation is 'fair'"),
    (["--margin", "1"], "margin is 1"),
    (["--epochs", "0"], "epochs is 0"),
    (["--learning-rate", "0"], "learning_rate is 0"),
    (["--batch-size", "0"], "batch_size is 0"),
    (["--device", "abacus"], "device is 'abacus'"),
    (["--dataset", "nonsense"], "nonsense"),
    (["--config", "missing.yaml"], "missing.yaml"),
    (["--name", "../outside"], "../outside"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[" ".join(arguments) for arguments, _ in BAD])
def test_bad_input_gets_one_line_and_exit_code_2(call: Call, arguments: list[str], message: str) -> None:
    code, said, err = call(*arguments)
    assert code == 2, said
    assert len(err.strip().splitlines()) == 1
    assert message in err
    assert not Path("results/tables").exists()


def test_the_defaults_are_those_of_the_dataset_wherever_it_is_named(tmp_path: Path) -> None:
    config = tmp_path / "options.yaml"
    config.write_text("dataset: mnist\nmargin: 0.2\n")
    options = COMMAND.parse({"config": config, "dataset": None})
    assert (options.architecture, options.density, options.epochs) == ("input,100,classes", None, 3)
    assert options.margin == 0.2
    options = COMMAND.parse({"config": None})
    assert (options.architecture, options.density, options.epochs) == ("input,32,classes", 0.05, 10)
