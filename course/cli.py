"""The command line: `python3 -m course VERB`. Only the standard library until a verb's set-up is seen to."""

import argparse
import importlib
import json
import os
import re
import subprocess
import sys

from course import setup, steps
from course.errors import CourseError, UsageError

HELP = """\
From bytes to a model that answers questions about a picture: a course in six steps.

usage: python3 -m course VERB ...

for learners
  learn [STEP]             open the lesson in JupyterLab
  check [STEP[.TODO]]      check what you have written
  hint STEP.TODO           a hint: first a question, then the formula, then pseudocode
  status                   what is done and what is not
  run                      train all six steps and see the last one answer questions about pictures

  ask PICTURE QUESTION     ask the model that `run` has made about a picture of your own
  explain STEP.TODO        after a pass: your code beside the solution's, and why that is as it is
  reset STEP[.TODO]        back to the untouched exercise, with a backup of what you had
  upgrade                  after a new version of the course: your code moves into the new exercises
  doctor                   what is there on this machine, what each preset needs, and how to mend what is missing
  export STEP --to DIR     what a step has trained, as a checkpoint that transformers loads

for instructors
  grade SUBMISSIONS        grade a class's files in confined processes; grades, pages and a report
  release --to DIR         the course as students get it: without solutions, with checks that work
  gradescope --step STEP   an autograder to upload to Gradescope

for whoever works on the course
  test [--all]             run the test suite
  build [--check]          generate the exercises from the solutions
  audit [STEP[.TODO]]      prove that the checks catch wrong answers

Every verb tells more: python3 -m course VERB --help
What a verb needs and is not there is installed into .venv beside the README, once.

examples
  python3 -m course run
  python3 -m course learn step1
  python3 -m course check step6.projection
"""

PRESETS = ("smoke", "tiny", "small", "base")

# In a copy that `release` made for students, these are left out, and this file says so.
STUDENTS_COPY = steps.ROOT / "course" / "students_copy.json"
NOT_FOR_STUDENTS = ("grade", "release", "gradescope", "test", "build", "audit")

# What each verb imports, by import name; requirements.txt brings all of it.
CORE = ("torch", "numpy", "regex", "PIL", "safetensors", "tqdm")
LESSON = (*CORE, "matplotlib")
NEEDS = {
    "run": LESSON,
    "ask": CORE,
    "learn": (*LESSON, "jupyterlab", "ipykernel"),
    "check": CORE,
    "status": CORE,
    "hint": CORE,
    "explain": CORE,
    "reset": CORE,
    "upgrade": CORE,
    "doctor": CORE,
    "export": CORE,
    "build": CORE,
    "audit": CORE,
    "grade": LESSON,
    "release": CORE,
    "gradescope": CORE,
    "test": (*LESSON, "pytest", "xdist", "nbclient", "nbformat", "ipykernel", "transformers", "tokenizers", "tiktoken"),
}


class Parser(argparse.ArgumentParser):
    def error(self, message):
        self.exit(2, f"{message}\nSee: {self.prog} --help\n")


def parser() -> argparse.ArgumentParser:
    top = Parser(prog="python3 -m course", usage=argparse.SUPPRESS, add_help=False)
    top.add_argument("-h", "--help", action="store_true")
    verbs = top.add_subparsers(dest="verb", metavar="VERB", parser_class=Parser)

    def verb(name, help, examples):
        return verbs.add_parser(
            name,
            prog=f"python3 -m course {name}",
            description=help,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            epilog="examples\n" + "".join(f"  python3 -m course {e}\n" for e in examples),
        )

    one = verb(
        "learn",
        "Open a lesson in JupyterLab: the one you name, or the first that is not done. What follows -- goes to\n"
        "JupyterLab.",
        ["learn", "learn step6", "learn step6 --language zh", "learn step6 -- --no-browser --port 9000"],
    )
    one.add_argument("step", nargs="?", metavar="STEP", help="step1 ... step6, or a step's name")
    one.add_argument("--language", metavar="CODE", help="the lesson in another language, where there is one: zh")

    one = verb(
        "check",
        "Check your answers: all, a step's, or one TODO's. The exit status is 0 only if all pass.",
        ["check", "check step2", "check step6.projection", "check --solution"],
    )
    one.add_argument("what", nargs="?", metavar="STEP[.TODO]", help="what to check (everything by default)")
    one.add_argument("--solution", action="store_true", help="check the course's own solutions")
    one.add_argument("--json", action="store_true", help="print the findings as JSON")

    one = verb(
        "hint",
        "Give a hint for a TODO, one more with each call: a question, the formula, pseudocode, and then where\n"
        "the solution is. What you have been told is remembered.",
        ["hint step6.projection", "hint step6.projection --again"],
    )
    one.add_argument("what", metavar="STEP.TODO", help="the TODO you are at")
    one.add_argument("--again", action="store_true", help="start again with the first hint")

    one = verb(
        "explain",
        "After a TODO has passed: your code, the solution's, and why the solution is as it is.",
        ["explain step6.projection"],
    )
    one.add_argument("what", metavar="STEP.TODO", help="a TODO that passes")

    one = verb(
        "reset",
        "Put a step's model_exercise.py, or one TODO in it, back to the untouched text. What you had is kept in a\n"
        "backup beside it; of one TODO, only its functions are replaced.",
        ["reset step2", "reset step2.attention"],
    )
    one.add_argument("what", metavar="STEP[.TODO]", help="what to put back")

    verb(
        "upgrade",
        "After `git pull`, or after git refused to pull over your work: each TODO that you have written moves into\n"
        "the newly generated model_exercise.py, with the functions and imports that you added. What changed is shown,\n"
        "and what you had lies in a backup beside it. Without a newer version, nothing happens.",
        ["upgrade"],
    )

    one = verb(
        "doctor",
        "Look at Python, packages, devices, memory and disk, and say what each preset needs here and about how long\n"
        "it takes. Every finding comes with its remedy; the exit status is 0 if nothing is in the way.",
        ["doctor"],
    )

    one = verb(
        "export",
        "Write what a step has trained as a checkpoint that stock transformers loads: LlamaForCausalLM (step3, step4,\n"
        "step5) or LlavaForConditionalGeneration (step6), with tokenizer, chat template and picture processor.\n"
        "An earlier export is replaced; any other folder that is not empty is left alone.",
        ["export step6 --to my_vlm", "export step4 --to my_chat --preset small"],
    )
    one.add_argument("step", metavar="STEP", help="step3, step4, step5 or step6")
    one.add_argument("--to", metavar="DIR", required=True, help="the folder to write")
    one.add_argument("--preset", choices=PRESETS, default="tiny", help="whose artifacts (default: tiny)")
    one.add_argument("--out", metavar="FOLDER", help="where artifacts lie (default: artifacts/PRESET)")

    verb("status", "Show what is done and what is not, step by step.", ["status"])

    one = verb(
        "run",
        "Train tokenizer, GPT, pretraining, SFT, DPO and VLM, one after the other, and write a report\n"
        "with curves and pictures: artifacts/PRESET/report.html and report.json.\n\n"
        "It uses your own code for the TODOs that pass their checks, the solution for the rest.",
        [
            "run",
            "run --preset smoke",
            "run --resume",
            "run --steps step4-step6 --seed 1",
            "run --preset small --device cuda",
        ],
    )
    one.add_argument("--steps", metavar="LIST", help="for example step1,step3-step5 (default: all)")
    run_arguments(one)

    one = verb(
        "ask",
        "Ask the vision-language model that `run` has made about a picture of your own. The picture may be of any\n"
        "kind and size. The model knows the world of the course: coloured shapes on light paper.",
        [
            'ask drawing.png "What colour is the star?"',
            'ask drawing.png "How many shapes are there?" "Describe the picture." --preset small',
        ],
    )
    one.add_argument("picture", metavar="PICTURE", help="a picture file: PNG, JPEG, WebP, GIF, BMP, TIFF, ...")
    one.add_argument("questions", nargs="+", metavar="QUESTION", help="what you want to know, each in quotes")
    machine_arguments(one)

    one = verb(
        "grade",
        "Grade the files that a class handed in: a folder per student, a flat folder, the archive of an LMS (Canvas,\n"
        "Moodle), or one file. Each runs in a confined process and is judged outside of it. Writes grades.csv,\n"
        "report.html, pages/ and results/ (Gradescope's results.json). A run that was interrupted goes on.",
        [
            "grade submissions/ --step step6 --out grades/",
            "grade submissions.zip --step step2 --out grades/ --gradebook canvas.csv --due 2026-03-01T23:59",
            "grade submissions/ --step step6 --out grades/ --student ann",
        ],
    )
    one.add_argument("submissions", metavar="SUBMISSIONS", help="a folder, an archive, or one file")
    one.add_argument("--step", required=True, help="which step was to be done")
    one.add_argument("--out", required=True, metavar="DIR", help="where everything is written")
    one.add_argument(
        "--weights",
        metavar="FILE",
        help='JSON: {"points": {"projection": 5}, "blocked": 0.5, "late": {"per_day": 0.1, "most": 0.5}}',
    )
    one.add_argument("--due", metavar="DATE", help="2026-03-01 (its end) or 2026-03-01T23:59")
    one.add_argument("--gradebook", metavar="CSV", help="the LMS's file; a filled copy becomes DIR/gradebook.csv")
    one.add_argument("--column", metavar="NAME", help="the gradebook's column, where it is not plain which")
    one.add_argument("--student", metavar="NAME", help="grade this one again, and nobody else")
    one.add_argument("--seed", type=int, help="draws the cases (default: new ones, or those of the run in DIR)")
    one.add_argument(
        "--trust-submissions",
        action="store_true",
        help="run them even where they cannot be confined; every report says so",
    )

    one = verb(
        "release",
        "Write the course as students get it: without solutions, known mistakes and tests. Their checks run on cases\n"
        "that are drawn now, with the answers expected and the mistakes recognised; `grade` draws others. Takes a few\n"
        "minutes, because every known mistake is computed.",
        ["release --to course-2026", "release --to course-2026-week5 --solutions step1,step2"],
    )
    one.add_argument("--to", required=True, metavar="DIR", help="a folder that does not exist yet, or is empty")
    one.add_argument("--solutions", metavar="LIST", help="steps whose solutions go in, for example step1,step2")

    one = verb(
        "gradescope",
        "Pack an autograder for Gradescope: the course, the step to grade, and what starts it there.",
        ["gradescope --step step6 --out autograder.zip"],
    )
    one.add_argument("--step", required=True, help="which step is handed in")
    one.add_argument("--out", required=True, metavar="ZIP", help="the archive to upload")
    one.add_argument("--weights", metavar="FILE", help="as for `grade`")

    one = verb(
        "test", "Run the test suite; what follows -- goes to pytest.", ["test", "test --all", "test -- -k tokenizer -x"]
    )
    one.add_argument("--all", action="store_true", help="the slow tests too (about 10 minutes on two cores)")

    one = verb(
        "build",
        "Generate each model_exercise.py from its model_solution.py and strip the notebooks' outputs.\n"
        "A file that somebody has edited is reported and left alone.",
        ["build", "build --check"],
    )
    one.add_argument("--check", action="store_true", help="change nothing; exit 1 if something is out of date")
    one.add_argument("--force", action="store_true", help="write edited files anew too, with a backup beside each")

    one = verb(
        "audit",
        "Put every known mistake and hundreds of automatic changes of the solutions to the checks. Prints how many\n"
        "were caught and named, and each one that passes. Harmless changes are recorded, with the reason, in the\n"
        "step's mistakes.py. The exit status is 0 only if no wrong answer passes. All steps take a few minutes.",
        ["audit", "audit step2", "audit step2.attention"],
    )
    one.add_argument("what", nargs="?", metavar="STEP[.TODO]", help="what to audit (everything by default)")
    one.add_argument("--seed", type=int, default=0, help="draws other cases")
    one.add_argument("--json", action="store_true", help="print everything as JSON")
    return top


def machine_arguments(one) -> None:
    """The flags that say which run is meant, on which machine."""
    one.add_argument(
        "--preset",
        choices=PRESETS,
        default="tiny",
        help="smoke: seconds, for tests; tiny: minutes on a CPU (default); small: one GPU; base: several GPUs",
    )
    one.add_argument(
        "--device", default="auto", type=device, help="auto (CUDA if there is one), cpu, cuda, cuda:1, mps"
    )
    one.add_argument("--out", metavar="FOLDER", help="where artifacts lie (default: artifacts/PRESET)")
    one.add_argument(
        "--code",
        choices=("chain", "solution"),
        default="chain",
        help="chain (default): your TODOs that pass, the solution for the rest; solution: it alone",
    )


def run_arguments(one) -> None:
    """The flags of `run` and of every step's train.py."""
    machine_arguments(one)
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--resume", action="store_true", help="keep what is finished, go on where it was interrupted")


def device(name: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?|mps", name):
        raise argparse.ArgumentTypeError(
            f"there is no device '{name}'. There is: auto, cpu, cuda (cuda:0, cuda:1, ...), mps"
        )
    return name


def chosen(text: str | None) -> list[steps.Step]:
    """The steps that "step1,step3-step5" names, in order; all of them for None."""
    if not text:
        return list(steps.STEPS)
    picked = set()
    for part in filter(None, (part.strip() for part in text.split(","))):
        first, dash, last = part.partition("-")
        start = steps.STEPS.index(steps.find_step(first))
        stop = steps.STEPS.index(steps.find_step(last)) if dash else start
        if stop < start:
            raise UsageError(f"{part} goes backwards; the steps are {', '.join(s.name for s in steps.STEPS)}.")
        picked |= set(range(start, stop + 1))
    if not picked:
        raise UsageError(f"--steps names no step. There is: {', '.join(s.name for s in steps.STEPS)}.")
    return [steps.STEPS[i] for i in sorted(picked)]


def main(argv: list[str] | None = None) -> int:
    argv = list(sys.argv[1:] if argv is None else argv)
    own, rest = argv, []
    if "--" in argv:
        own, rest = argv[: argv.index("--")], argv[argv.index("--") + 1 :]
    try:
        args = parser().parse_args(own)
        if args.help or args.verb is None:
            print(help_text(), end="")
            return 0
        if STUDENTS_COPY.exists() and args.verb in NOT_FOR_STUDENTS:
            raise UsageError(f"`{args.verb}` is not part of this copy of the course, which was made for students.")
        if rest and args.verb not in ("test", "learn"):
            raise UsageError("Only `test` and `learn` take arguments after -- (for pytest, for JupyterLab).")
        # Names are looked at before anything is installed for them.
        if args.verb == "run":
            args.steps = chosen(args.steps)
        elif args.verb in ("check", "hint", "explain", "reset", "audit"):
            args.step, args.todo = steps.find(args.what) if args.what else (None, None)
            if args.verb in ("hint", "explain") and args.todo is None:
                names = ", ".join(f"{args.step.short}.{todo}" for todo in args.step.todos)
                raise UsageError(f"`{args.verb}` is for one TODO. There is: {names}.")
        elif args.verb == "release":
            args.solutions = chosen(args.solutions) if args.solutions else []
        elif args.verb in ("learn", "export", "grade", "gradescope") and args.step:
            args.step = steps.find_step(args.step)
        setup.ensure(NEEDS[args.verb], argv)
        return VERBS[args.verb](args, rest)
    except steps.UnknownName as error:
        print(sentence(error), file=sys.stderr)
        return 2
    except CourseError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in {name for names in NEEDS.values() for name in names}:
            raise
        print(
            f"{error.name} is installed here but does not start: {error}\nMend it (pip install "
            "--force-reinstall), "
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


def help_text() -> str:
    """The help; in a copy for students without the verbs that it leaves out."""
    if not STUDENTS_COPY.exists():
        return HELP
    return HELP.partition("for instructors")[0] + "Every verb" + HELP.partition("Every verb")[2]


def sentence(error) -> str:
    text = str(error)
    return text[:1].upper() + text[1:]


# Verbs ------------------------------------------------------------------------------------------------------


def learn(args, rest) -> int:
    step = args.step or next_step()
    notebook = step.folder / (f"tutorial.{args.language}.ipynb" if args.language else "tutorial.ipynb")
    if not notebook.exists():
        there = ", ".join(sorted(path.name for path in step.folder.glob("tutorial*.ipynb"))) or "no lesson"
        raise CourseError(f"{step.name} has no {notebook.name} in {step.folder}. There is: {there}.")
    print(f"Opening {step.name}: {step.title}. Stop JupyterLab with Ctrl-C.", flush=True)
    # The address rather than the file: given a file, Jupyter serves its folder alone, without the other steps.
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        f"--ServerApp.root_dir={steps.ROOT}",
        f"--LabApp.default_url=/lab/tree/{step.name}/{notebook.name}",
        *rest,
    ]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")  # containers; Jupyter refuses otherwise
    try:
        return subprocess.call(command, cwd=steps.ROOT)
    except KeyboardInterrupt:
        return 0


def next_step() -> steps.Step:
    """The first step with a TODO that does not pass yet."""
    from course import progress

    for name, todos in progress.status().items():
        if any(state != "passed" for state in todos.values()):
            return steps.find_step(name)
    return steps.STEPS[-1]


def check(args, rest) -> int:
    from course.checking import check_solution, check_step, display

    findings = []
    for step in [args.step] if args.step else steps.STEPS:
        todos = [args.todo] if args.todo else None
        found = check_solution(step, todos=todos) if args.solution else check_step(step, todos=todos)
        findings += found
        if not args.json:
            for finding in found:
                if args.step:
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


def hint(args, rest) -> int:
    from course import progress

    told, of, text = progress.next_hint(args.step, args.todo, again=args.again)
    label = f"hint {told} of {of}" if told <= of else "the solution"
    print(f"{args.step.short}.{args.todo}, {label}\n{text}")
    return 0


def explain(args, rest) -> int:
    from course import progress

    print(progress.explain(args.step, args.todo))
    return 0


def reset(args, rest) -> int:
    from course import authoring

    changed, kept = authoring.reset(args.step, args.todo)
    what = f"{args.step.short}.{args.todo}" if args.todo else f"{args.step.name}/model_exercise.py"
    print(
        f"{what} is {'untouched again' if changed else 'untouched already'}."
        + (f" What you had lies in {args.step.name}/{kept.name}." if kept else "")
    )
    return 0


def upgrade(args, rest) -> int:
    from course.authoring import upgrade as upgrading

    print(upgrading.report(upgrading.upgrade()))
    return 0


def doctor(args, rest) -> int:
    from course.doctor import examine, in_the_way, text

    found = examine()
    print(text(found))
    return 1 if in_the_way(found) else 0


def export(args, rest) -> int:
    from course.job import Job
    from course.weights.export import export as write

    print(write(Job(args.step, args.preset, device="cpu", out=args.out), args.to))
    return 0


def status(args, rest) -> int:
    from course import progress

    print(progress.table())
    return 0


def run(args, rest) -> int:
    from course.run import run as run_steps

    return run_steps(args)


def ask(args, rest) -> int:
    from course.pictures import read_picture

    try:
        picture = read_picture(args.picture)
    except ValueError as error:
        raise CourseError(f"{error}.") from error
    asker = importlib.import_module(f"{steps.STEPS[-1].name}.ask").Seer(args.preset, args.out, args.device, args.code)
    for question, answer in zip(args.questions, asker.ask(picture, args.questions)):
        print(f"{question}  {answer}" if len(args.questions) > 1 else answer)
    return 0


def test(args, rest) -> int:
    """The whole suite runs on all cores; what is chosen after -- in one process, which starts faster and can be
    debugged."""
    chosen = [] if args.all else ["-m", "not slow"]
    cores = [] if rest else ["-n", str(os.cpu_count()), "--dist", "loadgroup"]
    # One thread for each process: two that share two cores wait for each other most of the time.
    environment = {"OMP_NUM_THREADS": "1", **os.environ} if cores else None
    return subprocess.call([sys.executable, "-m", "pytest", *chosen, *cores, *rest], cwd=steps.ROOT, env=environment)


def build(args, rest) -> int:
    from course import authoring

    report = authoring.build(check=args.check, force=args.force)
    print(report)
    return 0 if report.ok else 1


def grade(args, rest) -> int:
    from course.grading.grade import main

    return main(args)


def release(args, rest) -> int:
    from course.grading.release import main

    return main(args)


def gradescope(args, rest) -> int:
    from course.grading.gradescope import main

    return main(args)


def audit(args, rest) -> int:
    from course.audit import main

    return main(args)


VERBS = {
    f.__name__: f
    for f in (
        learn,
        check,
        hint,
        status,
        run,
        ask,
        explain,
        reset,
        upgrade,
        doctor,
        export,
        grade,
        release,
        gradescope,
        test,
        build,
        audit,
    )
}
