from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from datetime import datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest

from safs_ray.config import Configuration
from safs_ray.experiment.results import spread
from safs_ray.report import comparison, page
from safs_ray.report.groups import gain, grouped
from safs_ray.report.record import Record
from safs_ray.stages import write_classes
from safs_ray.storage import Folder

NOW = datetime(2026, 3, 1, 14, 5)
VOID = {"meta", "link", "br"}


class Parsed(HTMLParser):
    """Text, ids, references and tags of a page; fails where tags do not close as they were opened."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self._open.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("href", "src", "xlink:href"):
                self.links.append(value or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def rendered(record: Record) -> str:
    return page.render(record, page.figures(record), NOW)


@pytest.fixture(scope="session")
def whole(finished: Path) -> str:
    return rendered(Record.read(Folder.at(finished)))


def test_the_page_needs_nothing_else(whole: str) -> None:
    parsed = Parsed(whole)
    assert all(link.startswith(("#", "data:,")) for link in parsed.links)
    assert not {"script", "img", "iframe", "object"} & set(parsed.tags)
    assert not re.search(r"url\((?!#)|@import|https?://(?!www\.w3\.org)", whole)


def test_ids_are_unique_and_every_link_leads_somewhere(whole: str) -> None:
    parsed = Parsed(whole)
    assert len(parsed.ids) == len(set(parsed.ids))
    assert {link[1:] for link in parsed.links if link.startswith("#")} <= set(parsed.ids)


def test_the_table_and_what_won_stand_on_the_page(whole: str, record: Record) -> None:
    text = Parsed(whole).text
    for row in record.rows:
        assert f"{100 * row['test_accuracy']['mean']:.1f}" in text
        assert f"{row['nonzero_weights']:,}" in text
    for part in ("swish", "srs", "mean ± standard deviation of 2 folds", "95% interval", "Python 3, torch 2"):
        assert part in text
    assert f"python -m safs_ray.tune {record.folder}/config.yaml run.name=finished-again" in text
    assert "not finished" not in text


def test_every_figure_has_a_caption(whole: str) -> None:
    names = [
        "accuracy",
        "functions",
        "operators",
        "trajectories",
        "halving",
        "hyperparameters",
        "sparsity",
        "gradients",
    ]
    assert re.findall(r'<figure id="figure-(\w+)">', whole) == [*names, "cost"]
    assert len(re.findall(r"<figcaption><b>[^<]+\.</b> [^<]{60,}</figcaption>", whole)) == 9


def test_an_unfinished_run_shows_what_there_is(unfinished: Record) -> None:
    parsed = Parsed(rendered(unfinished))
    for part in (
        "not finished",
        "1 March 2026 at 14:05",
        "3 of 3 trials begun",
        "0 of 4 trainings done",
        "best so far",
    ):
        assert part in parsed.text
    assert {"figure-trajectories", "figure-functions", "figure-gradients", "figure-cost"} <= set(parsed.ids)


@pytest.mark.parametrize("gone", [("evaluations",), ("networks",)])
def test_whatever_is_missing_the_page_is_written(variant: Callable[..., Path], gone: tuple[str, ...]) -> None:
    record = Record.read(Folder.at(variant("part", gone)))
    assert "What it cost" in Parsed(rendered(record)).text


def test_a_run_that_has_hardly_begun_has_a_page(variant: Callable[..., Path]) -> None:
    record = Record.read(Folder.at(variant("new", ("networks", "evaluations", "results.json"))))
    text = Parsed(rendered(record)).text
    assert "not there yet" in text
    assert "Nothing is finished yet" in text


def test_recorded_results_have_a_page() -> None:
    record = Record.read(Folder.at(Path(__file__).parents[2] / "results/lenet5_mnist/global-joint-seed0"))
    text = Parsed(rendered(record)).text
    for part in ("93.7", "+5.6", "logsigmoid", "swish", "With one fold nothing is known of the uncertainty"):
        assert part in text


EVIL = "<script>alert('x')</script>"


@pytest.fixture
def evil(variant: Callable[..., Path], bare: Record) -> Path:
    """A run in which everything that a user may name is named with care."""
    assert bare.results is not None
    assert bare.classes == ""
    assignment = {f"{EVIL}&": {"operator": "relu", "alpha": 1.0, "beta": 1.0}}
    results = {**bare.results, "assignment": assignment}
    path = variant(
        "evil",
        ("networks",),
        results,
        data={"source": f"imagefolder:{EVIL}"},
        model={"weights": EVIL},
    )
    write_classes([EVIL, "cat"], Folder.at(path))
    return path.rename(path.with_name("<b>evil & co"))


def test_what_a_user_named_is_escaped(evil: Path) -> None:
    record = Record.read(Folder.at(evil))
    for html in (rendered(record), comparison.render(grouped([record]), comparison.figures(grouped([record])))):
        parsed = Parsed(html)
        assert not {"script", "b>evil"} & set(parsed.tags)
        assert EVIL not in html
        assert "<b>evil & co" in parsed.text
    assert f"are the classes 0 {EVIL}, 1 cat." in Parsed(rendered(record)).text


def test_pruners_that_were_tried_and_a_search_that_found_nothing_better_stand_on_the_page(
    variant: Callable[..., Path], record: Record
) -> None:
    assert record.results is not None
    tried = {
        "gradual": {"epochs": [5, 10], "validation_accuracy": [0.5, 0.75], "core_seconds": 1234.0},
        "erk": {"epochs": [5], "validation_accuracy": [0.25], "core_seconds": 5.0},
    }
    sweep = record.sweeps[-1]
    again = {name: {"validation_accuracy": spread([value]), "core_seconds": 1.0} for name, value in
             (("default", 0.5), (sweep.winner.name, 0.25))}  # fmt: skip
    results = {**record.results, "pruners": tried, "finalists": {sweep.name: again}}
    with_pruners = Record.read(Folder.at(variant("tried", (), results, pruning={"recipe": "auto", "epochs": 8})))
    text = Parsed(rendered(with_pruners)).text
    for part in ("Pruners tried", "50.0 (5 epochs), 75.0 (10 epochs)", "25.0 (5 epochs)", "1,234", "by recipe gradual"):
        assert part in text
    assert "The search found nothing surely better than the network's own activations" in text
    assert "the network's own" in text, "the default recipe is in the table of the trials"
    assert "Pruners tried" not in Parsed(rendered(record)).text


def test_the_page_says_what_the_sparsity_is_of(variant: Callable[..., Path], record: Record) -> None:
    assert "pruned to 90% sparsity by magnitude" in Parsed(rendered(record)).text
    filters = Record.read(Folder.at(variant("filters", (), pruning={"structure": "filters"})))
    assert "pruned to 90% sparsity of the filters by magnitude" in Parsed(rendered(filters)).text


def test_gains_are_paired_by_fold() -> None:
    row = {"test_accuracy": {"values": [0.5, 0.7]}}
    pruned = {"test_accuracy": {"values": [0.4, 0.5, 0.1]}}
    assert gain(row, pruned).mean == pytest.approx(0.15)


def test_only_what_differs_from_the_defaults_is_listed(record: Record) -> None:
    changed = {key: value for key, value, _ in page.changed(record.configuration)}
    assert changed["data.limit"] == "160"
    assert "run.name" not in changed
    assert "pruning.score" not in changed
    assert list(page.changed(Configuration())) == []


def test_groups_stand_side_by_side(record: Record, variant: Callable[..., Path]) -> None:
    others = [
        Record.read(Folder.at(variant(name, **keys)))
        for name, keys in (("again", {"run": {"seed": 1}}), ("shorter", {"search": {"epochs": 2}}))
    ]
    groups = grouped([record, *others])
    parsed = Parsed(comparison.render(groups, comparison.figures(groups)))
    assert [group.label for group in groups] == ["epochs 1", "epochs 2"]
    for part in ("3 runs in 2 groups", "epochs 1", "2 seeds", "1 run, 2 folds", "search.epochs", "again", "shorter"):
        assert part in parsed.text
    assert {"figure-groups", "figure-progress", "figure-found"} <= set(parsed.ids)
    assert len(parsed.ids) == len(set(parsed.ids))


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def opened(file: Path, width: int, profile: Path) -> Iterator[str]:
    """The DOM of a page that a browser has opened, and what it logged."""
    run = subprocess.run(
        [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}", "--dump-dom",
         "--enable-logging=stderr", f"--window-size={width},900", file.as_uri()],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    yield run.stdout
    yield run.stderr


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_a_browser_opens_it_without_complaint_and_nothing_sticks_out(whole: str, tmp_path: Path) -> None:
    told = (
        "document.title = [innerWidth, document.documentElement.scrollWidth, document.querySelectorAll('svg').length]"
    )
    (tmp_path / "page.html").write_text(whole.replace("</body>", f"<script>{told}</script></body>"))
    dom, log = opened(tmp_path / "page.html", 500, tmp_path / "profile")
    assert "CONSOLE" not in log
    inner, needed, drawings = map(int, re.findall(r"<title>(\d+),(\d+),(\d+)</title>", dom)[0])
    assert needed <= inner
    assert drawings == whole.count("<svg")
