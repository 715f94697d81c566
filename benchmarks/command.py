"""What the commands have in common: their arguments, and what they prepare."""

import argparse
import hashlib
import sys
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.contestants import contestant
from benchmarks.methods import Training
from benchmarks.running import Results
from benchmarks.streams import STREAMS, load

HELP = {  # of what is counted
    "seeds": "how many: 0, 1 and so on",
    "tasks": "how many",
    "sites": "how many of the later ones",
    "epochs": "for every task",
    "batch_size": "rows a step",
    "rows": "of a task",
    "base_rows": "of the first task, which trains the base",
    "rounds": "how often each is timed",
    "orders": "how many: the natural one, and others that begin with each task in turn",
    "jobs": "processes, each with one thread",
}
LEAST = {"orders": 2}


class Parser(argparse.ArgumentParser):
    """One for a module of this name, that also remembers the command, for the results.

    Parameters
    ----------
    name, doc : str
    **counts
        Arguments that are numbers from 1 on, and their defaults, which may be None.
    """

    def __init__(self, name, doc, **counts):
        layout = argparse.RawDescriptionHelpFormatter
        super().__init__(prog=f"benchmarks.{name}", description=doc, formatter_class=layout)
        for count, default in counts.items():
            self.add_argument(
                f"--{count.replace('_', '-')}",
                type=partial(at_least, LEAST.get(count, 1)),
                default=default,
                help=HELP[count] + (f" ({default})" if default else ""),
            )

    def data(self):
        """Add what says where files are."""
        self.add_argument("--data-dir", help="folder of the original files")
        return self

    def results(self):
        """Add the file of results."""
        text = "file of runs to write; those that it has are not run again"
        self.add_argument("--json", help=text)
        return self

    def parse_args(self, arguments=None):
        """Return what was said, and the command as ``words``."""
        given = sys.argv[1:] if arguments is None else arguments
        options = super().parse_args(given)
        options.words = [self.prog, *given]
        return options


def at_least(least, text):
    """Return a count from the command line."""
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"takes a number from {least} on; got {text!r}")
    return int(text)


def method(name):
    """Return the name of a method, if there is one that is called so."""
    try:
        contestant(name)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return name


def parser(name, doc, method=method, epochs=10, batch_size=128, **counts):
    """Return a parser for a command that takes a stream; method may be None where all are run."""
    counts = {**counts, "epochs": epochs, "batch_size": batch_size, "tasks": None}
    one = Parser(name, doc, **counts).data().results()
    one.add_argument("stream", help=", ".join(STREAMS))
    if method:
        one.add_argument("--methods", nargs="+", type=method, metavar="NAME", help="only these")
    return one


def fingerprint(stream):
    """Return what tells whether two results come from the same rows."""
    digest = hashlib.sha256()
    for task in stream.tasks:
        for part in (*task.train, *task.valid, *task.test):
            digest.update(np.ascontiguousarray(part))
    return digest.hexdigest()[:12]


def said(training):
    """Return what a file of results says about the training."""
    return {"epochs": training.epochs, "batch_size": training.batch_size, "lr": training.lr}


def opened(name, data_dir, n_tasks=None):
    """Return a stream of so many tasks, or end with what is missing."""
    if data_dir and not Path(data_dir).is_dir():
        raise SystemExit(f"There is no folder {data_dir} for --data-dir.")
    try:
        return load(name, data_dir, n_tasks)
    except (ValueError, OSError) as error:
        raise SystemExit(str(error)) from None


def prepared(options, **versions):
    """Return the stream, how to train, and the file of results.

    Versions are those of what computes besides the libraries that all commands use.
    """
    stream = opened(options.stream, options.data_dir, options.tasks)
    training = Training(options.epochs, options.batch_size)
    about = {"stream": options.stream, "tasks": len(stream.tasks), **said(training)}
    about["rows"] = fingerprint(stream)
    if "JPEG" in stream.name:
        about["images"] = "CIFAR-10 through JPEG"
    if getattr(options, "part", "test") == "valid":
        about["predicted"] = "validation rows"
    return stream, training, Results(options.json, about, options.words, versions)
