"""From a study's folder to the files of its report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compressrl import files
from compressrl.study import planning
from compressrl.study.report import page, reference, rendering, tables
from compressrl.study.report.page import Page
from compressrl.study.report.reference import Reference
from compressrl.study.store import REFERENCE, Store

PAGE = "report.html"


@dataclass(frozen=True)
class Written:
    """What `write` has written: `report.html`, `report.md` beside it, and `report_tables/NAME.csv`."""

    page: Page
    html: Path
    markdown: Path
    tables: tuple[Path, ...]

    def to_json(self) -> dict[str, Any]:
        """The paths, and the verdicts with their counts."""
        return {
            "html": str(self.html),
            "markdown": str(self.markdown),
            "tables": [str(path) for path in self.tables],
            "verdicts": [verdict.to_json() for verdict in self.page.verdicts],
        }


def write(folder: Path, out: Path | None = None) -> Written:
    """Write the report of a study from what is finished.

    out: the HTML page; default `report.html` in the folder. Markdown and CSV files stand beside it
    Raises UsageError where `folder` is no study, or `out` cannot be written.
    """
    store = Store(folder)
    study = store.study()
    html = out or folder / PAGE
    files.check_target(html, (".html",), "--out")
    published = folder / REFERENCE
    compared = reference.load(published) if published.exists() else Reference()
    made = page.build(study, planning.all_outcomes(store), compared)
    tables_folder = files.make_folder(html.with_name(f"{html.stem}_tables"))
    markdown, csv = html.with_suffix(".md"), {t.name: tables.to_csv(t) for t in made.all_tables}
    files.write_text_atomic(html, rendering.to_html(made))
    files.write_text_atomic(markdown, rendering.to_markdown(made))
    for name, text in csv.items():
        files.write_text_atomic(tables_folder / f"{name}.csv", text)
    return Written(made, html, markdown, tuple(tables_folder / f"{name}.csv" for name in csv))
