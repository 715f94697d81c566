"""Scorers, folds and reports that know tasks, each against a loop written by hand."""

import pickle
from functools import partial

import numpy as np
import pytest
from sklearn import config_context, metrics
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.ensemble import VotingClassifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    ParameterGrid,
    RandomizedSearchCV,
    cross_val_score,
    cross_validate,
    learning_curve,
)
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import resample

from sklearn_halrp.exceptions import MissingTaskError
from sklearn_halrp.model_selection import TaskStratifiedKFold, task_report, task_scorer
from tests.conftest import make_classifier

N = 150


@pytest.fixture(scope="module")
def data(digits):
    """Two tasks: three kinds of digits, and their parity."""
    X, y = digits[0][:N], digits[1][:N]
    ids = np.where(np.arange(N) % 5 < 3, "thirds", "parity")
    y = np.where(ids == "thirds", np.array(["t0", "t1", "t2"])[y % 3], np.array(["e", "o"])[y % 2])
    return X, y, ids


@pytest.fixture(scope="module")
def classifier():
    return make_classifier(net={"module__hidden": 8, "max_epochs": 2, "lr": 0.03})


@pytest.fixture(scope="module")
def fitted(data, classifier):
    X, y, ids = data
    return clone(classifier).fit(X, y, task_id=ids)


@pytest.fixture
def routing():
    with config_context(enable_metadata_routing=True):
        yield


@pytest.fixture(scope="module")
def folds(data):
    X, y, ids = data
    return list(TaskStratifiedKFold(2, random_state=0).split(X, y, task_id=ids))


def by_hand(clf, X, y, ids, measure):
    """The mean over tasks of a measure of labels, probabilities and classes."""
    scores = []
    for name in dict.fromkeys(ids):
        rows = ids == name
        classes = clf.task_classes_[name]
        p = clf.predict_proba(X[rows], task_id=name)[:, np.isin(clf.classes_, classes)]
        scores.append(measure(y[rows], p, classes))
    return np.mean(scores)


def accuracy(y, p, classes):
    return np.mean(classes[p.argmax(axis=1)] == y)


def loss(y, p, classes):
    return -np.mean(np.log(p[y[:, None] == classes]))


def area(y, p, classes):
    """One against the rest: the share of pairs in the right order, ties counting half."""
    values = []
    for column, label in enumerate(classes):
        inside, outside = p[y == label, column], p[y != label, column]
        pairs = np.sign(inside[:, None].astype(float) - outside)
        values.append((1 + pairs.mean()) / 2)
    return np.mean(values)


LOSS = task_scorer(
    metrics.log_loss, response_method="predict_proba", average="tasks", greater_is_better=False
)
AREA = task_scorer(
    metrics.roc_auc_score, response_method="predict_proba", average="tasks", multi_class="ovr"
)
MEASURES = [
    (task_scorer(metrics.accuracy_score, average="tasks"), accuracy, 1),
    (LOSS, loss, -1),
    (task_scorer("neg_log_loss", average="tasks"), loss, -1),
    (AREA, area, 1),
    (task_scorer("roc_auc_ovr", average="tasks"), area, 1),
]


@pytest.mark.parametrize(("scorer", "measure", "sign"), MEASURES)
def test_the_mean_over_tasks_is_that_of_a_loop(fitted, data, scorer, measure, sign):
    X, y, ids = data
    expected = sign * by_hand(fitted, X, y, ids, measure)
    assert scorer(fitted, X, y, task_id=ids) == pytest.approx(expected, rel=1e-5)
    again = pickle.loads(pickle.dumps(scorer))
    assert again(fitted, X, y, task_id=list(ids)) == pytest.approx(expected, rel=1e-5)
    only = ids == "parity"
    assert scorer(fitted, X[only], y[only], task_id="parity") == pytest.approx(
        sign * by_hand(fitted, X[only], y[only], ids[only], measure), rel=1e-5
    )


def test_all_rows_together(fitted, data):
    X, y, ids = data
    predicted = fitted.predict(X, task_id=ids)
    p = fitted.predict_proba(X, task_id=ids)
    weights = np.arange(N)
    assert task_scorer("accuracy")(fitted, X, y, ids) == np.mean(predicted == y)
    assert task_scorer("accuracy")(fitted, X, y, ids, sample_weight=weights) == pytest.approx(
        np.average(predicted == y, weights=weights)
    )
    macro = task_scorer(metrics.f1_score, average="rows")
    with pytest.raises(ValueError, match="multiclass"):
        macro(fitted, X, y, ids)  # the metric's own average is another parameter
    assert task_scorer("f1_macro")(fitted, X, y, ids) == pytest.approx(
        metrics.f1_score(y, predicted, average="macro")
    )
    expected = -np.mean(np.log(p[y[:, None] == fitted.classes_]))
    assert task_scorer("neg_log_loss")(fitted, X, y, ids) == pytest.approx(-expected, rel=1e-5)
    few = y != "t1"  # a fold without a class
    assert task_scorer("neg_log_loss")(fitted, X[few], y[few], ids[few]) == pytest.approx(
        np.mean(np.log(p[y[:, None] == fitted.classes_][few])), rel=1e-5
    )


def test_weights_count_within_each_task(fitted, data):
    X, y, ids = data
    weights = np.arange(N)
    correct = fitted.predict(X, task_id=ids) == y
    expected = [np.average(correct[ids == name], weights=weights[ids == name]) for name in set(ids)]
    scorer = task_scorer("accuracy", average="tasks")
    assert scorer(fitted, X, y, ids, sample_weight=weights) == pytest.approx(np.mean(expected))


@pytest.mark.parametrize("labels", [["e", "o"], [1, 2]])
@pytest.mark.parametrize("chosen", [None, 0, 1])
def test_the_positive_class_is_the_second_or_the_chosen_one(data, classifier, labels, chosen):
    X, y, ids = data
    rows = ids == "parity"
    X, y = X[rows], np.array(labels)[(y[rows] == "o").astype(int)]
    clf = clone(classifier).fit(X, y, task_id="parity")
    place = 1 if chosen is None else chosen
    p = clf.predict_proba(X)[:, place].astype(float)
    settings = {} if chosen is None else {"pos_label": labels[chosen]}
    for average in ("rows", "tasks"):
        brier = task_scorer("neg_brier_score", average=average, **settings)
        assert brier(clf, X, y) == pytest.approx(-np.mean((p - (y == labels[place])) ** 2))
        precision = task_scorer("average_precision", average=average, **settings)
        found = [
            np.mean((y == labels[place])[p >= p[i]]) for i in np.flatnonzero(y == labels[place])
        ]
        assert precision(clf, X, y) == pytest.approx(np.mean(found))
    with pytest.raises(ValueError, match="pos_label='x' is none of the classes"):
        task_scorer("neg_brier_score", pos_label="x")(clf, X, y)


def test_tasks_with_ints_and_tasks_with_strings(digits, data, classifier):
    X, y = digits[0][:N], digits[1][:N]
    ids = data[2]
    mixed = [
        int(v % 3) if name == "thirds" else "eo"[v % 2] for v, name in zip(y, ids, strict=True)
    ]
    clf = clone(classifier).fit(X, mixed, task_id=ids)
    correct = np.array([a == b for a, b in zip(clf.predict(X, ids), mixed, strict=True)])
    expected = np.mean([correct[ids == name].mean() for name in ("thirds", "parity")])
    scorer = task_scorer("accuracy", average="tasks")
    assert scorer(clf, X, mixed, ids) == pytest.approx(expected)
    assert task_scorer("neg_log_loss", average="tasks")(clf, X, mixed, ids) < 0
    report = task_report(clf, X, mixed, ids, output="dict")
    assert list(report["thirds"]["classes"]) == [0, 1, 2]
    with pytest.raises(ValueError, match=r"mix numbers and strings.*average='tasks'"):
        task_scorer("accuracy")(clf, X, mixed, ids)


GRID = {"max_rank": [1, 20], "net__lr": [0.01, 0.03]}


def test_a_search_scores_as_a_loop_does(routing, data, folds, classifier):
    X, y, ids = data
    search = GridSearchCV(classifier, GRID, scoring=LOSS, cv=folds, error_score="raise")
    search.fit(X, y, task_id=ids)
    for params, found in zip(
        ParameterGrid(GRID), search.cv_results_["mean_test_score"], strict=True
    ):
        expected = []
        for train, test in folds:
            clf = clone(classifier).set_params(**params).fit(X[train], y[train], ids[train])
            expected.append(-by_hand(clf, X[test], y[test], ids[test], loss))
        assert found == pytest.approx(np.mean(expected), rel=1e-4)
    again = LOSS(search.best_estimator_, X, y, task_id=ids)
    assert LOSS(search, X, y, task_id=ids) == search.score(X, y, task_id=ids) == again


@pytest.mark.parametrize("Search", [RandomizedSearchCV, HalvingGridSearchCV])
def test_other_searches_pass_ids_to_fit_scorer_and_splitter(routing, data, classifier, Search):
    X, y, ids = data
    extra = {"n_iter": 2} if Search is RandomizedSearchCV else {"min_resources": 60, "factor": 2}
    scorer = task_scorer("accuracy", average="tasks")
    cv = TaskStratifiedKFold(2, random_state=0)
    pipe = make_pipeline(StandardScaler(), classifier)
    grid = {f"continualclassifier__{name}": values for name, values in GRID.items()}
    search = Search(pipe, grid, scoring=scorer, cv=cv, random_state=0, error_score="raise", **extra)
    search.fit(X, y, task_id=ids)
    row = -1
    params, scores = search.cv_results_["params"][row], []
    for train, test in cv.split(X, y, task_id=ids):
        if Search is HalvingGridSearchCV:  # the last candidates were scored on 120 rows of 150
            train, test = (
                resample(rows, replace=False, random_state=0, n_samples=60)
                for rows in (train, test)
            )
        model = clone(pipe).set_params(**params)
        model.fit(X[train], y[train], task_id=ids[train])
        scaled = model[:-1].transform(X[test])
        scores.append(by_hand(model[-1], scaled, y[test], ids[test], accuracy))
    assert search.cv_results_["mean_test_score"][row] == pytest.approx(np.mean(scores))


def test_several_metrics_at_once_in_two_processes(routing, data, folds, classifier):
    X, y, ids = data
    weights = np.arange(1, N + 1)
    scoring = {
        name: task_scorer(score, average=average).set_score_request(sample_weight=weighted)
        for name, score, average, weighted in [
            ("loss", "neg_log_loss", "tasks", False),
            ("area", "roc_auc_ovr", "tasks", False),
            ("weighted", "accuracy", "rows", True),
        ]
    }
    params = {"task_id": ids, "sample_weight": weights}
    found = cross_validate(
        classifier, X, y, scoring=scoring, cv=folds, n_jobs=2, error_score="raise", params=params
    )
    for fold, (train, test) in enumerate(folds):
        clf = clone(classifier).fit(X[train], y[train], ids[train], sample_weight=weights[train])
        rest = X[test], y[test], ids[test]
        assert found["test_loss"][fold] == pytest.approx(-by_hand(clf, *rest, loss), rel=1e-4)
        assert found["test_area"][fold] == pytest.approx(by_hand(clf, *rest, area), rel=1e-4)
        correct = clf.predict(X[test], task_id=ids[test]) == y[test]
        assert found["test_weighted"][fold] == pytest.approx(
            np.average(correct, weights=weights[test])
        )


@pytest.mark.parametrize("scoring", ["accuracy", None])
def test_where_no_ids_arrive_the_error_names_the_scorer(data, folds, classifier, scoring):
    X, y, ids = data
    with config_context(enable_metadata_routing=scoring is not None):
        search = GridSearchCV(classifier, {}, scoring=scoring, cv=folds, error_score="raise")
        with pytest.raises(MissingTaskError, match="task_scorer"):
            search.fit(X, y, task_id=ids)


def test_a_learning_curve(routing, data, folds, classifier):
    X, y, ids = data
    sizes, train_scores, test_scores = learning_curve(
        classifier,
        X,
        y,
        scoring=task_scorer("accuracy", average="tasks"),
        cv=folds,
        train_sizes=[40, 75],
        params={"task_id": ids},
        error_score="raise",
    )
    for i, size in enumerate(sizes):
        for fold, (train, test) in enumerate(folds):
            part = train[:size]
            clf = clone(classifier).fit(X[part], y[part], task_id=ids[part])
            for scores, rows in ((train_scores, part), (test_scores, test)):
                expected = by_hand(clf, X[rows], y[rows], ids[rows], accuracy)
                assert scores[i, fold] == pytest.approx(expected)


def test_a_search_in_a_cross_validation(routing, data, folds, classifier):
    X, y, ids = data
    scorer = task_scorer("accuracy", average="tasks")
    search = GridSearchCV(
        classifier, {"max_rank": [1, 20]}, scoring=scorer, cv=TaskStratifiedKFold(2, random_state=1)
    )
    scores = cross_val_score(
        search, X, y, scoring=scorer, cv=folds, params={"task_id": ids}, error_score="raise"
    )
    for score, (train, test) in zip(scores, folds, strict=True):
        best = clone(search).fit(X[train], y[train], task_id=ids[train]).best_estimator_
        assert score == pytest.approx(by_hand(best, X[test], y[test], ids[test], accuracy))


@pytest.mark.parametrize("kind", ["array", "frame", "pipeline"])
@pytest.mark.parametrize(("scorer", "measure", "sign"), [MEASURES[0], MEASURES[1]])
def test_ids_in_a_column_without_routing(data, classifier, kind, scorer, measure, sign):
    X, y, ids = data
    codes = (ids == "parity").astype(int)
    clf = clone(classifier)
    if kind == "array":
        model, rows, named = clf.set_params(task_column=3), np.insert(X, 3, codes, axis=1), codes
    else:
        pd = pytest.importorskip("pandas")
        names = [f"pixel{i}" for i in range(64)]
        rows, named = pd.DataFrame(X, columns=names).assign(task=ids), ids
        model = clf.set_params(task_column="task")
    if kind == "pipeline":
        scaler = make_column_transformer(
            (StandardScaler(), names), remainder="passthrough", verbose_feature_names_out=False
        ).set_output(transform="pandas")
        model = make_pipeline(scaler, clf)
    cv = TaskStratifiedKFold(2, random_state=0, task_column=3 if kind == "array" else "task")
    folds = list(cv.split(rows, y))
    same = TaskStratifiedKFold(2, random_state=0).split(X, y, groups=ids)
    for (_, test), (_, expected) in zip(folds, same, strict=True):
        assert np.array_equal(test, expected)
    search = GridSearchCV(model, {}, scoring=scorer, cv=cv, error_score="raise").fit(rows, y)
    for fold, (train, test) in enumerate(folds):
        Z = X
        if kind == "pipeline":
            Z = StandardScaler().fit(X[train]).transform(X)
        alone = clone(classifier).fit(Z[train], y[train], task_id=named[train])
        expected = sign * by_hand(alone, Z[test], y[test], named[test], measure)
        assert search.cv_results_[f"split{fold}_test_score"][0] == pytest.approx(expected, rel=1e-4)
    assert scorer(search, rows, y) == pytest.approx(scorer(search.best_estimator_, rows, y))


def test_what_cannot_be_scored_is_said(fitted, data):
    X, y, ids = data
    for call, message in [
        (lambda: task_scorer("accuracy", response_method="x"), None),
        (lambda: task_scorer(metrics.accuracy_score, response_method="x"), "response_method"),
        (lambda: task_scorer(metrics.accuracy_score, response_method=[]), "response_method"),
        (
            lambda: task_scorer(metrics.f1_score, average="macro"),
            r"'rows' or 'tasks'.*'f1_macro'.*partial\(f1_score, average='macro'\)",
        ),
        (lambda: task_scorer("closeness"), "closeness"),
        (lambda: task_scorer("accuracy")(fitted, X, y), "2 tasks are known"),
        (lambda: task_scorer("accuracy")(fitted, X, None, ids), "y to be passed"),
        (lambda: task_scorer("accuracy")(fitted, X, y[:9], ids), "inconsistent numbers"),
    ]:
        if message is None:
            call()  # the name decides
            continue
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(AttributeError, match="no decision_function, which task_scorer"):
        task_scorer(metrics.hinge_loss, response_method="decision_function")(fitted, X, y, ids)
    with pytest.raises(TypeError, match=r"takes .*'task_id', 'sample_weight'.*got .*'groups'"):
        task_scorer("accuracy").set_score_request(groups=True)
    other = VotingClassifier([("a", GaussianNB())]).fit(X, y)
    with pytest.raises(ValueError, match=r"ContinualClassifier.*got a VotingClassifier"):
        task_scorer("accuracy", average="tasks")(other, X, y)


def test_scorers_of_make_scorer_do_as_their_names_do(fitted, data):
    X, y, ids = data
    scorers = {name: metrics.get_scorer(name) for name in ("neg_log_loss", "roc_auc_ovr")}
    scorers["f1_macro"] = metrics.make_scorer(metrics.f1_score, average="macro")
    for name, scorer in scorers.items():
        found = [
            task_scorer(each, average="tasks")(fitted, X, y, task_id=ids) for each in (scorer, name)
        ]
        assert found[0] == found[1]
    macro = partial(metrics.f1_score, average="macro")
    assert task_scorer(macro, average="tasks")(fitted, X, y, task_id=ids) == found[1]


@pytest.mark.parametrize("score_func", [None, 3, ["accuracy"]])
def test_what_is_no_metric_is_refused(score_func):
    with pytest.raises(TypeError, match=r"score_func must be a metric.*make_scorer.*got"):
        task_scorer(score_func)


def test_a_column_tells_the_tasks_of_ensembles(fitted, data, classifier):
    X, y, ids = data
    rows = np.insert(X, 0, ids == "parity", axis=1)
    inside = clone(classifier).set_params(task_column=0)
    alone = clone(inside).fit(rows, y)
    voting = VotingClassifier([("a", inside)], voting="soft").fit(rows, y)
    for name, average in (("accuracy", "tasks"), ("neg_log_loss", "tasks"), ("accuracy", "rows")):
        scorer = task_scorer(name, average=average, task_column=0)
        assert scorer(voting, rows, y) == pytest.approx(
            task_scorer(name, average=average)(alone, rows, y), rel=1e-5
        )
        assert scorer(alone, rows, y) == task_scorer(name, average=average)(alone, rows, y)
    with pytest.raises(ValueError, match=r"got a VotingClassifier.*task_column="):
        task_report(voting, rows, y)
    with pytest.raises(ValueError, match="Leave one of them out"):
        task_report(fitted, X, y, ids, task_column=0)
    report = task_report(voting, rows, y, task_column=0, output="dict")
    whole = task_report(alone, rows, y, task_column=0, output="dict")
    assert whole == task_report(alone, rows, y, output="dict")
    for name, row in whole.items():
        assert row == report[name] | {c: row[c] for c in ("growth", "mean rank", "ranks")}
    head, *lines = task_report(voting, rows, y, task_column=0).splitlines()
    assert head.split()[-1] == "support"
    assert len(lines) == 2


def test_the_first_response_that_there_is(fitted, data):
    X, y, ids = data
    listed = task_scorer(
        metrics.log_loss, response_method=["decision_function", "predict_proba"], average="tasks"
    )
    assert listed(fitted, X, y, ids) == -LOSS(fitted, X, y, ids)


def test_one_task_needs_no_ids(data, classifier):
    X, y, ids = data
    rows = ids == "thirds"
    clf = clone(classifier).fit(X[rows], y[rows])
    for average in ("rows", "tasks"):
        scorer = task_scorer("accuracy", average=average)
        assert scorer(clf, X[rows], y[rows]) == clf.score(X[rows], y[rows])


# --- folds ---------------------------------------------------------------------------------


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("n_splits", [2, 3, 7])
def test_every_fold_has_every_task_and_class(shuffle, n_splits):
    rng = np.random.RandomState(n_splits)
    ids = np.repeat(["few", "many", "some"], [n_splits, 100, 31])
    y = np.where(ids == "many", rng.randint(4, size=len(ids)), rng.randint(2, size=len(ids)))
    mixed = rng.permutation(len(ids))
    ids, y = ids[mixed], y[mixed]
    cv = TaskStratifiedKFold(n_splits, shuffle=shuffle, random_state=0 if shuffle else None)
    tests = []
    for train, test in cv.split(np.zeros((len(y), 1)), y, task_id=ids):
        assert np.array_equal(np.sort(np.append(train, test)), np.arange(len(y)))
        tests.append(test)
    assert len(tests) == cv.get_n_splits() == n_splits
    assert np.array_equal(np.sort(np.concatenate(tests)), np.arange(len(y)))
    groups = [ids == name for name in set(ids)]
    groups += [(ids == name) & (y == label) for name in set(ids) for label in range(4)]
    for rows in [*groups, np.ones(len(y), dtype=bool)]:
        counts = [rows[test].sum() for test in tests]
        assert max(counts) - min(counts) <= 1
        assert min(counts) > 0 or rows.sum() < n_splits


def test_folds_are_drawn_from_the_random_state():
    y, ids = np.arange(40) % 2, np.repeat([0, 1], 20)
    X = np.zeros((40, 1))

    def tests(**settings):
        return [t.tolist() for _, t in TaskStratifiedKFold(4, **settings).split(X, y, ids)]

    assert tests(random_state=0) == tests(random_state=0) != tests(random_state=1)
    assert tests(shuffle=False) == tests(shuffle=False)
    assert repr(TaskStratifiedKFold(3)).startswith("TaskStratifiedKFold(n_splits=3")


@pytest.mark.parametrize(
    ("settings", "arguments", "message"),
    [
        ({}, {}, "needs the task of every row.*not passed.*not passed"),
        ({}, {"task_id": [0] * 8, "groups": [0] * 8}, "once"),
        ({"task_column": 0}, {"task_id": [0] * 8}, "once.*task_column is 0"),
        ({"task_column": 5}, {}, "task_column=5"),
        ({"n_splits": 1}, {"task_id": [0] * 8}, "n_splits"),
        ({"n_splits": 2.5}, {"task_id": [0] * 8}, "n_splits"),
        ({"n_splits": 3}, {"task_id": [0] * 6 + ["x"] * 2}, "Task 'x' has 2 rows.* 3 folds"),
        ({}, {"task_id": [0] * 7}, "8 rows"),
        ({}, {"task_id": [0] * 8, "y": None}, "y to be passed"),
    ],
)
def test_folds_that_cannot_be_made_are_refused(settings, arguments, message):
    call = {"X": np.zeros((8, 2)), "y": np.arange(8) % 2} | arguments
    with pytest.raises(ValueError, match=message):
        TaskStratifiedKFold(**{"n_splits": 2} | settings).split(**call)


def test_tasks_may_be_passed_as_groups_without_routing(data, classifier):
    X, y, ids = data
    cv = TaskStratifiedKFold(3, random_state=0)
    scores = cross_val_score(GaussianNB(), X, y, cv=cv, groups=ids)
    for score, (train, test) in zip(scores, cv.split(X, y, task_id=ids), strict=True):
        assert score == GaussianNB().fit(X[train], y[train]).score(X[test], y[test])


# --- the report ----------------------------------------------------------------------------


def test_the_report_has_what_classification_report_has(fitted, data):
    X, y, ids = data
    report = task_report(fitted, X, y, ids, output="dict")
    assert list(report) == ["thirds", "parity"]
    for name, found in report.items():
        rows = ids == name
        known = metrics.classification_report(
            y[rows], fitted.predict(X[rows], name), output_dict=True, zero_division=0.0
        )
        for measure in ("precision", "recall", "f1-score", "support"):
            assert found[measure] == pytest.approx(known["macro avg"][measure])
        assert found["accuracy"] == known["accuracy"]
        assert found["classes"] == {c: known[c] for c in fitted.task_classes_[name]}
        assert found["growth"] == fitted.growth_[name]
        assert found["ranks"] == fitted.ranks_[name]
        assert found["mean rank"] == np.mean(list(fitted.ranks_[name].values()))


def test_the_report_as_text_and_as_a_table(fitted, data):
    X, y, ids = data
    report = task_report(fitted, X, y, ids, output="dict")
    head, *lines = task_report(fitted, X, y, ids, digits=3).splitlines()
    assert head.split()[:4] == ["task", "precision", "recall", "f1-score"]
    assert len({len(line) for line in [head, *lines]}) == 1
    for line, (name, row) in zip(lines, report.items(), strict=True):
        assert line.split()[0] == name
        assert line.split()[4:6] == [f"{row['accuracy']:.3f}", str(row["support"])]
    pytest.importorskip("pandas")
    frame = task_report(fitted, X, y, ids, output="frame")
    assert frame.index.tolist() == list(report)
    assert frame.index.name == "task"
    for name, row in report.items():
        assert frame.loc[name].to_dict() == {c: row[c] for c in frame.columns}


def test_the_report_looks_into_pipelines_and_searches(data, classifier):
    X, y, ids = data
    rows = np.insert(X, 0, ids == "parity", axis=1)
    model = make_pipeline("passthrough", clone(classifier).set_params(task_column=0))
    search = GridSearchCV(model, {}, cv=[(np.arange(N), np.arange(N))]).fit(rows, y)
    report = task_report(search, rows, y, output="dict")
    clf = search.best_estimator_[-1]
    assert report[1]["accuracy"] == clf.score(rows[ids == "parity"], y[ids == "parity"])
    assert report == task_report(search.best_estimator_, rows, y, output="dict")
    assert report == task_report(clf, rows, y, output="dict")
    with pytest.raises(ValueError, match="output"):
        task_report(clf, rows, y, output="table")
    with pytest.raises(ValueError, match="got a GaussianNB"):
        task_report(GaussianNB().fit(X, y), X, y, task_id=ids)
