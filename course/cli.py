"""The command line: `python3 -m course VERB`, one table of verbs.

A verb is one row of VERBS. The parser, the help, %course in a notebook, docs/commands.md and what a copy for students
leaves out all come from that table. Only the standard library is imported until a verb's set-up is seen to; what a verb
does is imported inside its function for that reason.
"""

import argparse
import inspect
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from course import authoring, steps
from course.errors import CourseError, UsageError
from course.learner import milestones as measuring
from course.learner import progress
from course.machine import setup as setting_up
from course.machine.installer import BUILDS
from course.training.arguments import PRESETS, Parser, machine_arguments, run_arguments

STUDENTS_COPY = steps.ROOT / "course" / "students_copy.json"  # there in a copy that `release` made for students

FIRST, MORE, INSTRUCTORS, AUTHORS = "for learners", "", "for instructors", "for whoever works on the course"
TAIL = """\
Every verb tells more: python3 -m course VERB --help
What a verb needs and is not there is installed into .venv beside the README, once.
"""
EXAMPLES = ("run", "learn step1", "check step6.projection")


# What is typed ----------------------------------------------------------------------------------------------


def some_steps(text: str) -> list[steps.Step]:
    """The steps that "step1,step3-step5" names, in order. Raises UsageError."""
    picked = set()
    for part in filter(None, (part.strip() for part in text.split(","))):
        first, dash, last = part.partition("-")
        start = steps.STEPS.index(steps.find_step(first))
        stop = steps.STEPS.index(steps.find_step(last)) if dash else start
        if stop < start:
            raise UsageError(f"{part} goes backwards; the steps are {', '.join(s.name for s in steps.STEPS)}.")
        picked |= set(range(start, stop + 1))
    if not picked:
        raise UsageError(f"{text!r} names no step. There is: {', '.join(s.name for s in steps.STEPS)}.")
    return [steps.STEPS[i] for i in sorted(picked)]


def one_todo(text: str) -> tuple[steps.Step, str]:
    """The step and TODO that "step6.projection" names. Raises UsageError where it is a whole step."""
    step, todo = steps.find(text)
    if todo is None:
        names = ", ".join(f"{step.short}.{todo}" for todo in step.todos)
        raise UsageError(f"This verb is for one TODO. There is: {names}.")
    return step, todo


def arg(*names: str, **options: Any) -> Callable[[argparse.ArgumentParser], None]:
    """One argument of a row in VERBS: what argparse's add_argument takes."""

    def add(parser: argparse.ArgumentParser) -> None:
        parser.add_argument(*names, **options)

    return add


# What the verbs do ------------------------------------------------------------------------------------------


def learn(args: argparse.Namespace, rest: list[str]) -> int:
    """Open a lesson in JupyterLab: the one you name, or the first that is not done. What follows -- goes to
    JupyterLab.
    """
    step = args.step or next_step()
    notebook = step.folder / (f"tutorial.{args.language}.ipynb" if args.language else "tutorial.ipynb")
    if not notebook.exists():
        there = ", ".join(sorted(path.name for path in step.folder.glob("tutorial*.ipynb"))) or "no lesson"
        raise CourseError(f"{step.name} has no {notebook.name} in {step.folder}. There is: {there}.")
    print(f"Opening {step.name}: {step.title}. Stop JupyterLab with Ctrl-C.", flush=True)
    # The address rather than the file: given a file, Jupyter serves its folder alone, without the other steps.
    address = f"/lab/tree/{step.name}/{notebook.name}"
    options = [f"--ServerApp.root_dir={steps.ROOT}", f"--LabApp.default_url={address}", *rest]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        options.append("--allow-root")  # containers; Jupyter refuses otherwise
    try:
        return subprocess.call([sys.executable, "-m", "jupyterlab", *options], cwd=steps.ROOT)
    except KeyboardInterrupt:
        return 0


def next_step() -> steps.Step:
    """The first step with a TODO that does not pass yet."""
    for name, todos in progress.status().items():
        if any(state != "passed" for state in todos.values()):
            return steps.find_step(name)
    return steps.STEPS[-1]


def check(args: argparse.Namespace, rest: list[str]) -> int:
    """Check your answers: all, a step's, or one TODO's. The exit status is 0 only if all pass."""
    from course.checking import check_solution, check_step, display  # torch

    rooms, todo = args.what
    findings = []
    for step in rooms:
        todos = [todo] if todo else None
        found = check_solution(step, todos=todos) if args.solution else check_step(step, todos=todos)
        findings += found
        if not args.json:
            for finding in found:
                if len(rooms) == 1:
                    display(finding)
                    print()
                else:
                    print(finding.text().splitlines()[0], flush=True)
    passed = sum(finding.status == "passed" for finding in findings)
    if args.json:
        print(json.dumps([finding.to_dict() for finding in findings], indent=1))
    else:
        print(f"{passed} of {len(findings)} pass.")
    return 0 if findings and passed == len(findings) else 1


def hint(args: argparse.Namespace, rest: list[str]) -> int:
    """Give a hint for a TODO, one more with each call: a question, the formula, pseudocode, and then where the
    solution is. What you have been told is remembered.
    """
    step, todo = args.what
    told, of, text = progress.next_hint(step, todo, again=args.again)
    label = f"hint {told} of {of}" if told <= of else "the solution"
    print(f"{step.short}.{todo}, {label}\n{text}")
    return 0


def explain(args: argparse.Namespace, rest: list[str]) -> int:
    """After a TODO has passed: your code, the solution's, and why the solution is as it is."""
    print(progress.explain(*args.what))
    return 0


def reset(args: argparse.Namespace, rest: list[str]) -> int:
    """Put a step's model_exercise.py, or one TODO in it, back to the untouched text. What you had is kept in a
    backup beside it; of one TODO, only its functions are replaced.
    """
    from course.learner import exercise  # torch

    step, todo = args.what
    changed, kept = exercise.reset(step, todo)
    what = f"{step.short}.{todo}" if todo else f"{step.name}/model_exercise.py"
    state = "untouched again" if changed else "untouched already"
    print(f"{what} is {state}." + (f" What you had lies in {step.name}/{kept.name}." if kept else ""))
    return 0


def upgrade(args: argparse.Namespace, rest: list[str]) -> int:
    """After `git pull`, or after git refused to pull over your work: each TODO that you have written moves into
    the newly generated model_exercise.py, with the functions and imports that you added. What changed is shown,
    and what you had lies in a backup beside it. Without a newer version, nothing happens.
    """
    from course.learner import upgrade as upgrading  # torch

    print(upgrading.report(upgrading.upgrade()))
    return 0


def setup(args: argparse.Namespace, rest: list[str]) -> int:
    """Make or update .venv beside the README now, rather than with the first command that needs it. On Linux torch
    comes in two builds, for the CPU and for CUDA (NVIDIA GPUs). `auto` takes the one that this machine can use. What
    you choose is remembered. Where your settings of pip or uv say where packages come from, they decide.
    """
    setting_up.set_up(args.torch)
    return 0


def doctor(args: argparse.Namespace, rest: list[str]) -> int:
    """Look at Python, packages, devices, memory and disk, and say what each preset needs here and about how long
    it takes. Every finding comes with its remedy; the exit status is 0 if nothing is in the way.
    """
    from course.machine import doctor as doctoring  # torch

    if args.keep:
        doctoring.keep(Path(args.keep))
        return 0
    found = doctoring.examine()
    print(doctoring.text(found))
    return 1 if doctoring.in_the_way(found) else 0


def export(args: argparse.Namespace, rest: list[str]) -> int:
    """Write what a step has trained as a checkpoint that stock transformers loads: LlamaForCausalLM (step3, step4,
    step5) or LlavaForConditionalGeneration (step6), with tokenizer, chat template and picture processor.
    An earlier export is replaced; any other folder that is not empty is left alone.
    """
    from course.training.job import Job  # torch
    from course.weights.export import export as write  # torch, transformers

    print(write(Job(args.step, args.preset, device="cpu", out=args.out), args.to))
    return 0


def status(args: argparse.Namespace, rest: list[str]) -> int:
    """Show what is done and what is not, step by step."""
    print(progress.table())
    return 0


def run(args: argparse.Namespace, rest: list[str]) -> int:
    """Train tokenizer, GPT, pretraining, SFT, DPO and VLM, one after the other, and write a report with curves and
    pictures: artifacts/PRESET/report.html and report.json.

    It uses your own code for the TODOs that pass their checks, the solution for the rest.
    """
    from course.training.run import run as run_steps  # torch, matplotlib

    return run_steps(args)


def ask(args: argparse.Namespace, rest: list[str]) -> int:
    """Ask the vision-language model that `run` has made about a picture of your own. The picture may be of any
    kind and size. The model knows the world of the course: coloured shapes on light paper.
    """
    from course.machine.pictures import read_picture  # Pillow

    try:
        picture = read_picture(args.picture)
    except ValueError as error:
        raise CourseError(f"{error}.") from error
    seer = steps.load("step6_vlm", "ask").Seer(args.preset, args.out, args.device, args.code)
    for question, answer in zip(args.questions, seer.ask(picture, args.questions)):
        print(f"{question}  {answer}" if len(args.questions) > 1 else answer)
    return 0


def test(args: argparse.Namespace, rest: list[str]) -> int:
    """Run the test suite; what follows -- goes to pytest."""
    chosen = [] if args.all else ["-m", "not slow"]
    # All of it runs on all cores; what is chosen after -- in one process, which starts faster and can be debugged.
    cores = [] if rest else ["-n", str(os.cpu_count()), "--dist", "loadgroup"]
    # One thread for each process: two that share two cores wait for each other most of the time.
    environment = {"OMP_NUM_THREADS": "1", **os.environ} if cores else None
    return subprocess.call([sys.executable, "-m", "pytest", *chosen, *cores, *rest], cwd=steps.ROOT, env=environment)


def lint(args: argparse.Namespace, rest: list[str]) -> int:
    """Check style and layout (ruff), types (mypy), spelling (codespell) and the links of the pages and lessons. The
    exit status is 0 only if all are fine.
    """
    from course.authoring import lint as linting  # markdown-it

    return linting.main()


def build(args: argparse.Namespace, rest: list[str]) -> int:
    """Generate each model_exercise.py from its model_solution.py, strip the notebooks' outputs, and write
    docs/commands.md. A file that somebody has edited is reported and left alone.
    """
    report = authoring.build(check=args.check, force=args.force)
    authoring.generated(report, steps.ROOT / "docs" / "commands.md", commands_page(), check=args.check)
    print(report)
    return 0 if report.ok else 1


def grade(args: argparse.Namespace, rest: list[str]) -> int:
    """Grade the files that a class handed in: a folder per student, a flat folder, the archive of an LMS (Canvas,
    Moodle), or one file. Each runs in a confined process and is judged outside of it. Writes grades.csv,
    report.html, pages/ and results/ (Gradescope's results.json). A run that was interrupted goes on.
    """
    from course.grading.grade import main  # torch, matplotlib

    return main(args)


def release(args: argparse.Namespace, rest: list[str]) -> int:
    """Write the course as students get it: without solutions, known mistakes and tests. Their checks run on cases
    that are drawn now, with the answers expected and the mistakes recognised; `grade` draws others. Takes a few
    minutes, because every known mistake is computed.
    """
    from course.grading.release import main  # torch

    return main(args)


def gradescope(args: argparse.Namespace, rest: list[str]) -> int:
    """Pack an autograder for Gradescope: the course, the step to grade, and what starts it there."""
    from course.grading.gradescope import main  # torch

    return main(args)


def audit(args: argparse.Namespace, rest: list[str]) -> int:
    """Put every known mistake and hundreds of automatic changes of the solutions to the checks. Prints how many
    were caught and named, and each one that passes. Harmless changes are recorded, with the reason, in the
    step's mistakes.py. The exit status is 0 only if no wrong answer passes. All steps take a few minutes.
    """
    from course.checking.audit import main  # torch

    return main(args)


def milestones(args: argparse.Namespace, rest: list[str]) -> int:
    """Run a step's lesson once for each of several seeds, and keep what its milestones measured: where a learner's
    own numbers should lie.
    """
    measuring.keep(args.step, args.seeds)
    return 0


# The table --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verb:
    """One verb: its function (named like it, and its docstring says all), its arguments, and its line in the help."""

    function: Callable[[argparse.Namespace, list[str]], int]
    group: str
    usage: str  # what stands after the verb in the help: "[STEP[.TODO]]"
    help: str
    arguments: tuple[Callable[[argparse.ArgumentParser], None], ...] = ()
    examples: tuple[str, ...] = ()
    needs: tuple[str, ...] = setting_up.CORE  # what it imports, by import name
    requirements: str = setting_up.REQUIREMENTS  # the file that brings it
    in_cell: bool = False  # works in a notebook, as %course; the others take minutes, or open that very page
    takes_rest: str = ""  # whose arguments may follow after --

    @property
    def name(self) -> str:
        return self.function.__name__

    @property
    def about(self) -> str:
        return inspect.getdoc(self.function) or ""

    @property
    def for_students(self) -> bool:
        return self.group in (FIRST, MORE)


STEP = {"metavar": "STEP", "type": steps.find_step}
ANY = {"nargs": "?", "metavar": "STEP[.TODO]", "type": steps.select, "default": (steps.ROOMS, None)}
TODO = {"metavar": "STEP.TODO", "type": one_todo}
WEIGHTS = 'JSON: {"points": {"projection": 5}, "blocked": 0.5, "late": {"per_day": 0.1, "most": 0.5}}'

ROWS = (
    Verb(
        learn,
        FIRST,
        "[STEP]",
        "open the lesson in JupyterLab",
        (
            arg("step", nargs="?", help="step1 ... step6, or a step's name", **STEP),
            arg("--language", metavar="CODE", help="the lesson in another language, where there is one: zh"),
        ),
        ("learn", "learn step6", "learn step6 --language zh", "learn step6 -- --no-browser --port 9000"),
        needs=setting_up.LAB,
        takes_rest="JupyterLab",
    ),
    Verb(
        check,
        FIRST,
        "[STEP[.TODO]]",
        "check what you have written",
        (
            arg("what", help="what to check (everything by default); step6+ is step 6 with its side rooms", **ANY),
            arg("--solution", action="store_true", help="check the course's own solutions"),
            arg("--json", action="store_true", help="print the findings as JSON"),
        ),
        ("check", "check step2", "check step6.projection", "check step6+", "check --solution"),
        in_cell=True,
    ),
    Verb(
        hint,
        FIRST,
        "STEP.TODO",
        "a hint: first a question, then the formula, then pseudocode",
        (
            arg("what", help="the TODO you are at", **TODO),
            arg("--again", action="store_true", help="start again with the first hint"),
        ),
        ("hint step6.projection", "hint step6.projection --again"),
        in_cell=True,
    ),
    Verb(status, FIRST, "", "what is done and what is not", examples=("status",), in_cell=True),
    Verb(
        run,
        FIRST,
        "",
        "train all six steps and see the last one answer questions about pictures",
        (
            arg("--steps", metavar="LIST", type=some_steps, help="for example step1,step3-step5 (default: all)"),
            run_arguments,
        ),
        (
            "run",
            "run --preset smoke",
            "run --resume",
            "run --steps step4-step6 --seed 1",
            "run --preset small --device cuda",
        ),
        needs=setting_up.LESSON,
    ),
    Verb(
        ask,
        MORE,
        "PICTURE QUESTION",
        "ask the model that `run` has made about a picture of your own",
        (
            arg("picture", metavar="PICTURE", help="a picture file: PNG, JPEG, WebP, GIF, BMP, TIFF, ..."),
            arg("questions", nargs="+", metavar="QUESTION", help="what you want to know, each in quotes"),
            machine_arguments,
        ),
        (
            'ask drawing.png "What colour is the star?"',
            'ask drawing.png "How many shapes are there?" "Describe the picture." --preset small',
        ),
    ),
    Verb(
        explain,
        MORE,
        "STEP.TODO",
        "after a pass: your code beside the solution's, and why that is as it is",
        (arg("what", help="a TODO that passes", **TODO),),
        ("explain step6.projection",),
        in_cell=True,
    ),
    Verb(
        reset,
        MORE,
        "STEP[.TODO]",
        "back to the untouched exercise, with a backup of what you had",
        (arg("what", metavar="STEP[.TODO]", type=steps.find, help="what to put back"),),
        ("reset step2", "reset step2.attention"),
        in_cell=True,
    ),
    Verb(
        upgrade,
        MORE,
        "",
        "after a new version of the course: your code moves into the new exercises",
        examples=("upgrade",),
    ),
    Verb(
        setup,
        MORE,
        "[--torch cpu]",
        "install what the course needs now, and choose the build of torch",
        (arg("--torch", choices=BUILDS, help="which build (default: what was chosen before, auto at first)"),),
        ("setup", "setup --torch cuda"),
        needs=(),
    ),
    Verb(
        doctor,
        MORE,
        "",
        "what is there on this machine, what each preset needs, and how to mend what is missing",
        (
            arg(
                "--keep",
                metavar="REPORT",
                help="for authors: keep a run's report.json for the estimates on other machines",
            ),
        ),
        ("doctor", "doctor --keep artifacts/tiny/report.json"),
        in_cell=True,
    ),
    Verb(
        export,
        MORE,
        "STEP --to DIR",
        "what a step has trained, as a checkpoint that transformers loads",
        (
            arg("step", help="step3, step4, step5 or step6", **STEP),
            arg("--to", metavar="DIR", required=True, help="the folder to write"),
            arg("--preset", choices=PRESETS, default="tiny", help="whose artifacts (default: tiny)"),
            arg("--out", metavar="FOLDER", help="where artifacts lie (default: artifacts/PRESET)"),
        ),
        ("export step6 --to my_vlm", "export step4 --to my_chat --preset small"),
    ),
    Verb(
        grade,
        INSTRUCTORS,
        "SUBMISSIONS",
        "grade a class's files in confined processes; grades, pages and a report",
        (
            arg("submissions", metavar="SUBMISSIONS", help="a folder, an archive, or one file"),
            arg("--step", required=True, help="which step was to be done", **STEP),
            arg("--out", required=True, metavar="DIR", help="where everything is written"),
            arg("--weights", metavar="FILE", help=WEIGHTS),
            arg("--due", metavar="DATE", help="2026-03-01 (its end) or 2026-03-01T23:59"),
            arg("--gradebook", metavar="CSV", help="the LMS's file; a filled copy becomes DIR/gradebook.csv"),
            arg("--column", metavar="NAME", help="the gradebook's column, where it is not plain which"),
            arg("--student", metavar="NAME", help="grade this one again, and nobody else"),
            arg("--seed", type=int, help="draws the cases (default: new ones, or those of the run in DIR)"),
            arg(
                "--trust-submissions",
                action="store_true",
                help="run them even where they cannot be confined; every report says so",
            ),
        ),
        (
            "grade submissions/ --step step6 --out grades/",
            "grade submissions.zip --step step2 --out grades/ --gradebook canvas.csv --due 2026-03-01T23:59",
            "grade submissions/ --step step6 --out grades/ --student ann",
        ),
        needs=setting_up.LESSON,
    ),
    Verb(
        release,
        INSTRUCTORS,
        "--to DIR",
        "the course as students get it: without solutions, with checks that work",
        (
            arg("--to", required=True, metavar="DIR", help="a folder that does not exist yet, or is empty"),
            arg(
                "--solutions",
                metavar="LIST",
                type=some_steps,
                default=[],
                help="steps whose solutions go in, for example step1,step2",
            ),
        ),
        ("release --to course-2026", "release --to course-2026-week5 --solutions step1,step2"),
    ),
    Verb(
        gradescope,
        INSTRUCTORS,
        "--step STEP",
        "an autograder to upload to Gradescope",
        (
            arg("--step", required=True, help="which step is handed in", **STEP),
            arg("--out", required=True, metavar="ZIP", help="the archive to upload"),
            arg("--weights", metavar="FILE", help="as for `grade`"),
        ),
        ("gradescope --step step6 --out autograder.zip",),
    ),
    Verb(
        test,
        AUTHORS,
        "[--all]",
        "run the test suite",
        (arg("--all", action="store_true", help="the slow tests too (about 10 minutes on two cores)"),),
        ("test", "test --all", "test -- -k tokenizer -x"),
        needs=setting_up.TESTS,
        takes_rest="pytest",
    ),
    Verb(
        lint,
        AUTHORS,
        "",
        "check style, layout, types, spelling and links",
        examples=("lint",),
        needs=setting_up.LINT,
        requirements="requirements-dev.txt",
    ),
    Verb(
        build,
        AUTHORS,
        "[--check]",
        "generate the exercises from the solutions",
        (
            arg("--check", action="store_true", help="change nothing; exit 1 if something is out of date"),
            arg("--force", action="store_true", help="write edited files anew too, with a backup beside each"),
        ),
        ("build", "build --check"),
    ),
    Verb(
        audit,
        AUTHORS,
        "[STEP[.TODO]]",
        "prove that the checks catch wrong answers",
        (
            arg("what", help="what to audit (everything by default)", **ANY),
            arg("--seed", type=int, default=0, help="draws other cases"),
            arg("--json", action="store_true", help="print everything as JSON"),
        ),
        ("audit", "audit step2", "audit step2.attention"),
    ),
    Verb(
        milestones,
        AUTHORS,
        "STEP",
        "measure over several seeds where a lesson's numbers lie",
        (
            arg("step", help="the step whose lesson is run", **STEP),
            arg("--seeds", type=int, default=5, help="how many seeds (default: 5)"),
        ),
        ("milestones step3 --seeds 5",),
        needs=setting_up.LESSON,
    ),
)
VERBS = {verb.name: verb for verb in ROWS}


# From the table ---------------------------------------------------------------------------------------------


def parser() -> argparse.ArgumentParser:
    top = Parser(prog="python3 -m course", usage=argparse.SUPPRESS, add_help=False)
    top.add_argument("-h", "--help", action="store_true")
    verbs = top.add_subparsers(dest="verb", metavar="VERB", parser_class=Parser)
    for verb in VERBS.values():
        one = verbs.add_parser(
            verb.name,
            prog=f"python3 -m course {verb.name}",
            description=verb.about,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            epilog="examples\n" + "".join(f"  python3 -m course {example}\n" for example in verb.examples),
        )
        for add in verb.arguments:
            add(one)
    return top


def shown_verbs() -> list[Verb]:
    """The verbs of this copy: one for students has only the learners'."""
    return [verb for verb in VERBS.values() if verb.for_students or not STUDENTS_COPY.exists()]


def help_text() -> str:
    """What `python3 -m course` prints: the verbs in their groups, five for learners first."""
    text = "From bytes to a model that answers questions about a picture: a course in six steps.\n\n"
    text += "usage: python3 -m course VERB ...\n"
    for group in dict.fromkeys(verb.group for verb in shown_verbs()):
        text += f"\n{group}\n" if group else "\n"
        for verb in shown_verbs():
            if verb.group == group:
                text += f"  {f'{verb.name} {verb.usage}':<24} {verb.help}\n"
    return f"{text}\n{TAIL}\nexamples\n" + "".join(f"  python3 -m course {example}\n" for example in EXAMPLES)


def commands_page() -> str:
    """docs/commands.md: every verb's help as a page."""
    page = "# The commands\n\nGenerated from `course/cli.py` by `python3 -m course build`.\n"
    for group in dict.fromkeys(verb.group or FIRST for verb in VERBS.values()):
        page += f"\n## {group.capitalize()}\n"
        for verb in VERBS.values():
            if (verb.group or FIRST) == group:
                page += f"\n### `{f'{verb.name} {verb.usage}'.strip()}`\n\n{verb.about}\n\n```\n"
                page += "".join(f"python3 -m course {example}\n" for example in verb.examples) + "```\n"
    return page


def main(argv: list[str] | None = None) -> int:
    argv = list(sys.argv[1:] if argv is None else argv)
    own, rest = argv, []
    if "--" in argv:
        own, rest = argv[: argv.index("--")], argv[argv.index("--") + 1 :]
    try:
        args = parser().parse_args(own)  # names are looked at before anything is installed for them
        if args.help or args.verb is None:
            print(help_text(), end="")
            return 0
        verb = VERBS[args.verb]
        if verb not in shown_verbs():
            raise UsageError(f"`{args.verb}` is not part of this copy of the course, which was made for students.")
        if rest and not verb.takes_rest:
            whose = " and ".join(f"`{one.name}` (for {one.takes_rest})" for one in VERBS.values() if one.takes_rest)
            raise UsageError(f"Only {whose} take arguments after --.")
        setting_up.ensure(verb.needs, argv, verb.requirements)
        return verb.function(args, rest)
    except CourseError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in {name for verb in VERBS.values() for name in verb.needs}:
            raise
        print(
            f"{error.name} is installed here but does not start: {error}\nMend it (pip install --force-reinstall), "
            "or run the command with a Python that lacks it, and the course sets up its own.",
            file=sys.stderr,
        )
        return 1
    except FileNotFoundError as error:
        if not str(error.filename or "").startswith(str(steps.ROOT)):
            raise
        print(
            f"{error.filename} is missing from the course. Get it back, for example with git checkout.", file=sys.stderr
        )
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
