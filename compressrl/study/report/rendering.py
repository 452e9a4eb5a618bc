"""The page as HTML and as Markdown."""

from __future__ import annotations

from importlib.resources import files

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from compressrl.study.report import svg, tables
from compressrl.study.report.page import Page
from compressrl.study.report.verdicts import Count


def count_text(count: Count) -> str:
    """`62 % of 9 policies (95 %: 35 % to 84 %); claimed: most`."""
    claimed = count.claimed if isinstance(count.claimed, str) else f"{count.claimed:.0%}"
    if count.share is None:
        return f"{_first_up(count.says)}: no cell can tell yet; claimed: {claimed}."
    interval = f" (95 %: {tables.interval(count.ci95, '.0%')})" if count.ci95 else ""
    energy = f", energy {count.energy}" if count.energy else ""
    ours = f"ours {count.share:.0%}{interval}, n = {count.policies}{energy}"
    return f"{_first_up(count.says)}: {ours}; claimed: {claimed}."


def _first_up(text: str) -> str:
    return text[:1].upper() + text[1:]


def to_html(page: Page) -> str:
    """One self-contained file: no font, script, style or picture from elsewhere."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    here = files("compressrl.study.report")
    template = environment.from_string((here / "page.html").read_text())
    return template.render(
        page=page,
        style=Markup((here / "page.css").read_text()),
        script=Markup((here / "page.js").read_text()),
        colours=svg.COLOURS,
        swatch=lambda series: svg.symbol(series, 7, 7, 5),
        count_text=count_text,
        number_of=lambda figure: page.figures.index(figure) + 1,
    )


def to_markdown(page: Page) -> str:
    """The texts, verdicts and tables; of the figures, their texts and those in numbers."""
    lines = [f"# {page.title}", "", page.lead, ""]
    for section in page.sections:
        lines += [f"## {section.title}", ""]
        lines += [line for paragraph in section.paragraphs for line in (paragraph, "")]
        lines += [*(f"* {fact}" for fact in section.facts), ""] if section.facts else []
        for verdict in section.verdicts:
            lines += [f"**{verdict.answer}**: “{verdict.claim}”", ""]
            lines += [*(f"* {count_text(count)} → {count.answer}" for count in verdict.counts), ""]
        lines += [tables.to_markdown(table) for table in section.tables]
        for figure in section.figures:
            lines += [f"**Figure {page.figures.index(figure) + 1}: {figure.title}.** {figure.text}", ""]
            lines += [tables.to_markdown(figure.table)] if figure.in_numbers else []
    return "\n".join([*lines, page.footer]).rstrip() + "\n"
