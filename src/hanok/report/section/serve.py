"""The server under test."""

from __future__ import annotations

from hanok.core.artifact import Artifact
from hanok.report.command import model_of
from hanok.report.figure.bars import bar_plot
from hanok.report.parts import Example, Figure, Section, Table, Words
from hanok.report.run import Run, read_json
from hanok.report.section import SECTIONS

WHAT = Words(
    "The final model behind the OpenAI API, asked by the official client over HTTP: streamed and whole answers "
    "must be "
    "equal, and the answers are timed, alone and several at once.",
    "마지막 모델을 OpenAI API로 띄우고 공식 클라이언트로 물었습니다. 스트리밍한 답과 한 번에 받은 답이 같아야 "
    "하며, 혼자일 때와 "
    "여럿이 물을 때의 시간을 쟀습니다.",
)
SHOWN = 4


@SECTIONS.register("serve")
def serve(run: Run, step: str, artifact: Artifact) -> Section:
    """Show the times to the first token and the speeds."""
    record = {**artifact.metrics, **read_json(artifact, "serve.json")}
    samples = record.get("samples", [])
    rows = [[s["prompt"], s["tokens"], 1000 * s["ttft"], s["tokens"] / max(s["seconds"], 1e-9)] for s in samples]
    times = [(f"request {number}", row[2], True) for number, row in enumerate(rows, 1)]
    speeds = [("one client", float(record.get("tokens_per_second", 0)), True)]
    speeds.append((f"{record.get('clients', '?')} clients", float(record.get("clients_tokens_per_second", 0)), True))
    plots = [
        bar_plot("serve-speed", Words("Tokens per second", "초당 토큰"), speeds, unit="tokens/s", form=",.0f"),
        bar_plot("serve-ttft", Words("Time to the first token", "첫 토큰까지의 시간"), times, unit="ms", form=".1f"),
    ]
    table = Table(("prompt", "tokens", "first token (ms)", "tokens/s"), rows)
    model = model_of(run, artifact)
    return Section(
        step,
        Words("Serving", "서빙"),
        WHAT,
        facts=[
            (Words("first token (median)", "첫 토큰 (중앙값)"), f"{record.get('ttft_ms', 0):.0f} ms"),
            (Words("address in the test", "시험한 주소"), str(record.get("url", "–"))),
        ],
        figures=[Figure("serve", tuple(plots if rows else plots[:1]), table)],
        examples=[Example("", s["prompt"], "", (("served", s["text"], None),)) for s in samples[:SHOWN]],
        commands=[f"hanok serve {model} --port 8000", f"hanok chat {model}"],
        origins=[run.origin(artifact)],
    )
