import json

import pytest

from gnomon.core import files
from gnomon.core.run import PlanShown, Run, Start
from gnomon.errors import BadConfig, BadInput

SETTINGS = {"source": "a.jsonl", "train": {"lr": 0.1}}


def open_run(folder, settings=SETTINGS, **options):
    return Run(folder, method="lintseq", verb="check", settings=settings, **options)


def test_a_run_folder_holds_what_it_promises(tmp_path):
    run = open_run(tmp_path / "r", command="gnomon lintseq check a.jsonl")
    run.log(step=1, loss=0.5)
    (run.folder / "out.jsonl").write_text("")
    run.artifact("records", run.folder / "out.jsonl")
    run.page.figures({"loss": 0.5})
    report = run.finish()
    names = {path.name for path in run.folder.iterdir()}
    assert {"config.yaml", "env.json", "metrics.jsonl", "report.html", "report.json"} <= names
    assert report["figures"] == {"loss": 0.5}
    assert report["artifacts"] == {"records": "out.jsonl"}
    assert json.loads((run.folder / "env.json").read_text())["packages"]["torch"]
    assert (run.folder / "config.yaml").read_text().startswith("# gnomon lintseq check --config")
    assert files.artifact(run.folder, "records") == run.folder / "out.jsonl"
    with pytest.raises(BadInput, match='a run without "model"; it has records'):
        files.artifact(run.folder, "model")


def test_the_same_settings_continue_and_others_are_refused(tmp_path):
    open_run(tmp_path / "r").close()
    run = open_run(tmp_path / "r")
    assert run.finished is None
    run.finish()
    again = open_run(tmp_path / "r")
    assert again.finished["status"] == "done"
    again.close()
    stamp = (tmp_path / "r" / "env.json").stat().st_mtime_ns
    open_run(tmp_path / "r").close()
    assert (tmp_path / "r" / "env.json").stat().st_mtime_ns == stamp, "a finished run keeps its environment"
    with pytest.raises(BadConfig, match=r"train\.lr: 0\.1 -> 0\.2.*--fresh"):
        open_run(tmp_path / "r", {"source": "a.jsonl", "train": {"lr": 0.2}})
    with pytest.raises(BadConfig, match="seed: 0 -> 1"):
        open_run(tmp_path / "r", seed=1)


def test_fresh_starts_over_but_never_deletes_a_stranger_s_folder(tmp_path):
    run = open_run(tmp_path / "r")
    (run.folder / "old").touch()
    run.close()
    open_run(tmp_path / "r", start=Start(fresh=True)).close()
    assert not (tmp_path / "r" / "old").exists()
    stranger = tmp_path / "mine"
    stranger.mkdir()
    (stranger / "config.yaml").write_text("model: mine\n")
    with pytest.raises(BadInput, match="is not a run folder"):
        open_run(stranger, start=Start(fresh=True))
    assert (stranger / "config.yaml").exists()


def test_two_processes_do_not_share_a_folder(tmp_path):
    first = open_run(tmp_path / "r")
    with pytest.raises(BadConfig, match="Another process is working"):
        open_run(tmp_path / "r")
    first.close()
    open_run(tmp_path / "r").close()


def test_a_dry_run_writes_nothing_and_asks_for_costs_only_then(tmp_path):
    run = open_run(tmp_path / "r", start=Start(dry=True))
    with pytest.raises(PlanShown) as shown:
        run.plan(rows=lambda: 3, workers=1)
    assert shown.value.plan == {"rows": 3, "workers": 1}
    assert not (tmp_path / "r").exists()
    with pytest.raises(RuntimeError, match=r"must call run\.plan first"):
        run.log(step=1)
    real = open_run(tmp_path / "r")
    real.plan(rows=lambda: pytest.fail("counted for nothing"))
    real.close()


def test_parts_have_their_own_folder_numbers_and_rows(tmp_path):
    run = open_run(tmp_path / "r")
    a, b = run.within("a"), run.within("b")
    assert a.rng.key != b.rng.key
    assert a.folder == run.folder / "a"
    for step in (1, 2, 3):
        a.log(step=step)
        b.log(step=step)
    run.log(note="kept")
    a.rewind(step=1)
    run.log(note="after")
    rows = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if row.get("part") == "a"] == [1]
    assert [row["step"] for row in rows if row.get("part") == "b"] == [1, 2, 3]
    assert [row["note"] for row in rows if "note" in row] == ["kept", "after"]
    run.close()


def test_only_the_main_process_writes(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    run = open_run(tmp_path / "r")
    run.log(step=1)
    assert run.finish() == {}
    assert not (tmp_path / "r").exists()


def test_an_unfinished_run_is_no_input(tmp_path):
    open_run(tmp_path / "r").close()
    with pytest.raises(BadInput, match="has not finished"):
        files.artifact(tmp_path / "r", "records")
    assert files.artifact(tmp_path, "records") == tmp_path


def test_settings_that_only_say_how_work_is_done_may_change(tmp_path):
    def opened(workers, lr):
        settings = {"train": {"lr": lr}, "shards": {"workers": workers}}
        return Run(
            tmp_path / "r",
            method="m",
            verb="v",
            settings=settings,
            start=Start(loose={"shards.workers"}),
            seed=1,
        )

    opened(1, 0.1).close()
    opened(2, 0.1).close()
    assert "workers: 2" in (tmp_path / "r" / "config.yaml").read_text()
    with pytest.raises(BadConfig, match=r"other settings \(train.lr: 0.1 -> 0.2\)"):
        opened(2, 0.2)


def test_more_of_the_same_takes_up_a_finished_run(tmp_path):
    def opened(budget, lr=0.1):
        settings = {"train": {"lr": lr}, "selection": {"budget": budget}}
        return open_run(tmp_path / "r", settings, start=Start(grows={"selection.budget"}))

    opened(10).finish()
    again = opened(10)
    assert again.finished is not None
    again.close()
    for budget in (20, 5):  # more, and less than there is already
        run = opened(budget)
        assert run.finished is None
        run.close()  # killed: what is there is still of the other size
        run = opened(budget)
        assert run.finished is None
        run.finish()
    with pytest.raises(BadConfig, match=r"train.lr: 0.1 -> 0.2"):
        opened(5, 0.2)


def test_a_finished_run_whose_input_has_grown_goes_on(tmp_path):
    def opened(source):
        return open_run(tmp_path / "r", {"source": str(source)}, start=Start(growing=[str(source)]))

    rows = tmp_path / "rows"
    rows.mkdir()
    (rows / "a.jsonl").write_text("1\n")
    opened(rows).finish()
    again = opened(rows)
    assert again.finished is not None  # nothing has changed
    again.close()
    (rows / "b.jsonl").write_text("2\n")
    run = opened(rows)
    assert run.finished is None
    run.close()  # killed: it goes on all the same
    run = opened(rows)
    assert run.finished is None
    run.finish()
    again = opened(rows)
    assert again.finished is not None
    again.close()


def test_an_incomplete_run_goes_on_when_repeated(tmp_path):
    run = open_run(tmp_path / "r")
    run.is_incomplete = True
    assert run.finish()["status"] == "incomplete"
    again = open_run(tmp_path / "r")
    assert again.finished is None
    assert again.finish()["status"] == "done"


def test_a_scale_for_a_gpu_is_refused_without_one():
    from gnomon.core import env

    env.check_scale("mini", "cpu")
    if env.devices() == ["cpu"]:
        with pytest.raises(BadConfig, match="--scale gpu needs a CUDA GPU"):
            env.check_scale("gpu", "cuda")
