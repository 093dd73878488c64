import matplotlib
import pytest
from peft import LoraConfig
from trl import DPOConfig

import course_utils as cu
from course_utils.grid import fingerprint
from course_utils.training import Watch


@pytest.fixture
def grid(pairs, held_out, setup, tmp_path):
    args = DPOConfig(learning_rate=3e-4, max_steps=2, per_device_train_batch_size=4, **setup.training_args)
    data = {
        "a": (pairs.select(range(8)), held_out.select(range(4))),
        "b": (pairs.select(range(9)), held_out.select([5])),
    }
    return ["small"], data, args, tmp_path


def trainings(monkeypatch) -> list[int]:
    """Counts the trainings begun from here on."""
    begun, before = [], Watch.on_train_begin
    monkeypatch.setattr(Watch, "on_train_begin", lambda self, *a, **k: (begun.append(1), before(self, *a, **k))[1])
    return begun


def test_every_model_is_trained_on_every_dataset_once(grid, monkeypatch):
    begun = trainings(monkeypatch)
    table = cu.train_grid(*grid)
    assert list(zip(table["model"], table["data"])) == [("small", "a"), ("small", "b")] and len(begun) == 2
    assert table.equals(cu.train_grid(*grid)) and len(begun) == 2
    assert not [path for path in grid[3].iterdir() if path.is_dir()]  # no checkpoint is left behind
    figure = cu.plot_grid(table)
    assert isinstance(figure, matplotlib.figure.Figure) and "small · b" in figure.get_label()


def test_an_interrupted_grid_goes_on_where_it_stopped(grid, monkeypatch):
    begun = trainings(monkeypatch)

    def second_is_interrupted(watch, *_args, **_more):
        if len(begun) == 2:
            watch.interrupt.set()

    with monkeypatch.context() as patch, pytest.warns(UserWarning, match="run the cell again"):
        patch.setattr(Watch, "on_step_begin", second_is_interrupted)
        assert list(cu.train_grid(*grid)["data"]) == ["a"]
    assert list(cu.train_grid(*grid)["data"]) == ["a", "b"]
    assert len(begun) == 3


def test_other_settings_or_pairs_are_another_run(grid, monkeypatch):
    begun = trainings(monkeypatch)
    models, data, args, folder = grid
    one = {"a": data["a"]}
    cu.train_grid(models, one, args, folder)
    args.beta = 0.5
    cu.train_grid(models, one, args, folder)
    cu.train_grid(models, {"a": (data["b"][0], data["a"][1])}, args, folder)
    assert len(begun) == 3


def test_names_with_dots_and_slashes_are_runs_of_their_own(grid):
    _models, data, args, folder = grid
    labels = {"v1.0": data["a"], "v1.1": data["b"], "own/mine": data["a"]}
    assert list(cu.train_grid(["small"], labels, args, folder)["data"]) == list(labels)
    assert len([path for path in folder.iterdir() if path.suffix == ".json"]) == 3


def test_a_fingerprint_does_not_depend_on_the_order_of_a_set():
    names = ["q_proj", "k_proj", "v_proj", "o_proj"]
    adapters = [LoraConfig(target_modules=one).to_dict() for one in (names, names[::-1])]
    assert (
        fingerprint(adapters[0])
        == fingerprint(adapters[1])
        == fingerprint(adapters[0] | {"target_modules": sorted(names)})
    )
