"""`make test` runs every value of every parameter, not every combination."""

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from tests.selection import covering


@given(sizes=st.lists(st.integers(1, 5), min_size=1, max_size=4), left_out=st.sets(st.integers(0, 100)))
def test_every_value_occurs(sizes: list[int], left_out: set[int]) -> None:
    """Also where some combinations are missing, as those of an executor that does not run a cell."""
    combinations = [
        (number, list(enumerate(values)))
        for number, values in enumerate(product(*map(range, sizes)))
        if number not in left_out
    ]
    chosen = covering(combinations)
    assert len(set(chosen)) == len(chosen) <= sum(sizes)
    occurring = [{value for number, of_item in combinations if number in numbers for value in of_item}
                 for numbers in (set(chosen), {number for number, _ in combinations})]  # fmt: skip
    assert occurring[0] == occurring[1]


def test_a_table_of_two_by_three_needs_three() -> None:
    table = [(pair, enumerate(pair)) for pair in product("ab", "xyz")]
    assert covering(table) == [("a", "x"), ("b", "y"), ("a", "z")]
    assert covering([]) == []
