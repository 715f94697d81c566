"""The page of the documentation that shows the results: docs/evidence.md and its pictures.

    python -m benchmarks.page

Everything on the page comes from the files in benchmarks/results. What is said about them is in
benchmarks/findings.md.
"""

import json
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.ticker import LogLocator, NullFormatter
from scipy.stats import spearmanr

from benchmarks import ablations, cost, little_data, orders, theorem
from benchmarks.running import summary

HERE = Path(__file__).parent
RESULTS = HERE / "results"
DOCS = HERE.parent / "docs"
OURS = {
    "HALRP, defaults": "#0b6e4f",
    "HALRP, tuned": "#063d2c",
    "HALRP, budget 0.05": "#2c9c69",
    "HALRP, budget 0.025": "#7bc8a4",
    "HALRP, published": "#d1a000",
}
MARKERS = "osv^<>DPXdhH*8p"


def stored(kind, results):
    """Return stream -> file content of all results of a kind."""
    files = sorted(results.glob(f"{kind}-*.json"))
    return {path.stem.removeprefix(f"{kind}-"): json.loads(path.read_text()) for path in files}


def markdown(header, rows):
    """Return a table."""
    lines = [header, ["---", *["--:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def spread(values, digits=2):
    """Return mean and standard deviation, in percent."""
    values = 100 * np.asarray(values)
    return f"{values.mean():.{digits}f} ± {values.std():.{digits}f}"


def about(content):
    """Return what was run."""
    said = content["about"]
    versions = ", ".join(f"{name} {value}" for name, value in content["versions"].items())
    return (
        f"`{content['command']}`: {said['tasks']} tasks, {said['epochs']} epochs, batches of "
        f"{said['batch_size']}, Adam {said['lr']:g}. {versions}."
    )


def comparison(runs):
    """Return a table of all methods on one stream, and what the plot needs."""
    runs = [run for run in runs if "seed" in run["key"]]
    rows, points = [], {}
    for name in dict.fromkeys(run["key"]["method"] for run in runs):
        found = [summary(run) for run in runs if run["key"]["method"] == name]
        value = {key: np.array([one[key] for one in found]) for key in found[0]}
        forgets = "" if np.isnan(value["BWT"]).all() else spread(value["BWT"])
        if not np.nan_to_num(value["BWT"], nan=1).any():
            forgets = "0"
        bold = "**" if name in OURS else ""
        rows.append(
            [
                f"{bold}{name}{bold}",
                spread(value["ACC"]),
                forgets,
                f"{100 * value['growth'].mean():.1f} %",
                f"{value['bytes'].mean() / 1e6:.2f}",
            ]
        )
        points[name] = value
    return markdown(["", "ACC", "BWT", "growth", "stored MB"], rows), points


def plot_comparison(plt, points, title):
    """Draw accuracy against stored bytes."""
    figure, ax = plt.subplots(figsize=(7.5, 4.6), layout="constrained")
    colors = plt.get_cmap("tab20").colors
    for i, (name, value) in enumerate(points.items()):
        ours = name in OURS
        ax.errorbar(
            value["bytes"].mean() / 1e6,
            100 * value["ACC"].mean(),
            yerr=100 * value["ACC"].std(),
            fmt=MARKERS[i % len(MARKERS)],
            markersize=11 if ours else 7,
            color=OURS.get(name, colors[i % 20]),
            markeredgecolor="black" if ours else "none",
            capsize=3,
            zorder=3 if ours else 2,
            label=name,
        )
    ax.set(xscale="log", xlabel="stored megabytes", ylabel="accuracy after all tasks, %")
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_title(title)
    low = min(100 * value["ACC"].mean() for value in points.values())
    ax.set_ylim(bottom=low - 3)
    ax.grid(alpha=0.3)
    ax.legend(fontsize=8, bbox_to_anchor=(1.01, 1), loc="upper left", frameon=False)
    return figure


def robustness(runs):
    """Return a table of what orders and seeds do."""
    runs = [run for run in runs if "order" in run["key"]]
    rows, found = [], {}
    for name in dict.fromkeys(run["key"]["method"] for run in runs):
        found[name] = one = orders.robustness(runs, name)
        cells = [
            f"{100 * one[group][key]:.2f}"
            for key in ("AOPD", "MOPD")
            for group in ("orders", "seeds")
        ]
        means = [f"{100 * one['orders'][key]:.2f}" for key in ("mean", "worst", "sd")]
        rows.append([name, *cells, *means])
    header = ["", "AOPD", "by chance", "MOPD", "by chance", "mean ACC", "worst order", "sd"]
    return markdown(header, rows), found


def plot_robustness(plt, found, title):
    """Draw AOPD of orders beside that of seeds."""
    figure, ax = plt.subplots(figsize=(7.5, 3.6), layout="constrained")
    place = np.arange(len(found))
    for shift, group, color in ((-0.2, "orders", "#33658a"), (0.2, "seeds", "#c9d6df")):
        heights = [100 * one[group]["AOPD"] for one in found.values()]
        label = {"orders": "random orders, one seed", "seeds": "one order, as many seeds"}[group]
        ax.bar(place + shift, heights, 0.4, color=color, label=label)
    ax.set_xticks(place, found, rotation=20, ha="right")
    ax.set(ylabel="AOPD, points of accuracy", title=title)
    ax.legend(frameon=False)
    return figure


def shares(runs):
    """Return a table of accuracy by share of the rows."""
    columns = sorted({run["key"]["share"] for run in runs})
    rows, found = [], {}
    for name in dict.fromkeys(run["key"]["method"] for run in runs):
        found[name] = little_data.by_share(runs, name)
        rows.append([name, *(spread(found[name][share], 1) for share in columns)])
    return markdown(["", *(f"{100 * share:.0f} %" for share in columns)], rows), found


def plot_shares(plt, found, title):
    """Draw accuracy against the share of the rows."""
    figure, ax = plt.subplots(figsize=(7.5, 4), layout="constrained")
    for i, (name, values) in enumerate(found.items()):
        x = 100 * np.array(sorted(values))
        mean = np.array([100 * np.mean(values[share]) for share in sorted(values)])
        sd = np.array([100 * np.std(values[share]) for share in sorted(values)])
        color = OURS.get(name, plt.get_cmap("tab10").colors[i + 1])
        ax.plot(
            x, mean, marker=MARKERS[i], color=color, lw=2.5 if name in OURS else 1.2, label=name
        )
        ax.fill_between(x, mean - sd, mean + sd, color=color, alpha=0.12, lw=0)
    ax.set(xscale="log", xlabel="rows of a task, %", ylabel="accuracy of later tasks, %")
    ax.set_xticks(x, [f"{one:.0f}" for one in x])
    ax.set_title(title)
    ax.grid(alpha=0.3)
    ax.legend(frameon=False, fontsize=9)
    return figure


def changes(runs):
    """Return a table of single changes."""
    reference, _ = ablations.found(runs, "defaults")
    rows, found = [], {}
    for name in dict.fromkeys(run["key"]["variant"] for run in runs):
        accuracy, growth = ablations.found(runs, name)
        found[name] = difference = 100 * (accuracy - reference[: len(accuracy)])
        cells = [
            f"{100 * accuracy.mean():.2f}",
            f"{difference.mean():+.2f} ± {difference.std():.2f}",
        ]
        rows.append([name, *cells, f"{100 * growth:.2f} %"])
    return markdown(["", "accuracy", "difference", "growth of a task"], rows), found


def plot_changes(plt, found, title):
    """Draw differences from the defaults."""
    figure, ax = plt.subplots(figsize=(7.5, 0.26 * len(found) + 1.2), layout="constrained")
    for i, difference in enumerate(found.values()):
        ax.plot(difference, np.full(len(difference), i), "o", color="#33658a", alpha=0.5, ms=5)
        ax.plot(difference.mean(), i, "|", color="black", ms=12, mew=2)
    ax.axvline(0, color="#0b6e4f", lw=1)
    ax.set_yticks(range(len(found)), found, fontsize=8)
    ax.invert_yaxis()
    ax.set(xlabel="points of accuracy beside the defaults, same seed", title=title)
    ax.grid(alpha=0.3, axis="x")
    return figure


def bound(runs):
    """Return a table of how well the bound orders the cuts."""
    rows, found = [], {}
    for importance in dict.fromkeys(run["key"]["importance"] for run in runs):
        for warmup in sorted({run["key"]["warmup"] for run in runs}):
            predicted, measured, layers = theorem.pairs(runs, importance, warmup)
            some = predicted > 0
            ratio = np.median(measured[some] / predicted[some])
            above = np.mean(measured[some] > predicted[some])
            cells = [f"{spearmanr(predicted, measured).statistic:.2f}", f"{ratio:.1f}"]
            name = f"{importance}, {warmup} epochs of warm-up"
            rows.append([name, str(len(predicted)), *cells, f"{100 * above:.0f} %"])
            found[name] = predicted, measured, layers
    header = ["", "cuts", "rank correlation", "measured / predicted", "above the prediction"]
    return markdown(header, rows), found


def plot_bound(plt, found, title):
    """Draw measured against predicted increases."""
    figure, axes = plt.subplots(
        1, len(found), figsize=(4 * len(found), 3.8), layout="constrained", squeeze=False
    )
    for ax, (name, (predicted, measured, layers)) in zip(axes[0], found.items(), strict=True):
        for i, layer in enumerate(dict.fromkeys(layers)):
            some = np.array([one == layer for one in layers]) & (predicted > 0) & (measured > 0)
            ax.plot(predicted[some], measured[some], MARKERS[i % 15], ms=5, alpha=0.7, label=layer)
        ax.set(xscale="log", yscale="log", xlabel="predicted increase of the loss", title=name)
        ax.set(xlim=(1e-6, 1), ylim=(1e-6, 10))
        ax.plot([1e-6, 1], [1e-6, 1], color="grey", lw=1)
        ax.grid(alpha=0.3)
        ax.legend(fontsize=7, frameon=False)
    axes[0][0].set_ylabel("measured increase")
    figure.suptitle(title)
    return figure


def costs(runs):
    """Return a table of time and memory."""
    found = cost.ratios(runs)
    rows = [
        [
            name,
            f"{one['time']:.2f}",
            f"{one['memory'] / 1e6:.0f}",
            f"{one['bytes'] / 1e6:.2f}",
        ]
        for name, one in found.items()
    ]
    return markdown(["", "time / fine-tuning", "memory MB", "stored MB"], rows), found


def plot_costs(plt, found, title):
    """Draw time against stored bytes."""
    figure, ax = plt.subplots(figsize=(7.5, 4.2), layout="constrained")
    for i, (name, one) in enumerate(found.items()):
        color = OURS.get(name, plt.get_cmap("tab20").colors[i % 20])
        ax.plot(
            one["bytes"] / 1e6,
            one["time"],
            MARKERS[i % len(MARKERS)],
            color=color,
            ms=8,
            label=name,
        )
    ax.set(xlabel="stored megabytes", ylabel="time of a task, over fine-tuning's", title=title)
    ax.grid(alpha=0.3)
    ax.legend(fontsize=8, bbox_to_anchor=(1.01, 1), loc="upper left", frameon=False)
    return figure


SECTIONS = {
    "compare": (comparison, plot_comparison),
    "orders": (robustness, plot_robustness),
    "little_data": (shares, plot_shares),
    "ablations": (changes, plot_changes),
    "theorem": (bound, plot_bound),
    "cost": (costs, plot_costs),
}


def scale(plt, results, pictures):
    """Return the table of many tasks, and draw it."""
    path = results / "many_tasks.json"
    if not path.exists():
        return ""
    content = json.loads(path.read_text())
    rows = [
        [
            str(one["tasks"]),
            f"{100 * one['accuracy']:.1f}",
            f"{one['bytes'] / 1e6:.2f}",
            f"{1000 * one['processor seconds for one of the last']:.0f}",
            f"{1e6 * one['seconds to predict a row']:.0f}",
        ]
        for one in content["curve"]
    ]
    header = ["tasks", "accuracy", "stored MB", "ms to learn one more", "µs to predict a row"]
    if pictures:
        figure, axes = plt.subplots(1, 3, figsize=(9, 2.8), layout="constrained")
        x = [one["tasks"] for one in content["curve"]]
        drawn = (
            ("bytes", 1e6, "stored megabytes"),
            ("processor seconds for one of the last", 1e-3, "ms to learn one more"),
            ("seconds to predict a row", 1e-6, "µs to predict a row"),
        )
        for ax, (key, unit, label) in zip(axes, drawn, strict=True):
            ax.plot(x, [one[key] / unit for one in content["curve"]], "o-", color="#0b6e4f")
            ax.set(xscale="log", xlabel="tasks", ylabel=label, ylim=(0, None))
            ax.grid(alpha=0.3)
        figure.savefig(pictures / "many_tasks.svg", metadata={"Date": None})
        plt.close(figure)
    return (
        f"{markdown(header, rows)}\n\n![bytes, time to learn and time to predict against the "
        f"number of tasks](_static/evidence/many_tasks.svg)\n\n`{content['command']}`, torch "
        f"{content['torch']}.\n"
    )


def section(plt, kind, results, pictures):
    """Return the tables of a kind of results, one for each stream, and draw their pictures."""
    tabulate, draw = SECTIONS[kind]
    library = stored("avalanche", results) if kind == "compare" else {}
    parts = []
    for stream, content in stored(kind, results).items():
        files = [content, *([library[stream]] if stream in library else [])]
        text, found = tabulate([run for one in files for run in one["runs"]])
        name = f"{kind}-{stream}.svg"
        if pictures:
            figure = draw(plt, found, stream)
            figure.savefig(pictures / name, metadata={"Date": None})
            plt.close(figure)
        parts.append(
            f"### {stream}\n\n{text}\n\n"
            f"![{kind.replace('_', ' ')}: {stream}](_static/evidence/{name})\n\n"
            + "\n\n".join(about(one) for one in files)
            + "\n"
        )
    return "\n".join(parts)


def build(results=RESULTS, pictures=None):
    """Return the text of the page; draw its pictures if a folder for them is given."""
    plt = None
    if pictures:
        matplotlib.use("agg")
        matplotlib.rcParams.update({"svg.hashsalt": "evidence", "svg.fonttype": "path"})
        import matplotlib.pyplot as plt

        pictures.mkdir(parents=True, exist_ok=True)
    text = (HERE / "findings.md").read_text()
    for kind in SECTIONS:
        text = text.replace(f"<!-- {kind} -->", section(plt, kind, results, pictures))
    if "<!-- scale -->" in text:
        text = text.replace("<!-- scale -->", scale(plt, results, pictures))
    return text


def main():
    """Write the page."""
    (DOCS / "evidence.md").write_text(build(pictures=DOCS / "_static" / "evidence"))


if __name__ == "__main__":
    main()
