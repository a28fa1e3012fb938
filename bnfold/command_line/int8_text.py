"""Where folding makes weights worse as int8, as text: one line for each way to quantize them."""

from collections.abc import Iterator

from bnfold.reports.report import Report
from bnfold.reports.weights import Int8Record
from bnfold.rules.int8 import NOTABLE, change


def int8_lines(report: Report) -> Iterator[str]:
    """Tell how many weights lose more than 3 dB, the worst of them, and what to do."""
    advice = {
        "per_tensor": "quantize per channel",
        "per_channel": "--for-quantization leaves what costs that much",
    }
    known = [(weight, weight.before) for weight in report.weights or () if weight.before]
    for how, what in advice.items():
        ratios = [(_ratio(before, how), _ratio(w.after, how), w.node) for w, before in known]
        bad = [ratio for ratio in ratios if ratio[0] - ratio[1] > NOTABLE]
        if not bad:
            continue
        before, after, node = max(bad, key=lambda ratio: ratio[0] - ratio[1])
        number = len(report.weights or ())
        yield (
            f"as int8 {how.replace('_', ' ')}, {len(bad)} of {number} weight{'s' * (number > 1)} "
            f"{'loses' if len(bad) == 1 else 'lose'} over {NOTABLE:g} dB by folding, most "
            f"{node} ({change(before, after)}): {what}"
        )


def _ratio(record: Int8Record, how: str) -> float:
    return record.per_tensor if how == "per_tensor" else record.per_channel
