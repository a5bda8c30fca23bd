"""The runs behind the paper's figures: curves and sizes."""

from nanorepro.paper import curves


def test_warm_start_goes_on_with_new_examples():
    size = curves.size(10, "smoke")
    curve = curves.curves(size)["ReLU deep TL"]
    c = curve.at(1, 64 * "0")
    assert c.first_example == c.examples and c.warm_start and c.lr < 0.1
    assert curves.curves(size)[curve.source].config.first_example == 0


def test_windows_that_do_not_fit_give_way_to_the_longest():
    assert curves.size(2, "paper").windows == tuple(range(0, 21, 2))
    assert curves.size(2, "paper", 20).windows == (0, 2, 4, 6, 8, 10, 12, 14, 15)
    assert curves.size(2, "laptop", 22, windows=[17, 0]).windows == (0, 17)
    assert curves.PAPER.at(curves.MID) == (10,)
