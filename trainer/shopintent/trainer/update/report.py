"""What an update was judged by, ready for report.html and metrics.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from shopintent.artifacts.metrics import MetricRow
from shopintent.trainer.data.prepared import Dataset
from shopintent.trainer.evaluation import bootstrap
from shopintent.trainer.evaluation.comparison import OURS
from shopintent.trainer.evaluation.evaluate import moment
from shopintent.trainer.evaluation.next_product import TIE_ORDER
from shopintent.trainer.evaluation.sections import Report
from shopintent.trainer.run import Run
from shopintent.trainer.update.config import UpdateConfig
from shopintent.trainer.update.serving import Serving
from shopintent.trainer.update.split import UpdateSplit
from shopintent.trainer.update.verdict import SERVING, table_values


def report_of(
    run: Run,
    serving: Serving,
    dataset: Dataset,
    split: UpdateSplit,
    config: UpdateConfig,
    rows: Sequence[MetricRow],
    told: Mapping[str, Any],
) -> Report:
    """Returns what the update's report.html and metrics.json say."""
    known, grown = serving.run.tokenizer, run.tokenizer
    return Report(
        title=f"Update of release {serving.release_id}",
        summary=f"The old slice are visits from {moment(split.old_cut)} on that the release was "
        f"published without having seen; the newest slice are those from {moment(split.cut_time)} "
        f'on. "{OURS}" is the update, "{SERVING}" the release; both answered the same requests.',
        protocol={
            "data": dataset.info.mapping,
            "shoppers": dataset.info.n_shoppers,
            "products": dataset.info.n_products,
            "events": dataset.info.n_events,
            "parent": serving.release_id,
            "split": "by time, unix seconds: learned up to old_cut, old slice up to new_from, "
            "new events up to validate_from, early stopping up to cut_time, newest slice",
            "old_cut": split.old_cut,
            "new_from": split.new_from,
            "validate_from": split.validate_from,
            "cut_time": split.cut_time,
            "new_products": len(grown.products.words) - len(known.products.words),
            "new_categories": len(grown.categories.words) - len(known.categories.words),
            "new_brands": len(grown.brands.words) - len(known.brands.words),
            "config": asdict(config),
            "judged": table_values(rows),
            "ties": TIE_ORDER,
            "intervals": bootstrap.describe(),
            **told,
        },
        rows=rows,
        history=run.info.history,
        best_epoch=run.info.best_epoch,
    )  # fmt: skip
