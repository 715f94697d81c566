"""The tables of the HALRP paper, with this package's classifier and with other methods.

    python -m benchmarks.paper PROTOCOL --data-dir DIR [--download] [--orders A B] [--seeds 5]

PROTOCOL is a name in `benchmarks.protocols.PROTOCOLS`, which says where the settings come from and
how they differ from the published ones. Without --methods only "HALRP, published" is run; the
others are those of `benchmarks.contestants`.
"""

import numpy as np

from benchmarks import tables
from benchmarks.command import Parser, method, said
from benchmarks.compare import forgotten, learn
from benchmarks.contestants import contestants
from benchmarks.orders import final
from benchmarks.protocols import PROTOCOLS
from benchmarks.running import Results, summary
from benchmarks.tables import grouped, spread
from sklearn_halrp.metrics import aopd, mopd


def found(runs):
    """Return method -> what it reached.

    ACC, BWT and growth of all orders and seeds; AOPD and MOPD over the orders, of accuracies
    averaged over seeds, where there are several; and the accuracy of each task.
    """
    values = {}
    for name, own in grouped([run for run in runs if "order" in run["key"]], "method").items():
        measured = [summary(run) for run in own]
        values[name] = {key: [one[key] for one in measured] for key in ("ACC", "BWT", "growth")}
        means = [
            np.mean([final(run) for run in same], axis=0) for same in grouped(own, "name").values()
        ]
        if len(means) > 1:
            values[name] |= {"AOPD": aopd(means), "MOPD": mopd(means)}
        values[name]["tasks"] = np.mean(means, axis=0)
    return values


def table(values):
    """Return one line per method; tasks are in their natural order."""
    rows = [
        [
            name,
            spread(one["ACC"]),
            forgotten(np.array(one["BWT"])),
            f"{100 * np.mean(one['growth']):.1f} %",
            *(f"{100 * one[key]:.2f}" if key in one else "" for key in ("AOPD", "MOPD")),
            " ".join(f"{100 * value:.1f}" for value in one["tasks"]),
        ]
        for name, one in values.items()
    ]
    return tables.table(["", "ACC", "BWT", "growth", "AOPD", "MOPD", "tasks"], rows)


def main(arguments=None):
    """Run the command."""
    counts = {"seeds": 5, "epochs": None, "rows": None, "tasks": None, "jobs": 1}
    parser = Parser("paper", __doc__, **counts).data(required=True).results()
    add = parser.add_argument
    add("protocol", choices=PROTOCOLS, metavar="PROTOCOL", help=", ".join(PROTOCOLS))
    add("--methods", nargs="+", type=method, default=["HALRP, published"], metavar="METHOD")
    add("--orders", nargs="+", choices=[*"ABCDE"], default=[*"ABCDE"])
    add("--device", default="cpu", help="for torch, such as cuda")
    options = parser.parse_args(arguments)
    protocol = PROTOCOLS[options.protocol]
    try:
        stream = protocol.load(options.data_dir, options.download, options.rows)
    except (FileNotFoundError, ImportError) as error:
        parser.error(str(error))
    n_tasks = min(options.tasks or protocol.n_tasks, protocol.n_tasks)
    if len(stream.tasks) < n_tasks:
        parser.error(
            f"{options.protocol} has {protocol.n_tasks} tasks, but the files in --data-dir give "
            f"{len(stream.tasks)}. Add the missing files, or say --tasks {len(stream.tasks)}."
        )
    about = {"protocol": options.protocol, "stream": stream.name, "tasks": n_tasks}
    training = protocol.training(options.epochs, options.device)
    about |= {**said(training), "rows": options.rows}
    results = Results(options.json, about, options.words)
    orders = {
        name: [number for number in protocol.orders[name] if number < n_tasks]
        for name in options.orders
    }
    stream = stream.first(n_tasks)
    chosen = contestants(stream, options.methods, protocol.published(protocol.n_tasks))
    visits = [
        ({"name": name, "order": order}, stream.in_order(order), seed)
        for name, order in orders.items()
        for seed in range(options.seeds)
    ]
    runs = learn(results, stream, chosen, training, visits, options.jobs)
    print(table(found(runs)))
    return runs


if __name__ == "__main__":
    main()
