"""What the commands of the comparison have in common."""

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


class Parser(argparse.ArgumentParser):
    """One that also remembers the command, which is written down with the results."""

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


at_least_one, at_least_two = partial(at_least, 1), partial(at_least, 2)


def method(name):
    """Return the name of a method, if there is one that is called so."""
    try:
        contestant(name)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return name


def parser(name, doc, seeds=3, epochs=10, batch_size=128, method=method, jobs=True):
    """Return a parser for a module of this name, with the arguments that most of them take.

    Seeds and method may be None, and jobs false, where a command has no use for them.
    """
    one = Parser(
        prog=f"benchmarks.{name}",
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    one.add_argument("stream", help=", ".join(STREAMS))
    one.add_argument("--data-dir", help="folder of the original files")
    one.add_argument("--download", action="store_true", help="fetch the files that are missing")
    if seeds:
        one.add_argument(
            "--seeds", type=at_least_one, default=seeds, help="how many: 0, 1 and so on"
        )
    one.add_argument("--epochs", type=at_least_one, default=epochs, help="for every task")
    one.add_argument("--batch-size", type=at_least_one, default=batch_size, help="rows a step")
    one.add_argument("--tasks", type=at_least_one, help="only the first so many")
    if method:
        one.add_argument("--methods", nargs="+", type=method, metavar="NAME", help="only these")
    if jobs:
        one.add_argument(
            "--jobs", type=at_least_one, default=1, help="processes, each with one thread"
        )
    one.add_argument("--json", help="file of runs to write; those that it has are not run again")
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


def opened(name, data_dir, download):
    """Return a stream whose tasks are not made yet, or end with what is missing."""
    if data_dir and not download and not Path(data_dir).is_dir():
        raise SystemExit(f"There is no folder {data_dir} for --data-dir.")
    try:
        return load(name, data_dir, download, lazily=True)
    except (ValueError, OSError, ImportError) as error:
        raise SystemExit(str(error)) from None


def prepared(options, **versions):
    """Return the stream, how to train, and the file of results.

    Versions are those of what computes besides the libraries that all commands use.
    """
    stream = opened(options.stream, options.data_dir, options.download)
    if options.tasks:
        if options.tasks > len(stream.tasks):
            raise SystemExit(f"{stream.name} has {len(stream.tasks)} tasks, not {options.tasks}.")
        stream = stream.first(options.tasks)
    training = Training(options.epochs, options.batch_size)
    stream = stream.made()
    about = {"stream": options.stream, "tasks": len(stream.tasks), **said(training)}
    about["rows"] = fingerprint(stream)
    if "JPEG" in stream.name:
        about["images"] = "CIFAR-10 through JPEG"
    if getattr(options, "part", "test") == "valid":
        about["predicted"] = "validation rows"
    return stream, training, Results(options.json, about, options.words, versions)
