"""The project's words: standard terms in identifiers, American spelling in code, JSON and docs.

Each test lists its offenders as `file:line name → better`. The words and their reasons:
docs/design.md, "Glossary".
"""

from __future__ import annotations

import builtins
import io
import re
import tokenize
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from tokenize import NAME

import pytest

ROOT = Path(__file__).parents[1]
CODE = ("app", "model", "training", "tests")

# A part of an identifier (`look_again` has the parts look, again) → what it should be.
PARTS = {
    "admits": "accepts",
    "album": "previews",
    "asked": "requested",
    "chosen": "selected",
    "doubt": "noise_threshold, warning",
    "doubts": "warnings",
    "flights": "single_flight",
    "found": "result, matches",
    "heir": "replacement",
    "judged": "evaluated",
    "knots": "control_points",
    "learnt": "trained_on",
    "mend": "repair, fix",
    "misspelled": "unknown_settings",
    "misspelt": "unknown_settings",
    "office": "job_service",
    "passport": "metadata",
    "placing": "grid_crs",
    "said": "reported, text",
    "say": "log, report",
    "spent": "timings",
    "tally": "totals",
    "unanswered": "api_error",
    "urgency": "priority",
    "wish": "request",
    "workshop": "worker_context",
}
# The same, in the rooms of the service and of training alone: elsewhere the word may be right.
ROOM_PARTS = {
    ("app", "tests/app", "tests/world", "tests/benchmarks"): {
        "ahead": "prefetch",
        "away": "unavailable",
        "beyond": "outside",
        "framed": "encoded",
        "holds": "contains",
        "knows": "is_loaded",
        "patience": "retry_policy, timeout",
        "unframed": "decoded",
    },
    ("training", "tests/training"): {
        "begin": "init_from",
        "dormant": "leaf_off",
        "learned": "trained_on",
        "radiometry": "photometric",
        "soften": "blur",
    },
}
# A whole identifier → what it should be.
NAMES = {
    "Access": "Authenticator",
    "Address": "SignedRequest",
    "Again": "TransientError",
    "Cogs": "UrlListCatalog",
    "Deferred": "LazyCatalog",
    "Exchange": "RangeRequest",
    "Facts": "ImageHeader",
    "Frame": "OutputGrid",
    "Lattice": "PixelGrid",
    "Listed": "InMemoryCatalog",
    "Look": "Preview",
    "MadeScene": "SyntheticScene",
    "Problem": "SkippedFile",
    "Refused": "UnsupportedImage",
    "Segments": "RangeCache",
    "Traffic": "TransferStats",
    "When": "TemporalFilter",
    "computed_once": "compute_once",
    "drive": "dispatch",
    "goes_on": "resumable",
    "look_again": "refresh",
    "made_share": "synthetic_share",
    "most_of": "mode_with_tiebreak",
    "patient": "background",
    "read_mapped": "read_resampled",
}
# Words of the viewer that mean something else there: RFC 9457's problem is an error message.
VIEWER_MAY = {"Problem"}
# Local variables of tests; a farm's drive and the look of its fields.
TESTS_MAY = {"found"}
SYNTHETIC_MAY = {"drive", "Look"}

# A British word, or its beginning → the American one.
BRITISH = {
    r"\w*colour": "color",
    r"greys?|greyscale|greyish": "gray",
    r"(?:\w*[^aeiou])?metres?|kilometres?|millimetres?": "meter",
    r"centres?|centred|centring": "center",
    r"neighbour\w*": "neighbor",
    r"(?:un)?labell\w+": "labeled",
    r"(?:cancell|modell|travell|levell|signall|channell)(?:ed|ing|er|ers)": "canceled, modeling …",
    r"\w+(?:al|im|an|in|er|on|or|ar|ci|il|pt)is(?:e|es|ed|ing|ation|er)": "-ize",
    r"analys(?:e|es|ed|ing)": "analyze",
    r"artefacts?": "artifact",
    r"catalogu\w+": "catalog",
    r"licences?|unlicenced": "license",
    r"(?:behavi|fav|hon|rum|harb)our\w*": "-or",
    r"defences?|offences?": "defense",
    r"judgements?": "judgment",
    r"learnt|spelt|misspelt|spoilt": "-ed",
    r"programmes?": "program",
    r"fibres?|litres?|theatres?": "-er",
    r"whilst|amongst": "while, among",
    r"grey\w*": "gray",
}
# English words that end like British ones, and names that belong to others.
AMERICAN = re.compile(
    r"(?i)(?:prom|prec|comprom|conc|exerc|superv|telev|adv|dev|rev|surm|surpr|enterpr|franch|"
    r"l|no|po|ra|pra|w|otherw|likew|clockw|pa|to|no|cho|chem|dis|mortg|para|expert|treat|"
    r"rem|pairw|elementw|pixelw|blockw|roww|prem|anonym)is(?:e|es|ed|ing|er)|"
    r"cancell(?:ed|ing|ation).*|likewise|pixelwise\w*|raise[ds]?|noise\w*"
)
# (file, word): old spellings that old links, model files and changelogs still use.
MAY = {
    ("app/viewer/choice.js", "colours"),
    ("model/card.py", "licence"),
    ("training/export/artifact.py", "licence"),
    ("training/artifact.py", "licence"),
}

# Turns of phrase of the docs, the map and the command line that were rewritten.
PHRASES = {
    r"\bper cent\b": "percent",
    r"\bends with 1\b": "exits with status 1",
    r"\bNOT WELL\b": "FAILED",
    r"\bwas kept\b|\bis kept\b(?= under)": "is cached",
    r"\bjudged\b": "evaluated, tested",
    r"\blearnt\b|\blearned from\b": "trained on",
    r"\bgo(?:es)? on with\b": "resume",
    r"\bmade[- ](?:up|county|town|world|ground)": "synthetic, fictional",
    r"\bis away\b|\bare away\b": "is unavailable",
    r"\bits heir\b": "its replacement",
    r"\bpassport\b": "metadata",
    r"\bof a place that is not\b": "of a fictional county",
    r"\bgoals?\b": "leave the project's own goals out",
}


def _folders() -> list[str]:
    """Return every room with code of this project, relative to the root."""
    files = [path for top in CODE for path in (ROOT / top).rglob("*.py")]
    files += (ROOT / "app" / "viewer").glob("*.js")
    return sorted({path.parent.relative_to(ROOT).as_posix() for path in files})


@cache
def _names(folder: str) -> list[tuple[str, int, str]]:
    """Return (file, line, identifier) of a room: Python names, and words of the viewer's code."""
    names = []
    for path in sorted((ROOT / folder).glob("*.py")):
        file = path.relative_to(ROOT).as_posix()
        tokens = tokenize.generate_tokens(io.StringIO(path.read_text()).readline)
        names += [(file, each.start[0], each.string) for each in tokens if each.type == NAME]
    for path in sorted((ROOT / folder).glob("*.js")):
        file = path.relative_to(ROOT).as_posix()
        for number, line in enumerate(_code_of(path.read_text()).splitlines(), 1):
            names += [(file, number, name) for name in re.findall(r"[A-Za-z_$][\w$]*", line)]
    return names


def _code_of(script: str) -> str:
    """Return JavaScript without comments and the text of strings; line breaks stay."""

    def blank(match: re.Match[str]) -> str:
        code = re.findall(r"\$\{[^}]*\}", match[0]) if match[0].startswith("`") else []
        return " ".join(code) + "\n" * match[0].count("\n")

    pattern = r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`"
    return re.sub(pattern, blank, script, flags=re.DOTALL)


def _parts(name: str) -> list[str]:
    """Return the words of an identifier in lower case: `look_again`, `lookAgain` → look, again."""
    return [part.lower() for part in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)]


def _may(folder: str) -> set[str]:
    """Return the words of NAMES and PARTS that are right in a room."""
    if folder == "app/viewer":
        return VIEWER_MAY
    if folder in ("app/demo", "training/synthetic"):
        return SYNTHETIC_MAY
    return TESTS_MAY if folder.startswith("tests") else set()


def _better(name: str, folder: str = "") -> str | None:
    """Return what an identifier of a room should be called instead, or None if it is fine."""
    if name in NAMES:
        return NAMES[name]
    if hasattr(builtins, name) or name.startswith("test_"):
        return None  # a test's name is a sentence
    words = dict(PARTS)
    for rooms, more in ROOM_PARTS.items():
        words |= more if folder.startswith(rooms) else {}
    parts = _parts(name)
    for previous, part in zip(["", *parts], parts, strict=False):
        if part in words and (previous, part) != ("not", "found"):
            return words[part]
    return None


@cache
def _american(word: str) -> str | None:
    """Return the American spelling of a British word, or None."""
    if AMERICAN.fullmatch(word):
        return None
    for british, american in BRITISH.items():
        if re.fullmatch(british, word, re.IGNORECASE):
            return american
    return None


def _report(offenders: Iterable[tuple[str, int, str, str]]) -> str:
    return "\n".join(f"{file}:{line} {name} → {better}" for file, line, name, better in offenders)


@pytest.mark.parametrize("folder", _folders())
def test_identifiers_are_terms_of_the_field(folder: str) -> None:
    offenders = [
        (file, line, name, better)
        for file, line, name in _names(folder)
        if name not in _may(folder) and file != "tests/test_glossary.py"
        if (better := _better(name, folder))
    ]
    assert not offenders, f"{len(offenders)} old words\n{_report(offenders)}"


@pytest.mark.parametrize("folder", _folders())
def test_identifiers_are_in_american_spelling(folder: str) -> None:
    offenders = [
        (file, line, name, better)
        for file, line, name in _names(folder)
        for part in _parts(name)
        if (better := _american(part))
        if (file, part) not in MAY
    ]
    assert not offenders, f"{len(offenders)} British words\n{_report(offenders)}"


@pytest.mark.parametrize("folder", _folders())
def test_keys_and_texts_are_in_american_spelling(folder: str) -> None:
    """Strings and comments of the code: JSON keys, messages, help texts, docstrings."""
    offenders = []
    for path in sorted([*(ROOT / folder).glob("*.py"), *(ROOT / folder).glob("*.js")]):
        file = path.relative_to(ROOT).as_posix()
        if file == "tests/test_glossary.py":
            continue
        offenders += _british(file, path.read_text())
    assert not offenders, f"{len(offenders)} British words\n{_report(offenders)}"


def _british(file: str, text: str) -> list[tuple[str, int, str, str]]:
    """Return (file, line, word, American word) of a text."""
    return [
        (file, number, word, better)
        for number, line in enumerate(text.splitlines(), 1)
        for word in re.findall(r"[A-Za-z]+", line)
        for part in (_parts(word) or [word])
        if (better := _american(part))
        if (file, part) not in MAY
    ]


PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_are_in_plain_american_english(page: Path) -> None:
    text = page.read_text()
    if page.name == "CHANGELOG.md":
        text = re.sub(r"`[^`\n]*`", "", text)  # it names what was renamed
    offenders = _british(page.name, text) + _old_phrases(page.name, text)
    assert not offenders, _report(offenders)


@pytest.mark.parametrize("folder", ["app/viewer", "app/cli", "app/routes", "app"])
def test_texts_for_people_are_in_plain_american_english(folder: str) -> None:
    offenders = []
    for path in sorted((ROOT / folder).iterdir()):
        if path.suffix in (".py", ".js", ".html"):
            offenders += _old_phrases(path.relative_to(ROOT).as_posix(), path.read_text())
    assert not offenders, _report(offenders)


def _old_phrases(file: str, text: str) -> list[tuple[str, int, str, str]]:
    return [
        (file, number, match[0], better)
        for number, line in enumerate(text.splitlines(), 1)
        for phrase, better in PHRASES.items()
        for match in re.finditer(phrase, line, re.IGNORECASE)
    ]


@pytest.mark.parametrize(
    ("name", "old"),
    [
        ("asked", True),
        ("_tile_asked", True),
        ("TileAsked", True),
        ("FoundScene", True),
        ("Listed", True),
        ("not_found", False),
        ("FileNotFoundError", False),
        ("listed", False),
        ("essay", False),
        ("wishbone", False),
    ],
)
def test_words_are_matched_whole_and_in_parts_of_identifiers(name: str, old: bool) -> None:
    assert (_better(name) is not None) == old


@pytest.mark.parametrize(
    ("word", "british"),
    [
        ("colour", True), ("normalise", True), ("rasterisation", True), ("metres", True),
        ("grey", True), ("catalogue", True), ("optimiser", True), ("labelled", True),
        ("color", False), ("promise", False), ("noise", False), ("raise", False),
        ("otherwise", False), ("precise", False), ("cancelled", False), ("parameter", False),
        ("symmetries", False), ("geometries", False), ("likewise", False), ("basis", False),
    ],
)  # fmt: skip
def test_british_spelling_is_told_from_american(word: str, british: bool) -> None:
    assert (_american(word) is not None) == british
