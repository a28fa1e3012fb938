"""Where operators stand."""

import itertools

import pytest

from bnfold.reports.page.layout import lay_out

pytest.importorskip("fast_sugiyama", reason="bnfold[html] lays graphs out with fast-sugiyama")


def test_data_goes_from_left_to_right() -> None:
    edges = [(0, 1), (1, 2), (2, 3), (0, 3), (10, 11)]
    layout = lay_out([0, 1, 2, 3, 7, 10, 11], edges)
    assert all(layout.at[one][0] < layout.at[other][0] for one, other in edges)
    assert set(layout.at) == {0, 1, 2, 3, 7, 10, 11}
    assert layout.at[3][0] < layout.at[7][0] < layout.at[10][0], "one part behind the other"
    ends = sorted((line[0], line[-1]) for line in layout.lines)
    assert ends == sorted((layout.at[one], layout.at[other]) for one, other in edges)
    longest = max(layout.lines, key=len)
    assert len(longest) == 4, "it bends in each column that it crosses"


def test_no_two_stand_at_one_place() -> None:
    edges = [(0, n) for n in range(1, 9)] + [(n, 9) for n in range(1, 9)]
    layout = lay_out(range(10), edges)
    for one, other in itertools.combinations(layout.at.values(), 2):
        assert one[0] != other[0] or abs(one[1] - other[1]) >= 1
    assert layout.rows >= 8


def test_the_same_graph_is_laid_out_the_same() -> None:
    edges = [(n, n + 1) for n in range(30)] + [(n, n + 5) for n in range(0, 25, 3)]
    assert lay_out(range(31), edges) == lay_out(range(31), edges)


@pytest.mark.parametrize("count", [60, 300])
def test_what_everything_reads_takes_no_longer_than_what_is_long(count: int) -> None:
    edges = [(one, other) for other in range(count) for one in range(other)]
    layout = lay_out(range(count), edges)
    assert len(layout.lines) == len(edges)
    assert sum(map(len, layout.lines)) <= 2 * len(edges) + 6 * count + 500


def test_nothing_is_laid_out_as_nothing() -> None:
    assert lay_out([], []).at == {}
    assert lay_out([3], []).at == {3: (0.0, 0.0)}
