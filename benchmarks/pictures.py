"""The pictures of the page: each function draws what one command found on one stream.

All take what `found` of the command returns, and a title, and return a figure.
"""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import LogLocator, NullFormatter

from benchmarks.contestants import EVERYONE
from benchmarks.tables import deviation

OURS = {
    "HALRP, defaults": "#0b6e4f",
    "HALRP, tuned": "#063d2c",
    "HALRP, budget 0.05": "#2c9c69",
    "HALRP, budget 0.02": "#7bc8a4",
    "HALRP, budget 0.007": "#b5dfca",
    "HALRP, published": "#d1a000",
    "HALRP, no net": "#7a1fa2",
    "HALRP, joint base": "#b5179e",
    "HALRP, no net, joint base": "#f72585",
}
LOOKS = list(dict.fromkeys([*OURS, *EVERYONE]))
MARKERS = "osv^<>DPXdhH*8p"
SIDES = ("orders", "seeds")
FARTHEST = 3  # points below the defaults: what is worse is written, not drawn


def look(name):
    """Return the colour and marker of a method, the same in every picture."""
    place = LOOKS.index(name) if name in LOOKS else len(LOOKS)
    others = matplotlib.colormaps["tab20"].colors
    return OURS.get(name, others[place % len(others)]), MARKERS[place % len(MARKERS)]


def drawing(width, height, *shape, **settings):
    """Return a figure and its axes."""
    return plt.subplots(*shape, figsize=(width, height), layout="constrained", **settings)


def comparison(found, title):
    """Draw accuracy against stored bytes."""
    figure, ax = drawing(7.5, max(4.6, 0.7 + 0.18 * len(found)))  # as high as the names need
    for name, value in found.items():
        ours, (color, marker) = name in OURS, look(name)
        ax.errorbar(
            value["bytes"].mean() / 1e6,
            100 * value["ACC"].mean(),
            yerr=100 * deviation(value["ACC"]),
            fmt=marker,
            # The tuned settings may be the defaults: both are to be seen then.
            markersize=6 if name == "HALRP, tuned" else 9 if ours else 7,
            color=color,
            markeredgecolor="black" if ours else "none",
            capsize=3,
            zorder=3 if ours else 2,
            label=name,
        )
    ax.set(xscale="log", xlabel="stored megabytes", ylabel="accuracy after all tasks, %, ± sd")
    low, high = ax.get_xlim()
    ratio = high / low
    subs = (1, 1.2, 1.5, 2, 3, 4, 5, 7) if ratio < 10 else (1, 2, 5) if ratio <= 1000 else (1,)
    ax.xaxis.set_major_locator(LogLocator(subs=subs))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_title(title)
    ax.grid(alpha=0.3)
    ax.legend(fontsize=8, bbox_to_anchor=(1.01, 1), loc="upper left", frameon=False)
    return figure


def robustness(found, title):
    """Draw the disparities of orders beside those of seeds."""
    figure, axes = drawing(7.5, 7.5, 3, 1, sharex=True)
    place = np.arange(len(found))
    names = {"AOPD": "AOPD", "later": "AOPD, not first", "MOPD": "MOPD"}
    for ax, (key, name) in zip(axes, names.items(), strict=True):
        orders, seeds = ([100 * one[side][key] for one in found.values()] for side in SIDES)
        ax.bar(place - 0.2, orders, 0.4, color="#33658a", label="orders, one seed")
        ax.bar(place + 0.2, seeds, 0.4, color="#c9d6df", label="as many seeds, one order")
        ax.set(ylabel=f"{name}, points")
    axes[0].set_title(title)
    axes[0].legend(frameon=False)
    axes[-1].set_xticks(place, found, rotation=20, ha="right")
    return figure


def shares(found, title):
    """Draw accuracy against the share of the rows."""
    figure, ax = drawing(7.5, 4)
    rows = max(next(iter(found.values()))) > 1  # numbers, not shares
    for name, values in found.items():
        color, marker = look(name)
        x = np.array(sorted(values)) * (1 if rows else 100)
        seeds = [100 * values[share].mean(1) for share in sorted(values)]
        mean, sd = np.array([(one.mean(), deviation(one)) for one in seeds]).T
        ax.plot(x, mean, marker=marker, color=color, lw=2.5 if name in OURS else 1.2, label=name)
        ax.fill_between(x, mean - sd, mean + sd, color=color, alpha=0.12, lw=0)
    unit = "" if rows else ", %"
    ax.set(xscale="log", xlabel=f"rows of a task{unit}", ylabel="accuracy of later tasks, %")
    ax.set_xticks(x, [f"{one:.0f}" for one in x])
    ax.set_title(title)
    ax.grid(alpha=0.3)
    ax.legend(frameon=False, fontsize=9)
    return figure


def changes(found, title):
    """Draw differences from the defaults; those that lie far below are written down."""
    figure, ax = drawing(7.5, 0.26 * len(found) + 1.2)
    for i, one in enumerate(found.values()):
        difference = 100 * one["difference"]
        if difference.mean() < -FARTHEST:
            where = {"transform": ax.get_yaxis_transform(), "va": "center", "fontsize": 8}
            ax.text(0.01, i, f"← {difference.mean():.1f}", **where)
            continue
        ax.plot(difference, np.full(len(difference), i), "o", color="#33658a", alpha=0.5, ms=5)
        ax.plot(difference.mean(), i, "|", color="black", ms=12, mew=2)
    ax.axvline(0, color="#0b6e4f", lw=1)
    ax.set_yticks(range(len(found)), found, fontsize=8)
    ax.set_ylim(len(found) - 0.4, -0.6)
    ax.set(xlabel="points of accuracy beside the defaults (dots: seeds, bars: means)", title=title)
    ax.grid(alpha=0.3, axis="x")
    return figure


def costs(found, title):
    """Draw times and memory, one bar for each method; whiskers are the range of the rounds."""
    figure, axes = drawing(11, 0.26 * len(found) + 1.2, 1, 3, sharey=True)
    drawn = {
        "time": "time to learn a task, over fine-tuning's",
        "predicting": "time to predict, over fine-tuning's",
        "memory": "memory, MB",
    }
    place = np.arange(len(found))
    for ax, (key, label) in zip(axes, drawn.items(), strict=True):
        lengths = np.array([np.median(one[key]) for one in found.values()])
        lengths = lengths / 1e6 if key == "memory" else lengths
        ax.barh(place, lengths, color=["#0b6e4f" if name in OURS else "#9db4c0" for name in found])
        if key != "memory":
            ends = [(one[key].min(), one[key].max()) for one in found.values()]
            ax.hlines(place, *zip(*ends, strict=True), color="black", lw=1)
        ax.set(xlabel=label)
        ax.grid(alpha=0.3, axis="x")
    axes[0].set_yticks(place, found, fontsize=8)
    axes[0].set_ylim(len(found) - 0.4, -0.6)
    figure.suptitle(title)
    return figure


def scale(found, title):
    """Draw accuracy, bytes and times against the number of tasks."""
    figure, axes = drawing(11, 2.8, 1, 4)
    x = [one["tasks"] for one in found["curve"]]
    drawn = (
        ("accuracy", 1e-2, "accuracy, %"),
        ("bytes", 1e6, "stored megabytes"),
        ("processor seconds for one of the last", 1e-3, "ms to learn one more"),
        ("seconds to predict a row", 1e-6, "µs to predict a row"),
    )
    for ax, (key, unit, label) in zip(axes, drawn, strict=True):
        y = [one[key] / unit for one in found["curve"]]
        ax.plot(x, y, "o-", color="#0b6e4f")
        ax.set(xlabel="tasks", ylabel=label, ylim=(0, 1.08 * max(y)))
        ax.grid(alpha=0.3)
    figure.suptitle(title)
    return figure
