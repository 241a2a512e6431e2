"""
The history of figures and its plot: what is shown is what was measured.
"""

import json
from datetime import UTC, datetime
from xml.etree import ElementTree as ET

import pytest

from bench.figures import HISTORY, PLOT, Figure, Figures, line_of, plot

_SVG = "{http://www.w3.org/2000/svg}"


def test_run_is_kept_with_its_commit_machine_and_figures_of_four_digits():
    figures = Figures()
    figures.note(Figure.WARM_PER_S, 1234.56)
    figures.note(Figure.CHECK_TO_BARE, 2.34567)
    line = line_of(figures, at=datetime(2027, 3, 1, tzinfo=UTC), commit="abc")
    assert ("2027-03-01T00:00:00+00:00", "abc") == (line["at"], line["commit"])
    assert {"warm_per_s": 1235.0, "check_to_bare": 2.346} == line["figures"]


@pytest.mark.parametrize(
    ("figure", "value", "share"),
    [
        (Figure.CHECK_TO_BARE, 4.0, 0.5),
        (Figure.CHECK_TO_BARE, 1.0, 2.0),
        (Figure.WARM_PER_S, 1500.0, 0.5),
        (Figure.WARM_PER_S, 6000.0, 2.0),
    ],
)
def test_share_of_a_goal_is_more_where_the_figure_is_better(figure, value, share):
    assert share == figure.share(value)


def test_plot_has_a_row_for_each_figure_of_any_run_and_its_last_value():
    runs = [
        {"figures": {"warm_per_s": 1000.0, "check_to_bare": 1.0}},
        {"figures": {"warm_per_s": 2000.0}},
    ]
    root = ET.fromstring(plot(runs))  # noqa: S314 - our own
    texts = [text.text for text in root.iter(f"{_SVG}text")]
    assert "2000 /s (goal 3000)" in texts
    assert "1 (goal 2)" in texts
    assert ["y", "x"] == [one.get("class") for one in root.iter(f"{_SVG}rect")][1:]
    assert 1 == len(list(root.iter(f"{_SVG}circle")))


def test_plot_of_nothing_is_drawn():
    assert not list(ET.fromstring(plot([])).iter(f"{_SVG}circle"))  # noqa: S314 - our own


def test_plot_in_the_documents_is_that_of_the_history():
    runs = [json.loads(line) for line in HISTORY.read_text().splitlines()]
    assert {figure.key for figure in Figure} >= {key for run in runs for key in run["figures"]}
    assert PLOT.read_text() == plot(runs)
