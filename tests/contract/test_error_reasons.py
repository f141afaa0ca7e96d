"""Errors and their documentation in error_reason.proto say the same."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import grpc
import pytest

from shopintent.server import errors
from shopintent.server.errors import FieldViolation, ShopIntentError
from shopintent.server.interceptors.errors import to_status
from shopintent.v1 import error_reason_pb2

ROOT = Path(__file__).parents[2]
PROTO = ROOT / "protos" / "shopintent" / "v1" / "error_reason.proto"
SERVER = ROOT / "server" / "shopintent" / "server"

EXAMPLES: tuple[ShopIntentError, ...] = (
    errors.InvalidRequest([FieldViolation("page_size", "is negative; send 1 to 100")]),
    errors.ProductNotFound("p1"),
    errors.ModelUnavailable("intent_r1", "it is down"),
    errors.IndexUnavailable("products_r1", "it is down"),
    errors.ReleaseMismatch("r1", "intent_r1", "its fingerprint differs"),
    errors.InternalError("request-1"),
    errors.Overloaded(),
    errors.StateUnavailable("sessions", "the disk is full"),
    errors.StreamEnded("the server shuts down"),
    errors.ReleaseNotFound("r9", ["r1", "r2"]),
    errors.ReleaseNotReady("r2", "a golden request is answered otherwise"),
    errors.ReleaseInUse("r1", ["serving"]),
    errors.CredentialsMissing(),
    errors.PermissionDenied("the token is another one than the server's"),
)


def documented() -> dict[str, str]:
    """Returns the comment above each reason of the proto, as one line."""
    found = re.findall(
        r"((?:^ +//.*\n)+) +(ERROR_REASON_\w+) = \d+;", PROTO.read_text(), re.MULTILINE
    )
    return {name: " ".join(re.sub(r"//", " ", text).split()) for text, name in found}


def raised_classes() -> set[str]:
    """Returns the names of all classes that the server's code makes an instance of."""
    trees = [ast.parse(path.read_text()) for path in SERVER.rglob("*.py")]
    calls = [n.func for tree in trees for n in ast.walk(tree) if isinstance(n, ast.Call)]
    return {func.id for func in calls if isinstance(func, ast.Name)}


def test_every_reason_of_the_proto_has_one_error_and_every_error_a_reason() -> None:
    classes = ShopIntentError.__subclasses__()
    reasons = [each.reason for each in classes]
    assert sorted(reasons) == sorted(set(documented()) - {"ERROR_REASON_UNSPECIFIED"})
    assert set(documented()) == set(error_reason_pb2.ErrorReason.keys())
    assert {type(each) for each in EXAMPLES} == set(classes)


def test_every_error_is_raised_somewhere() -> None:
    assert {type(each).__name__ for each in EXAMPLES} <= raised_classes()


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_the_comment_names_the_code_the_metadata_and_the_details(error: ShopIntentError) -> None:
    comment = documented()[error.reason]
    assert comment.startswith(f"{error.code.name}. ")
    keys = re.search(r"Metadata: ([\w, ]+)\.$", comment)
    assert keys is not None
    expected = [] if keys[1] == "none" else keys[1].split(", ")
    assert sorted(error.metadata) == sorted(expected)
    status: Any = to_status(error)
    details = {detail.TypeName().removeprefix("google.rpc.") for detail in status.details}
    assert ("RetryInfo" in details) == ("google.rpc.RetryInfo" in comment)
    assert ("BadRequest" in details) == ("google.rpc.BadRequest" in comment)
    assert len(status.details) == len(details)


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_the_status_is_as_short_as_the_error_model_asks(error: ShopIntentError) -> None:
    status: Any = to_status(error)
    assert status.code == error.code.value[0]
    assert error.code is not grpc.StatusCode.OK
    assert len(error.reason) <= 63
    assert all(re.fullmatch(r"[a-z][a-zA-Z0-9]{0,63}", key) for key in error.metadata)
    assert status.message == str(error)
