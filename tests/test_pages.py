"""Whatever stands in data, names, answers, errors or prints is read as text: in pages, in plain words, in figures."""

from html.parser import HTMLParser

import pandas as pd
import pytest
from matplotlib.text import Text
from test_figures import EARNED, LENGTHS, LOG, SWEEP

import course_utils as cu
from course_utils.data.report import Report
from course_utils.exercises.codes import BITS
from course_utils.exercises.store import Table
from course_utils.figures.explorers import Explorer
from course_utils.figures.figure import Figure
from course_utils.figures.tokens import Token, TokenView
from course_utils.i18n import LITERAL, UNSEEN, format_thousands, shown
from course_utils.machine.start import Setup
from course_utils.world import Verdict

TEXTS = {
    "script": "<script>window.ran = 1</script>",
    "image": "<img src=x onerror='window.ran = 1'>",
    "attribute": "\" onmouseover=\"window.ran = 1\" style='color:red' x='",
    "end of the table": "</th></td></tr></table></details></div><h1>out</h1>",
    "comment": "<!-- away <![CDATA[ <? <style>* { display: none }",
    "think": "<think>why</think>a<b && c>d",
    "entities": "&lt;b&gt; &amp;nbsp; &#60;i&#62;",
    "LaTeX": r"$\frac{a}{$ and $x^2$ \(y\) $$z$$",
    "braces": "{0.__class__} {name!r} {} %s %(x)d",
    "directions": "abc\u202edef\u2066ghi\u200f",
    "ANSI": "\x1b[31mred\x1b[0m \x1b]8;;http://x\x07link\r",
    "NUL": "nothing\x00 \ud800 half \x9b7m",
    "a megabyte": "<b>$x$" * 200_000,
}
MESSAGES = [{"role": "user", "content": "How?"}]


def browser_of_answers(text):
    """Without models: they answer with the text."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("course_utils.figures.explorers.generate", lambda *_all, **_settings: [text])
        return cu.browse_answers({text: None}, None, [[{"role": "user", "content": text}]])


def stopped(text):
    """The check of a function that prints the text and stops with it."""

    def answer(*_arguments):
        print(text, end="")
        raise ValueError(text)

    return cu.ex("dpo.reward_margin").check(answer)


def returned(text):
    return cu.ex("dpo.reward_margin").check(lambda *_arguments: print(text, end="") or 0.0)


def report_on(text):
    found = Report(text, "plain", [text], read=3, kept=1, leaked=[1], other=text, not_compared=text)
    found.dropped["tie"] = [0]
    return found


def log_with(text):
    return [{**entry, text: 1.0} for entry in LOG]


def recorded(index):
    columns = [f"{what}, {part}" for what in ("preferred", "fluent") for part in ("%", "low", "high", "seed 0")]
    return pd.DataFrame(50.0, index=index, columns=columns)


def paths(text):
    return pd.MultiIndex.from_arrays([pd.Index([text, text, "other", "other"], dtype=object), [0, 1, 0, 1]])


#: A page with a text in every place that a text can get into, by the public function that makes it.
PAGES = {
    "side_by_side": lambda t: cu.side_by_side([[{"role": "user", "content": t}]], {t: [t], "other": [t]}),
    "score_table": lambda t: cu.score_table([MESSAGES], {t: [Verdict()]}),
    "token_view": lambda t: TokenView(
        t, {t: {"chosen": [Token(t, -1, -2, 0.3)], "rejected": [Token(t, -1, -2, 0.3, True)]}}, 0.3
    ),
    "browse_answers": browser_of_answers,
    "load_preferences": report_on,
    "progress": lambda t: Table(dict.fromkeys([*BITS, t], "pass"), t),
    "ex: an error": stopped,
    "ex: a print": returned,
    "plot_judge_against_margin": lambda t: cu.plot_judge_against_margin({t: (log_with(t), [(1, 60, 99), (2, 9, 9)])}),
    "plot_length_against_reward": lambda t: cu.plot_length_against_reward(LENGTHS, EARNED, unit=t),
    "plot_sweep": lambda t: cu.plot_sweep(SWEEP, name=t),
    "plot_win_rates": lambda t: cu.plot_win_rates({t: (0.5, 0.45, 0.55)}, t),
    "plot_sides": lambda t: cu.plot_sides({t: log_with(t)}),
    "plot_losses": lambda t: cu.plot_losses({t: (cu.dpo_loss, 0.3)}),
    "plot_arms": lambda t: cu.plot_arms(recorded(pd.Index([t, "other"], dtype=object))),
    "plot_paths": lambda t: cu.plot_paths(recorded(paths(t)), "fluent, low"),
    "plot_verdicts": lambda t: cu.plot_verdicts({t: [Verdict(), Verdict(("fluent",))]}),
}
#: These show numbers and words of the course alone.
OWN_WORDS = {
    "plot_reward_margins": lambda t: cu.plot_reward_margins(log_with(t)),
    "plot_orpo_terms": lambda t: cu.plot_orpo_terms(log_with(t)),
    "plot_accuracy": lambda t: cu.plot_accuracy(log_with(t)),
}
NO_TEXT = {"explore_dpo_loss", "explore_kl", "explore_orpo_loss", "plot_why_odds"}


class Page(HTMLParser):
    """A page's elements with the names of their attributes, its words, and those that MathJax would read."""

    VOID = ("img", "hr")

    def __init__(self, page):
        super().__init__()
        self.elements, self.words, self.for_mathjax, self.open = [], "", "", []
        self.feed(page)
        self.close()
        self.words = self.words.replace(
            "(1 200 000 ", f"({format_thousands(1_200_000)} "
        )  # as alternative texts have it

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, *sorted(name for name, _value in attributes)))
        named = dict(attributes)
        self.words += named.get("alt", "")
        if tag not in self.VOID:
            self.open.append(tag in ("pre", "code") or LITERAL in named.get("class", ""))

    def handle_endtag(self, tag):
        self.open.pop()

    def handle_data(self, data):
        self.words += data
        self.for_mathjax += "" if any(self.open) else data

    def handle_comment(self, data):
        self.elements.append(("a comment",))

    handle_decl = handle_pi = unknown_decl = handle_comment


def shown_as(thing):
    """As HTML, and in plain words."""
    if isinstance(thing, Explorer):
        return thing.view.value, str(thing.controls["prompt"].options)
    return thing._repr_html_(), repr(thing)


@pytest.fixture(autouse=True)
def progress_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_PROGRESS", str(tmp_path))


@pytest.fixture(scope="module")
def harmless():
    """The elements of each page with a word in it that does no harm."""
    return {}


CASES = [(name, text) for name in PAGES for text in TEXTS] + [
    (name, text) for name in OWN_WORDS for text in ("image", "LaTeX")
]


@pytest.mark.parametrize(("name", "text"), CASES, ids=": ".join)
def test_a_text_is_read_as_it_is_and_adds_nothing_to_the_page(name, text, harmless):
    make, text = (PAGES | OWN_WORDS)[name], TEXTS[text]
    if name not in harmless:
        harmless[name] = Page(shown_as(make("harmless"))[0]).elements
    thing = make(text)
    page, plain = shown_as(thing)
    found = Page(page)
    assert found.elements == harmless[name]
    assert "$" not in found.for_mathjax and found.open == []
    assert not UNSEEN.search(page + plain)
    if isinstance(thing, Figure):
        found.words += "\n".join(artist.get_text() for artist in thing.findobj(Text))
    if name in PAGES:
        assert shown(text[:50]) in found.words
        assert len(text) < 5000 or f"… ({format_thousands(len(text))} characters in all)" in found.words
    assert len(plain) < 10_000 and len(page) < 100_000


def test_every_public_function_that_draws_is_here():
    makers = {name for name in dir(cu) if name.startswith(("plot_", "explore_", "browse_"))}
    makers |= {"side_by_side", "score_table", "token_view", "load_preferences", "progress"}
    assert makers <= {*PAGES, *OWN_WORDS, *NO_TEXT} <= {*dir(cu), "ex: an error", "ex: a print"}


def setup_of(text):
    print(Setup("en", "cpu", "fp32", {}, base_model=text, instruct_model=text, preferences=text))


#: What is said of a text, in a line or in an error.
SAID = {
    "ex": cu.ex,
    "load_model": cu.load_model,
    "expect": lambda t: print(cu.expect((t, 1, ">", 0))),
    "judge": lambda t: cu.judge(t, t),
    "progress": cu.progress,
    "start": setup_of,
    "start with one model": lambda t: cu.start(instruct_model=t),
    "a log": lambda t: cu.plot_accuracy([{"step": 1, t: 1.0}]),
}


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("name", SAID)
def test_a_line_or_an_error_about_a_text_shows_it_in_short_and_with_nothing_unseen(name, text, capsys):
    said = ""
    try:
        SAID[name](TEXTS[text])
    except (ValueError, OSError) as error:
        said = str(error)
    said += capsys.readouterr().out
    assert said and len(said) < 5000 and not UNSEEN.search(said)


def test_a_text_that_can_be_shown_stays_as_it_is():
    """Line breaks, tabs, emoji of several parts, Vietnamese in both normal forms, Persian with its joiners, Hebrew."""
    for text in ("a\tb\n\nc", "👩‍👩‍👧 🇻🇳", "Tiếng Việt", "Tiếng Việt", "می‌خواهم", "שלום", ""):
        assert shown(text) == text
    assert shown("\x1b[0m\u202e") == r"\x1b[0m\u202e" and shown(None) == "None"
    assert shown("a" * 1_000_000, 3) == f"aaa … ({format_thousands(1_000_000)} characters in all)"
    assert shown("aaa", 3) == "aaa"


def test_models_of_any_name_have_columns_of_their_own():
    """Also one that is called as the column of the questions is."""
    page = Page(cu.side_by_side([MESSAGES], {"question": ["One"], "two": ["Two"], "": ["Three"]})._repr_html_())
    assert "How?OneTwoThree" in page.words and page.elements.count(("th", "style")) == 4


def test_answers_that_lack_or_are_too_many_are_refused():
    for answers in ([], ["One", "Two"]):
        with pytest.raises(ValueError, match=r"shorter|longer"):
            cu.side_by_side([MESSAGES], {"a": answers})
