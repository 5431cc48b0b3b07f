"""The printed results: golden files, iminuit's own tables as the reference, colours that everyone can tell apart."""

import inspect
import math
import os
import re
import xml.etree.ElementTree as ET
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from iminuit import Minuit
from iminuit._repr_text import pdg_format
from iminuit.cost import LeastSquares
from iminuit.util import Matrix, Param, Params

from migrax._display import html as page, records, rounding, text
from migrax._display.records import Batch, Minimum, Row

GOLDEN = Path(__file__).parent / "golden"
NAN, INF = math.nan, math.inf


@pytest.fixture
def golden():
    """Compares with a golden file, or rewrites it: MIGRAX_UPDATE_GOLDEN=1 pytest tests/test_display.py."""

    def compare(name, shown):
        path = GOLDEN / name
        if os.environ.get("MIGRAX_UPDATE_GOLDEN") == "1":
            path.write_text(shown + "\n", encoding="utf-8")
        assert path.exists(), f"{path} is missing: run with MIGRAX_UPDATE_GOLDEN=1"
        assert shown + "\n" == path.read_text(encoding="utf-8")

    return compare


GOOD = Minimum(
    algorithm="Migrad",
    nll=-1234.5678,
    chi2_ndof=None,
    edm=1.234e-9,
    edm_goal=1e-4,
    valid=True,
    status="Valid minimum",
    message="The minimum is valid.",
    at_limit=False,
    at_call_limit=False,
    edm_above=False,
    num_values=12,
    num_gradients=12,
    num_hessians=2,
    covariance="exact",
)
MINIMA = {
    "good": GOOD,
    "chi2": GOOD._replace(nll=48.25, chi2_ndof=1.2345, num_hessians=0),
    "half_chi2": GOOD._replace(nll=11.5712, chi2=23.1424, chi2_ndof=0.857),
    "at_limit": GOOD._replace(at_limit=True),
    "no_hessian": GOOD._replace(algorithm="Simplex", num_gradients=0, num_hessians=0, covariance="not computed"),
    "bad": GOOD._replace(
        valid=False,
        status="Not a minimum (negative curvature)",
        message="The fit ended where the likelihood curves downwards (a saddle or a maximum), mostly along signal.mu "
        "and <b>. Start elsewhere, or bound the parameters.",
        edm=NAN,
        edm_above=True,
        at_call_limit=True,
        covariance="not positive definite",
    ),
    "long_title": GOOD._replace(
        algorithm="BestSoFarMinimiser[BFGS[classical trust region, with a linear first step and a cubic search]]"
    ),
    "wide": GOOD._replace(
        nll=1.842e10,
        chi2_ndof=3070446992.0,
        num_values=1234567,
        num_gradients=123456,
        num_hessians=12345,
    ),
}

PLAIN = Row("mu", 1.2345, 0.1234, None, None, None, False, False)
TABLES = {
    "plain": [PLAIN, PLAIN._replace(name="theta", value=-0.04, error=0.5), PLAIN._replace(name="sigma", value=2e4)],
    "limits": [
        PLAIN._replace(minos=(-0.1212, 0.131), lower=0.0),
        Row("tau", 0.0, 0.0, None, 0.0, 1 / 3, False, True),
        Row("width<1>", 2.5, None, None, -1e-7, 123456789.0, True, False),
        Row("f", 1.0, 0.25, (NAN, 0.2), 0.0, 1.0, False, True),
        Row("g", 7.125, None, (-0.5, 0.25), None, None, False, False),
    ],
    "difficult": [
        PLAIN._replace(name="signal_region.modifiers.jet_energy_scale[3]"),
        Row("nan", NAN, NAN, None, None, None, False, False),
        Row("infinite", -INF, INF, (-INF, NAN), -INF, INF, False, False),
        Row("tiny", 1e-12, 1.5e-13, None, 1e-300, 1e-12, False, False),
        Row("huge", 1e12, 1.5e3, (-1.4e3, 1.6e3), -123456789.0, None, False, False),
        Row("exact", 123456.0, 1e-12, None, None, None, False, False),
        Row("overflow", 1.0, 5e-324, None, None, None, False, False),
        Row("-0", -0.0, 0.1, (-0.1, 0.1), -0.0, None, False, False),
        Row("unknown", 123.456789, None, None, None, None, True, False),
        Row("π", 3.14159265, 0.0099, None, None, None, False, False),
        *(PLAIN._replace(name=f"gamma[{i}]") for i in range(2)),
    ],
    "empty": [],
}


def covariance(errors, seed=0, size=None):
    n = len(errors)
    draws = np.random.default_rng(seed).normal(size=(n, size or n))
    product = draws @ draws.T
    scale = np.asarray(errors) / np.sqrt(np.diagonal(product))
    return product * np.outer(scale, scale)


EDGE = covariance([1e-6, 1.0, 1e3, 1.0, 1.0])
EDGE[3, :] = EDGE[:, 3] = 0.0
EDGE[4, :] = EDGE[:, 4] = NAN
MATRICES = {
    "three": (["mu", "sigma_long", "tau"], covariance([0.1, 0.2, 0.3])),
    "difficult": (["a", "b", "<c>", "at_limit", "nan"], EDGE),
    "many": ([f"g[{i}]" for i in range(33)], covariance(np.full(33, 0.5), size=60)),
    "wide": ([f"signal_region.background[{i}]" for i in range(6)], covariance(np.full(6, 0.5), size=20)),
    "one": (["mu"], [[0.25]]),
    "empty": ([], np.zeros((0, 0))),
}

BATCHES = {
    "many": Batch(
        10000,
        9876,
        [("Valid minimum", 9876), ("Step limit reached", 123), ("Not a minimum (negative curvature)", 1)],
        [("mu", 1.00234, 0.1, 0.099, 0), ("signal<0>.n", 12345.6, 120.0, 119.0, 12), ("at_limit", 0.0, 0.0, NAN, 9876)],
    ),
    "all": Batch(2, 2, [("Valid minimum", 2)], [("mu", 1.00234, 0.1, 0.099, 0)]),
    "none": Batch(3, 0, [("Not finite", 3)], [("mu", NAN, NAN, NAN, 0)]),
    "empty": Batch(0, 0, [], []),
}


@pytest.mark.parametrize("name", MINIMA)
def test_minimum_golden(golden, name):
    golden(f"minimum_{name}.txt", text.minimum_text(MINIMA[name]))
    golden(f"minimum_{name}.html", page.minimum_html(MINIMA[name]))


@pytest.mark.parametrize("name", TABLES)
def test_parameters_golden(golden, name):
    golden(f"parameters_{name}.txt", text.parameters_text(TABLES[name]))
    golden(f"parameters_{name}.html", page.parameters_html(TABLES[name]))


@pytest.mark.parametrize("name", MATRICES)
def test_matrix_golden(golden, name):
    names, matrix = MATRICES[name]
    golden(f"matrix_{name}.txt", text.matrix_text(names, matrix))
    golden(f"correlation_{name}.txt", text.correlation_text(names, matrix))
    if name != "many":
        golden(f"matrix_{name}.html", page.matrix_html(names, matrix))


@pytest.mark.parametrize("name", BATCHES)
def test_batch_golden(golden, name):
    golden(f"batch_{name}.txt", text.batch_text(BATCHES[name]))
    golden(f"batch_{name}.html", page.batch_html(BATCHES[name]))


# Against iminuit


def unsigned_zeros(shown):
    """iminuit writes -0 for a number that is rounded away; `pdg_round` never does."""
    return re.sub(r"(?<!\S)-(0(?:\.0*)?(?:e-?\d+)?)(?!\S)", r" \1", shown)


def iminuit_cells(*numbers):
    return [unsigned_zeros(cell).strip() for cell in pdg_format(*numbers)]


def leading_digits(errors):
    """The three leading digits of the error that leads, and the power of ten of the last digit that is kept."""
    leading = min(abs(e) for e in errors if math.isfinite(e) and e)
    digits, power = f"{leading:.2e}".replace(".", "").split("e")
    return int(digits), int(power) - (int(digits) <= 354)


def rounded_twice(errors):
    """Whether iminuit's first rounding, to three digits, puts the leading error on a tie of the second one."""
    if not any(math.isfinite(e) and e for e in errors):
        return False
    digits, _ = leading_digits(errors)
    return digits % 10 == 5 if digits <= 354 else digits % 100 == 50


def random_numbers(rng):
    value = rng.choice([-1, 1]) * 10 ** rng.uniform(-14, 14)
    relative = 10 ** rng.uniform(-7, 5)
    errors = [relative * abs(value) * rng.uniform(0.2, 5) * sign for sign in [1, -1, 1][: rng.integers(0, 4)]]
    special = [0.0, NAN, INF, -INF]
    errors = [float(rng.choice(special)) if rng.random() < 0.1 else e for e in errors]
    return (float(rng.choice(special)) if rng.random() < 0.05 else value), errors


def test_pdg_round_random_numbers_as_iminuit():
    rng = np.random.default_rng(1)
    excused = 0
    for _ in range(10_000):
        value, errors = random_numbers(rng)
        ours, theirs = rounding.pdg_round(value, *errors), iminuit_cells(value, *errors)
        if ours == theirs:
            continue
        assert rounded_twice(errors), (value, errors, ours, theirs)
        excused += 1
        # the leading error differs by one unit of its last digit, the others are the same numbers
        _, place = leading_digits(errors)
        leading = 1 + int(np.argmin([abs(e) if math.isfinite(e) and e else INF for e in errors]))
        for i, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
            if i == leading:
                assert abs(Decimal(mine) - Decimal(other)) == Decimal(1).scaleb(place)
            else:
                assert mine == other or Decimal(mine) == Decimal(other), (value, errors, ours, theirs)
    assert excused < 400


SPECIAL = [
    *[(v,) for v in (0.0, -0.0, 1.0, 1.2345, 9.99999, 123456.0, 1e-12, 1e12, -1.5, NAN, INF, -INF)],
    *[(v, e) for v in (0.0, 1.0, 1.2346, 1e-12, NAN, INF, -INF, -1.6) for e in (0.0, 0.1, 0.354, 0.355, 0.949, 0.95)],
    *[(v, e) for v in (0.0, 123457.0, 1e-12, -1e-20) for e in (0.9996, 1.0, 1e-4, 1e5, 1e12, NAN, INF, -0.4)],
    *[(123.456, e) for e in (12.0, 50.0, 94.0, 95.0, 99.0, 99.96, 101.0, 1.2e3)],
    *[(1.0, 10.0**k) for k in range(-12, 13)],
    *[(10.0**k, 10.0) for k in range(-12, 13)],
    (0.0, 0.0, 3e5),
    (5e5, 3e5, 0.0),
    (-1.0, 1e4),
    (-1.0, 5e12),
    (1.0, 0.1, -0.2, 0.3),
    (1.0, 0.1, -0.001, 300.0),
    (1.0, NAN, -0.2, 0.3),
    (1.0, 0.1, NAN, 0.3),
    (NAN, 3e5, 0.0),
    (1e-5, 1e-6, -1.0),
    (1e4, 2e-3, -3e-6, 100.0),
    (1e308, 1e308),
    (1e-300, 1e-301),
    (999.9999, 1.0),
    (4.0, 99.0, 101.0),
]


@pytest.mark.parametrize("numbers", SPECIAL, ids=str)
def test_pdg_round_special_numbers_as_iminuit(numbers):
    assert rounding.pdg_round(*numbers) == iminuit_cells(*numbers)


@pytest.mark.parametrize(
    ("numbers", "cells"),
    [
        # iminuit 2.33: 1.0, 0.8, 0.9
        pytest.param((1, 0.8503, 0.8503), ["1.0", "0.9", "0.9"], id="rounded once"),
        # iminuit 2.33: 0.3, 1.2, but 0.2, 0.5
        pytest.param((0.25, 1.2), ["0.2", "1.2"], id="tie to even"),
        pytest.param((0.25, 0.5), ["0.2", "0.5"], id="tie to even again"),
        pytest.param((0.35, 0.5), ["0.4", "0.5"], id="tie of the decimal number"),
        # iminuit 2.33: -0.0, 0.5
        pytest.param((-0.04, 0.5), ["0.0", "0.5"], id="no minus zero"),
        # iminuit 2.33: 123.4560000000000031e3, 0.0000000000000010e3
        pytest.param((123456, 1e-12), ["123456.0", "1e-12"], id="no digits of a rounding error"),
    ],
)
def test_pdg_round_where_iminuit_differs(numbers, cells):
    assert rounding.pdg_round(*numbers) == cells


@pytest.mark.parametrize(
    ("error", "cell"),
    [
        (0.100, "0.10"),
        (0.354, "0.35"),
        (0.3544, "0.35"),
        (0.355, "0.4"),
        (0.949, "0.9"),
        (0.950, "1.0"),
        (0.999, "1.0"),
        (0.00354, "0.0035"),
        (35.4, "35"),
        (35.5, "40"),
        (95.0, "100"),
    ],
)
def test_pdg_rule(error, cell):
    # 1.23... has no zeros to share, so nothing is stripped
    assert rounding.pdg_round(1.234567, error)[1] == cell


def test_pdg_round_takes_what_overflows_iminuit():
    assert rounding.pdg_round(1.0, 5e-324) == ["1.0", "5e-324"]
    assert rounding.pdg_round(1e-320, 1e-321) == ["10e-321", "1e-321"]
    assert rounding.pdg_round(-0.0, 1e-12, 1e6) == ["0.0", "1e-12", "1e6"]


def quadratic_exponential(x, y):
    return (x - 2) ** 2 / 4 + np.exp((y - 5) ** 2) + 10


def quadratic_exponential_gradient(x, y):
    return (x - 2) / 2, np.exp((y - 5) ** 2) * 2 * (y - 5)


def quadratic_exponential_hessian(x, y):
    return [[0.5, 0.0], [0.0, np.exp((y - 5) ** 2) * (2 + 4 * (y - 5) ** 2)]]


def fit_minuit(case):
    exact = {"grad": quadratic_exponential_gradient} if case in ("gradient", "hessian") else {}
    if case == "hessian":
        exact["hessian"] = quadratic_exponential_hessian
    m = Minuit(quadratic_exponential, x=0, y=0, **exact)
    if case == "falls without limit":
        m = Minuit(lambda x: -x, x=0)
    elif case == "nan":
        m = Minuit(lambda x: NAN, x=0)
    elif case == "chi2":
        x = np.arange(8.0)
        y = 2 * x + 1 + 30 * np.random.default_rng(1).normal(size=8)
        return Minuit(LeastSquares(x, y, 1.0, lambda x, a, b: a * x + b), 1, 1).migrad()
    m.errordef = 1
    if case == "at limit":
        m.limits["x"] = (None, 1)
    if case == "simplex":
        return m.simplex()
    m.migrad()
    if case == "call limit":
        m.tol = 1e-7
        m.migrad(ncall=3)
    return m


CASES = ["valid", "gradient", "at limit", "chi2", "simplex", "falls without limit", "nan", "call limit"]
if "hessian" in inspect.signature(Minuit).parameters:  # from iminuit 2.32 on
    CASES.append("hessian")


@pytest.mark.parametrize("case", CASES)
def test_box_as_iminuit(case):
    fmin = fit_minuit(case).fmin
    covariance = "exact" if fmin.has_accurate_covar else "not positive definite"
    if fmin.algorithm == "Simplex":
        covariance = "not computed"
    ours = Minimum(
        algorithm=fmin.algorithm,
        nll=fmin.fval,
        chi2_ndof=fmin.reduced_chi2 if case == "chi2" else None,
        edm=fmin.edm,
        edm_goal=fmin.edm_goal,
        valid=fmin.is_valid,
        status="",
        message="",
        at_limit=fmin.has_parameters_at_limit,
        at_call_limit=fmin.has_reached_call_limit,
        edm_above=fmin.is_above_max_edm,
        num_values=fmin.nfcn,
        num_gradients=fmin.ngrad,
        num_hessians=getattr(fmin, "nhessian", 0),
        covariance=covariance,
    )
    theirs = str(fmin)
    theirs = re.sub(r"time = [\d.]+ sec", lambda found: " " * len(found[0]), theirs)  # shown on a slow machine
    # the one difference: a fit of migrax is valid below the goal itself
    for word in ("Below", "ABOVE"):
        theirs = theirs.replace(f"{word} EDM threshold (goal x 10)", f"{f'{word} EDM threshold':^31}")
    assert text.minimum_text(ours).splitlines() == theirs.splitlines()


def rows_of(minuit):
    for p in minuit.params:
        yield Row(p.name, p.value, p.error, p.merror, p.lower_limit, p.upper_limit, p.is_fixed, False)


@pytest.mark.parametrize("case", CASES)
def test_parameters_as_iminuit(case):
    m = fit_minuit(case)
    assert text.parameters_text(list(rows_of(m))) == str(m.params)


def test_parameters_with_minos_limits_and_fixed_as_iminuit():
    m = fit_minuit("valid")
    m.minos()
    m.limits = [(0, 5), (-1e-7, 1 / 3 + 1e6)]
    m.fixed["y"] = True
    assert "yes" in str(m.params)
    assert text.parameters_text(list(rows_of(m))) == str(m.params)


@pytest.mark.parametrize("n", [1, 10, 11, 102])
def test_many_parameters_as_iminuit(n):
    rng = np.random.default_rng(n)
    params, rows = [], []
    for i in range(n):
        value, error = rng.normal() * 100, 10 ** rng.uniform(-1, 2)
        while rounded_twice([error]):
            error *= 1.01
        minos = (-error * 1.1, error * 1.2) if i % 3 == 0 else None
        limits = (None, value + 3) if i % 2 else (-5.0, None)
        params.append(Param(i, f"p{i}" * (1 + i % 3), value, error, minos, False, i % 5 == 0, *limits))
        rows.append(Row(params[-1].name, value, error, minos, *limits, i % 5 == 0, False))
    assert text.parameters_text(rows) == str(Params(params))


def as_iminuit(names, matrix):
    m = Matrix(tuple(names))
    m[:] = matrix
    return unsigned_zeros(str(m))


@pytest.mark.parametrize("n", [1, 2, 3, 6])
@pytest.mark.parametrize("scale", [1e-9, 1e-3, 1.0, 1e5])
def test_matrix_as_iminuit(n, scale):
    names = [f"parameter{i}"[: 1 + 3 * i] for i in range(n)]
    matrix = covariance(scale * 10 ** np.random.default_rng(n).uniform(-0.5, 0.5, size=n))
    assert text.matrix_text(names, matrix) == as_iminuit(names, matrix)


# Contents


def test_zero_counts_are_left_out():
    count = lambda *n: records.numbers(GOOD._replace(num_values=n[0], num_gradients=n[1], num_hessians=n[2]))[2]  # noqa: E731
    assert count(5, 0, 0) == "Nfcn = 5"
    assert count(5, 4, 0) == "Nfcn = 5, Ngrad = 4"
    assert count(0, 4, 3) == "Ngrad = 4, Nhessian = 3"
    assert count(0, 0, 0) == "Nfcn = 0"


def test_unknown_covariance_word_is_refused():
    with pytest.raises(ValueError, match=r"not computed.*got 'accurate'"):
        text.minimum_text(GOOD._replace(covariance="accurate"))


@pytest.mark.parametrize("show", [text.matrix_text, text.correlation_text, page.matrix_html])
def test_matrix_of_wrong_shape_is_refused(show):
    with pytest.raises(ValueError, match=r"2 parameters has the shape \(2, 2\); got \(3, 3\)"):
        show(["a", "b"], np.eye(3))


def test_message_is_shown_only_when_not_valid():
    assert "valid." not in text.minimum_text(GOOD)
    below = text.minimum_text(MINIMA["bad"]).split("┘\n")[1].splitlines()
    assert " ".join(below) == "Not a minimum (negative curvature). " + MINIMA["bad"].message
    assert max(map(len, below)) <= 75


TEXTS = [
    *(pytest.param(text.minimum_text(m).split("┘")[0], id=f"minimum {k}") for k, m in MINIMA.items()),
    *(pytest.param(text.parameters_text(r).split("┘")[0], id=f"parameters {k}") for k, r in TABLES.items()),
    *(pytest.param(text.matrix_text(*m).split("┘")[0], id=f"matrix {k}") for k, m in MATRICES.items()),
    *(pytest.param(text.correlation_text(*m).split("┘")[0], id=f"correlation {k}") for k, m in MATRICES.items()),
    *(pytest.param(part, id=f"batch {k}") for k, b in BATCHES.items() for part in text.batch_text(b).split("┘")[:-1]),
]


@pytest.mark.parametrize("shown", TEXTS)
def test_lines_of_a_table_are_equally_long(shown):
    lengths = {len(line) for line in (shown + "┘").strip().splitlines() if line[0] in "┌├│└"}
    assert len(lengths) == 1


def test_columns_grow_with_their_cells():
    row = Row("x", -1e12, 1e-3, (-1e-3, 1e-3), -123456789.0, None, False, False)
    top, header, _, line, _ = text.parameters_text([row]).splitlines()
    bars = [i for i, c in enumerate(header) if c == "│"]
    assert bars == [i for i, c in enumerate(line) if c == "│"]
    assert bars[1:-1] == [i for i, c in enumerate(top) if c == "┬"]
    assert " -1.000000000000000e12 " in line


def test_correlation():
    correlation = records.correlation(np.array([[4.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]))
    np.testing.assert_allclose(correlation, [[1, 0.5, 0], [0.5, 1, 0], [0, 0, 1]])
    negative = records.correlation(np.array([[-1.0, 0.5], [0.5, 1.0]]))
    assert np.isnan(negative[0, 0])
    assert np.isnan(negative[0, 1])
    assert negative[1, 1] == 1
    np.testing.assert_equal(records.correlation(np.array([[0.0, 0.5], [0.5, 1.0]])), np.eye(2))
    np.testing.assert_equal(records.correlation(np.array([[1.0, INF], [INF, 1.0]])), [[1, NAN], [NAN, 1]])
    missing = records.correlation(np.array([[0.0, NAN], [NAN, 1.0]]))
    np.testing.assert_equal(missing, [[1, NAN], [NAN, 1]])
    np.testing.assert_allclose(records.correlation(covariance([1e-150, 1e150]))[0, 1], covariance([1.0, 1.0])[0, 1])


def test_correlation_of_a_correlation_matrix_is_itself():
    names, matrix = MATRICES["three"]
    assert text.correlation_text(names, records.correlation(matrix)) == text.correlation_text(names, matrix)


@pytest.mark.parametrize("show", [text.matrix_text, text.correlation_text, page.matrix_html])
def test_large_matrix_is_shown_in_part(show):
    names = [f"<{i}>" for i in range(31)]
    shown = show(names, np.eye(31))
    attribute = "correlation" if show is text.correlation_text else "matrix"
    n = {text.matrix_text: 30, text.correlation_text: 17, page.matrix_html: 30}[show]  # 120 characters hold 17 "0.000"
    left = 31 - n
    assert f"The first {n} of 31 parameters, {left} left out: `result.covariance.{attribute}` has them all." in shown
    assert show is page.matrix_html or all(len(line) <= 120 for line in shown.splitlines())
    for i, there in ((n - 1, True), (n, False)):
        assert (f"<{i}>" in shown or f"&lt;{i}&gt;" in shown) == there
    assert "left out" not in show(names[:n], np.eye(n))


def test_batch_without_a_valid_fit_has_no_averages():
    assert "nan" not in text.batch_text(BATCHES["none"])
    assert "nan" not in page.batch_html(BATCHES["none"])


def test_batch_is_green_only_if_all_fits_are_valid():
    colors = {name: [c in page.batch_html(b) for c in (page.GOOD, page.WARN, page.BAD)] for name, b in BATCHES.items()}
    assert colors == {
        "all": [True, False, False],
        "many": [False, True, False],
        "none": [False, False, True],
        "empty": [False, False, True],
    }


def test_share_is_never_rounded_to_all_or_none():
    assert rounding.share(99_999, 100_000) == "99999 of 100000 (99.9 %)"
    assert rounding.share(1, 100_000) == "1 of 100000 (0.1 %)"
    assert rounding.share(3, 3) == "3 of 3 (100 %)"
    assert rounding.share(0, 3) == "0 of 3 (0 %)"


def test_mean_of_a_batch_is_shown_to_its_own_error():
    # 0.1 / sqrt(10000) = 0.001: a bias of two standard errors of the mean can be seen
    batch = Batch(10_000, 10_000, [], [("mu", 1.00234, 0.1, 0.099, 0)])
    assert records.batch_cells(batch) == [["1.0023", "0.1000", "0.0990", ""]]


# HTML

PAGES = [
    *(pytest.param(page.minimum_html(m), id=f"minimum {k}") for k, m in MINIMA.items()),
    *(pytest.param(page.parameters_html(r), id=f"parameters {k}") for k, r in TABLES.items()),
    *(pytest.param(page.matrix_html(*m), id=f"matrix {k}") for k, m in MATRICES.items()),
    *(pytest.param(page.batch_html(b), id=f"batch {k}") for k, b in BATCHES.items()),
]


@pytest.mark.parametrize("shown", PAGES)
def test_html_is_well_formed_and_legible_in_dark_mode(shown):
    root = ET.fromstring(f"<div>{shown}</div>")
    assert {e.tag for e in root.iter()} <= {"div", "table", "tr", "td", "th", "strong", "p"}
    for cell in root.iter():
        if "background-color" in cell.get("style", ""):
            assert cell.get("style").endswith(";color:black")
            assert cell.text.strip(), "a colour without words"
    for table in root.iter("table"):
        widths = {sum(int(c.get("colspan", "1")) for c in row) for row in table}
        assert len(widths) == 1


EVIL = "<script>&"


@pytest.mark.parametrize(
    ("shown", "times"),
    [
        (page.parameters_html([PLAIN._replace(name=EVIL)]), 1),
        (page.matrix_html([EVIL], [[1.0]]), 2),
        (page.batch_html(Batch(1, 1, [(EVIL, 1)], [(EVIL, 1.0, 1.0, 1.0, 0)])), 2),
        (page.minimum_html(GOOD._replace(algorithm=EVIL, valid=False, status=EVIL, message=EVIL)), 3),
    ],
    ids=["parameters", "matrix", "batch", "minimum"],
)
def test_names_and_messages_are_escaped(shown, times):
    assert "<script" not in shown
    assert shown.count("&lt;script&gt;&amp;") == times


def test_html_says_what_the_text_says():
    for m in MINIMA.values():
        cells = [e.text for e in ET.fromstring(page.minimum_html(m)).iter("td")]
        assert [words for words, _ in records.verdicts(m)] == cells[4:10]
        assert cells[10:] == ([records.trouble(m)] if not m.valid else [])


def test_matrix_html_has_the_correlation_beside_the_covariance():
    root = ET.fromstring(page.matrix_html(["a", "b"], [[4.0, -1.0], [-1.0, 1.0]]))
    diagonal, cell = root.findall(".//td")[:2]
    assert diagonal.text == "4"
    assert diagonal.get("style") is None
    assert cell.text.strip() == "-1"
    assert cell.find("strong").text == "(-0.500)"


SIMULATIONS = {
    # Machado, Oliveira, Fernandes, IEEE Trans. Vis. Comput. Graph. 15, 1291 (2009), severity 1
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    "grey": [[0.2126, 0.7152, 0.0722]] * 3,
}


def linear(color):
    channel = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(channel <= 0.04045, channel / 12.92, ((channel + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    """CIE L*a*b* of linear sRGB, under D65."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ np.clip(rgb, 0, 1) / to_xyz.sum(axis=1)
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def hexadecimal(color):
    return "#" + "".join(f"{channel:02x}" for channel in color)


PAIRS = {
    "good-warn": (page.GOOD, page.WARN),
    "good-bad": (page.GOOD, page.BAD),
    "warn-bad": (page.WARN, page.BAD),
    "positive-negative": (hexadecimal(page.POSITIVE), hexadecimal(page.NEGATIVE)),
}


@pytest.mark.parametrize("sight", SIMULATIONS)
@pytest.mark.parametrize("pair", PAIRS)
def test_colors_are_apart_for_colour_blind_eyes(sight, pair):
    first, second = (lab(np.asarray(SIMULATIONS[sight]) @ linear(color)) for color in PAIRS[pair])
    # 2.3 is a just noticeable difference; without any colour only the brightness is left, and the words
    assert np.linalg.norm(first - second) > (1 if sight == "grey" else 20)


@pytest.mark.parametrize("color", [page.GOOD, page.WARN, page.BAD, *map(hexadecimal, (page.POSITIVE, page.NEGATIVE))])
def test_black_is_legible_on_every_color(color):
    luminance = linear(color) @ [0.2126, 0.7152, 0.0722]
    assert (luminance + 0.05) / 0.05 > 7  # WCAG, level AAA
