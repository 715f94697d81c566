import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.inside import Factors, low_rank

shapes = st.one_of(
    st.tuples(st.integers(1, 12), st.integers(1, 12)),
    st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 3)),
    st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(1, 4), st.integers(1, 4), *[st.integers(1, 2)] * 3),
)


def random(shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@given(shape=shapes, form=st.sampled_from(low_rank.FORMS), rank=st.integers(0, 3))
def test_effective_weight_equals_a_loop_over_its_entries(shape, form, rank):
    weight = random(shape, 0)
    rows, columns = low_rank.matrix_shape(shape, form)
    r, s = random((shape[0],), 1), random((shape[1],), 2)
    u, v = random((rows, rank), 3), random((rank, columns), 4)
    ours = low_rank.effective_weight(weight, Factors(r, s, u, v), form).numpy()
    product = (u.double() @ v.double()).numpy()
    kernel = shape[2:]
    for place in np.ndindex(*shape):
        o, i, *rest = place
        column = (
            i
            if form == "channel"
            else i * int(np.prod(kernel))
            + (int(np.ravel_multi_index(rest, kernel)) if kernel else 0)
        )
        expected = float(r[o] * weight[place] * s[i]) + product[o, column]
        assert ours[place] == pytest.approx(expected, abs=1e-4)


@given(shape=shapes)
def test_scales_solve_their_least_squares_problems(shape):
    weight, free = random(shape, 0), random(shape, 1)
    r, s = (t.numpy() for t in low_rank.fit_scales(free, weight))
    w, f = weight.double().numpy(), free.double().numpy()
    for row in range(shape[0]):
        best, *_ = np.linalg.lstsq(w[row].reshape(-1, 1), f[row].reshape(-1), rcond=None)
        assert r[row] == pytest.approx(best[0], rel=1e-4, abs=1e-5)
    w = w * r.reshape(-1, *[1] * (len(shape) - 1))
    for column in range(shape[1]):
        best, *_ = np.linalg.lstsq(
            w[:, column].reshape(-1, 1), f[:, column].reshape(-1), rcond=None
        )
        assert s[column] == pytest.approx(best[0], rel=1e-3, abs=1e-4)


def test_scales_of_zero_rows_and_columns_are_one():
    weight, free = random((4, 3), 0), random((4, 3), 1)
    weight[1], weight[:, 2] = 0, 0
    r, s = low_rank.fit_scales(free, weight)
    assert r[1] == 1
    assert s[2] == 1
    assert torch.isfinite(r).all()
    assert torch.isfinite(s).all()


@given(
    rows=st.integers(1, 40),
    columns=st.integers(1, 40),
    size=st.sampled_from([1e-6, 1.0, 1e4]),
    seed=st.integers(0, 10_000),
)
@settings(max_examples=60)
def test_spectrum_equals_a_full_svd(rows, columns, size, seed):
    matrix = random((rows, columns), seed) * size
    full = np.linalg.svd(matrix.double().numpy(), compute_uv=False)
    ours = low_rank.spectrum(matrix).values.numpy()
    assert ours.shape == full.shape
    np.testing.assert_allclose(ours, full, rtol=1e-7, atol=1e-7 * full[0])


@given(rows=st.integers(1, 30), columns=st.integers(1, 30), seed=st.integers(0, 10_000))
def test_split_is_the_best_approximation_and_balanced(rows, columns, seed):
    matrix = random((rows, columns), seed)
    left, values, right = np.linalg.svd(matrix.double().numpy(), full_matrices=False)
    spectrum = low_rank.spectrum(matrix)
    rank = (seed % min(rows, columns)) + 1
    u, v = low_rank.split(matrix, spectrum, rank)
    best = left[:, :rank] * values[:rank] @ right[:rank]
    error = np.linalg.norm(matrix.numpy() - (u @ v).numpy())
    assert error == pytest.approx(np.linalg.norm(matrix.numpy() - best), abs=1e-4)
    np.testing.assert_allclose((u.T @ u).numpy(), np.diag(values[:rank]), atol=1e-4)
    np.testing.assert_allclose((v @ v.T).numpy(), np.diag(values[:rank]), atol=1e-4)


@given(shape=shapes, form=st.sampled_from(low_rank.FORMS))
def test_gather_gives_the_nearest_matrix(shape, form):
    delta = random(shape, 0).double()
    rows, columns = low_rank.matrix_shape(shape, form)
    # The slow way: every entry of the matrix is one unknown of a least-squares problem.
    basis = np.eye(rows * columns).reshape(-1, rows, columns)
    spread = [
        np.broadcast_to(low_rank.spread(torch.from_numpy(b), shape, form), shape).ravel()
        for b in basis
    ]
    best, *_ = np.linalg.lstsq(np.stack(spread, axis=1), delta.numpy().ravel(), rcond=None)
    ours = low_rank.gather(delta, form).numpy()
    np.testing.assert_allclose(ours.ravel(), best, atol=1e-10)


@pytest.mark.parametrize("rank", [1, 3])
def test_a_residual_of_exact_rank_is_recovered(rank):
    # The base lives in the first columns and the change in the others, so the scales are
    # exactly 1 and the residual is exactly the change.
    base, change = torch.zeros(12, 20), torch.zeros(12, 20)
    base[:, :8] = random((12, 8), 0)
    change[:, 8:] = random((12, rank), 1) @ random((rank, 12), 2)
    free = base + change
    r, s = low_rank.fit_scales(free, base)
    residual = free - low_rank.scale(base, r, s)
    spectrum = low_rank.spectrum(residual)
    assert (r == 1).all()
    assert (s == 1).all()
    assert int((spectrum.values > 1e-6 * spectrum.values[0]).sum()) == rank
    factors = Factors(r, s, *low_rank.split(residual, spectrum, rank))
    torch.testing.assert_close(low_rank.effective_weight(base, factors, "channel"), free)


@pytest.mark.parametrize("shape", [(5, 7), (7, 5)])
def test_terms_without_energy_can_still_be_trained(shape):
    zero = torch.zeros(shape)
    u, v = low_rank.split(zero, low_rank.spectrum(zero), 2)
    u.requires_grad_()
    ((u @ v) - 1).pow(2).sum().backward()
    assert torch.equal(u.detach() @ v, zero)
    assert (u.grad.abs().sum(0) > 0).all()
