from html.parser import HTMLParser

import numpy as np
import pytest
import sklearn

from tests.conftest import make_classifier
from tests.inside import network_of, with_network


class Cells(HTMLParser):
    """Collects the rows of the last table, and checks that all is closed."""

    def __init__(self, html):
        super().__init__()
        self.open, self.rows = [], []
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        if tag in ("details", "summary", "table", "tr", "td", "th"):
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])

    def handle_endtag(self, tag):
        if tag in self.open:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "td":
            self.rows[-1].append(data)


def rows_of(clf):
    shown = (clf._repr_mimebundle_()["text/html"], clf._repr_html_())
    one, other = (Cells(html[html.rindex("<details open>") :]).rows for html in shown)
    assert one == other
    return one


def test_the_tasks_are_listed(learned):
    rows = [row for row in rows_of(learned) if row]
    assert [row[0] for row in rows] == ["first", "2", "third"]
    assert rows[0][1] == "0, 1, 2, 3, 4, 5, … (10 in all)"
    assert rows[0][3] == "base"
    assert rows[1][3] == "/".join(map(str, learned.ranks_[2].values()))
    assert rows[2][2] == f"{learned.history_['third'][-1]['valid_acc']:.1%}"
    assert rows[2][4] == f"{learned.growth_['third']:.1%}"


def test_many_tasks_are_shortened_and_names_escaped(learned):
    network = network_of(learned)
    for number in range(200):
        network = network.with_task(f"<b>{number}", network.tasks[2])
    clf = with_network(learned, network)
    rows = [row for row in rows_of(clf) if row]
    assert len(rows) == 21
    assert rows[10] == ["… 183 more …"]
    assert rows[-1][0] == "<b>199"


def test_without_tasks_or_diagrams_nothing_is_added(digits):
    clf = make_classifier()
    assert "<details open>" not in clf._repr_html_()
    clf.fit(digits[0][:60], digits[1][:60], np.repeat([0, 1], 30))
    with sklearn.config_context(display="text"):
        assert "text/html" not in clf._repr_mimebundle_()
        with pytest.raises(AttributeError):
            clf._repr_html_()
