"""A plan as a picture: SVG for pages, Mermaid for texts. Steps that may run at once stand side by side."""

from collections.abc import Iterator
from html import escape

from handfast.contracts.plan import GO_ON, Plan, Step

WIDTH, HEIGHT = 190, 58
GAP_X, GAP_Y, EDGE = 30, 56, 20
STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#1f2933}.tool{font-size:11px;fill:#52606d}"
    "rect{fill:#f5f7fa;stroke:#3e4c59;rx:8}.spare rect{stroke-dasharray:5 4}"
    "path{fill:none;stroke:#3e4c59;stroke-width:1.4}marker path{fill:#3e4c59}.spare{stroke-dasharray:5 4}"
    "@media(prefers-color-scheme:dark){text{fill:#e4e7eb}.tool{fill:#9aa5b1}rect{fill:#1f2933;stroke:#9aa5b1}path{stroke:#9aa5b1}"
    "marker path{fill:#9aa5b1}}"
)
TIP = (
    '<defs><marker id="tip" markerWidth="9" markerHeight="9" refX="8" refY="4" orient="auto">'
    '<path d="M0 0 L8 4 L0 8 z"/></marker></defs>'
)


def as_mermaid(plan: Plan) -> str:
    """The plan as a Mermaid flowchart."""
    lines = ["flowchart TD"]
    for name, step in plan.steps.items():
        told = "<br>".join(_mermaid_text(line) for line in (name, *_told(step)))
        lines.append(f'    {name}["{told}"]')
    for before, after, spare in _arrows(plan):
        lines.append(f"    {before} {'-. if it fails .->' if spare else '-->'} {after}")
    return "\n".join(lines) + "\n"


def as_svg(plan: Plan) -> str:
    """The plan as an SVG image, which follows the page's light or dark colours."""
    rows = _rows(plan)
    widest = max(len(row) for row in rows)
    width = 2 * EDGE + widest * WIDTH + (widest - 1) * GAP_X
    height = 2 * EDGE + len(rows) * HEIGHT + (len(rows) - 1) * GAP_Y
    places = {
        name: (
            (width - len(row) * WIDTH - (len(row) - 1) * GAP_X) // 2 + column * (WIDTH + GAP_X),
            EDGE + number * (HEIGHT + GAP_Y),
        )
        for number, row in enumerate(rows)
        for column, name in enumerate(row)
    }
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">',
        f"<title>{escape(plan.description or plan.name)}</title><style>{STYLE}</style>",
        TIP,
    ]
    for before, after, spare in _arrows(plan):
        (x1, y1), (x2, y2) = places[before], places[after]
        start, end = x1 + WIDTH // 2, x2 + WIDTH // 2
        bend = (y2 - y1 - HEIGHT) // 2
        curve = f"M{start} {y1 + HEIGHT} C{start} {y1 + HEIGHT + bend} {end} {y2 - bend} {end} {y2 - 2}"
        parts.append(f'<path d="{curve}" marker-end="url(#tip)"{_class(spare=spare)}/>')
    for name, (x, y) in places.items():
        first, *more = (name, *_told(plan.steps[name]))
        lines = [f'<text x="{x + 12}" y="{y + 19}">{escape(first)}</text>']
        lines += [
            f'<text class="tool" x="{x + 12}" y="{y + 35 + 14 * number}">{escape(_short(line))}</text>'
            for number, line in enumerate(more[:2])
        ]
        box = f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}"/>'
        parts.append(f"<g{_class(spare=name in plan.owners)}>{box}{''.join(lines)}</g>")
    return "\n".join([*parts, "</svg>"]) + "\n"


def _rows(plan: Plan) -> list[list[str]]:
    """The steps from top to bottom: each below everything it waits for."""
    depth: dict[str, int] = {}

    def of(name: str) -> int:
        if name not in depth:
            above = [one for one, after, _ in _arrows(plan) if after == name]
            depth[name] = 1 + max((of(one) for one in above), default=-1)
        return depth[name]

    rows: list[list[str]] = []
    for name in plan.steps:
        while len(rows) <= of(name):
            rows.append([])
        rows[of(name)].append(name)
    return rows


def _arrows(plan: Plan) -> Iterator[tuple[str, str, bool]]:
    """(before, after, only if the first one fails)."""
    for name, step in plan.steps.items():
        for other in sorted(step.after):
            yield other, name, False
        if step.instead:
            yield name, step.instead, True


def _told(step: Step) -> list[str]:
    """What is said of a step below its name."""
    tools = " or ".join(way.called for way in step.ways)
    notes = [f"when {step.when}"] if step.when else []
    notes += [f"for each of {step.for_each.strip('${}')}"] if step.for_each else []
    notes += ["may fail"] if step.on_failure == GO_ON else []
    return [tools, *([", ".join(notes)] if notes else [])]


def _short(text: str) -> str:
    return text if len(text) <= 27 else f"{text[:26]}…"


def _class(*, spare: bool) -> str:
    return ' class="spare"' if spare else ""


def _mermaid_text(text: str) -> str:
    """What stands in quotes in Mermaid: its own marks as entities."""
    return text.replace("&", "&amp;").replace('"', "#quot;").replace("<", "&lt;").replace(">", "&gt;")
