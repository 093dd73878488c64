"""Keep the languages of the course together: `python translations/sync.py COMMAND`.

`notebooks/en` is the source. For every lesson and page there is one gettext catalogue a language,
`translations/LANG/NAME.po`, with a paragraph an entry, and `notebooks/LANG` is built from both.

update        take new and changed paragraphs into the catalogues (changed ones become fuzzy), then build
build         write notebooks/LANG; a paragraph without a finished translation stays English
check         say what is stale, missing or does not fit; nothing if all is well
adopt LANG    take edits that were made in notebooks/LANG itself back into the catalogues
slug NAME     change the repository's owner/name wherever it stands (its one home is CITATION.cff)
"""

import re
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import nbformat
from babel.messages.catalog import Catalog, Message
from babel.messages.pofile import read_po, write_po

ROOT = Path(__file__).parents[1]
SOURCE = "en"

#: What a translation must keep: each kind, and how it is found.
KEPT = {
    "formula": r"\$\$.+?\$\$|\$[^$\n]+\$",
    "inline code": r"`[^`\n]+`",
    "link or image": r"\]\(([^)\s]+)[^)]*\)",
    "HTML tag": r"</?[a-zA-Z][^>]*>",
    "heading": r"^#+ (?:\d+\.|🐢|🐕|🦁)?",
    "bold": r"\*\*",
}


# ---------------------------------------------------------------- paragraphs


def paragraphs(text: str) -> list[str]:
    """Cut Markdown at blank lines, keeping code fences and $$ blocks whole; joined again they are the text."""
    parts, block, fence, formula = [], "", "", False
    for line in text.splitlines(keepends=True):
        if not (line.strip() or fence or formula):
            parts += [block, line] if block else [line]
            block = ""
            continue
        block += line
        if not formula and (mark := re.match(r" {0,3}(```+|~~~+)", line)):
            fence = "" if fence and line.strip().startswith(fence) else fence or mark[1]
        elif not fence and line.count("$$") % 2:
            formula = not formula
    return [*parts, block] if block else parts


def to_translate(block: str) -> bool:
    """Whether a paragraph has words: code, formulas and pictures alone have none."""
    bare = block.strip()
    if bare.startswith(("```", "~~~")) or re.fullmatch(r"\$\$[^$]+\$\$", bare):
        return False
    return any(letter.isalpha() for letter in bare)


def translated(text: str, words: dict[str, str]) -> str:
    """A text with each paragraph that `words` knows in its place."""
    out = []
    for block in paragraphs(text):
        bare = block.strip("\n")
        out.append(block.replace(bare, words[bare]) if words.get(bare) else block)
    return "".join(out)


# ---------------------------------------------------------------- files


def sources(root: Path) -> list[Path]:
    """The lessons and pages in the source language."""
    folder = root / "notebooks" / SOURCE
    return sorted([*folder.glob("*.ipynb"), *folder.glob("*.md")])


def languages(root: Path) -> list[str]:
    """The languages that have catalogues."""
    return sorted(path.name for path in (root / "translations").iterdir() if path.is_dir() and path.name[0] not in "._")


def texts(path: Path) -> Iterator[tuple[str, str]]:
    """(place, Markdown) of each cell of a lesson, or of a whole page."""
    if path.suffix == ".md":
        yield path.name, path.read_text(encoding="utf-8")
        return
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown":
            yield f"{path.name}#{cell.id}", cell.source


def template(path: Path) -> Catalog:
    """Every paragraph of a source, with the places where it stands."""
    catalog = Catalog(charset="utf-8")
    for place, text in texts(path):
        for block in paragraphs(text):
            if to_translate(block):
                catalog.add(block.strip("\n"), locations=[(place, 0)])
    return catalog


def catalogue_path(root: Path, lang: str, source: Path) -> Path:
    """Where the catalogue of a page or lesson is."""
    return root / "translations" / lang / f"{source.stem}.po"


def read_catalogue(path: Path, lang: str) -> Catalog:
    """A catalogue, or an empty one if there is none yet."""
    if not path.is_file():
        now = datetime.now(UTC)
        who = {"last_translator": "the contributors", "language_team": lang, "msgid_bugs_address": "the issues page"}
        when = {"creation_date": now, "revision_date": now, "header_comment": f"# {path.stem}, in {lang}."}
        return Catalog(lang, project=path.stem, version="1", charset="utf-8", fuzzy=False, **who, **when)
    with path.open("rb") as file:
        return read_po(file, locale=lang)


def write_catalogue(path: Path, catalog: Catalog) -> None:
    """Write a catalogue as gettext's tools do, without line numbers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        write_po(file, catalog, width=0, ignore_obsolete=True, include_lineno=False, omit_header=False)


def finished(catalog: Catalog) -> dict[str, str]:
    """The translations that may be shown: neither empty nor fuzzy."""
    return {message.id: message.string for message in catalog if message.id and message.string and not message.fuzzy}


# ---------------------------------------------------------------- commands


def update(root: Path, langs: list[str]) -> None:
    """Bring the catalogues up to their sources; a changed paragraph keeps its old translation as a fuzzy one."""
    for lang in langs:
        for source in sources(root):
            path = catalogue_path(root, lang, source)
            catalog, fresh = read_catalogue(path, lang), template(source)
            known = {message.id for message in catalog if message.id}
            if known == {message.id for message in fresh if message.id} and path.is_file():
                continue
            catalog.update(fresh, no_fuzzy_matching=not known, update_creation_date=False)
            write_catalogue(path, catalog)


def built(root: Path, lang: str, source: Path) -> str:
    """What a built lesson or page must hold. Outputs are taken from the lesson as it is, where its code is the same."""
    words = finished(read_catalogue(catalogue_path(root, lang, source), lang))
    if source.suffix == ".md":
        return own_links(translated(source.read_text(encoding="utf-8"), words), lang)
    notebook, target = nbformat.read(source, as_version=4), root / "notebooks" / lang / source.name
    before = {}
    if target.is_file():
        before = {cell.id: cell for cell in nbformat.read(target, as_version=4).cells}
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = own_links(translated(cell.source, words), lang)
            continue
        if cell.id == "setup":
            cell.source = cell.source.replace(f'lang="{SOURCE}"', f'lang="{lang}"')
        old = before.get(cell.id)
        same = old is not None and old.get("source") == cell.source and old.cell_type == "code"
        cell.outputs, cell.execution_count = (old.outputs, old.execution_count) if same else ([], None)
    return nbformat.writes(notebook) + "\n"


def own_links(text: str, lang: str) -> str:
    """Links to the source language's files lead to this language's, and code asks for it."""
    return text.replace(f"/notebooks/{SOURCE}/", f"/notebooks/{lang}/").replace(f'lang="{SOURCE}"', f'lang="{lang}"')


def build(root: Path, langs: list[str]) -> None:
    """Write every page and lesson in these languages, from the source and the catalogues."""
    for lang in langs:
        for source in sources(root):
            target = root / "notebooks" / lang / source.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(built(root, lang, source), encoding="utf-8", newline="\n")


def misfits(message: Message) -> Iterator[str]:
    """What a translation does not keep of its source."""
    for kind, pattern in KEPT.items():
        texts = message.id, message.string.replace("{,}", ".")  # a formula's decimal comma
        want, got = (sorted(re.findall(pattern, text, re.MULTILINE | re.DOTALL)) for text in texts)
        if want != got:
            lost = [one for one in want if one not in got] or [one for one in got if one not in want] or want
            yield f"{kind} {lost[0]!r} differs"
    if message.string != unicodedata.normalize("NFC", message.string):
        yield "it is not in Unicode NFC"


def check(root: Path, langs: list[str]) -> list[str]:
    """Everything that keeps the languages from being one course, each with its place and what to do."""
    found = []
    for lang in langs:
        for source in sources(root):
            path = catalogue_path(root, lang, source)
            catalog, fresh = read_catalogue(path, lang), template(source)

            def say(message: Message, what: str, name=f"{lang}/{path.name}") -> None:
                place = message.locations[0][0] if message.locations else "?"
                found.append(f"{name}, {place}: {what}: {message.id[:60]!r}")

            for message in fresh:
                if message.id and message.id not in catalog:
                    say(message, "stale, the source has a new text; run make translations")
            for message in catalog:
                if not message.id:
                    continue
                if message.id not in fresh:
                    say(message, "stale, the source no longer has it; run make translations")
                elif not message.string:
                    say(message, "not translated")
                elif message.fuzzy:
                    say(message, "fuzzy, its source has changed; fix the translation and take the mark away")
                else:
                    for what in misfits(message):
                        say(message, what)
            target = root / "notebooks" / lang / source.name
            if not target.is_file() or target.read_text(encoding="utf-8") != built(root, lang, source):
                found.append(
                    f"notebooks/{lang}/{source.name} is not what its catalogue gives; run make translations, "
                    f"or python translations/sync.py adopt {lang} if it was edited by hand"
                )
    return found


def adopt(root: Path, lang: str) -> int:
    """Take the texts of notebooks/LANG into the catalogues; returns how many paragraphs changed."""
    changed = 0
    for source in sources(root):
        target = root / "notebooks" / lang / source.name
        if not target.is_file():
            continue
        path = catalogue_path(root, lang, source)
        catalog, theirs = read_catalogue(path, lang), dict(texts(target))
        catalog.update(template(source), no_fuzzy_matching=True, update_creation_date=False)
        for place, text in texts(source):
            if place not in theirs:
                raise SystemExit(
                    f"{place}: notebooks/{lang} has no such cell; put it back, for its text has no other home"
                )
            ours, other = ([b.strip("\n") for b in paragraphs(t) if b.strip()] for t in (text, theirs[place]))
            if len(ours) != len(other):
                raise SystemExit(
                    f"{place}: {len(other)} paragraphs in {lang}, {len(ours)} in {SOURCE}; "
                    "join or part them at blank lines until the numbers agree"
                )
            for block, words in zip(ours, other):
                words = words.replace(f"/notebooks/{lang}/", f"/notebooks/{SOURCE}/")
                words = words.replace(f'lang="{lang}"', f'lang="{SOURCE}"')
                message = catalog.get(block)
                if message is not None and words not in (block, message.string):
                    message.string = words
                    message.flags.discard("fuzzy")
                    changed += 1
        write_catalogue(path, catalog)
    return changed


def slug_of(root: Path) -> str:
    """The repository's owner/name."""
    return re.search(
        r"^repository-code: https://github\.com/(\S+)$", (root / "CITATION.cff").read_text(), re.MULTILINE
    )[1]


def set_slug(root: Path, slug: str) -> int:
    """Change the slug in every text file that git knows or would; returns in how many."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", slug):
        raise SystemExit(f"got {slug!r}; expected owner/name")
    command = ["git", "ls-files", "-z", "-co", "--exclude-standard"]
    known = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if known.returncode:
        raise SystemExit(f"{root} is no clone: {known.stderr.strip()}; take a clone of the repository")
    old, count = slug_of(root), 0
    for path in (root / name for name in known.stdout.split("\0")):
        if path.suffix in {".md", ".ipynb", ".po", ".cff", ".py", ".yml"} and path.is_file():
            text = path.read_text(encoding="utf-8")
            if old in text:
                path.write_text(text.replace(old, slug), encoding="utf-8", newline="\n")
                count += 1
    return count


def main(command: str = "", argument: str = "") -> None:
    """Carry out a command of the list above."""
    langs = languages(ROOT)
    if command == "update":
        update(ROOT, langs)
        build(ROOT, langs)
    elif command == "build":
        build(ROOT, langs)
    elif command == "check":
        found = check(ROOT, langs)
        sys.exit("\n".join(found) or None)
    elif command == "adopt" and argument:
        print(f"{adopt(ROOT, argument)} paragraphs taken into translations/{argument}")
        build(ROOT, [argument])
    elif command == "slug" and argument:
        print(f"changed in {set_slug(ROOT, argument)} files")
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(*sys.argv[1:])
