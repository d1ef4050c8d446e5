"""Grading without a class: what the child is given, values as bytes, intake, marks, inert text, the
gradebook."""

import csv
import io
import json
import os
import socket
import stat
import time
import zipfile
from html.parser import HTMLParser

import pytest
import torch

from course import steps
from course.checking import Finding, lesson, plain, wire
from course.checking.reference import Reference
from course.checking.values import compare
from course.errors import CourseError
from course.grading import gradebook, intake, level, marking, outputs, pages, stage, tampering, text, zygote
from course.grading.flags import flags
from tests import toy

each_step = pytest.mark.parametrize("step", steps.ROOMS, ids=lambda step: step.name)


# what a child can know


@each_step
def test_the_stage_holds_calls_and_nothing_that_judges(step, tmp_path):
    a = lesson(step)
    stage.build(a, tmp_path)
    texts = {path.relative_to(tmp_path).as_posix(): path.read_text() for path in tmp_path.rglob("*.py")}
    everything = "\n".join(texts.values())
    assert not any(name.endswith(("checks.py", "mistakes.py", "model_solution.py")) for name in texts)
    for check in a.checks.values():
        for hint in (*check.hints, check.why):
            assert hint not in everything
        if check.judge is not None:
            assert f"def {check.judge.__name__}" not in texts["calls.py"]
        assert f"def {check.cases.__name__}" not in texts["calls.py"]
    for mistakes in a.mistakes.values():
        for mistake in mistakes:
            assert mistake.says not in everything
    solved = [line.strip() for line in a.source.split("### BEGIN SOLUTION")[1].split("### END SOLUTION")[0].split("\n")]
    assert not any(len(line) > 30 and line in everything for line in solved)


@pytest.mark.parametrize(
    "step",
    [pytest.param(one, id=one.name, marks=[] if one.number in (4, 5) else pytest.mark.slow) for one in steps.ROOMS],
)
def test_the_extracted_calls_answer_as_the_checks_do(step, tmp_path):
    a = lesson(step)
    made = steps.execute(stage.calls(step.file("checks").read_text(encoding="utf-8"), a.checks), "calls.py", "calls")
    reference = Reference(a, 5)
    from course.checking import answered

    for todo, check in a.checks.items():
        for number, case in enumerate(reference.cases(check)):
            mine = answered(made.CHECKS[todo], a.solution, case, seed=5)
            assert mine.raised is None, mine.raised
            assert compare(mine.value, reference.solved(check, number).value, 0, 0) == []
    steps.forget(made)


def test_a_check_that_cannot_be_found_in_the_text_is_an_error():
    with pytest.raises(ValueError, match="written|writes out"):
        stage.calls("CHECKS = [make()]\n", ["one"])


def test_solutions_among_the_readable_files_are_found(tmp_path):
    step = toy.lesson(tmp_path / "course")
    assert stage.exposed([tmp_path], step) and not stage.exposed([tmp_path / "elsewhere"], step)
    packages = tmp_path / "env" / "lib" / "python3.11" / "site-packages"
    (packages / "step1_tokenizer").mkdir(parents=True)
    (packages / "step1_tokenizer" / "model_solution.py").write_text("")
    assert stage.exposed([tmp_path / "env"])
    assert not stage.exposed(level.readable_roots()), "this environment gives the solutions away"


# values as bytes

VALUES = [
    None,
    True,
    -3,
    2.5,
    float("inf"),
    "ü\ud800\n",
    b"\0\xff",
    [1, [2, []]],
    {"a": 1, (1, "b"): [b""], 3: None},
    *(torch.randn(2, 3).to(dtype) for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16)),
    torch.tensor(3),
    torch.zeros(0, 4),
    torch.tensor([True, False]),
    torch.randn(4, 3).T,
    torch.randn(2, 2, dtype=torch.complex64),
    {"grad": {"x": torch.arange(5, dtype=torch.uint8)}},
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: str(type(value)))
def test_values_survive_the_wire(value):
    assert compare(wire.unpack(*wire.pack(value)), plain(value), 0, 0) == []


def test_nan_survives_the_wire():
    back = wire.unpack(*wire.pack([float("nan"), torch.tensor(float("nan"))]))
    assert back[0] != back[0] and back[1].isnan()


@pytest.mark.parametrize(
    "header, raw",
    [
        (b"", b""),
        (b"\xff", b""),
        (b"[" * 10000, b""),
        (b'{"t":["float32",[2]]}', b"1234567"),
        (b"null", b"1"),
        (b'{"t":["object",[1]]}', b"1234"),
        (b'{"t":["float32",[-1]]}', b""),
        (b'{"t":["float32",[1,1,1,1,1,1,1,1,1]]}', b"1234"),
        (b'{"t":["float32",[2147483647,2147483647,0]]}', b""),
        (b'{"t":["float32",[true]]}', b"1234"),
        (b'{"t":[[],[1]]}', b""),
        (b'{"b":5}', b"1234"),
        (b'{"b":-1}', b""),
        (b'{"d":[[1]]}', b""),
        (b'{"d":[[[],1]]}', b""),
        (b'{"d":[[{"d":[]},1]]}', b""),
        (b"{}", b""),
        (b'{"b":0,"t":0}', b""),
        (b'{"x":1}', b""),
        (b'{"k":7}', b""),
        (b'{"d":{"a":1}}', b""),
        (b"[[" * 30 + b"]]" * 30, b""),
        (b"1" * 5000, b""),
    ],
)
def test_what_is_no_message_is_a_fault(header, raw):
    with pytest.raises(wire.Fault):
        wire.unpack(header, raw)


def test_bytes_that_are_no_bools_become_some():
    assert wire.unpack(b'{"t":["bool",[3]]}', b"\0\1\7").tolist() == [False, True, True]


def test_random_headers_never_raise_anything_else():
    g = torch.Generator().manual_seed(0)
    pieces = [
        b'{"t":',
        b'["float32",',
        b"[2]",
        b"]",
        b"}",
        b'{"d":[',
        b"[1,",
        b'"a"',
        b"null",
        b"7",
        b",",
        b'{"b":3}',
        b"[",
        b"]}",
    ]
    for _ in range(3000):
        header = b"".join(
            pieces[i] for i in torch.randint(len(pieces), (int(torch.randint(9, (), generator=g)),), generator=g)
        )
        try:
            wire.unpack(header, b"12345678")
        except wire.Fault:
            pass


@pytest.mark.parametrize(
    "value",
    [torch.zeros(2**25), "x" * 2**25, torch.zeros(3).to(torch.float8_e4m3fn), torch.zeros([1] * 9)],
    ids=["large", "long", "dtype", "dims"],
)
def test_what_is_too_large_or_strange_is_not_sent(value):
    with pytest.raises(wire.Fault):
        wire.pack(value)


# inert text


def test_text_of_strangers_is_inert():
    hostile = (
        "\x1b[31mred\x1b]0;title\x07\x1b]8;;http://x\x1b\\link\r\x00\x9b2J\u202ereversed\ud800\u200bend\ttab\nline"
    )
    assert text.clean(hostile) == "redlink\n2Jreversedend\ttab\nline"
    for formula in ("=1+1", "+1", "-1", "@SUM(A1)", " =1", "\t=1", "\x1b[m=1", "\u200b=1"):
        assert text.cell(formula).startswith("'"), formula
    assert text.cell("ann") == "ann" and text.cell("a\nb") == "a b"
    assert "<script" not in pages.student(record("<script>alert(1)</script>"), [], WEIGHTS, "A toy")


def test_pages_show_hostile_text_as_text(tmp_path):
    """Whatever of a record is a text: no tag and no attribute comes of it, and no script would run."""
    evil = "'\"><script src=x onload=y></script>{{ 7 * 7 }}"
    hostile = record(evil, ("passed", "raised"), file=evil, fault=evil, flags=[evil], notes=[evil], level_says=evil)
    for finding in hostile["findings"]:
        words = {
            key: evil for key, value in finding.items() if isinstance(value, str) and key not in ("todo", "status")
        }
        finding.update(words, more=[evil])
    unnamed = record("ann", ("passed", "wrong"))
    a = lesson(toy.lesson(tmp_path))
    for one in (hostile, unnamed):
        one["findings"].append(Finding("toy", "centred", "blocked").to_dict())
    weights = marking.Weights.read(a.checks)
    summary = {**SUMMARY, "title": evil}
    made = [pages.student(hostile, outputs.findings(hostile), weights, evil)]
    made.append(pages.report([hostile, unnamed], a, weights, summary))
    for page in made:
        found = Tags()
        found.feed(page)
        assert not {tag for tag, _ in found.seen} & {"script", "iframe", "object", "form"}
        assert not [name for _, names in found.seen for name in names if name.startswith("on")]
        assert page.count("default-src 'none'") == 1 and evil in found.text and "49" not in found.text


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.seen, self.text = [], ""

    def handle_starttag(self, tag, attributes):
        self.seen.append((tag, [name for name, _ in attributes]))

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "..",
        "",
        "a/b\\c",
        "con",
        "nul.py",
        "-rf",
        ".hidden",
        "é" * 300,
        "a\0b",
        "<script>",
        "=1+1",
        "\u202etxt",
        "日本語",
    ],
)
def test_names_become_plain_files(name, tmp_path):
    made = text.file_name(name)
    path = tmp_path / f"{made}.json"
    path.write_text("x")
    assert path.parent == tmp_path and path.resolve().parent == tmp_path.resolve()
    assert made and made[0] not in ".-" and made.casefold() not in ("con", "nul")


def test_searching_the_text_is_quick_whatever_it_holds():
    start = time.perf_counter()
    for one in (b"\n", b" ", b"import ", b"RMSNorm(", b"open(", b"\x1b]", b"a_1"):
        flags(one * (2**18 // len(one)), "step2_gpt", "")
        text.clean((one * (2**16 // len(one))).decode())
    assert time.perf_counter() - start < 20, "a pattern takes quadratic time"


def test_built_ins_and_reaching_out_are_flagged():
    fused = (steps.ROOT / "tests/alternatives/step2_gpt/attention__fused.py").read_bytes()
    assert flags(fused, "step2_gpt", "") == ["attention: uses scaled_dot_product_attention, line 3"]
    assert flags(b"import sys\nsys._getframe(1)", "step2_gpt", "")[0].startswith("looks at frames")
    for step in steps.ROOMS:
        a = lesson(step)
        assert flags(a.source.encode(), step.name, a.exercise()) == []


# whose file is which


def write(path, content="x = 1\n", when=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    if when is not None:
        os.utime(path, (when, when))
    return path


def taken(path, **options):
    """{student: what was read, or why not}."""

    def content(one):
        try:
            return one.read().decode()
        except intake.Unfit as unfit:
            return f"unfit: {unfit}"

    return {one.student: content(one) for one in intake.found(path, **options)}


def test_a_folder_per_student(tmp_path):
    write(tmp_path / "ann" / "model_exercise.py", "ann")
    write(tmp_path / "ann" / "notes.txt", "no")
    write(tmp_path / "bob" / "deep" / "er" / "my homework (2).py", "bob")
    write(tmp_path / "cy" / "model_exercise.py.txt", "cy")
    (tmp_path / "dee").mkdir()
    write(tmp_path / ".DS_Store")
    write(tmp_path / "eve" / "__MACOSX" / "model_exercise.py", "no")
    found = taken(tmp_path)
    assert {key: found[key] for key in ("ann", "bob", "cy")} == {"ann": "ann", "bob": "bob", "cy": "cy"}
    assert "holds no file" in found["dee"] and "holds no file" in found["eve"]


def test_a_flat_folder_and_one_file(tmp_path):
    write(tmp_path / "ann.py", "ann")
    write(tmp_path / "Bob Öz.py", "bob")
    write(tmp_path / "grades.csv", "no")
    assert taken(tmp_path) == {"ann": "ann", "Bob_Öz": "bob"}
    assert taken(tmp_path / "ann.py") == {"ann": "ann"}


def test_the_newest_counts(tmp_path):
    write(tmp_path / "ann" / "model_exercise.py", "old", when=1000)
    write(tmp_path / "ann" / "model_exercise-1.py", "new", when=2000)
    write(tmp_path / "ann" / "other.py", "no", when=3000)
    (one,) = intake.found(tmp_path)
    assert one.read() == b"new" and "newest" in one.notes[0]


def zipped(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


CANVAS = {
    "doeann_101_9001_model_exercise.py": "ann",
    "bobberbob_LATE_102_9002_model_exercise-1.py": "bob",
    "doeann_101_9003_model_exercise-1.py": "ann again",
}


def test_canvas_names(tmp_path):
    for where in (zipped(tmp_path / "submissions.zip", CANVAS), tmp_path / "folder"):
        if where.suffix != ".zip":
            for name, content in CANVAS.items():
                write(where / name, content)
        assert taken(where) == {"doeann_101": "ann again", "bobberbob_102": "bob"}
        ann, bob = sorted(intake.found(where), key=lambda one: one.ids)
        assert ann.ids[0] == "101" and bob.late and not ann.late and "newest" in ann.notes[0]
    wrapped = zipped(tmp_path / "wrapped.zip", {f"submissions/{name}": text for name, text in CANVAS.items()})
    assert len(taken(wrapped)) == 2


def test_moodle_names(tmp_path):
    members = {
        "Ann Doe_501_assignsubmission_file/model_exercise.py": "ann",
        "Bob Ünal_502_assignsubmission_file_/my.py": "bob",
    }
    assert taken(zipped(tmp_path / "a.zip", members)) == {"Ann_Doe_501": "ann", "Bob_Ünal_502": "bob"}
    flat = {"Ann Doe_501_assignsubmission_file_model_exercise.py": "ann"}
    assert taken(zipped(tmp_path / "b.zip", flat)) == {"Ann_Doe_501": "ann"}
    assert intake.found(tmp_path / "b.zip")[0].ids == ("501", "Ann Doe")


def test_a_folder_around_everything(tmp_path):
    members = {"hw6/ann/model_exercise.py": "ann", "hw6/bob/model_exercise.py": "bob"}
    assert taken(zipped(tmp_path / "a.zip", members)) == {"ann": "ann", "bob": "bob"}
    for name, content in members.items():
        write(tmp_path / "class" / name, content)
    assert taken(tmp_path / "class") == {"ann": "ann", "bob": "bob"}
    write(tmp_path / "one" / "ann" / "model_exercise.py", "ann")
    assert taken(tmp_path / "one") == {"ann": "ann"}


def test_what_is_no_plain_file_is_not_followed(tmp_path):
    place = tmp_path / "in"
    secret = write(tmp_path / "secret.py", "secret")
    for name in ("link", "folderlink", "pipe", "sock", "folder", "large", "nested", "gz", "notebook", "blank", "gone"):
        (place / name).mkdir(parents=True)
    (place / "link" / "model_exercise.py").symlink_to(secret)
    (place / "folderlink" / "inside").symlink_to(tmp_path, target_is_directory=True)
    os.mkfifo(place / "pipe" / "model_exercise.py")
    listener = socket.socket(socket.AF_UNIX)
    here = os.getcwd()
    os.chdir(place / "sock")
    listener.bind("model_exercise.py")
    os.chdir(here)
    (place / "folder" / "model_exercise.py").mkdir()
    write(place / "large" / "model_exercise.py", b"#" * (intake.LARGEST + 1))
    zipped(place / "nested" / "model_exercise.py", {"a.py": "x"})
    write(place / "gz" / "model_exercise.py", b"\x1f\x8b\x08\0\0")
    write(place / "notebook" / "model_exercise.py", json.dumps({"cells": []}))
    write(place / "blank" / "model_exercise.py", " \n")
    (place / "gone" / "model_exercise.py").symlink_to("/nowhere")
    (place / "flat.py").symlink_to(secret)
    start = time.perf_counter()
    found = taken(place)
    listener.close()
    assert time.perf_counter() - start < 5, "the intake waits for something"
    assert set(found) == {
        "link",
        "folderlink",
        "pipe",
        "sock",
        "folder",
        "large",
        "nested",
        "gz",
        "notebook",
        "blank",
        "gone",
        "flat",
    }
    assert all(said.startswith("unfit: ") for said in found.values()), found
    assert "link" in found["link"] and "pipe" in found["pipe"] and "1 MB" in found["large"]
    assert "archive" in found["nested"] and "notebook" in found["notebook"] and "empty" in found["blank"]


def test_archives_are_not_trusted(tmp_path):
    path = tmp_path / "in.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb/model_exercise.py", b"#" * (20 << 20))
        archive.writestr("../../evil/model_exercise.py", "x = 1")
        archive.writestr("/abs/model_exercise.py", "x = 1")
        link = zipfile.ZipInfo("link/model_exercise.py")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("fine/model_exercise.py", "fine")
        archive.writestr("a_1" * 20000 + "/model_exercise.py", "long")
    lying = bytearray(path.read_bytes())
    found = taken(path)
    assert "1 MB" in found["bomb"] and "link" in found["link"] and found["fine"] == "fine"
    assert not (tmp_path.parent.parent / "evil").exists() and sorted(os.listdir(tmp_path)) == ["in.zip"]
    # a member whose header says that it is small
    real, small = (20 << 20).to_bytes(4, "little"), (100).to_bytes(4, "little")
    assert real in lying
    write(tmp_path / "lying.zip", bytes(lying).replace(real, small))
    assert "unfit" in taken(tmp_path / "lying.zip")["bomb"]
    write(tmp_path / "broken.zip", path.read_bytes()[:-40] + b"PK\5\6" + bytes(18))
    with pytest.raises(CourseError):
        taken(tmp_path / "broken.zip")


def test_hostile_names_become_students(tmp_path):
    for name in ("<script>", "=1+1", "a\nb", "\x1b[31m", "x" * 200, "Ann", "ann", "..."):
        write(tmp_path / name / "model_exercise.py", name)
    found = intake.found(tmp_path)
    names = [one.student for one in found]
    assert len(found) == 7 and len({name.casefold() for name in names}) == 7  # "..." is hidden, and no student's
    for one in found:
        assert "/" not in one.student and "\n" not in one.name and "\x1b" not in one.name


def test_nothing_to_grade_is_said(tmp_path):
    with pytest.raises(CourseError, match="no submissions"):
        intake.found(tmp_path)
    with pytest.raises(CourseError, match="There is no"):
        intake.found(tmp_path / "nowhere")


# marks

WEIGHTS = marking.Weights({"mean": 1.0, "projection": 2.0})
SUMMARY = {"title": "A toy", "step": "toy", "when": "now", "torch": "2", "graded_now": 1, "seconds": 1.0}


def record(name, states=("passed", "wrong"), **more):
    findings = [
        Finding("toy", todo, state, points=1, error="E", output="printed \x1b[m").to_dict()
        for todo, state in zip(("mean", "projection"), states)
    ]
    return {
        "student": text.file_name(name),
        "name": name,
        "ids": [name],
        "file": "f.py",
        "fault": "",
        "imported": True,
        "sha256": "0",
        "level": 3,
        "level_says": "level 3: all of it",
        "trusted": False,
        "seed": 5,
        "seconds": 0.1,
        "flags": [],
        "findings": findings,
        "notes": [],
        "days_late": 0,
        **more,
    }


def test_weights(tmp_path):
    checks = lesson(toy.lesson(tmp_path)).checks
    path = write(tmp_path / "w.json", '{"points": {"mean": 5}, "blocked": 0.5, "late": {"per_day": 0.1, "most": 0.25}}')
    weights = marking.Weights.read(checks, path)
    states = {"mean": "passed", "projection": "wrong", "centred": "blocked"}
    assert weights.best == 8 and weights.total(states) == 5.5
    assert [marking.number(points) for points in (2, 4.5, 4.95, 1 / 3)] == ["2", "4.5", "4.95", "0.33"]
    assert weights.total(states, 1) == 4.95 and weights.total(states, 9) == round(5.5 * 0.75, 2)
    assert marking.Weights.read(checks).total(states) == 1
    for wrong in (
        "[]",
        '{"points": {"meen": 1}}',
        '{"pionts": {}}',
        '{"blocked": -1}',
        '{"points": {"mean": "5"}}',
        "{",
        '{"late": {"per_week": 1}}',
    ):
        with pytest.raises(CourseError):
            marking.Weights.read(checks, write(tmp_path / "bad.json", wrong))


def test_only_what_a_check_needs_can_block_it(tmp_path):
    from course.checking.calling import Raised
    from course.checking.judging import Answer
    from course.grading.outcome import Outcome

    a = lesson(toy.lesson(tmp_path))
    waits = Answer(
        raised=Raised("NotImplementedError", "TODO mean: write mean", [(3, "f", "raise")], waiting_for="mean")
    )
    found = marking.findings(Reference(a, 1), Outcome(calls={todo: [waits] for todo in a.checks}))
    assert [(one.todo, one.status) for one in found] == [
        ("mean", "raised"),
        ("projection", "raised"),
        ("centred", "blocked"),
    ]


def test_grades_and_results(tmp_path):
    rows = list(
        csv.reader(
            io.StringIO(
                outputs.grades([record("=ann"), record("bob", ("wrong", "passed"))], ["mean", "projection"], WEIGHTS)
            )
        )
    )
    assert rows[0][:6] == ["student", "name", "score", "of", "mean", "projection"]
    assert rows[1][:6] == ["ann", "'=ann", "1", "3", "1", "0"] and rows[2][2] == "2"
    said = outputs.results(record("ann"), WEIGHTS, "toy")
    assert said["score"] == 1 and [test["score"] for test in said["tests"]] == [1, 0]
    assert sum(test["max_score"] for test in said["tests"]) == 3 and said["stdout_visibility"] == "hidden"
    allowed = {
        "score",
        "max_score",
        "status",
        "name",
        "number",
        "output",
        "tags",
        "visibility",
        "name_format",
        "output_format",
        "extra_data",
    }
    assert all(set(test) <= allowed and test["visibility"] == "visible" for test in said["tests"])
    assert "printed" not in json.dumps(said) and "level 3" in said["output"] and json.loads(json.dumps(said)) == said


def test_the_report_names_mistakes_and_who_made_them(tmp_path):
    a = lesson(toy.lesson(tmp_path))
    class_ = [record(f"student {n}", ("passed", "wrong")) for n in range(3)]
    for one in class_[:2]:
        one["findings"][1].update(mistake="Patches see their neighbours.", mistake_name="mixes patches")
    for one in class_:
        one["findings"].append(Finding("toy", "centred", "passed").to_dict())
    page = pages.report(class_, a, marking.Weights.read(a.checks), SUMMARY)
    assert "<b>2</b> made the mistake <i>mixes patches</i>" in page and "student 0, student 1" in page
    assert "3 of 3" in page and "0 of 3" in page and "Seed 5" in page and "data:image/png" in page
    class_[0].update(level=1, trusted=True, level_says="level 1: nearly nothing")
    trusted = pages.report(class_, a, marking.Weights.read(a.checks), SUMMARY)
    assert "level 1" in trusted
    assert 'class="stamp"' in trusted and 'class="stamp"' not in page


# gradebooks

CANVAS_BOOK = (
    "\ufeffStudent,ID,SIS User ID,SIS Login ID,Section,Step 5 (77),Step 6 (78),Final Score\r\n"
    "    Points Possible,,,,,10,30,(read only)\r\n"
    '"Doe, Ann",101,s1,ann,"A, and B",9,,50\r\n'
    '"Bobber,  ""Bob""",102,s2,bob,A,8,7,40\r\n'
    '"Student, Test",999,,x,A,,,\r\n'
)


def test_canvas_gradebook(tmp_path):
    path = write(tmp_path / "canvas.csv", CANVAS_BOOK)
    step = steps.find_step("step6")
    book = gradebook.read(path, step, None)
    said = book.fill(
        [record("doeann", ids=["101", "doeann"]), record("stranger", ids=["555"])], WEIGHTS, tmp_path / "out.csv"
    )
    before, after = CANVAS_BOOK.split("\r\n"), (tmp_path / "out.csv").read_bytes().decode().split("\r\n")
    assert after[:2] == before[:2] and after[3:] == before[3:], "a row that is not ours has changed"
    assert next(csv.reader([after[2]])) == ["Doe, Ann", "101", "s1", "ann", "A, and B", "9", "10", "50"]
    assert "stranger" in said[1] and path.read_bytes().decode() == CANVAS_BOOK
    assert gradebook.read(path, step, "Step 5").column == 5
    with pytest.raises(CourseError, match="Say --column"):
        gradebook.read(path, steps.find_step("step1"), None)
    with pytest.raises(CourseError, match="no columns"):
        gradebook.read(path, step, "Step 9")


def test_moodle_gradebook(tmp_path):
    path = write(
        tmp_path / "moodle.csv",
        "Identifier,Full name,Email address,Status,Grade,Maximum Grade,Last modified (grade)\n"
        "Participant 501,Ann Doe,ann@x.org,Submitted,,60.00,-\n"
        "Participant 502,Bob Ünal,bob@x.org,No submission,,60.00,-",
    )
    book = gradebook.read(path, steps.find_step("step6"), None)
    book.fill([record("Ann Doe_501", ids=["501", "Ann Doe"])], WEIGHTS, tmp_path / "out.csv")
    lines = (tmp_path / "out.csv").read_text().split("\n")
    assert lines[1] == "Participant 501,Ann Doe,ann@x.org,Submitted,20,60.00,-"
    assert lines[2] == "Participant 502,Bob Ünal,bob@x.org,No submission,,60.00,-"


def test_two_students_of_one_name_are_not_mixed_up(tmp_path):
    path = write(tmp_path / "canvas.csv", CANVAS_BOOK)
    book = gradebook.read(path, steps.find_step("step6"), None)
    book.fill([record("a", ids=["Doe, Ann"]), record("b", ids=["Ann Doe"])], WEIGHTS, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_bytes().decode() == CANVAS_BOOK


# levels


def test_below_level_2_nothing_is_run_unless_it_is_trusted(tmp_path):
    with pytest.raises(CourseError, match="--trust-submissions"):
        level.probe(tmp_path, trusted=False, highest=1)
    trusted = level.probe(tmp_path, trusted=True, highest=1)
    assert trusted.number == 1 and trusted.trusted and "--trust-submissions" in trusted.says


def test_nothing_says_that_it_is_safe_from_everything():
    word = "sec" + "ure"
    for path in [*(steps.ROOT / "course" / "grading").glob("*.py"), steps.ROOT / "docs" / "grading.md"]:
        said = path.read_text(encoding="utf-8").lower().replace(f"{word}bits", "")
        assert word not in said, path


def test_no_rename_can_switch_the_guard_off():
    """The watched modules are asked for their names; a copy of each is in the stage, and whoever replaces is found."""
    assert set(zygote.OURS) <= set(stage.COPIED)
    for module in zygote.OURS:
        assert module.__name__ in tampering.watched(zygote.OURS)
        watch = tampering.Watch(zygote.OURS)
        name = next(key for key, value in vars(module).items() if callable(value) and not key.startswith("__"))
        before = getattr(module, name)
        try:
            setattr(module, name, lambda *args: None)
            assert f"{module.__name__}.{name}" in watch.replaced()
        finally:
            setattr(module, name, before)
        assert watch.replaced() == []
