"""What the page on evidence shows, one command after the other; with_avalanche is run by itself.

    python -m benchmarks.suite --data-dir DIR [--jobs 2] [--only compare orders] [--longer]
    python -m benchmarks.suite --quick

Results go to benchmarks/results, and what is there already is not run again, so it can be stopped
and started at will. The quick form takes minutes, needs no files, and shows only that everything
runs: it learns two tasks of scikit-learn's digits for one epoch. The longer one goes on to what the
page does not have yet.
"""

import argparse
from pathlib import Path

from benchmarks import ablations, compare, cost, little_data, many_tasks, orders, theorem
from benchmarks.command import opened
from benchmarks.page import RESULTS

COMMANDS = {
    "compare": compare,
    "orders": orders,
    "little_data": little_data,
    "ablations": ablations,
    "theorem": theorem,
    "cost": cost,
    "many_tasks": many_tasks,
}
LARGE = ["HALRP, defaults", "HALRP, budget 0.02", "HALRP, budget 0.007", "HALRP, published"]
LARGE += ["separate networks", "copies of the first", "PackNet", "BatchEnsemble"]
LARGE += ["LoRA, rank 4", "LoRA, rank 16"]
TEN = ["HALRP, budget 0.02", "HALRP, published", "separate networks"]
MANY = ["HALRP, defaults", "HALRP, published", "separate networks", "fine-tuning", "EWC"]
MANY += ["PackNet", "BatchEnsemble", "LoRA, rank 4"]
OMNIGLOT = ["--seeds", "2", "--epochs", "20", "--batch-size", "32", "--methods", *MANY]
LITTLE = ["HALRP, defaults", "separate networks", "copies of the first", "LoRA, rank 4"]
TELLING = ["defaults", "importance: labels of the rows", "importance: plain singular values"]
TELLING += ["importance: kfac", "fixed rank 8"]
TELLING += ["convolution: channel", "warm-up 1", "warm-up 8", "alpha 0.5", "alpha 0.99"]
TELLING += ["budget 0.05", "budget 0.05, pruned at the end", "half precision"]
TELLING += ["no penalties", "r and s held at 1"]
TELLING += ["importance from training rows", "base: a tenth of the first task"]
TELLING += ["base: first task with random labels", "separate networks"]
TIGHT = ["defaults", "warm-up 8", "budget 0.02", "budget 0.02, labels of the rows"]
TIGHT += ["budget 0.02, warm-up 8", "budget 0.02, pruned at the end"]
TIGHT += ["budget 0.02, importance from training rows", "budget 0.02, importance: kfac"]
TIGHT += ["budget 0.02, convolution: channel", "budget 0.02, plain singular values"]
TIGHT += ["budget 0.02, warm-up 1"]
LONGER = ["budget 0.007", "budget 0.007, warm-up 1", "budget 0.007, warm-up 8"]
LONGER += ["budget 0.007, plain singular values", "defaults", "warm-up 8"]
FULL = [
    ("compare", "letters", ["--seeds", "5"]),
    ("compare", "five-datasets", ["--seeds", "5"]),
    ("compare", "tabular", ["--seeds", "5"]),
    ("compare", "permuted-mnist", ["--seeds", "3", "--tasks", "5"]),
    ("compare", "permuted-mnist-32", ["--seeds", "10", "--tasks", "10", "--methods", *TEN]),
    ("compare", "split-cifar10", ["--seeds", "5", "--methods", *LARGE]),
    ("orders", "letters", ["--orders", "26"]),
    ("little_data", "five-datasets", ["--seeds", "5", "--methods", *LITTLE]),
    ("ablations", "letters", ["--seeds", "3"]),
    ("ablations", "five-datasets", ["--seeds", "2", "--tasks", "4", "--methods", *TELLING]),
    ("ablations", "permuted-mnist-32", ["--seeds", "3", "--tasks", "2", "--methods", *TIGHT]),
    ("ablations", "split-cifar10", ["--seeds", "3", "--part", "valid", "--methods", *LONGER]),
    ("theorem", "five-datasets", ["--seeds", "2", "--importances", "empirical", "fisher", "kfac"]),
    ("cost", "five-datasets", ["--rounds", "2", "--tasks", "2"]),
    ("cost", "letters", ["--rounds", "5", "--tasks", "4"]),
    ("many_tasks", "digits", ["--tasks", "1000"]),  # a stream of its own
]
MORE = [
    ("compare", "omniglot-rotation", OMNIGLOT),
    ("orders", "five-datasets", ["--orders", "21", "--methods", "HALRP, defaults", "EWC"]),
    ("little_data", "split-cifar10", ["--seeds", "2", "--methods", *LITTLE]),
]
SHORT = ["--tasks", "2", "--epochs", "1"]
QUICK = [
    ("compare", "digits", [*SHORT, "--seeds", "1"]),
    ("orders", "digits", [*SHORT, "--orders", "2"]),
    ("little_data", "digits", [*SHORT, "--seeds", "1"]),
    ("ablations", "digits", [*SHORT, "--seeds", "1"]),
    ("theorem", "digits", [*SHORT, "--seeds", "1"]),
    ("cost", "digits", [*SHORT, "--rounds", "1", "--methods", "fine-tuning", "HALRP, defaults"]),
    ("many_tasks", "digits", ["--tasks", "5"]),
]


def main(arguments=None):
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.suite",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data-dir", help="folder of the original files")
    parser.add_argument("--download", action="store_true", help="fetch the files that are missing")
    parser.add_argument("--jobs", default="1", metavar="N", help="processes, each with one thread")
    parser.add_argument(
        "--only", nargs="+", choices=COMMANDS, default=list(COMMANDS), help="only these questions"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--quick", action="store_true", help="minutes, no files needed")
    form.add_argument("--longer", action="store_true", help="also what the page does not have")
    parser.add_argument("--results", type=Path, help="another folder; --quick writes none without")
    options = parser.parse_args(arguments)
    chosen = QUICK if options.quick else FULL + MORE * options.longer
    chosen = [one for one in chosen if one[0] in options.only]
    for stream in dict.fromkeys(stream for _, stream, _ in chosen):
        # What is missing is missed at once.
        opened(stream, options.data_dir, options.download)
    folder = options.results or (None if options.quick else RESULTS)
    for command, stream, settings in chosen:
        print(f"\n{command}: {stream}", flush=True)
        given = [*settings]
        if folder:
            given += ["--json", str(folder / f"{command}-{stream}.json")]
        if command != "many_tasks":
            given = [stream, *given]
            if command != "cost":  # where methods take turns
                given += ["--jobs", options.jobs]
            if options.data_dir:
                given += ["--data-dir", options.data_dir]
            if options.download:
                given += ["--download"]
        COMMANDS[command].main(given)


if __name__ == "__main__":
    main()
