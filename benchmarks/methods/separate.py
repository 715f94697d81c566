"""A whole network for every task: nothing is shared, nothing is forgotten."""

from benchmarks.methods._method import WithOwn


class Separate(WithOwn):
    """One network per task, each from a fresh start (STL)."""

    def learn(self, task):
        self.begin(task, like=self.start())
        own = self.own[task.name]
        self.fit(task, lambda: own, own.values())

    def start(self):
        """Return what all but the head begins with, if it is not fresh."""


class Copies(Separate):
    """One network per task, each begun as a copy of the first: transfer at full price."""

    def start(self):
        return self.first()
