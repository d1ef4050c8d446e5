"""`run`: the steps one after the other, its reports, and what happens when it is interrupted at any point."""

import json
import os
import re
import shutil
import signal
import time
from html.parser import HTMLParser

import pytest

from course.training import report
from tests import toy_course

RUN = ("course", "run", "--preset", "smoke", "--out", "out")


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    return toy_course.make(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def finished(copy):
    done = toy_course.call(copy, *RUN[:-1], "whole")
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture
def out(copy, finished, request):
    """A fresh folder that holds step 1's artifact."""
    folder = copy / re.sub(r"\W", "_", request.node.name)
    folder.mkdir()
    shutil.copytree(copy / "whole" / "step1_toy", folder / "step1_toy")
    return folder


def figures(folder) -> dict:
    return json.loads((folder / "step2_toy" / "artifact.json").read_text())["figures"]


def wait_for(path, seconds=300):
    until = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < until, f"{path} did not appear"
        time.sleep(0.02)


def run(copy, out, *more, **environment):
    return toy_course.call(copy, *RUN[:-1], out, *more, **environment)


def test_the_reports(copy, finished):
    folder = copy / "whole"
    found = json.loads((folder / "report.json").read_text())
    assert list(found) == ["preset", "seed", "device", "hardware", "versions", "seconds", "peak_memory_mb", "steps"]
    assert list(found["steps"]) == ["step1_toy", "step2_toy"]
    for step in found["steps"].values():
        assert set(step) - {"peak_gpu_memory_mb"} == {"seconds", "peak_memory_mb", "code", "figures"}
    assert found["steps"]["step2_toy"]["code"] == {"two": "solution"}
    assert found["peak_memory_mb"] == max(step["peak_memory_mb"] for step in found["steps"].values())
    assert found["seconds"] == pytest.approx(sum(step["seconds"] for step in found["steps"].values()), abs=0.01)
    assert {"python", "torch", "numpy"} <= set(found["versions"]) and found["hardware"]["cores"]
    assert re.search(r"step1_toy +\d+ +\d+ +bytes per token +1 \(as bytes\) +3.5", finished.stdout)
    assert re.search(r"step2_toy +\d+ +\d+ +exact match +10.0% \(before\) +75.0%", finished.stdout)
    assert "step2 train" in finished.stderr and "Traceback" not in finished.stderr
    assert (folder / "gallery.png").read_bytes().startswith(b"\x89PNG")


class Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.sources, self.alts, self.text, self.open = [], [], "", []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.sources += [value for key, value in attributes.items() if key in ("src", "srcset", "href")]
        if tag == "img":
            self.alts.append(attributes.get("alt"))
        if tag not in ("img", "meta", "br", "source"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_the_page_needs_nothing_else_and_escapes_everything(copy, finished):
    page = Page()
    page.feed((copy / "whole" / "report.html").read_text())
    assert page.open == []
    assert page.sources and all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert all(page.alts) and 'a "red" <circle>' in page.alts
    for text in ("what color is <it>?", "(truth: red & bold)", "<b>", "Loss by step", "By kind"):
        assert text in page.text, text


def test_finished_steps_are_kept_and_their_own_scripts_say_so(copy, finished):
    before = {path: path.stat().st_mtime_ns for path in (copy / "whole").glob("step*/*")}
    done = run(copy, "whole", "--resume")
    assert done.returncode == 0 and done.stderr.count("finished already, kept") == 2
    assert {path: path.stat().st_mtime_ns for path in (copy / "whole").glob("step*/*")} == before


@pytest.mark.parametrize("whom", ["all", *(pytest.param(one, marks=pytest.mark.slow) for one in ("child", "parent"))])
def test_a_killed_run_goes_on_and_ends_with_the_same_scores(copy, finished, out, whom):
    process = toy_course.start(copy, *RUN[:-1], out, "--steps", "step2", TOY_STALL="17")
    wait_for(out / "stalled")
    if whom == "all":
        toy_course.kill(process)
    elif whom == "parent":  # its child must not go on alone
        os.kill(process.pid, signal.SIGKILL)
        process.communicate(timeout=120)
    else:
        child = next(int(line) for line in children(process.pid))
        os.kill(child, signal.SIGKILL)
        _, err = process.communicate(timeout=120)
        assert process.returncode == 128 + 9 and "ended by SIGKILL" in err and "run --resume --steps step2" in err
        assert "Traceback" not in err
    assert not (out / "step2_toy").exists()
    assert json.loads(header(out / "step2_toy.checkpoint.safetensors"))["tree"]["state"]["step"] == 16
    done = run(copy, out, "--resume")
    assert done.returncode == 0, done.stderr
    assert "step1_toy: finished already, kept" in done.stderr
    assert figures(out) == figures(copy / "whole")
    weights = [(folder / "step2_toy" / "model.safetensors").read_bytes() for folder in (out, copy / "whole")]
    assert weights[0] == weights[1]
    curves = [json.loads((folder / "step2_toy" / "history.json").read_text()) for folder in (out, copy / "whole")]
    assert curves[0] == curves[1]
    assert not list(out.glob("*.checkpoint*")) and not [path for path in out.iterdir() if path.name.startswith(".")]


def children(pid) -> list[str]:
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return file.read().split()


def header(path) -> str:
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + size])["__metadata__"]["state"]


@pytest.mark.parametrize("how", ["terminal", *(pytest.param(one, marks=pytest.mark.slow) for one in ("kill", "term"))])
def test_an_interrupted_run_says_how_to_go_on(copy, finished, out, how):
    process = toy_course.start(copy, *RUN[:-1], out, TOY_STALL="17")
    wait_for(out / "stalled")
    number = signal.SIGTERM if how == "term" else signal.SIGINT
    (os.killpg if how == "terminal" else os.kill)(process.pid, number)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 128 + number
    assert err.count(f"Go on where it was with:  python3 -m course run --resume --preset smoke --out {out}") == 1
    assert "Traceback" not in err
    assert json.loads(header(out / "step2_toy.checkpoint.safetensors"))["tree"]["state"]["step"] == 18
    assert run(copy, out, "--resume").returncode == 0
    assert figures(out) == figures(copy / "whole")


@pytest.mark.slow
def test_a_step_by_itself_says_how_to_go_on(copy, finished, out):
    process = toy_course.start(copy, "step2_toy.train", "--preset", "smoke", "--out", out, TOY_STALL="17")
    wait_for(out / "stalled")
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130 and "Traceback" not in err
    assert f"python3 -m course run --steps step2 --preset smoke --out {out} --resume" in err


@pytest.mark.slow
def test_a_foreign_checkpoint_is_refused_by_name(copy, finished, out):
    process = toy_course.start(copy, *RUN[:-1], out, TOY_STALL="17")
    wait_for(out / "stalled")
    toy_course.kill(process)
    done = run(copy, out, "--resume", "--steps", "step2", "--seed", "1")
    assert done.returncode == 1 and "seed 0, now 1" in done.stderr and "Traceback" not in done.stderr
    assert not (out / "step2_toy").exists()
    assert run(copy, out, "--seed", "1").returncode == 0  # without --resume it starts again
    assert figures(out)["sum"] != figures(copy / "whole")["sum"]


@pytest.mark.slow
def test_missing_and_damaged_inputs_name_their_command(copy, finished, out):
    weights = out / "step1_toy" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    done = run(copy, out, "--steps", "step2")
    assert done.returncode == 1 and "damaged" in done.stderr and "Traceback" not in done.stderr
    assert f"python3 -m course run --steps step1 --preset smoke --out {out}" in done.stderr
    done = run(copy, copy / "empty", "--steps", "step2")
    assert done.returncode == 1 and "There is nothing from step1_toy" in done.stderr
    assert run(copy, out, "--resume").returncode == 0  # makes the damaged one again
    assert figures(out) == figures(copy / "whole")


def test_what_cannot_be_done_is_said(copy, finished):
    (copy / "a_file").write_text("")
    done = run(copy, "a_file/out", "--steps", "step1")
    assert done.returncode == 1 and "could not be written" in done.stderr and "Traceback" not in done.stderr
    done = toy_course.call(copy, "course", "run", "--preset", "base")
    assert done.returncode == 2 and "step1_toy has no preset 'base'. It has: smoke" in done.stderr


def test_headlines_put_each_figure_beside_the_one_before():
    found = report.headlines(
        {
            "exact_match": 0.9,
            "exact_match_held_out_combinations": 0.8,
            "blind_black": 0.2,
            "blind_text_only": 0.3,
            "by_kind": {},
        }
    )
    assert found == [
        ("exact match", "90.0%", "30.0% (best blind)"),
        ("exact match, new combinations", "80.0%", "30.0% (best blind)"),
    ]
    assert report.headlines({"initial_loss": 6.3, "ln_vocab": 6.24, "parameters": 1000}) == [
        ("loss before training", "6.3", "6.24 (ln(vocabulary))")
    ]
    assert report.headlines({"win_rate": 0.71, "method": "dpo"}) == [("answers preferred", "71.0%", "50.0% (a tie)")]
    assert report.headlines({}) == []


def test_a_page_stands_figures_that_are_missing_or_odd(tmp_path):
    step = {"seconds": 1.0, "peak_memory_mb": 2.0, "code": {}, "figures": {"exact_match": None, "list": [1], "d": {}}}
    found = {
        "preset": "<smoke>",
        "seed": 0,
        "device": "cpu",
        "hardware": {"cpu": "<cpu>", "cores": 2},
        "versions": {},
        "seconds": 1.0,
        "peak_memory_mb": 2.0,
        "steps": {"step1_tokenizer": step},
    }
    page = report.page(found, tmp_path)
    assert "&lt;smoke&gt;" in page and "<cpu>" not in page
    assert "step1_tokenizer" in report.table(found)
