import pytest

from simgraph import plate
from simgraph.errors import DeclarationError


def test_plates_of_one_name_and_size_are_equal():
    assert plate("school", 8) == plate("school", size=8)
    assert plate("school", 8) != plate("school", 9)
    assert len({plate("school", 8), plate("school", 8)}) == 1


def test_plates_cannot_be_changed():
    with pytest.raises(AttributeError):
        plate("school", 8).size = 9


@pytest.mark.parametrize("name", ["", "two words", "1st", 3, None])
def test_names_are_identifiers(name):
    with pytest.raises(DeclarationError, match="a plate needs a name that is a Python identifier"):
        plate(name, 8)


@pytest.mark.parametrize("size", [0, -1, 2.0, "3", None, True])
def test_sizes_are_positive_whole_numbers(size):
    with pytest.raises(DeclarationError) as caught:
        plate("school", size)
    assert str(caught.value) == (
        f"plate 'school' has size {size!r}; a plate's size is a whole number of 1 or more.\n"
        "  For example: plate('school', 8), or plate('school', size=(4, 16)) for sizes that vary"
    )


def test_a_range_of_sizes_has_two_ends():
    school = plate("school", size=(4, 16))
    assert (school.least, school.most, school.span, school.is_ragged) == (4, 16, "4..16", True)
    assert repr(school) == "plate('school', size=(4, 16))"
    assert school == plate("school", [4, 16]) != plate("school", 16)
    fixed = plate("school", 8)
    assert (fixed.least, fixed.most, fixed.span, fixed.is_ragged) == (8, 8, "8", False)


@pytest.mark.parametrize("size", [(16, 4), (4, 4), (0, 4), (4,), (1, 2, 3), (1.0, 4), (True, 4), ("a", "b")])
def test_a_range_that_is_none_is_refused(size):
    with pytest.raises(DeclarationError) as caught:
        plate("school", size)
    assert str(caught.value) == (
        f"plate 'school' has the sizes {size!r}; a range of sizes has two ends, whole numbers of 1 or more, the smaller"
        " one first.\n  For example: plate('school', size=(4, 16)); and plate('school', 8) for one size"
    )
