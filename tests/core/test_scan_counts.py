"""Numbers counted plane by plane are those of NumPy's `bincount`, which takes eight times the memory."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as of_numpy

from viscera.core.geometry import Geometry
from viscera.core.scan import LabelMap, value_counts


@given(
    of_numpy.arrays(
        st.sampled_from([np.uint8, np.uint16]),
        of_numpy.array_shapes(min_dims=3, max_dims=3, max_side=6),
        elements=st.integers(0, 40) | st.integers(0, 255),
    ),
    st.booleans(),
    st.permutations(range(3)),
    st.tuples(*[st.sampled_from([1, -1])] * 3),
)
def test_counts(numbers: np.ndarray, columns_first: bool, axes: tuple[int, ...], steps: tuple[int, ...]) -> None:
    """In any order of the memory, and of views."""
    view = (np.asfortranarray(numbers) if columns_first else numbers).transpose(axes)[
        tuple(slice(None, None, step) for step in steps)
    ]
    assert value_counts(view).tolist() == np.bincount(numbers.ravel()).tolist()


@pytest.mark.parametrize(("classes", "expected"), [(2, [5, 0, 0, 1]), (4, [5, 0, 0, 1]), (6, [5, 0, 0, 1, 0, 0])])
def test_classes_that_are_absent_count_as_none(classes: int, expected: list[int]) -> None:
    labels = np.zeros((1, 2, 3), dtype=np.uint8)
    labels[0, 1, 2] = 3
    assert LabelMap(labels, Geometry(labels.shape, np.eye(4))).voxel_counts(classes).tolist() == expected
