"""Publishing: a whole release or nothing, never over another one, and never a wrong graph."""

from __future__ import annotations

import shutil
from copy import deepcopy
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch

from shopintent.artifacts import Manifest, ReleasesRoot, layout, read_products
from shopintent.artifacts.golden import mismatches, read_golden
from shopintent.artifacts.integrity import verify_release
from shopintent.artifacts.manifest import Calibration, DataWindow
from shopintent.artifacts.metrics import Gate, MetricRow
from shopintent.artifacts.remote_routing import pull_routing, read_remote_routing
from shopintent.artifacts.signature import OPTIONAL_ANSWERS
from shopintent.behavior import BehaviorTokenizer
from shopintent.behavior.vocabulary import UNKNOWN
from shopintent.trainer import publish as publishing
from shopintent.trainer.data.progress import silent
from shopintent.trainer.export import (
    MODEL_FILE,
    MODEL_VERSION,
    ServedIntent,
    intent_signature,
)
from shopintent.trainer.golden import ASKED_AFTER_S, N_GOLDEN
from shopintent.trainer.predict import predict
from shopintent.trainer.publish import (
    PublishError,
    check_export,
    new_release_id,
    publish,
    publish_to_url,
)
from shopintent.trainer.publish_report import gates
from shopintent.trainer.run import Run
from shopintent.trainer.splits import known_before
from shopintent.trainer.text import TextEncoder
from shopintent.trainer.training_data import Inputs, load_catalog, load_inputs
from support.trained import RELEASE, Trained

pytestmark = pytest.mark.releases


@pytest.fixture
def quick_export(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies the graphs of the release that is there instead of exporting them again."""
    there = trained.releases.model_repository

    def export_models(run: Run, release_id: str, repository: Path) -> list[Path]:
        names = (layout.intent_model, layout.text_encoder_model, layout.product_encoder_model)
        return [
            shutil.copytree(there / name(RELEASE), repository / name(release_id)) for name in names
        ]

    monkeypatch.setattr(publishing, "export_models", export_models)


@pytest.fixture(scope="module")
def inputs(trained: Trained) -> Inputs:
    run = trained.run
    catalog = load_catalog(trained.dataset, known_before(run.info.cut_time))
    encoder = TextEncoder.open(run.folder)
    return load_inputs(trained.dataset, run.tokenizer, encoder, catalog, run.info.actions, silent)


def everything_in(root: Path) -> list[str]:
    """Returns every file under the root, hidden ones too, but for locks."""
    found = (str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
    return sorted(each for each in found if not each.endswith(".lock"))


def test_a_release_is_whole_and_current(trained: Trained) -> None:
    root = trained.releases
    assert root.current() == RELEASE
    assert root.release_ids() == [RELEASE]
    folder = root.release(RELEASE)
    manifest = Manifest.load(folder.manifest)
    assert manifest.release_id == RELEASE
    assert manifest.behavior_fingerprint == trained.run.tokenizer.fingerprint
    assert BehaviorTokenizer.load(folder.behavior_tokenizer).fingerprint == (
        manifest.behavior_fingerprint
    )
    assert manifest.actions == trained.run.info.actions
    assert manifest.horizons_s == trained.run.info.horizons_s
    assert manifest.answers == trained.run.heads.answers == OPTIONAL_ANSWERS
    assert manifest.embedding_size == trained.run.info.model.d_model
    assert manifest.max_text_tokens == trained.run.info.config.max_text_tokens
    assert manifest.session_gap_s == trained.dataset.info.session_gap_s
    assert folder.text_tokenizer.is_file()
    assert not [path for path in everything_in(root.path) if path.startswith(".")]


def test_the_collection_is_the_catalog_most_popular_first(trained: Trained) -> None:
    folder = trained.releases.release(RELEASE)
    manifest = Manifest.load(folder.manifest)
    products = list(read_products(folder))
    assert manifest.n_products == len(products) == trained.dataset.info.n_products
    assert {p.product.product_id: p.product for p in products} == {
        each.product_id: each for each in trained.dataset.products()
    }
    assert list(manifest.popularity) == sorted(manifest.popularity, reverse=True)
    week = trained.run.info.cut_time - 604_800
    seen = trained.dataset.events().collect()
    for product, expected in list(zip(products, manifest.popularity, strict=True))[:10]:
        times = seen.filter(seen["product_id"] == product.product.product_id)["event_time"]
        assert times.is_between(week, trained.run.info.cut_time, closed="left").sum() == expected


def test_products_carry_their_embedding_and_content(trained: Trained, inputs: Inputs) -> None:
    tokenizer, network = trained.run.tokenizer, trained.run.network
    products = list(read_products(trained.releases.release(RELEASE)))
    known = 0
    for row, indexed in enumerate(products):
        content = inputs.content[row]
        token = tokenizer.products.lookup(indexed.product.product_id)
        if token != UNKNOWN:
            known += 1
            assert np.array_equal(content, tokenizer.product_table[token])
        assert np.array_equal(indexed.content, content)
        tokens = torch.tensor(tokenizer.encode_product(indexed.product.product_id, content))
        with torch.no_grad():
            embedding = network.products(tokens, torch.tensor(inputs.text_embeddings[row]))
        assert indexed.embedding == pytest.approx(embedding.numpy(), abs=1e-5)
    assert 0 < known < len(products)


@pytest.mark.usefixtures("quick_export")
def test_the_first_release_serves_and_another_only_when_promoted(
    trained: Trained, tmp_path: Path
) -> None:
    root = ReleasesRoot(tmp_path / "releases")
    first = publish(trained.run, trained.dataset, root, "first", silent)
    second = publish(trained.run, trained.dataset, root, "second", silent)
    assert (first.serving, second.serving, root.current()) == (True, False, "first")
    assert (first.manifest.parent, second.manifest.parent) == (None, "first")
    third = publish(trained.run, trained.dataset, root, "third", silent, promote=True)
    assert (third.serving, root.current()) == (True, "third")
    assert root.release_ids() == ["first", "second", "third"]
    assert len(list(root.model_repository.iterdir())) == 9


@pytest.mark.usefixtures("quick_export")
def test_the_first_release_does_not_serve_where_that_is_said(
    trained: Trained, tmp_path: Path
) -> None:
    root = ReleasesRoot(tmp_path / "releases")
    assert not publish(trained.run, trained.dataset, root, "a", silent, promote=False).serving
    assert root.current() is None
    assert root.release_ids() == ["a"]


@pytest.mark.usefixtures("quick_export")
@pytest.mark.parametrize("breaks", ["check_export", "manifest", "move 2", "move 4"])
def test_a_failure_in_the_middle_leaves_nothing_and_the_same_id_can_be_given_again(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, breaks: str
) -> None:
    root = ReleasesRoot(tmp_path / "releases")
    publish(trained.run, trained.dataset, root, "first", silent)
    before = everything_in(root.path)

    def fail(*_: object) -> None:
        raise OSError("no space left")

    moves = 0
    rename = Path.rename

    def fail_to_move(self: Path, target: Path) -> Path:
        nonlocal moves
        moves += 1
        if moves == int(breaks.split()[-1]):
            raise OSError("no space left")
        return rename(self, target)

    with monkeypatch.context() as broken:
        if breaks.startswith("move"):
            broken.setattr(Path, "rename", fail_to_move)
        elif breaks == "manifest":
            broken.setattr(Manifest, "save", fail)
        else:
            broken.setattr(publishing, breaks, fail)
        with pytest.raises((OSError, PublishError), match="no space left"):
            publish(trained.run, trained.dataset, root, "second", silent)
    assert everything_in(root.path) == before
    assert root.current() == "first"
    assert root.release_ids() == ["first"]

    publish(trained.run, trained.dataset, root, "second", silent)
    assert root.release_ids() == ["first", "second"]


def test_the_manifest_says_where_a_release_comes_from(trained: Trained) -> None:
    manifest = verify_release(trained.releases, RELEASE)
    times = trained.dataset.events().select("event_time").collect()["event_time"]
    cut = trained.run.info.cut_time
    learned = times.filter(times < cut)
    assert manifest.data == DataWindow(int(learned.min()), int(learned.max()), cut)  # type: ignore[arg-type]
    assert manifest.seeds == (trained.run.info.config.seed,)
    assert manifest.code.package == version("shopintent")
    assert (manifest.precision, manifest.parent, manifest.forced) == ("float32", None, None)
    assert manifest.metrics == ()
    assert manifest.calibration == ()
    assert manifest.signatures["intent"] == intent_signature(trained.run)
    assert manifest.signatures.keys() == {"intent", "text_encoder", "product_encoder"}
    assert sum(file.size for file in manifest.files) > 1_000_000


def test_golden_requests_are_new_of_every_length_and_name_nobody(trained: Trained) -> None:
    golden = read_golden(trained.releases.release(RELEASE).golden)
    assert golden.behavior_fingerprint == trained.run.tokenizer.fingerprint
    assert len(golden.behaviors) == len(golden.request_times) == N_GOLDEN
    lengths = [len(each) for each in golden.behaviors]
    assert (lengths[0], max(lengths)) == (0, trained.run.tokenizer.max_events)
    assert len(set(lengths)) > 8
    last = max(int(each.event_times[-1]) for each in golden.behaviors[1:])
    assert last == int(golden.request_times[0]) - ASKED_AFTER_S
    content = trained.releases.release(RELEASE).golden.read_bytes()
    shoppers = trained.dataset.events().select("shopper_id").unique().collect()["shopper_id"]
    assert not [each for each in shoppers if each.encode() in content]


def test_the_network_gives_the_golden_answers(trained: Trained) -> None:
    golden = read_golden(trained.releases.release(RELEASE).golden)
    said = predict(
        ServedIntent(trained.run.network, trained.run.heads),
        trained.run.tokenizer,
        golden.behaviors,
        golden.request_times,
        silent,
    )
    names = [tensor.name for tensor in intent_signature(trained.run).outputs]
    answers = dict(zip(names, vars(said).values(), strict=True))
    assert mismatches(golden.intent, answers, golden.tolerances) == []
    answers["behavior_embedding"] = answers["behavior_embedding"][::-1]
    assert mismatches(golden.intent, answers, golden.tolerances) != []
    encoder = TextEncoder.open(trained.run.folder)
    assert encoder.encode(golden.texts) == pytest.approx(golden.text_embeddings, abs=1e-4)
    tokens, texts = torch.tensor(golden.product_tokens), torch.tensor(golden.product_texts)
    with torch.no_grad():
        embeddings = trained.run.network.products(tokens.long(), texts)
    assert embeddings.numpy() == pytest.approx(golden.product_embeddings, abs=1e-4)


@pytest.mark.usefixtures("quick_export")
def test_failed_gates_refuse_unless_forced_and_the_release_keeps_the_reason(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = MetricRow(
        model="shopintent", metric="ece", value=0.3, ci=(0.2, 0.4), split="time",
        horizon="24h", samples=9, gate=Gate(at_most=0.02),
    )  # fmt: skip
    monkeypatch.setattr(publishing, "measured", lambda run: (failing,))
    root = ReleasesRoot(tmp_path / "releases")
    with pytest.raises(PublishError, match=r"ece within 24h is 0\.3 .* --force"):
        publish(trained.run, trained.dataset, root, "bad", silent)
    assert root.release_ids() == []
    published = publish(trained.run, trained.dataset, root, "bad", silent, force="to show it")
    saved = Manifest.load(root.release("bad").manifest)
    assert saved == published.manifest
    assert (saved.forced, saved.metrics) == ("to show it", (failing,))
    assert saved.calibration == (Calibration("24h", 9, None, 0.3, None, None),)
    assert "1 of 1 failed, forced: to show it. ece within 24h" in gates(saved)


@pytest.mark.usefixtures("quick_export")
def test_a_release_is_published_to_a_store_and_comes_back(trained: Trained, tmp_path: Path) -> None:
    url = f"memory://{tmp_path.name}"
    first = publish_to_url(trained.run, trained.dataset, url, "far", silent)
    cache = ReleasesRoot(tmp_path / "cache")
    assert pull_routing(url, cache) == read_remote_routing(url)
    assert (first.serving, cache.current()) == (True, "far")
    assert Manifest.load(cache.release("far").manifest) == first.manifest
    assert list(read_products(cache.release("far")))
    with pytest.raises(PublishError, match="has a release far: a release never changes"):
        publish_to_url(trained.run, trained.dataset, url, "far", silent)

    second = publish_to_url(trained.run, trained.dataset, url, "farther", silent)
    assert (second.serving, second.manifest.parent) == (False, "far")
    pull_routing(url, cache)
    assert (cache.current(), cache.release_ids()) == ("far", ["far"])
    with pytest.raises(PublishError, match="has a release that serves: publish without --promote"):
        publish_to_url(trained.run, trained.dataset, url, "third", silent, promote=True)


def test_an_existing_release_is_never_replaced(trained: Trained) -> None:
    before = everything_in(trained.releases.path)
    manifest = trained.releases.release(RELEASE).manifest.read_bytes()
    with pytest.raises(PublishError, match="exists: a release never changes"):
        publish(trained.run, trained.dataset, trained.releases, RELEASE, silent)
    assert everything_in(trained.releases.path) == before
    assert trained.releases.release(RELEASE).manifest.read_bytes() == manifest


@pytest.mark.parametrize("release_id", ["", "Spring", "a b", "../a", "-a", "a" * 64, "été", "a_b"])
def test_a_bad_release_id_is_refused(trained: Trained, tmp_path: Path, release_id: str) -> None:
    root = ReleasesRoot(tmp_path / "releases")
    with pytest.raises(PublishError, match="is no release id: use up to 63"):
        publish(trained.run, trained.dataset, root, release_id, silent)
    assert not root.path.exists()


def test_the_default_id_is_valid_and_names_the_tokenizer(trained: Trained) -> None:
    release_id = new_release_id(trained.run)
    assert layout.RELEASE_ID.fullmatch(release_id)
    assert release_id.endswith(trained.run.tokenizer.fingerprint[:8])


def graph_of(trained: Trained) -> Path:
    folder = trained.releases.model_repository / layout.intent_model(RELEASE)
    return folder / str(MODEL_VERSION) / MODEL_FILE


def test_the_graph_of_the_network_passes(trained: Trained, inputs: Inputs) -> None:
    check_export(trained.run, inputs, graph_of(trained))


@pytest.mark.parametrize(
    ("weight", "output"),
    [
        ("heads.action.bias", "next_action_probabilities"),
        ("heads.purchase.bias", "visit_purchase_probability"),
        ("network.behavior.bias", "behavior_embedding"),
        ("heads.time.bias", "expected_time_to_purchase_s"),
        ("heads.quantity.bias", "expected_quantity"),
    ],
)
@pytest.mark.parametrize("change", [0.3, float("nan")])
def test_a_graph_that_differs_is_refused_with_the_output(
    trained: Trained, inputs: Inputs, weight: str, output: str, change: float
) -> None:
    part, _, name = weight.partition(".")
    changed = deepcopy(getattr(trained.run, part))
    changed.state_dict()[name].view(-1)[0] += change
    with pytest.raises(PublishError, match=f"differs from the trained network .* {output}"):
        check_export(replace(trained.run, **{part: changed}), inputs, graph_of(trained))


def test_a_release_holds_what_training_goes_on_from_and_no_folder_of_this_machine(
    trained: Trained,
) -> None:
    folder = trained.releases.release(RELEASE)
    opened = Run.open(folder.training, folder.behavior_tokenizer)
    info = trained.run.info
    until = trained.dataset.info.observed_until
    assert opened.info == replace(info, dataset="", observed_until=until)
    assert opened.tokenizer.fingerprint == trained.run.tokenizer.fingerprint
    for name, weight in trained.run.network.state_dict().items():
        assert torch.equal(opened.network.state_dict()[name], weight)
    sealed = {file.path for file in Manifest.load(folder.manifest).files}
    for name in ("run.json", "model.safetensors", "heads.safetensors"):
        assert f"releases/{RELEASE}/training/{name}" in sealed
