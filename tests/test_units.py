"""Sizes and counts as people write them."""

from bnfold.units import byte_size, counted, instead_of


def test_sizes_have_the_unit_that_keeps_them_short() -> None:
    sizes = (0, 999, 1000, 8952, 45_000_000, None)
    written = ["0 bytes", "999 bytes", "1.0 kB", "9.0 kB", "45.0 MB", ""]
    assert [byte_size(size) for size in sizes] == written


def test_nouns_are_in_the_plural_where_they_take_that() -> None:
    assert [counted(1, "node"), counted(2, "node")] == ["1 node", "2 nodes"]
    assert [counted(n, "batch", "batches") for n in (1, 3)] == ["1 batch", "3 batches"]


def test_numbers_that_differ_look_different() -> None:
    assert instead_of(1.5, 1) == "1.5 instead of 1"
    assert instead_of(1 + 2**-23, 1) == "1.0000001 instead of 1"
