"""What the code weighs is counted without comments and docstrings, and held against ceilings."""

from scripts.weight import Weight, over, weight_of

SOURCE = '''"""A module."""

# a comment
def one() -> int:
    """Return one."""
    return (
        1
    )
'''


def test_comments_docstrings_and_blank_lines_weigh_nothing() -> None:
    assert weight_of(SOURCE) == Weight(files=1, lines=4, tokens=11)


def test_a_group_above_its_ceiling_is_named_with_both_figures() -> None:
    groups = {"product": Weight(3, 1200, 9)}
    assert over(groups, {"product": {"lines": 1200, "files": 3}}) == []
    assert over(groups, {"product": {"lines": 1000}}) == ["product: 1,200 lines, and the ceiling is 1,000"]
