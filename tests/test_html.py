"""Pages from templates: text stays text, and a name that nobody gave is an error, not an empty place."""

import re

import jinja2
import pytest

from course import steps
from course.display import plots
from course.display.html import TEMPLATES, both, render

TABLE = '{% from "display/templates/table.html" import table %}'


def test_a_table_shows_text():
    page = TEMPLATES.from_string(TABLE + "{{ table(header, rows, caption) }}").render(
        header=["<b>", "n"], rows=[["'\"><i>", 1], ["a & b", 2.5]], caption="<u>"
    )
    assert "<caption>&lt;u&gt;</caption>" in page and not re.search("<(b|i|u)>", page)
    assert '<th scope="col" class="text">&lt;b&gt;</th>' in page and '<td class="text">a &amp; b</td>' in page
    assert '<th scope="col">n</th>' in page and "<td>2.5</td>" in page
    assert "caption" not in TEMPLATES.from_string(TABLE + '{{ table(["a"], [["b"]]) }}').render()


def test_a_plot_is_there_for_light_and_dark_and_its_words_are_text():
    drawn = []
    picture = both(lambda dark: drawn.append(dark) or plots.new_figure(figsize=(1, 1)), 'a "curve" <of> it')
    assert drawn == [False, True] and 'alt="a &#34;curve&#34; &lt;of&gt; it"' in picture
    assert picture.count("data:image/png;base64,") == 2 and "(prefers-color-scheme: dark)" in picture
    assert picture in TEMPLATES.from_string("{{ it }}").render(it=picture), "a page would escape the picture"


def test_a_name_that_nobody_gave_is_an_error():
    with pytest.raises(jinja2.UndefinedError, match="title"):
        render("display/templates/base.html")


def test_every_template_is_one():
    names = [name for name in TEMPLATES.list_templates(extensions=["html"]) if not name.startswith("_")]
    assert names and all(re.fullmatch(r"\w+/templates/\w+\.html", name) for name in names)
    for name in names:
        text = TEMPLATES.get_template(name) and (steps.ROOT / "course" / name).read_text(encoding="utf-8")
        assert "|safe" not in re.sub(r"\s", "", text) and "autoescapefalse" not in re.sub(r"\s", "", text), name
        assert not re.search(r"=\{\{", text), f"{name}: an attribute without quotes"
