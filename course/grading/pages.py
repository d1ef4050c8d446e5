"""The pages for people: one per student, and the class's report, which says what to explain again
tomorrow."""

import html
import statistics

from course.display import plots
from course.display.html import STYLE, both, esc, html_table
from course.grading.text import clean, file_name

OWN = """
.card { margin: 1rem 0 }
details { margin: .4rem 0 }
summary { cursor: pointer }
.bar { display: inline-block; width: 9rem; height: .7rem; background: var(--line); border-radius: 2px }
.bar i { display: block; height: 100%; background: var(--good); border-radius: 2px }
.stamp { border: 1px solid var(--bad); color: var(--bad); padding: .5rem .8rem; border-radius: 4px }
td.wrap { max-width: 30rem; overflow-wrap: anywhere }
"""


def _page(title: str, body: str) -> str:
    # no script runs, and nothing is fetched, whatever may have slipped through
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{esc(title)}</title><style>{STYLE}{OWN}</style></head><body>\n{body}\n</body></html>\n"
    )


def _number(value: float) -> str:
    return f"{value:g}"


def _stamp(records: list[dict]) -> str:
    """At which level the submissions were run: the lowest, where they were run on several days."""
    worst = min(records, key=lambda record: record["level"])
    seeds = sorted({record["seed"] for record in records})
    drawn = f"Seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
    said = f"Run at {esc(worst['level_says'])}. {esc(drawn)}."
    if worst["trusted"]:
        return (
            f'<p class="stamp">The submissions were run as trusted files: nothing but resource limits kept them from '
            f"harm, or from reading the solutions. {said}</p>"
        )
    return f'<p class="soft">{said}</p>'


def student(record: dict, findings, weights, title: str) -> str:
    """A student's page: the findings that the course itself would give."""
    said = {finding.todo: finding.status for finding in findings}
    total, days = weights.total(said, record.get("days_late", 0)), record.get("days_late", 0)
    rows = [
        (
            finding.todo,
            finding.headline,
            _number(weights.of(finding.todo, finding.status)),
            _number(weights.points[finding.todo]),
        )
        for finding in findings
    ]
    late = f" Late by {days} day{'s' if days > 1 else ''}." if days else ""
    notes = "".join(f"<p>{esc(clean(note))}</p>" for note in (*record.get("notes", []), record["fault"]) if note)
    cards = "".join(f'<div class="card">{finding.html()}</div>' for finding in findings if not finding.passed)
    done = [finding.id for finding in findings if finding.passed]
    passed = f'<p class="soft">Passed: {esc(", ".join(done))}.</p>' if done else ""
    return _page(
        f"{record['name']}: {title}",
        f"""<h1>{esc(record["name"])}</h1>
<p>{esc(title)}: <b>{_number(total)} of {_number(weights.best)}</b> points.{late}
<span class="soft">{esc(record["file"])}</span></p>
{notes}
{html_table("Points", ("TODO", "", "points", "of"), rows, text=(0, 1))}
{cards}{passed}
{_stamp([record])}""",
    )


def report(records: list[dict], lesson, weights, summary: dict) -> str:
    """report.html: the distribution, what passed, which mistakes were made and by whom."""
    said = [{one["todo"]: one["status"] for one in record["findings"]} for record in records]
    totals = [weights.total(states, record.get("days_late", 0)) for states, record in zip(said, records)]
    return _page(
        f"{summary['title']}: {len(records)} submissions",
        f"""<h1>{esc(summary["title"])}</h1>
<p>{len(records)} submissions, median <b>{_number(statistics.median(totals))}</b> of {_number(weights.best)}
points, mean {statistics.fmean(totals):.1f}. <span class="soft">{esc(summary["when"])}, torch
{esc(summary["torch"])}.</span></p>
{_stamp(records)}
{_distribution(totals, weights.best)}
<h2>What to explain again</h2>
{_mistakes(records, lesson)}
<h2>TODO by TODO</h2>
{_todos(said, lesson, weights)}
{_look_at(records)}
<h2>Students</h2>
{_students(records, totals, weights)}""",
    )


def _distribution(totals: list[float], best: float) -> str:
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

    spoken = ", ".join(
        f"{_number(round(best * i / bins, 2))} points: {count}" for i, count in enumerate(counts) if count
    )
    return f"<figure>{both(draw, f'Students by points. {spoken}')}</figure>"


def _todos(said: list[dict], lesson, weights) -> str:
    rows = []
    for todo in lesson.checks:
        states = [states[todo] for states in said]
        passed = states.count("passed")
        width = round(100 * passed / max(len(states), 1))
        rows.append(
            f'<tr><td class="text">{esc(todo)}</td><td><span class="bar"><i style="width:{width}%"></i></span></td>'
            + "".join(
                f"<td>{count}</td>"
                for count in (
                    f"{passed} of {len(states)}",
                    states.count("wrong"),
                    states.count("raised"),
                    states.count("blocked"),
                    states.count("not started"),
                    _number(weights.points[todo]),
                )
            )
            + "</tr>"
        )
    head = "".join(
        f'<th scope="col">{name}</th>'
        for name in ("TODO", "", "passed", "wrong", "error", "blocked", "not started", "points")
    )
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _mistakes(records: list[dict], lesson) -> str:
    """The named mistakes, the most frequent first, each with what is said about it and who made it."""
    made: dict[tuple, list[str]] = {}
    unnamed: dict[str, list[str]] = {}
    for record in records:
        for finding in record["findings"]:
            if finding["mistake_name"]:
                key = (finding["todo"], finding["mistake_name"], finding["mistake"])
                made.setdefault(key, []).append(record["name"])
            elif finding["status"] in ("wrong", "raised") and record["imported"] and not record["fault"]:
                unnamed.setdefault(finding["todo"], []).append(record["name"])
    parts = []
    for (todo, name, says), who in sorted(made.items(), key=lambda item: (-len(item[1]), item[0])):
        parts.append(
            f"<details><summary><b>{len(who)}</b> made the mistake <i>{esc(name)}</i> in <code>{esc(todo)}</code>"
            f'</summary><p>{esc(says)}</p><p class="soft">{esc(", ".join(who))}</p></details>'
        )
    for todo, who in sorted(unnamed.items(), key=lambda item: -len(item[1])):
        parts.append(
            f"<details><summary><b>{len(who)}</b> went wrong in <code>{esc(todo)}</code> in a way that is no "
            f'known mistake</summary><p class="soft">{esc(", ".join(who))}</p></details>'
        )
    return "\n".join(parts) or "<p>Nothing: whatever could be run is right, or not started.</p>"


def notices(record: dict) -> list[str]:
    """What a human should know of a submission: that it could not be run, what its text contains, which
    file counted."""
    broken = "" if record["imported"] else f"cannot be imported: {record['findings'][0]['error'].splitlines()[-1]}"
    return [clean(said) for said in (record["fault"], broken, *record["flags"], *record.get("notes", [])) if said]


def _look_at(records: list[dict]) -> str:
    rows = [(record["name"], "; ".join(said)) for record in records if (said := notices(record))]
    if not rows:
        return ""
    return (
        '<h2>Look at these yourself</h2>\n<p class="soft">What was found by searching a file\'s text costs no '
        "points.</p>\n" + html_table("", ("student", "what"), rows, text=(0, 1)).replace("<caption></caption>", "")
    )


def _students(records: list[dict], totals: list[float], weights) -> str:
    rows = []
    for record, total in sorted(zip(records, totals), key=lambda pair: pair[0]["name"].casefold()):
        missing = [
            f"{one['todo']}{' (blocked)' if one['status'] == 'blocked' else ''}"
            for one in record["findings"]
            if one["status"] != "passed"
        ]
        link = html.escape(f"pages/{file_name(record['student'])}.html", quote=True)
        rows.append(
            f'<tr><td class="text"><a href="{link}">{esc(record["name"])}</a></td><td>{_number(total)}</td>'
            f'<td class="text wrap">{esc(", ".join(missing))}</td></tr>'
        )
    return (
        '<div class="wide"><table><thead><tr><th scope="col">student</th><th scope="col">points</th>'
        f'<th class="text" scope="col">not passed</th></tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
    )
