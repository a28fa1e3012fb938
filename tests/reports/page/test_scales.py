"""Where marks stand on scales."""

import math

from bnfold.reports.page.scales import Plot, Ranges, Scale


def test_scales_hold_what_they_are_made_for() -> None:
    values = [3e-7, 0.0, None, 2e-3]
    scale = Scale.around(values)
    assert (scale.low, scale.high) == (-7, -2)
    assert scale.at(0.0) == 0.0
    assert scale.at(None) == 1.0
    assert math.isclose(scale.at(10**-4.5), 0.5)
    assert len(scale.ticks) <= 6
    assert Scale.around([]).ticks
    assert Scale.around([1e-3]) == Scale(-3, -2)


def test_plots_stay_inside_their_frame() -> None:
    layers = [
        {"name": str(i), "difference": difference, "noise": 1e-6, "magnitude": 2.0}
        for i, difference in enumerate([0.0, 1e-6, 1e-2, None])
    ]
    plot = Plot(layers)
    points = [tuple(map(float, point.split(","))) for point in plot.line("difference").split()]
    assert len(points) == 4
    assert all(0 <= x <= plot.width and 0 <= y <= plot.height for x, y in points)
    assert points[0][1] == plot.height
    assert points[3][1] == 0


def test_ranges_of_channels_are_steps_on_one_scale() -> None:
    ranges = Ranges((0.0, 1e-3), (1e-2, 1.0))
    points = [tuple(map(float, point.split(","))) for point in ranges.points(ranges.after).split()]
    assert [x for x, _ in points] == [0, ranges.width / 2, ranges.width / 2, ranges.width]
    assert points[-1][1] == 0, "the largest"
    assert ranges.points(ranges.before).startswith(f"0.0,{float(ranges.height)}"), "nothing"
    assert Ranges((), (1.0, 1e-30)).scale.low == -6, "what is dead does not squeeze the others"
