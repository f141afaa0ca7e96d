"""What surrounds every call, outermost first.

request_id   outermost, so that everything inside can name the request
metrics      next, so that durations hold everything but the request id
logging      outside of errors, so that it sees the final status
errors       innermost, so that every layer outside sees a status and never an exception
"""

from __future__ import annotations

import grpc

from shopintent.server.interceptors.errors import ErrorsInterceptor
from shopintent.server.interceptors.logging import LoggingInterceptor
from shopintent.server.interceptors.metrics import MetricsInterceptor
from shopintent.server.interceptors.request_id import RequestIdInterceptor
from shopintent.server.metrics import Metrics


def interceptors(metrics: Metrics) -> list[grpc.aio.ServerInterceptor]:
    """Returns the interceptors, outermost first."""
    return [
        RequestIdInterceptor(),
        MetricsInterceptor(metrics),
        LoggingInterceptor(),
        ErrorsInterceptor(),
    ]
