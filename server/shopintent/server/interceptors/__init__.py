"""What surrounds every call, outermost first.

request_id   outermost, so that everything inside can name the request
logging      outside of errors, so that it sees the final status
errors       innermost, so that every layer outside sees a status and never an exception
"""

from __future__ import annotations

import grpc

from shopintent.server.interceptors.errors import ErrorsInterceptor
from shopintent.server.interceptors.logging import LoggingInterceptor
from shopintent.server.interceptors.request_id import RequestIdInterceptor


def interceptors() -> list[grpc.aio.ServerInterceptor]:
    """Returns the interceptors, outermost first."""
    return [RequestIdInterceptor(), LoggingInterceptor(), ErrorsInterceptor()]
