"""What figures draw, what they say, and the tables behind them."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from compressrl.study.grid import Subject
from compressrl.study.report.charts import Dot
from compressrl.study.report.figures import costs, curves, fronts, heat_map, memory, returns, sweeps
from compressrl.study.report.pooled import pool

DOTS = st.lists(st.tuples(st.floats(0.1, 10), st.floats(-1, 2)), min_size=1, max_size=12)


def pooled(*outcomes):
    return pool([outcome.cell for outcome in outcomes], outcomes)


@given(DOTS)
def test_a_front_is_what_no_other_point_beats_in_both(points):
    dots = [Dot(x, y, 0, "") for x, y in points]
    best = fronts.pareto(dots)
    beaten = [d for d in dots if any(o.x <= d.x and o.y >= d.y and (o.x, o.y) != (d.x, d.y) for o in dots)]
    assert {(d.x, d.y) for d in best} == {(d.x, d.y) for d in dots} - {(d.x, d.y) for d in beaten}


def test_nothing_finished_draws_nothing(undone):
    study = pooled(undone("sac", "Ant-v5", "ptdq", "missing", "train it"))
    assert returns.figure(study) is None
    assert costs.figure(study) is None
    assert sweeps.figure(study, 0.9) is None
    assert fronts.figure(study) is None
    assert memory.figure(study) is None
    assert "No compressed cell" in heat_map.figure(study).text


def test_estimated_and_measured_energy_have_a_panel_each(done):
    study = pooled(
        done("sac", "Ant-v5", "ptdq", compressed={"joules": 2e-5}),
        done("td3", "Ant-v5", "ptdq", compressed={"joules": 2e-5, "kind": "measured"}),
    )
    figure = costs.figure(study)
    titles = [panel.split('aria-label="')[1].split('"')[0] for panel in figure.panels]
    assert titles[2:] == ["energy a decision (estimated)", "energy a decision (measured)"]


def test_the_noise_of_the_baseline_against_itself_is_said(done):
    study = pooled(done("sac", "Ant-v5", "", compressed={"p50": 10.3}), done("sac", "Ant-v5", "ptdq"))
    assert "comes out at 1.03 to 1.03" in costs.figure(study).text


def test_returns_count_what_is_lost_beyond_doubt(done):
    study = pooled(
        done("sac", "Ant-v5", "ptdq", [100.0, 101.0, 102.0], [50.0, 51.0, 52.0]),
        done("sac", "Ant-v5", "qat", [100.0, 101.0, 102.0], [100.0, 103.0, 101.0]),
    )
    figure = returns.figure(study)
    assert figure.text.startswith("Of 2 compressed policies, 1 lose")
    assert [row[2].text for row in figure.table.rows] == ["baseline", "ptdq", "qat"]


def test_a_sweep_says_up_to_which_level_it_keeps_the_return(done):
    levels = {0.1: 100.0, 0.2: 95.0, 0.3: 20.0}
    study = pooled(*(done("sac", "Ant-v5", f"l1:ratio={r}", [100.0] * 3, [k] * 3) for r, k in levels.items()))
    assert "l1 at levels up to 0.2" in sweeps.figure(study, 0.9).text
    assert "l1 at no level" in sweeps.figure(study, 1.1).text


def test_where_no_baseline_earns_anything_only_costs_are_drawn(done):
    levels = (0.1, 0.2)
    study = pooled(*(done("sac", "Pendulum-v1", f"l1:ratio={r}", [-5.0, -6.0], [-5.0, -7.0]) for r in levels))
    figure = sweeps.figure(study, 0.9)
    titles = [panel.split('aria-label="')[1].split('"')[0] for panel in figure.panels]
    assert titles[0] == "peak memory of the process"
    assert "retention" not in titles
    assert figure.text.startswith("No baseline earns a positive return")
    assert fronts.figure(study) is None
    assert heat_map.figure(study).text.startswith("No baseline earns a positive return. ")


def test_the_heat_map_tells_failed_from_not_run_and_lost(done, undone):
    study = pooled(
        done("sac", "Ant-v5", "ptdq", [100.0, 100.0], [20.0, 20.0]),
        undone("sac", "Ant-v5", "qat", "failed", "it broke"),
        undone("sac", "Ant-v5", "ptsq", "missing", "train it"),
        done("ppo", "Ant-v5", "ptdq", [-5.0, -6.0], [-5.0, -6.0]),
    )
    figure = heat_map.figure(study)
    assert [[cell.text for cell in row] for row in figure.table.rows] == [
        ["sac Ant-v5", "20.0%", "!", "·"],
        ["ppo Ant-v5", "n/a", "·", "·"],
    ]
    assert "1 of 1 compressed policies lose more than half" in figure.text
    assert "failed: it broke" in figure.panels[0]
    assert "the baseline earns nothing" in figure.panels[0]


def test_memory_is_left_out_where_it_could_not_be_read(done):
    study = pooled(done("sac", "Ant-v5", "ptdq"), done("sac", "Ant-v5", "qat", compressed={"peak": None}))
    figure = memory.figure(study)
    assert [row[0].text for row in figure.table.rows] == ["baseline", "ptdq"]
    assert "takes 87% of the memory" in figure.text


def test_curves_come_from_the_files_beside_the_policies(tmp_path: Path):
    path = tmp_path / "x.csv"
    lines = [f"{step},0.0,{step / 10},1.0" for step in range(1, 201)]
    path.write_text("\n".join(["step,seconds,evaluation_return_mean,training_return_mean", *lines]))
    points = curves._points(path)
    assert len(points) <= curves.POINTS
    assert points[-1] == (200, 20)
    assert all(step == 10 * value for step, value in points)


def test_the_zoo_has_curves_of_its_policies():
    found = curves.find([Subject("sac", "HalfCheetah-v5"), Subject("sac", "Nowhere-v0")])
    assert {(curve.algorithm, curve.env_id) for curve in found} == {("sac", "HalfCheetah-v5")}
    figure = curves.figure(found)
    assert len(figure.table.rows) == sum(len(curve.points) for curve in found)
    assert curves.figure([]) is None


def test_a_file_or_other_options_have_no_curve_of_the_zoo():
    mine, other = Subject("sac", "Hopper-v5", "/x/mine.policy"), Subject("sac:hidden=64x64", "Hopper-v5")
    assert curves.find([mine, other]) == []
