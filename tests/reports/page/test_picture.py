"""The picture of a network."""

import pytest

from bnfold.region import Region
from bnfold.reports.network import FoldPlace, Network
from bnfold.reports.page.picture import CARDS, DOTS, Drawer, Fate
from bnfold.reports.records import NodeRecord

pytest.importorskip("fast_sugiyama", reason="bnfold[html] lays graphs out with fast-sugiyama")


def chain(count: int) -> Network:
    """Return Conv, BatchNormalization, Relu, and so on; the last normalization is kept."""
    types = ["Conv", "BatchNormalization", "Relu"]
    nodes = tuple(NodeRecord(types[n % 3], f"/layer{n}", f"t{n}") for n in range(count))
    folds = tuple(
        FoldPlace((n,), (n - 1,), (), Region((), (f"t{n - 2}",), (f"t{n}",)))
        for n in range(1, count - 3, 3)
    )
    return Network(nodes, tuple((n, n + 1) for n in range(count - 1)), folds, ((count - 2,),))


def test_what_became_of_each_is_shown() -> None:
    drawn = Drawer(chain(9), "m").whole()
    assert [card.fate for card in drawn.cards] == [
        *[Fate.INTO, Fate.GONE, Fate.SAME] * 2,
        Fate.SAME,
        Fate.KEPT,
        Fate.SAME,
    ]
    assert [card.anchor for card in drawn.cards if card.anchor] == [
        *["m-fold-1"] * 2,
        *["m-fold-2"] * 2,
        "m-kept-1",
    ]
    assert drawn.cards[1].told == "BatchNormalization '/layer1': folded"
    assert len(drawn.arrows) == 2
    assert drawn.lines.count("M") == 8
    assert all(0 <= card.x <= drawn.width - drawn.measure.width for card in drawn.cards)


def test_a_large_network_is_drawn_in_small_and_each_fold_with_what_is_around_it() -> None:
    drawer = Drawer(chain(900), "m")
    assert drawer.whole().measure is DOTS
    around = drawer.around(1)
    assert around.measure is CARDS
    assert [card.operator for card in around.cards] == [
        "Relu",
        "Conv",
        "BatchNormalization",
        "Relu",
    ]
    assert len(around.arrows) == 1


def test_what_is_merged_into_itself_is_not_gone() -> None:
    network = Network(
        (NodeRecord("Mul", "a", "a"), NodeRecord("Add", "b", "b")),
        ((0, 1),),
        (FoldPlace((0, 1), (0,), (), None),),
        (),
    )
    assert [card.fate for card in Drawer(network, "m").whole().cards] == [Fate.INTO, Fate.GONE]


def test_long_names_are_cut_on_the_card_alone() -> None:
    network = Network((NodeRecord("Conv", "/a" * 50, "y"),), (), (), ())
    (card,) = Drawer(network, "m").whole().cards
    assert len(card.name) < 25
    assert card.name.startswith("…")
    assert "/a" * 50 in card.told
