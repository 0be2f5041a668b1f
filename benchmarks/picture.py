"""A line chart as SVG: how Temporal's history grows with the turns of a run."""

from collections.abc import Mapping, Sequence

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 760, 400, 70, 50, 40, 150
COLOURS = ("#0b7285", "#e8590c", "#862e9c", "#495057")


def draw(sizes: Mapping[str, Sequence[int]]) -> str:
    """Bytes of history by turn, one line a system; both axes linear, so that growth shows as it is."""
    turns = max(len(one) for one in sizes.values())
    most = max(max(one) for one in sizes.values())
    across, up = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def point(turn: int, size: int) -> tuple[float, float]:
        return LEFT + across * turn / turns, TOP + up * (1 - size / most)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="22" font-size="15">Temporal history of one run, 2 KB tool results</text>',
    ]
    for step in range(5):
        x, y = point(turns * step // 4, most * step // 4)
        parts.append(f'<line x1="{LEFT}" x2="{LEFT + across}" y1="{y:.0f}" y2="{y:.0f}" stroke="#dee2e6"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.0f}" text-anchor="end">{most * step / 4 / 1e6:.1f} MB</text>')
        parts.append(f'<text x="{x:.0f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{turns * step // 4}</text>')
    parts.append(f'<text x="{LEFT + across / 2:.0f}" y="{HEIGHT - 10}" text-anchor="middle">turns</text>')
    for (name, one), colour in zip(sizes.items(), COLOURS, strict=False):
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in (point(turn, size) for turn, size in enumerate(one)))
        x, y = point(len(one) - 1, one[-1])
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2.5"/>')
        parts.append(f'<text x="{x + 6:.0f}" y="{y + 4:.0f}" fill="{colour}">{name}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"
