"""`make bench`: every system side by side on one server in one run; a table, and a picture of how history grows."""

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.measure import SYSTEMS, TURNS
from benchmarks.picture import draw
from benchmarks.recovery import recovery_seconds
from handfast.engine.embedded import EmbeddedEngine

ROOT = Path(__file__).parents[1]
OUT = ROOT / "out"
ROUNDS = 3
"""Each system is measured so often, in turn, so that a slow minute of the machine hits all of them."""
BASE = "hand-written, sandboxed"
HISTORY = ("handfast, KEYED", "pydantic-ai", "openai-agents")


def measure(name: str, what: str, address: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.measure", name, what, address]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-3000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def import_seconds() -> float:
    """`import handfast` with bytecode, the median of seven fresh interpreters, less the interpreter's own start."""

    def took(code: str) -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        return time.perf_counter() - began

    return statistics.median(took("import handfast") - took("pass") for _ in range(7))


async def main() -> None:
    OUT.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        async with EmbeddedEngine(Path(folder)) as embedded:
            address = embedded.engine.address
            rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in SYSTEMS}
            for _ in range(ROUNDS):
                for name in SYSTEMS:
                    rounds[name].append(await asyncio.to_thread(measure, name, "speed", address))
            sizes = {name: (await asyncio.to_thread(measure, name, "history", address))["sizes"] for name in HISTORY}
            recovered = [await recovery_seconds(address) for _ in range(ROUNDS)]
    report = {"speed": rounds, "history": sizes, "recovery": recovered, "import": import_seconds()}
    (OUT / "bench.json").write_text(json.dumps(report))
    (OUT / "history.svg").write_text(draw(sizes))
    show(report)


def show(report: dict[str, Any]) -> None:
    median = {
        name: {key: statistics.median(one[key] for one in found) for key in found[0]}
        for name, found in report["speed"].items()
    }
    base = median[BASE]
    print(f"10 turns of one tool call with a 2 KB result, medians of {ROUNDS} rounds; ratios to {BASE}")
    print(
        f"{'':30}{'ms a run':>10}{'':8}{'runs/s, 20 at once':>20}{'':8}{'ms a call then':>16}{'':8}{'CPU ms a run':>14}{'peak MB':>9}"
    )
    for name, one in median.items():
        ratios = [f"{one[key] / base[key]:.2f}x" for key in ("latency_ms", "runs_per_second", "call_ms", "rss_mb")]
        print(
            f"{name:30}{one['latency_ms']:10.0f}{ratios[0]:>8}{one['runs_per_second']:20.1f}{ratios[1]:>8}"
            f"{one['call_ms']:16.1f}{ratios[2]:>8}{one['cpu_ms']:14.0f}{one['rss_mb']:9.0f}{ratios[3]:>8}"
        )
    activity_ms = base["latency_ms"] / (2 * TURNS + 1)
    print(
        f"\nreserve and settle of a call, ms, and as a share of a hand-written activity ({activity_ms:.1f}, {base['call_ms']:.1f} ms)"
    )
    for name, one in median.items():
        if one["protocol_ms"]:
            alone, at_once = one["protocol_ms"], one["protocol_at_once_ms"]
            print(
                f"{name:30}one run at a time {alone:5.2f}{alone / activity_ms:7.0%}    "
                f"20 at once {at_once:5.2f}{at_once / base['call_ms']:7.0%}"
            )
    print("\nhistory, bytes")
    for name, sizes in report["history"].items():
        last = len(sizes) - 1
        growth = (sizes[last - 1] - sizes[last - 11]) / 10
        print(
            f"{name:28}{sizes[-1]:>12,} in {last} turns; a turn at the beginning {sizes[1] - sizes[0]:,}, at the end {growth:,.0f}"
        )
    print(
        f"\nrecovery after SIGKILL of the only worker: {statistics.median(report['recovery']):.1f} s to the next settled step"
    )
    print(f"import handfast: {report['import']:.2f} s")
    print(f"picture: {OUT / 'history.svg'}")


if __name__ == "__main__":
    asyncio.run(main())
