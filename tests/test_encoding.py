"""The first layer of the default network, against slow and obvious ways to the same numbers."""

import numpy as np
import pytest
import torch

from tests.inside import Encoding, encoding_of, moved

RANDOM = np.random.RandomState(0)


def fitted(X, bins=16, categories=()):
    layer = Encoding(X.shape[1], bins, categories)
    for name, values in encoding_of(X, bins, categories).items():
        getattr(layer, name).copy_(torch.from_numpy(values))
    return layer


def slowly(X, Z, bins):
    """Encode each number of Z by itself, with numpy's quantiles and interpolation of X."""
    standard, binned = [], []
    for column in range(X.shape[1]):
        known = X[:, column][~np.isnan(X[:, column])]
        ends = np.unique(np.quantile(known, np.linspace(0, 1, bins + 1)))
        for value in Z[:, column]:
            if np.isnan(value):
                standard.append(0.0)
                binned.append(np.zeros(bins))
                continue
            z = (value - known.mean()) / known.std()
            standard.append(z if abs(z) <= 5 else np.sign(z) * (5 + np.log(abs(z) - 4)))
            # How many bins lie below the value, the one it is in counted by its share.
            below = np.interp(value, ends, np.arange(len(ends)))
            binned.append(np.clip(below - np.arange(bins), 0, 1))
    n_rows, n_columns = Z.shape
    standard = np.reshape(standard, (n_columns, n_rows)).T
    binned = np.reshape(binned, (n_columns, n_rows, bins)).transpose(1, 0, 2)
    return np.hstack([standard, binned.reshape(n_rows, -1)])


@pytest.mark.parametrize("bins", [1, 4, 16])
def test_numbers_are_encoded_as_by_interpolation_between_quantiles(bins):
    X = np.column_stack([RANDOM.randn(200), RANDOM.randint(0, 3, 200), RANDOM.rand(200) ** 3])
    X[:20, 1] = np.nan
    Z = np.vstack([X[15:40], 3 * X[40:60] - 1]).astype(np.float32)  # beyond both ends too
    found = fitted(X, bins)(torch.from_numpy(Z)).numpy()
    assert np.allclose(found, slowly(X, Z, bins), atol=1e-3)


def test_a_number_far_outside_goes_on_in_the_linear_part_alone():
    X = np.linspace(0, 1, 101)[:, None]
    z = np.array([2.0, 5.0, 6.0, 5e6, -2.0, -5e6])
    found = fitted(X)(torch.from_numpy((X.mean() + z[:, None] * X.std()).astype(np.float32)))
    expected = [2, 5, 5 + np.log(2), 5 + np.log(5e6 - 4), -2, -5 - np.log(5e6 - 4)]
    assert np.allclose(found[:, 0], expected, rtol=1e-4)
    assert (found[:4, 1:] == 1).all()
    assert (found[4:, 1:] == 0).all()


def test_a_task_that_lies_far_off_is_brought_to_where_the_first_one_was():
    X = RANDOM.randn(200, 5) * [1, 2, 3, 4, 0] + [5, 6, 7, 8, 9]
    layer = fitted(X)
    before = layer(torch.from_numpy(X.astype(np.float32)))
    far = X * [1, 1, 100, 0.1, 1] + [2, 100, 0, -50, -70]  # the first is as good as where it was
    for name, values in moved(layer, far).items():
        getattr(layer, name).copy_(values)
    assert layer.offset[0] == 0
    assert layer.stretch[0] == 1
    found = layer(torch.from_numpy(far.astype(np.float32)))
    # An offset is rounded to two bytes, which a task may be kept in.
    assert np.allclose(found[:, 1:5], before[:, 1:5], atol=0.05)
    assert (found[:, 21:] - before[:, 21:]).abs().mean() < 0.02
    assert (found[:, 0] > before[:, 0] + 1).all()


def test_a_task_without_numbers_stays_where_it_is():
    layer = fitted(RANDOM.randn(50, 2))
    found = moved(layer, np.full((3, 2), np.nan))
    assert (found["offset"] == 0).all()
    assert (found["stretch"] == 1).all()


@pytest.mark.parametrize(("value", "other", "scale"), [(0.0, None, 1), (7.0, None, 7), (7.0, 3, 3)])
def test_a_constant_column_gets_a_scale_from_elsewhere(value, other, scale):
    columns = [np.full(10, value)] + ([] if other is None else [np.resize([-other, other], 10)])
    layer = fitted(np.column_stack(columns))
    assert layer.scale[0].item() == pytest.approx(scale)
    rows = torch.from_numpy(np.column_stack(columns).astype(np.float32))
    assert (layer(rows)[:, 0] == 0).all()
    assert torch.isfinite(layer(rows + 1e6)).all()


def test_a_column_without_a_number_says_nothing():
    X = np.column_stack([np.full(10, np.nan), np.arange(10)])
    rows = torch.tensor([[torch.nan, 2.0]])
    assert torch.isfinite(fitted(X)(rows)).all()


def test_categories_are_ones_at_their_places():
    X = np.array([[0.0, 1, 5], [2, 0, 7], [1, -1, 9]])
    layer = fitted(X, 0, [3, 2, 0])
    rows = np.vstack([X, [[-1, np.nan, 7], [3, 1, np.nan]]]).astype(np.float32)
    found = layer(torch.from_numpy(rows)).numpy()
    expected = [[row[0] == c for c in range(3)] + [row[1] == c for c in range(2)] for row in rows]
    assert np.array_equal(found[:, 1:], np.array(expected, dtype=np.float32))
    assert found.shape == (5, layer.n_outputs)


def test_images_are_flattened_and_standardised():
    X = RANDOM.rand(50, 4, 4)
    layer = Encoding(16)
    for name, values in encoding_of(X, 0).items():
        getattr(layer, name).copy_(torch.from_numpy(values))
    found = layer(torch.from_numpy(X.astype(np.float32)))
    flat = X.reshape(50, -1)
    assert np.allclose(found, (flat - flat.mean(0)) / flat.std(0), atol=1e-5)
