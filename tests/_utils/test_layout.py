import pytest

from flowdetect._utils.layout import MatrixLayout
from flowdetect.exceptions import ConfigurationError


def test_counts():
    layout = MatrixLayout(2, cardinalities=(3, 2), gates=(-1, 1))
    assert (layout.n_values, layout.n_codes, layout.n_columns) == (2, 2, 4)
    assert layout.gated
    assert not MatrixLayout(1, cardinalities=(3,), gates=(-1,)).gated
    assert MatrixLayout(0).n_columns == 0


@pytest.mark.parametrize(
    ("cardinalities", "gates", "message"),
    [
        ((2,), (), "one value column .* per code column; got 0 gates for 1 code columns"),
        ((2,), (1,), r"gates must lie in -1\.\.0; got \(1,\)"),
        ((2,), (-2,), r"gates must lie in -1\.\.0; got \(-2,\)"),
        ((0,), (-1,), r"cardinalities must be at least 1; got \(0,\)"),
    ],
)
def test_numbers_that_do_not_fit_together(cardinalities, gates, message):
    with pytest.raises(ConfigurationError, match=message):
        MatrixLayout(1, cardinalities=cardinalities, gates=gates)
