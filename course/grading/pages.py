"""The pages for people: one per student, and the class's report, which says what to explain again tomorrow."""

import statistics

from markupsafe import Markup

from course.checking.finding import Finding
from course.checking.lessons import Lesson
from course.display import plots
from course.display.html import both, render
from course.grading.marking import Weights, number
from course.grading.text import clean, file_name


def student(record: dict, findings: list[Finding], weights: Weights, title: str) -> str:
    """A student's page: the findings that the course itself would give."""
    days = record.get("days_late", 0)
    return render(
        "grading/templates/student.html",
        title=f"{record['name']}: {title}",
        name=record["name"],
        lesson=title,
        file=record["file"],
        total=number(weights.total({finding.todo: finding.status for finding in findings}, days)),
        best=number(weights.best),
        days_late=days,
        notes=[clean(note) for note in (*record.get("notes", []), record["fault"]) if note],
        rows=[
            (
                finding.todo,
                finding.headline,
                number(weights.of(finding.todo, finding.status)),
                number(weights.points[finding.todo]),
            )
            for finding in findings
        ],
        # a card escapes what it shows
        cards=[Markup(finding.html()) for finding in findings if not finding.passed],
        passed=[finding.id for finding in findings if finding.passed],
        **_stamp([record]),
    )


def report(records: list[dict], lesson: Lesson, weights: Weights, summary: dict) -> str:
    """report.html: the distribution, what passed, which mistakes were made and by whom."""
    said = [{one["todo"]: one["status"] for one in record["findings"]} for record in records]
    totals = [weights.total(states, record.get("days_late", 0)) for states, record in zip(said, records)]
    return render(
        "grading/templates/class.html",
        title=f"{summary['title']}: {len(records)} submissions",
        lesson=summary["title"],
        when=summary["when"],
        torch=summary["torch"],
        median=number(statistics.median(totals)),
        mean=f"{statistics.fmean(totals):.1f}",
        best=number(weights.best),
        distribution=_distribution(totals, weights.best),
        mistakes=_mistakes(records),
        unnamed=_unnamed(records),
        todos=[_todo(todo, [states[todo] for states in said], weights) for todo in lesson.checks],
        look_at=[(record["name"], "; ".join(notices(record))) for record in records if notices(record)],
        students=sorted(map(_student, records, totals), key=lambda student: student["name"].casefold()),
        **_stamp(records),
    )


def notices(record: dict) -> list[str]:
    """What a human should know of a submission: that it could not be run, what its text contains, which file
    counted."""
    broken = "" if record["imported"] else f"cannot be imported: {record['findings'][0]['error'].splitlines()[-1]}"
    return [clean(said) for said in (record["fault"], broken, *record["flags"], *record.get("notes", [])) if said]


def _stamp(records: list[dict]) -> dict:
    """At which level the submissions were run: the lowest, where they were run on several days."""
    worst = min(records, key=lambda record: record["level"])
    return {
        "trusted": worst["trusted"],
        "level": worst["level_says"],
        "seeds": sorted({record["seed"] for record in records}),
    }


def _distribution(totals: list[float], best: float) -> Markup:
    bins = int(min(max(round(best), 1), 20))
    counts = [0] * (bins + 1)
    for total in totals:
        counts[round(total / best * bins) if best else 0] += 1

    def draw(dark):
        figure = plots.new_figure(figsize=(6.4, 2.2))
        axes = figure.add_subplot()
        axes.bar(
            [best * i / bins for i in range(bins + 1)], counts, best / bins * 0.85 or 1, color=plots.COLORS[dark][0]
        )
        axes.set(xlabel="points", ylabel="students")
        for axis in (axes.xaxis, axes.yaxis):
            axis.get_major_locator().set_params(integer=True)
        axes.grid(axis="x", visible=False)
        return figure

    spoken = ", ".join(f"{number(best * i / bins)} points: {count}" for i, count in enumerate(counts) if count)
    return both(draw, f"Students by points. {spoken}")


def _todo(todo: str, states: list[str], weights: Weights) -> dict:
    passed = states.count("passed")
    return {
        "todo": todo,
        "percent": round(100 * passed / max(len(states), 1)),
        "passed": passed,
        "others": [states.count(state) for state in ("wrong", "raised", "blocked", "not started")],
        "points": number(weights.points[todo]),
    }


def _mistakes(records: list[dict]) -> list[dict]:
    """The named mistakes, the most frequent first, each with what is said about it and who made it."""
    made: dict[tuple, list[str]] = {}
    for record in records:
        for finding in record["findings"]:
            if finding["mistake_name"]:
                key = (finding["todo"], finding["mistake_name"], finding["mistake"])
                made.setdefault(key, []).append(record["name"])
    return [
        {"todo": todo, "name": name, "says": says, "who": who}
        for (todo, name, says), who in sorted(made.items(), key=lambda item: (-len(item[1]), item[0]))
    ]


def _unnamed(records: list[dict]) -> list[tuple[str, list[str]]]:
    """(TODO, who went wrong in it in a way that is no known mistake), where most did first."""
    found: dict[str, list[str]] = {}
    for record in records:
        for finding in record["findings"] if record["imported"] and not record["fault"] else ():
            if finding["status"] in ("wrong", "raised") and not finding["mistake_name"]:
                found.setdefault(finding["todo"], []).append(record["name"])
    return sorted(found.items(), key=lambda item: -len(item[1]))


def _student(record: dict, total: float) -> dict:
    return {
        "name": record["name"],
        "page": f"pages/{file_name(record['student'])}.html",
        "total": number(total),
        "missing": [
            f"{one['todo']} (blocked)" if one["status"] == "blocked" else one["todo"]
            for one in record["findings"]
            if one["status"] != "passed"
        ],
    }
