"""For whoever shows words: the learner's language. Messages are looked up when they are shown, never at import."""

import gettext
import re
from functools import cache
from pathlib import Path

TRANSLATIONS = Path(__file__).parents[1] / "translations"
SOURCE_LANGUAGE = "en"
_language = SOURCE_LANGUAGE
#: What cannot be seen, and may change the look of its neighbours: control characters, marks of direction, half pairs.
UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
#: A number with a decimal point: no version, no name of a model, no arXiv number.
DECIMAL = re.compile(r"(?<![\w.])(\d{1,3})\.(\d+(?:e[-+]\d+)?)(?!\w|\.\w)")
#: The classes of HTML in which MathJax, of both major versions, leaves $ alone.
LITERAL = "tex2jax_ignore mathjax_ignore"


def languages() -> list[str]:
    """The languages in which the course is available."""
    return [SOURCE_LANGUAGE, *sorted(path.parent.name for path in TRANSLATIONS.glob("*/course_utils.mo"))]


def set_language(lang: str) -> None:
    """Choose the language of everything that the course prints or draws from now on."""
    global _language
    if lang not in languages():
        raise ValueError(f"language {lang!r} is not available; choose one of {', '.join(languages())}")
    _language = lang


def language() -> str:
    """The language chosen."""
    return _language


def N_(message: str) -> str:
    """Marks a message that is looked up later, when it is shown."""
    return message


@cache
def _catalogue(lang: str) -> gettext.NullTranslations:
    if lang == SOURCE_LANGUAGE:
        return gettext.NullTranslations()
    with (TRANSLATIONS / lang / "course_utils.mo").open("rb") as file:
        return gettext.GNUTranslations(file)


def translate(lang: str, message: str) -> str:
    """`message` in a language of the course; English where there is no translation."""
    return _catalogue(lang).gettext(message)


def _(message: str) -> str:
    """`message` in the learner's language."""
    return translate(_language, message)


#: Words of recorded tables, of what the lessons check, and names of models in them, for `in_words`.
LABELS: tuple[str, ...] = N_("accuracy"), N_("chosen longer"), N_("chosen not longer"), N_("words"), N_("nats")
LABELS += N_("method"), N_("minutes"), N_("learning rate"), N_("pairs"), N_("model"), N_("run"), N_("runs"), N_("seed")
LABELS += N_("seeds"), N_("both seeds"), N_("step"), N_("steps"), N_("ours"), N_("theirs"), N_("low"), N_("high")
LABELS += N_("compute"), N_("training"), N_("peak memory"), N_("models held in training"), N_("stages")
LABELS += N_("equal compute"), N_("equal pairs"), N_("SFT on chosen"), N_("log odds ratio"), N_("logp of rejected")
LABELS += N_("round"), N_("own"), N_("once"), N_("fixed"), N_("tied"), N_("length"), N_("similar")
LABELS += N_("penalty"), N_("true labels"), N_("training loss"), N_("held-out loss"), N_("held-out accuracy")
LABELS += N_("held-out margin / β"), N_("margin in training"), N_("wins"), N_("true wins"), N_("its own wins")
LABELS += N_("similar wins"), N_("similar prompts"), N_("other language")
LABELS += (
    N_("preferred"),
    N_("fluent"),
    N_("before"),
    N_("after"),
    N_("start"),
    N_("sound"),
    N_("hasty"),
    N_("ruined"),
    N_("mine"),
)
LABELS += N_("margin"), N_("margin / β"), N_("first loss"), N_("first margin"), N_("win rate")
LABELS += N_("loss of the pair above"), N_("largest difference"), N_("largest difference by hand")
LABELS += N_("largest difference from the own loop"), N_("base model")
LABELS += N_("largest difference from TRL"), N_("rise of chosen"), N_("rise of rejected"), N_("log odds"), N_("error")
LABELS += N_("half of that of chosen"), N_("own loop"), N_("random weights"), N_("win rate against λ = 0.5")
LABELS += N_("at first"), N_("at the end"), N_("growth"), N_("λ × odds-ratio term"), N_("rise of the log odds ratio")
LABELS += N_("change of the NLL"), N_("at its target"), N_("no wrong label")
LABELS += N_("β times the tokens"), N_("share of prompts that give a pair")
LABELS += N_("four in ten labels wrong"), N_("margin of the last ten steps"), N_("longer"), N_("shorter answers")
LABELS += N_("stopped by the judge"), N_("by the margin"), N_("adapter"), N_("merged"), N_("copy"), N_("adapter off")
LABELS += N_("loss"), N_("new adapter"), N_("change of a log-probability"), N_("same answers among 20")
LABELS += N_("to the end"), N_("share of pairs of similar lengths")
LABELS += N_("log-probability"), N_("tokens"), N_("nats a token"), N_("reward of chosen"), N_("reward of rejected")
LABELS += N_("by hand"), N_("weight"), N_("reward"), N_("padded"), N_("log-ratio of chosen")
LABELS += N_("log-ratio of rejected"), N_("mean"), N_("reward accuracy"), N_("odds of chosen"), N_("odds of rejected")
LABELS += N_("odds ratio"), N_("odds-ratio term"), N_("as written"), N_("P of chosen"), N_("P of rejected")
LABELS += N_("chosen up"), N_("rejected down"), N_("both terms")


def in_words(label: str) -> str:
    """A label of a table or a figure in the learner's language, part by part, where the course knows the part.

    >>> set_language("vi"), in_words("manners-dpo, step 30"), in_words("words, after - start"), set_language("en")
    (None, 'manners-dpo, bước 30', 'số từ, sau huấn luyện - lúc đầu', None)
    """

    def said(part: str) -> str:
        word, *rest = part.partition(" ") if re.fullmatch(r"\S+ \d.*", part) else [part]
        return "".join([_(word) if word in LABELS else word, *rest])

    return "".join(map(said, re.split("(, | - )", label)))


def shown(text: object, most: int = 2000) -> str:
    """A text from anywhere, as it may be shown: the unseen as escapes, and after `most` signs its length instead."""
    whole = str(text)
    seen = UNSEEN.sub(lambda found: ascii(found[0])[1:-1], whole[:most])
    if len(whole) <= most:
        return seen
    return seen + " " + _("… ({count} characters in all)").format(count=format_thousands(len(whole)))


def format_thousands(number: int) -> str:
    """A number with the sign between its thousands that the learner's language has."""
    return f"{number:,}".replace(",", _(","))


def local_decimals(text: str) -> str:
    """A text to read, its numbers with the decimal sign of the learner's language; what Python prints keeps its point.

    >>> set_language("vi"), local_decimals("β 0.3: 97.2 (95.1 – 98.4); trl 1.7.0, SmolLM2-1.7B"), set_language("en")
    (None, 'β 0,3: 97,2 (95,1 – 98,4); trl 1.7.0, SmolLM2-1.7B', None)
    """
    return DECIMAL.sub(r"\1" + _(".") + r"\2", text)
