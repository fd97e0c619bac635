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
        "  For example: plate('school', 8)"
    )
