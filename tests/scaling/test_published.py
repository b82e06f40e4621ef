"""Numbers that papers and their released data agree on."""

import numpy as np
import pytest

from hanok.core.errors import UsageError
from hanok.scaling import plan
from hanok.scaling.fit import evaluate, fit
from hanok.scaling.flops import Shape, ratio_to_rule
from hanok.scaling.law import LAWS
from hanok.scaling.power import power_law
from hanok.scaling.repeat import Repeated
from hanok.scaling.runs import Runs


def column(rows, name):
    return np.array([float(row[name]) for row in rows])


def test_kaplan():
    assert plan.kaplan_loss_params(1e8) == pytest.approx(2.8300, abs=5e-5)
    assert plan.kaplan_loss_params(1.5e9) == pytest.approx(2.3036, abs=5e-5)
    assert plan.kaplan_loss_params(175e9) == pytest.approx(1.6044, abs=5e-5)
    assert plan.kaplan_critical_batch(3.0) == pytest.approx(1.069e6, rel=1e-3)
    assert plan.kaplan_critical_batch(2.5) == pytest.approx(2.547e6, rel=1e-3)
    assert plan.kaplan_tokens_needed(1e9) == pytest.approx(2.285e10, rel=1e-3)
    assert plan.kaplan_loss_tokens(5.4e13) == 1.0


def test_chinchilla_allocation():
    rounded, tex = (plan.optimal(plan.CHINCHILLA[name], 5.76e23) for name in ("printed", "tex"))
    assert (rounded.a, tex.a) == (pytest.approx(0.45161, abs=1e-5), pytest.approx(0.45653, abs=1e-5))
    assert rounded.params / (5.76e23 / 6) ** rounded.a == pytest.approx(1.3447, abs=1e-4)
    assert tex.params / (5.76e23 / 6) ** tex.a == pytest.approx(1.3000, abs=1e-4)
    for flops, ratio in ((1e18, 25.7), (1e20, 22.9), (5.76e23, 18.4), (1e25, 17.1)):
        best = plan.optimal(plan.CHINCHILLA["epoch"], flops)
        assert best.tokens / best.params == pytest.approx(ratio, abs=0.05)
        assert 6 * best.params * best.tokens == pytest.approx(flops)


def test_the_closed_form_is_the_minimum_along_a_budget():
    values, flops = plan.CHINCHILLA["epoch"], 1e21
    best = plan.optimal(values, flops)
    sizes = best.params * np.array([0.5, 0.9, 1.0, 1.1, 2.0])
    loss = evaluate(LAWS["chinchilla"], values, sizes, flops / 6 / sizes)
    assert np.argmin(loss) == 2
    with pytest.raises(UsageError, match="does not trade"):
        plan.optimal({"E": 1.0, "B": 2.0, "beta": 0.3}, 1e20)


@pytest.mark.parametrize(
    ("shape", "millions", "ratio"),
    [
        (Shape(10, 640, 2560, 10, 64), 73.7, 1.0264),
        (Shape(20, 1024, 4096, 16, 64), 305.4, 1.1019),
        (Shape(24, 1280, 5120, 10, 128), 552.1, 1.0838),
        (Shape(26, 1792, 7168, 14, 128), 1142.8, 1.0447),
        (Shape(28, 2048, 8192, 16, 128), 1592.3, 1.0335),
        (Shape(40, 3584, 14336, 28, 128), 6794.1, 0.9944),
    ],
)
def test_chinchilla_table_a4(shape, millions, ratio):
    assert shape.params / 1e6 == pytest.approx(millions, abs=0.06)
    assert ratio_to_rule(shape) == pytest.approx(ratio, abs=5e-5)


def test_muennighoff_values():
    law = Repeated()
    assert float(law.loss(6.34e9, 242e9, 25e9)) == pytest.approx(2.2256440889984477, abs=1e-6)
    assert float(law.loss(8.67e9, 178e9, 25e9)) == pytest.approx(2.2269634075087867, abs=1e-6)
    assert float(law.params_for(25e9)) == pytest.approx(1.2747e9, rel=1e-4)


def test_muennighoff_explains_the_released_runs(table):
    rows = [row for row in table("muennighoff2023_datablations.csv") if row["in_fit_182"] == "1"]
    size, data, unique, loss = (column(rows, key) for key in ("N_params", "D_tokens", "U_unique_tokens", "val_loss"))
    assert len(rows) == 182

    def r2(model):
        return 1 - np.sum((loss - model) ** 2) / np.sum((loss - loss.mean()) ** 2)

    assert r2(Repeated().loss(size, data, unique)) == pytest.approx(0.7722046, abs=1e-5)
    no_decay = Repeated(repeat_tokens=1e9, repeat_params=1e9)
    assert r2(no_decay.loss(size, data, unique)) == pytest.approx(0.4451684, abs=1e-4)


PORIAN = {
    ("rw", "base", "long", "kaplan", "kaplan"): 0.8338,
    ("rw", "base", "long", "kaplan", "standard"): 0.7009,
    ("rw", "base", "short", "kaplan", "standard"): 0.6035,
    ("rw", "base", "short", "chinchilla", "standard"): 0.5714,
    ("rw", "tuned", "short", "const", "standard"): 0.4970,
    ("owt2", "base", "long", "kaplan", "kaplan"): 0.8700,
    ("owt2", "base", "long", "kaplan", "standard"): 0.7000,
    ("owt2", "base", "short", "kaplan", "standard"): 0.6016,
    ("owt2", "base", "short", "chinchilla", "standard"): 0.5689,
    ("owt2", "tuned", "short", "const", "standard"): 0.5184,
}


def test_porian_exponents(table):
    rows = [row for row in table("porian2024_optimal_pairs.csv") if row["n_opt"]]
    for key, exponent in PORIAN.items():
        names = ("dataset", "hparams", "warmup", "decay", "param_count")
        chosen = [row for row in rows if tuple(row[name] for name in names) == key]
        found = power_law(column(chosen, "flops"), column(chosen, "n_opt"))
        assert found.exponent == pytest.approx(exponent, abs=6e-5), key


def test_gadre_overtraining(table):
    """Five small runs say the loss of a 1.4B model at 640 tokens per parameter and of a 6.9B one within 1 %."""
    rows = [row for row in table("gadre2024_overtraining.csv") if row["train_set"] == "rpj"]
    small = {"d=96_l=8_h=4", "d=512_l=8_h=4", "d=576_l=24_h=8", "d=1024_l=24_h=8"}
    at = {(row["model"], float(row["chinchilla_mult"])): row for row in rows}
    chosen = [at[model, 1.0] for model in sorted(small)] + [at["d=96_l=8_h=4", 16.0]]
    runs = Runs(column(chosen, "N"), column(chosen, "D"), column(chosen, "loss_c4_val"))
    published = {"E": 1.83665, "A": 166.21, "B": 366.69 * 6 ** (-0.27285 / 2), "eta": 0.27285}
    for target, printed in (("open_lm_1b", 32.0), 0.71), (("open_lm_7b", 1.0), 0.73):
        size, data, loss = (float(at[target][key]) for key in ("N", "D", "loss_c4_val"))
        theirs = float(evaluate(LAWS["shared"], published, size, data))
        assert 100 * abs(theirs / loss - 1) == pytest.approx(printed, abs=0.03)
        ours = fit("shared", runs)
        assert 100 * abs(float(ours.predict(size, data)) / loss - 1) < 1.0
        assert ours.values["eta"] == pytest.approx(0.27285, abs=0.01)


def test_olmo_ladder_hellaswag(table):
    """The final checkpoints of 190M to 1B say the 7B model's HellaSwag bits per byte."""
    rows = [row for row in table("olmo_task_ladder.csv") if row["final"] == "1" and row["hellaswag_val_bpb"]]
    fitted = [row for row in rows if row["model"] in {"190M", "370M", "760M", "1B"}]
    runs = Runs(column(fitted, "N"), column(fitted, "D"), column(fitted, "hellaswag_val_bpb"))
    target = next(row for row in rows if row["model"].startswith("7B"))
    ours = float(fit("chinchilla", runs).predict(float(target["N"]), float(target["D"])))
    assert ours == pytest.approx(float(target["hellaswag_val_bpb"]), rel=0.03)
