import jinja2
import pytest
from pages import Page

from fmnist.report.page import flatten, number, render_page


def test_other_jobs_can_extend_the_base(monkeypatch):
    own = jinja2.DictLoader(
        {"own.html": "{% extends 'base.html' %}{% block body %}{{ parts.facts({'folds': 10}) }}{% endblock %}"}
    )
    package = jinja2.PackageLoader("fmnist.report")
    monkeypatch.setattr(jinja2, "PackageLoader", lambda *names: jinja2.ChoiceLoader([own, package]))
    page = Page(render_page("own.html", title="Folds", headline="Ten folds", run_id="cv-1"))
    assert page.first_words[0] == "Ten folds"
    assert ["folds", "10"] in page.rows


def test_value_that_the_template_needs_but_was_not_given_is_an_error():
    with pytest.raises(jinja2.UndefinedError, match="headline"):
        render_page("base.html", title="t", run_id="r")


def test_nested_settings_are_flattened_to_dotted_names():
    assert flatten({"a": 1, "b": {"c": {"d": None}, "e": [1, 2]}}) == {"a": 1, "b.c.d": None, "b.e": [1, 2]}


@pytest.mark.parametrize(
    ("value", "written"),
    [(504342, "504,342"), (1101.7, "1,102"), (0.001, "0.001"), (0.26254, "0.2625"), (True, "yes"), ([1, 2], "1, 2")],
)
def test_values_are_written_for_people(value, written):
    assert number(value) == written
