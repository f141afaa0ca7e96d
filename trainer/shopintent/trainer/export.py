"""The network as ONNX graphs, and the Triton model repository made of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from torch import Tensor, nn

from shopintent.artifacts import layout, signature
from shopintent.artifacts.signature import Signature
from shopintent.behavior.tokenizer import EVENT_FIELDS, PRODUCT_FIELDS
from shopintent.trainer import text
from shopintent.trainer.heads import HeadAnswers, IntentHeads
from shopintent.trainer.model import IntentNetwork
from shopintent.trainer.onnx_export import export_onnx
from shopintent.trainer.run import Run
from shopintent.trainer.served.graph import LeanIntent, ServedAnswers

MODEL_VERSION = 1
MODEL_FILE = "model.onnx"
ANSWER_WAIT_S = 0.8
"""What a request waits in Triton's queue at most. An answer may take the server a second in all;
Triton's batcher looks at its queue every half second where it missed that an instance is free."""
ENCODER_WAIT_S = 2.0
"""The same for the models that read texts and products, which catalogs are written with."""


def requests(
    events: Tensor, event_times: Tensor, request_time: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Returns what the network takes for one request [B, 1] that sees all of its behavior."""
    events = events.long()
    return events, event_times, (events[:, :, 0] != 0).sum(1, keepdim=True), request_time


class ServedIntent(nn.Module):
    """What serving answers: one request of every behavior, to calibrated probabilities.

    It is the network and the heads as they were trained. What is exported is `LeanIntent`, which
    says the same.
    """

    def __init__(self, network: IntentNetwork, heads: IntentHeads) -> None:
        super().__init__()
        self.network = network.eval()
        self.heads = heads.eval()

    def observe(
        self, events: Tensor, event_times: Tensor, request_time: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Returns what the heads see, [B, D + X + O], and behavior embeddings [B, D]."""
        events, event_times, n_seen, request_time = requests(events, event_times, request_time)
        state, embedding = self.network.observe(events, event_times, n_seen, request_time)
        features = self.heads.features(events, event_times, request_time)
        return torch.cat([state.squeeze(1), features], dim=1), embedding.squeeze(1)

    def forward(self, events: Tensor, event_times: Tensor, request_time: Tensor) -> ServedAnswers:
        """[B, T, 9], [B, T] and [B, 1] to answers; see artifacts.signature."""
        inputs, embedding = self.observe(events, event_times, request_time)
        answers: HeadAnswers = self.heads(inputs)
        return ServedAnswers(
            next_actions=answers.next_actions,
            purchases=answers.purchases,
            behavior_embedding=embedding,
            visit_purchase=answers.visit_purchase,
            time_to_purchase_s=answers.time_to_purchase_s,
            quantity=answers.quantity,
        )


class ServedProducts(nn.Module):
    """The product tower as a graph of its own, for products that are new or changed."""

    def __init__(self, network: IntentNetwork) -> None:
        super().__init__()
        self.products = network.products.eval()

    def forward(self, product_tokens: Tensor, text_embedding: Tensor) -> Tensor:
        """[B, 7] and [B, E] to [B, D]; see artifacts.signature."""
        embedding: Tensor = self.products(product_tokens.long(), text_embedding)
        return embedding


def export_models(run: Run, release_id: str, repository: Path) -> list[Path]:
    """Writes the models of a release into a Triton model repository; returns their folders."""
    model = run.info.model
    intent = intent_signature(run)
    encoder = signature.text_encoder_signature(text_embedding_size=model.text_embedding_size)
    products = signature.product_encoder_signature(
        text_embedding_size=model.text_embedding_size, embedding_size=model.d_model
    )
    fingerprint = {signature.FINGERPRINT_PARAMETER: run.tokenizer.fingerprint}
    small, large = (fingerprint | {"intra_op_thread_count": threads} for threads in ("1", "2"))
    folders = [
        _write_config(repository, layout.intent_model(release_id), intent, small, ANSWER_WAIT_S),
        _write_config(repository, layout.text_encoder_model(release_id), encoder, large),
        _write_config(repository, layout.product_encoder_model(release_id), products, small),
    ]
    graphs = [folder / str(MODEL_VERSION) / MODEL_FILE for folder in folders]
    length = model.max_events
    export_onnx(
        LeanIntent(run.network, run.heads),
        (
            torch.ones(2, length, len(EVENT_FIELDS), dtype=torch.int32),
            torch.ones(2, length, dtype=torch.int64),
            torch.ones(2, 1, dtype=torch.int64),
        ),
        graphs[0],
        inputs=[tensor.name for tensor in intent.inputs],
        outputs=[tensor.name for tensor in intent.outputs],
        dynamic_axes=((0, 1), (0, 1), (0,)),
    )
    shutil.copyfile(run.folder / text.MODEL_FILE, graphs[1])
    export_onnx(
        ServedProducts(run.network),
        (
            torch.ones(2, len(PRODUCT_FIELDS), dtype=torch.int32),
            torch.ones(2, model.text_embedding_size),
        ),
        graphs[2],
        inputs=[tensor.name for tensor in products.inputs],
        outputs=[tensor.name for tensor in products.outputs],
        dynamic_axes=((0,), (0,)),
    )
    return folders


def intent_signature(run: Run) -> Signature:
    """Returns what the run's intent model reads and writes."""
    return signature.intent_signature(
        n_actions=len(run.info.actions),
        n_horizons=len(run.info.horizons_s),
        embedding_size=run.info.model.d_model,
    )


def _write_config(
    repository: Path,
    name: str,
    model: Signature,
    parameters: dict[str, str],
    longest_wait_s: float = ENCODER_WAIT_S,
) -> Path:
    folder = repository / name
    (folder / str(MODEL_VERSION)).mkdir(parents=True)
    config = model_config(name, model, parameters, longest_wait_s)
    (folder / "config.pbtxt").write_text(config, encoding="utf-8")
    return folder


def model_config(
    name: str, model: Signature, parameters: dict[str, str], longest_wait_s: float
) -> str:
    """Returns a config.pbtxt that runs on Triton's onnxruntime backend, on CPU or GPU.

    What waits while the model is busy becomes the next batch; a lone request waits for nobody. The
    queue is bounded, and what waits too long is refused rather than answered when nobody listens
    any more; a request may ask for less.
    """
    parts = [
        f'name: "{name}"',
        'backend: "onnxruntime"',
        f"max_batch_size: {signature.MAX_BATCH}",
        *(_tensor("input", tensor) for tensor in model.inputs),
        *(_tensor("output", tensor) for tensor in model.outputs),
        "dynamic_batching {\n"
        "  default_queue_policy {\n"
        "    timeout_action: REJECT\n"
        f"    default_timeout_microseconds: {round(longest_wait_s * 1e6)}\n"
        "    allow_timeout_override: true\n"
        "    max_queue_size: 512\n"
        "  }\n"
        "}",
        *(
            f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}'
            for key, value in parameters.items()
        ),
    ]
    return "\n".join(parts) + "\n"


def _tensor(kind: str, tensor: signature.Tensor) -> str:
    dims = ", ".join(map(str, tensor.shape))
    return f'{kind} {{ name: "{tensor.name}" data_type: TYPE_{tensor.dtype} dims: [ {dims} ] }}'
