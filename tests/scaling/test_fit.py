import numpy as np
import pytest
from scipy.optimize import minimize

from hanok.core.errors import UsageError
from hanok.scaling.fit import evaluate, fit, huber
from hanok.scaling.law import LAWS
from hanok.scaling.plan import CHINCHILLA
from hanok.scaling.runs import Runs

TRUTH = {
    "chinchilla": CHINCHILLA["epoch"],
    "shared": {"E": 1.84, "A": 166.0, "B": 287.0, "eta": 0.273},
    "tokens": {"E": 1.7, "B": 2085.0, "beta": 0.37},
    "compute": {"E": 1.6, "K": 1100.0, "gamma": 0.155},
}


def design(rng, n=240):
    """The spread of sizes and budgets of the published replication data."""
    params = np.exp(rng.uniform(np.log(6e7), np.log(1.6e10), n))
    flops = np.exp(rng.uniform(np.log(1.4e18), np.log(1.3e22), n))
    return params, flops / 6 / params


def test_every_law_is_tried():
    assert set(TRUTH) == set(LAWS)


@pytest.mark.parametrize("name", sorted(TRUTH))
def test_recovers_known_constants_without_noise(name):
    params, tokens = design(np.random.default_rng(0))
    loss = evaluate(LAWS[name], TRUTH[name], params, tokens)
    found = fit(name, Runs(params, tokens, loss))
    assert found.objective < 1e-20
    for key, value in TRUTH[name].items():
        assert found.values[key] == pytest.approx(value, rel=1e-6)


def test_recovers_known_constants_with_noise_and_outliers():
    rng = np.random.default_rng(1)
    params, tokens = design(rng)
    loss = evaluate(LAWS["chinchilla"], TRUTH["chinchilla"], params, tokens) * np.exp(0.003 * rng.standard_normal(240))
    loss[::40] *= 1.3  # diverged runs: Huber must shrug them off
    values = fit("chinchilla", Runs(params, tokens, loss)).values
    assert values["alpha"] == pytest.approx(0.3478, abs=0.015)
    assert values["beta"] == pytest.approx(0.3658, abs=0.015)
    assert values["E"] == pytest.approx(1.8172, abs=0.03)
    control = fit("chinchilla", Runs(params, tokens, loss), delta=10.0).values  # least squares does not
    assert abs(control["E"] - 1.8172) > abs(values["E"] - 1.8172)


def test_the_minimum_is_the_minimum():
    """The usual way (log-sum-exp parameters, BFGS from a grid of starts) finds no lower value."""
    rng = np.random.default_rng(2)
    params, tokens = design(rng, 80)
    loss = evaluate(LAWS["chinchilla"], TRUTH["chinchilla"], params, tokens) * np.exp(0.01 * rng.standard_t(4, 80))
    found = fit("chinchilla", Runs(params, tokens, loss))

    def objective(point):
        e, a, b, alpha, beta = point
        model = np.logaddexp.reduce([np.full(80, e), a - alpha * np.log(params), b - beta * np.log(tokens)])
        residuals = model - np.log(loss)
        psi = np.clip(residuals, -1e-3, 1e-3) * 1e3
        shares = np.exp(np.stack([np.full(80, e), a - alpha * np.log(params), b - beta * np.log(tokens)]) - model)
        slope = [psi @ shares[0], psi @ shares[1], psi @ shares[2]]
        slope += [-psi @ (shares[1] * np.log(params)), -psi @ (shares[2] * np.log(tokens))]
        return huber(residuals, 1e-3) * 1e3, np.array(slope)

    starts = [(0.5, a, b, alpha, beta) for a in (5, 10) for b in (5, 10) for alpha in (0.3, 0.6) for beta in (0.3, 0.6)]
    peer = min(minimize(objective, start, jac=True, method="BFGS").fun for start in starts) / 1e3
    assert found.objective <= peer * (1 + 1e-6)


def test_scale_of_units_does_not_matter():
    rng = np.random.default_rng(3)
    params, tokens = design(rng, 30)
    loss = evaluate(LAWS["shared"], TRUTH["shared"], params, tokens) * np.exp(0.01 * rng.standard_normal(30))
    one, other = fit("shared", Runs(params, tokens, loss)), fit("shared", Runs(params / 1e6, tokens / 1e9, loss))
    assert one.objective == pytest.approx(other.objective, rel=1e-6)
    assert one.values["eta"] == pytest.approx(other.values["eta"], rel=1e-4)


def test_coefficients_stay_non_negative():
    params, tokens = design(np.random.default_rng(4), 30)
    found = fit("chinchilla", Runs(params, tokens, 3.0 * (params / 1e9) ** 0.1))  # loss that grows with size
    assert all(found.values[name] >= 0 for name in ("E", "A", "B"))


@pytest.mark.parametrize(
    ("rows", "law", "says"),
    [
        ([(1e6, 1e6, 3.0)] * 4, "chinchilla", "needs at least 5 runs, not 4"),
        ([(1e6, float(i), 3.0) for i in range(1, 9)], "chinchilla", "3 different model sizes"),
        ([(1e6, 1e6, 3.0)] * 8, "tokens", "3 different token counts"),
        ([(1e6, 1e6, 3.0)] * 8, "chinchila", "did you mean 'chinchilla'"),
    ],
)
def test_what_cannot_be_fitted_is_said(rows, law, says):
    with pytest.raises(UsageError, match=says):
        fit(law, Runs.of(rows))


def test_csv_round_trip_and_complaints(tmp_path):
    runs = Runs.of([(1e6, 2e6, 3.25), (2e6, 4e6, 3.0)])
    runs.write_csv(tmp_path / "runs.csv")
    again = Runs.from_csv(tmp_path / "runs.csv")
    assert np.array_equal(again.loss, runs.loss) and np.array_equal(again.params, runs.params)
    (tmp_path / "bad.csv").write_text("param,tokens,loss\n1,2,3\n")
    with pytest.raises(UsageError, match="no column 'params'; did you mean 'param'"):
        Runs.from_csv(tmp_path / "bad.csv")
    (tmp_path / "bad.csv").write_text("params,tokens,loss\n1,2,3\n1,2,x\n")
    with pytest.raises(UsageError, match="line 3: loss is 'x'"):
        Runs.from_csv(tmp_path / "bad.csv")
    (tmp_path / "bad.csv").write_text("params,tokens,loss\n1,2,-3\n")
    with pytest.raises(UsageError, match="must be a positive number"):
        Runs.from_csv(tmp_path / "bad.csv")
