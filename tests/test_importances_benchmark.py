"""The benchmark of the importances: equal growth, one base, and the numbers of its table."""

import numpy as np
import pytest

from benchmarks import importances
from benchmarks.methods import Training


def test_all_learn_from_the_same_base_at_the_same_growth():
    jobs = importances.jobs_of("digits", None, Training(epochs=2), 2, ["uniform", "fisher"])
    assert [(key["seed"], key["importance"]) for key, *_ in jobs] == [
        *((0, "uniform"), (0, "fisher"), (1, "uniform"), (1, "fisher"))
    ]
    bases, _, seed, budget = jobs[0][2]
    before = bases.learner(seed).classifier
    runs = [function(*arguments) for _, function, arguments in jobs[:2]]
    again = bases.learner(seed).classifier
    X = bases.stream.tasks[0].test[0]
    name = bases.stream.tasks[0].name
    assert np.array_equal(before.predict_proba(X, name), again.predict_proba(X, name))
    assert again.tasks_ == [name]
    for run in runs:
        assert len(run["accuracy"]) == len(run["growth"]) == len(run["importance_seconds"]) == 1
        assert 0.99 * budget < run["growth"][0] <= budget
        assert len(run["cuts"]) == 4
    assert {cut["layer"]: cut["rank"] for cut in runs[0]["cuts"]} != {
        cut["layer"]: cut["rank"] for cut in runs[1]["cuts"]
    }


def test_the_table_counts_over_seeds_and_beside_fisher():
    def run(importance, seed, accuracy, measured):
        cuts = [
            {"predicted_increase": predicted, "measured_increase": value}
            for predicted, value in zip((1.0, 2.0, 3.0, 4.0), measured, strict=True)
        ]
        return {
            "key": {"stream": "s", "importance": importance, "seed": seed},
            "accuracy": accuracy,
            "growth": [0.02, 0.04],
            "cuts": cuts,
            "importance_seconds": [0.5, 0.1],
            "seconds": [1.0, 2.0],
        }

    runs = [
        run("fisher", 0, [0.8, 0.9], (1, 2, 3, 4)),
        run("fisher", 1, [0.6, 0.7], (4, 3, 2, 1)),
        run("kfac", 1, [0.7, 0.7], (1, 4, 3, 2)),
    ]
    lines = importances.table(runs).splitlines()[2:]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert cells[0] == [
        *("s: fisher", "75.00 ± 14.14", "+0.00 ± 0.00", "3.00 %"),
        *("0.00 ± 1.41", "0.300 ± 0.000", "20 %"),
    ]
    # Ranks 1 2 3 4 and 1 4 3 2: 1 - 6 (0 + 4 + 0 + 4) / (4 * 15).
    assert cells[1] == ["s: kfac", "70.00", "+5.00", "3.00 %", "0.20", "0.300", "20 %"]


def test_runs_that_are_there_are_not_run_again(tmp_path, capsys):
    given = ["--streams", "digits", "--epochs", "1", "--importances", "uniform"]
    given += ["--json", str(tmp_path / "runs.json")]
    importances.main([*given, "--seeds", "1"])
    first = capsys.readouterr()
    assert "1/1" in first.err
    assert "digits: uniform" in first.out
    importances.main([*given, "--seeds", "1"])
    again = capsys.readouterr()
    assert (again.out, again.err) == (first.out, "")


def test_a_missing_file_is_missed_before_anything_is_learned():
    with pytest.raises(SystemExit, match="no folder nowhere"):
        importances.main(["--streams", "permuted-mnist", "--data-dir", "nowhere"])
