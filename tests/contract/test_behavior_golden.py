"""The ids of these events never change unnoticed: models were trained on them.

Run this file as a program to write the expected ids anew, after bumping FORMAT_VERSION.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shopintent.artifacts.products import product_from_json
from shopintent.behavior import BehaviorTokenizer, Event, Product, Vocabulary
from shopintent.behavior.codebook import ContentCodebook
from shopintent.behavior.tokenizer import FORMAT_VERSION

GOLDEN = Path(__file__).parents[1] / "golden" / "behavior"
CASES = sorted(path.stem for path in (GOLDEN / "cases").glob("*.json"))
REMEDY = (
    "The ids of events changed, so models trained before would misread them. If that is meant, "
    "bump FORMAT_VERSION in server/shopintent/behavior/tokenizer.py and run "
    "`python tests/contract/test_behavior_golden.py`; releases must then be trained again."
)


def read(name: str) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    return values


def golden_tokenizer() -> BehaviorTokenizer:
    """Returns the tokenizer of the goldens, as data and not by any code that fits one."""
    saved = read("tokenizer")
    return BehaviorTokenizer(
        event_types=Vocabulary(tuple(saved["event_types"])),
        products=Vocabulary(tuple(saved["products"])),
        categories=Vocabulary(tuple(saved["categories"])),
        brands=Vocabulary(tuple(saved["brands"])),
        codebook=ContentCodebook(np.array(saved["centroids"], dtype=np.float32)),
        price_edges=np.array(saved["price_edges"], dtype=np.float64),
        product_table=np.array(saved["product_table"], dtype=np.int32),
        max_events=saved["max_events"],
    )


def encoded_events(tokenizer: BehaviorTokenizer, case: dict[str, Any]) -> dict[str, Any]:
    """Returns the tokens of a case of events, and the window that the model reads."""
    behavior = tokenizer.encode(
        [Event(**event) for event in case["events"]],
        unseen_products=_rows(case["unseen_products"]),
        query_codes=_rows(case["query_codes"]),
    )
    window = tokenizer.window(behavior)
    return {
        "tokens": behavior.tokens.tolist(),
        "event_times": behavior.event_times.tolist(),
        "window_tokens": window.tokens.tolist(),
        "window_event_times": window.event_times.tolist(),
    }


def encoded_products(tokenizer: BehaviorTokenizer, case: dict[str, Any]) -> dict[str, Any]:
    """Returns what the product encoder reads for a case of products."""
    products: list[Product] = [product_from_json(each) for each in case["products"]]
    embeddings = np.array(case["text_embeddings"], dtype=np.float32)
    content = tokenizer.encode_content(products, embeddings)
    rows = zip(products, content, strict=True)
    return {"tokens": [tokenizer.encode_product(p.product_id, c).tolist() for p, c in rows]}


def encoded(tokenizer: BehaviorTokenizer, case: dict[str, Any]) -> dict[str, Any]:
    encode = encoded_events if "events" in case else encoded_products
    return encode(tokenizer, case)


def _rows(rows: dict[str, list[int]]) -> dict[str, np.ndarray[Any, np.dtype[np.int32]]]:
    return {key: np.array(row, dtype=np.int32) for key, row in rows.items()}


@pytest.mark.parametrize("name", CASES)
def test_the_ids_of_a_format_version_never_change(name: str) -> None:
    case = read(f"cases/{name}")
    assert encoded(golden_tokenizer(), case) == case["expected"], REMEDY


def test_the_fingerprint_of_a_format_version_never_changes() -> None:
    assert golden_tokenizer().fingerprint == read("tokenizer")["fingerprint"], REMEDY


def test_the_goldens_are_of_this_format_version() -> None:
    assert read("tokenizer")["format_version"] == FORMAT_VERSION, (
        "FORMAT_VERSION was bumped: run `python tests/contract/test_behavior_golden.py`"
    )


def test_there_are_goldens() -> None:
    assert len(CASES) >= 8


def main() -> None:
    """Writes every expected id anew; refuses to while FORMAT_VERSION is that of the goldens."""
    tokenizer, saved = golden_tokenizer(), read("tokenizer")
    cases = {name: read(f"cases/{name}") for name in CASES}
    wanted = {name: encoded(tokenizer, case) for name, case in cases.items()}
    changed = [name for name in CASES if cases[name].get("expected", wanted[name]) != wanted[name]]
    if changed and saved["format_version"] == FORMAT_VERSION:
        sys.exit(f"{', '.join(changed)}: {REMEDY}")
    for name, case in cases.items():
        _write(f"cases/{name}", {**case, "expected": wanted[name]})
    fresh = {"format_version": FORMAT_VERSION, "fingerprint": tokenizer.fingerprint}
    _write("tokenizer", {**saved, **fresh})


def _write(name: str, values: dict[str, Any]) -> None:
    """Writes JSON with each row of numbers on one line."""
    text = json.dumps(values, ensure_ascii=False, indent=2)
    text = re.sub(r"\[([-\d.,\s]+)\]", lambda row: f"[{' '.join(row[1].split())}]", text)
    (GOLDEN / f"{name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
