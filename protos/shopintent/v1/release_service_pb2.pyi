import datetime

from google.api import field_behavior_pb2 as _field_behavior_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ReleaseRole(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RELEASE_ROLE_UNSPECIFIED: _ClassVar[ReleaseRole]
    RELEASE_ROLE_SERVING: _ClassVar[ReleaseRole]
    RELEASE_ROLE_CANARY: _ClassVar[ReleaseRole]
    RELEASE_ROLE_SHADOW: _ClassVar[ReleaseRole]
    RELEASE_ROLE_PREVIOUS: _ClassVar[ReleaseRole]
RELEASE_ROLE_UNSPECIFIED: ReleaseRole
RELEASE_ROLE_SERVING: ReleaseRole
RELEASE_ROLE_CANARY: ReleaseRole
RELEASE_ROLE_SHADOW: ReleaseRole
RELEASE_ROLE_PREVIOUS: ReleaseRole

class ListReleasesRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListReleasesResponse(_message.Message):
    __slots__ = ("releases", "next_page_token", "routing")
    RELEASES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    ROUTING_FIELD_NUMBER: _ClassVar[int]
    releases: _containers.RepeatedCompositeFieldContainer[Release]
    next_page_token: str
    routing: Routing
    def __init__(self, releases: _Optional[_Iterable[_Union[Release, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., routing: _Optional[_Union[Routing, _Mapping]] = ...) -> None: ...

class GetReleaseRequest(_message.Message):
    __slots__ = ("release_id",)
    RELEASE_ID_FIELD_NUMBER: _ClassVar[int]
    release_id: str
    def __init__(self, release_id: _Optional[str] = ...) -> None: ...

class GetReleaseResponse(_message.Message):
    __slots__ = ("release", "routing")
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    ROUTING_FIELD_NUMBER: _ClassVar[int]
    release: Release
    routing: Routing
    def __init__(self, release: _Optional[_Union[Release, _Mapping]] = ..., routing: _Optional[_Union[Routing, _Mapping]] = ...) -> None: ...

class ShadowReleaseRequest(_message.Message):
    __slots__ = ("release_id", "percent", "why")
    RELEASE_ID_FIELD_NUMBER: _ClassVar[int]
    PERCENT_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    release_id: str
    percent: float
    why: str
    def __init__(self, release_id: _Optional[str] = ..., percent: _Optional[float] = ..., why: _Optional[str] = ...) -> None: ...

class ShadowReleaseResponse(_message.Message):
    __slots__ = ("release", "routing")
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    ROUTING_FIELD_NUMBER: _ClassVar[int]
    release: Release
    routing: Routing
    def __init__(self, release: _Optional[_Union[Release, _Mapping]] = ..., routing: _Optional[_Union[Routing, _Mapping]] = ...) -> None: ...

class CanaryReleaseRequest(_message.Message):
    __slots__ = ("release_id", "percent", "why", "forced")
    RELEASE_ID_FIELD_NUMBER: _ClassVar[int]
    PERCENT_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    FORCED_FIELD_NUMBER: _ClassVar[int]
    release_id: str
    percent: float
    why: str
    forced: bool
    def __init__(self, release_id: _Optional[str] = ..., percent: _Optional[float] = ..., why: _Optional[str] = ..., forced: _Optional[bool] = ...) -> None: ...

class CanaryReleaseResponse(_message.Message):
    __slots__ = ("release", "routing")
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    ROUTING_FIELD_NUMBER: _ClassVar[int]
    release: Release
    routing: Routing
    def __init__(self, release: _Optional[_Union[Release, _Mapping]] = ..., routing: _Optional[_Union[Routing, _Mapping]] = ...) -> None: ...

class PromoteReleaseRequest(_message.Message):
    __slots__ = ("release_id", "why", "forced")
    RELEASE_ID_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    FORCED_FIELD_NUMBER: _ClassVar[int]
    release_id: str
    why: str
    forced: bool
    def __init__(self, release_id: _Optional[str] = ..., why: _Optional[str] = ..., forced: _Optional[bool] = ...) -> None: ...

class PromoteReleaseResponse(_message.Message):
    __slots__ = ("release", "routing")
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    ROUTING_FIELD_NUMBER: _ClassVar[int]
    release: Release
    routing: Routing
    def __init__(self, release: _Optional[_Union[Release, _Mapping]] = ..., routing: _Optional[_Union[Routing, _Mapping]] = ...) -> None: ...

class RollbackReleaseRequest(_message.Message):
    __slots__ = ("release_id", "why")
    RELEASE_ID_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    release_id: str
    why: str
    def __init__(self, release_id: _Optional[str] = ..., why: _Optional[str] = ...) -> None: ...

class RollbackReleaseResponse(_message.Message):
    __slots__ = ("release", "routing")
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    ROUTING_FIELD_NUMBER: _ClassVar[int]
    release: Release
    routing: Routing
    def __init__(self, release: _Optional[_Union[Release, _Mapping]] = ..., routing: _Optional[_Union[Routing, _Mapping]] = ...) -> None: ...

class DeleteReleaseRequest(_message.Message):
    __slots__ = ("release_id", "why")
    RELEASE_ID_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    release_id: str
    why: str
    def __init__(self, release_id: _Optional[str] = ..., why: _Optional[str] = ...) -> None: ...

class DeleteReleaseResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class VerifyReleaseRequest(_message.Message):
    __slots__ = ("release_id",)
    RELEASE_ID_FIELD_NUMBER: _ClassVar[int]
    release_id: str
    def __init__(self, release_id: _Optional[str] = ...) -> None: ...

class VerifyReleaseResponse(_message.Message):
    __slots__ = ("release",)
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    release: Release
    def __init__(self, release: _Optional[_Union[Release, _Mapping]] = ...) -> None: ...

class Release(_message.Message):
    __slots__ = ("id", "create_time", "roles", "parent_release_id", "product_count", "metrics", "forced_reason", "ready", "refusal")
    ID_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    ROLES_FIELD_NUMBER: _ClassVar[int]
    PARENT_RELEASE_ID_FIELD_NUMBER: _ClassVar[int]
    PRODUCT_COUNT_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    FORCED_REASON_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    id: str
    create_time: _timestamp_pb2.Timestamp
    roles: _containers.RepeatedScalarFieldContainer[ReleaseRole]
    parent_release_id: str
    product_count: int
    metrics: _containers.RepeatedCompositeFieldContainer[ReleaseMetric]
    forced_reason: str
    ready: bool
    refusal: str
    def __init__(self, id: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., roles: _Optional[_Iterable[_Union[ReleaseRole, str]]] = ..., parent_release_id: _Optional[str] = ..., product_count: _Optional[int] = ..., metrics: _Optional[_Iterable[_Union[ReleaseMetric, _Mapping]]] = ..., forced_reason: _Optional[str] = ..., ready: _Optional[bool] = ..., refusal: _Optional[str] = ...) -> None: ...

class ReleaseMetric(_message.Message):
    __slots__ = ("name", "value", "minimum_value", "maximum_value", "gate_minimum", "gate_maximum", "gate_failed")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    MINIMUM_VALUE_FIELD_NUMBER: _ClassVar[int]
    MAXIMUM_VALUE_FIELD_NUMBER: _ClassVar[int]
    GATE_MINIMUM_FIELD_NUMBER: _ClassVar[int]
    GATE_MAXIMUM_FIELD_NUMBER: _ClassVar[int]
    GATE_FAILED_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: float
    minimum_value: float
    maximum_value: float
    gate_minimum: float
    gate_maximum: float
    gate_failed: bool
    def __init__(self, name: _Optional[str] = ..., value: _Optional[float] = ..., minimum_value: _Optional[float] = ..., maximum_value: _Optional[float] = ..., gate_minimum: _Optional[float] = ..., gate_maximum: _Optional[float] = ..., gate_failed: _Optional[bool] = ...) -> None: ...

class Routing(_message.Message):
    __slots__ = ("generation", "followed_generation", "serving_release_id", "previous_release_id", "canary", "shadow", "change")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    FOLLOWED_GENERATION_FIELD_NUMBER: _ClassVar[int]
    SERVING_RELEASE_ID_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_RELEASE_ID_FIELD_NUMBER: _ClassVar[int]
    CANARY_FIELD_NUMBER: _ClassVar[int]
    SHADOW_FIELD_NUMBER: _ClassVar[int]
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    generation: int
    followed_generation: int
    serving_release_id: str
    previous_release_id: str
    canary: ReleaseShare
    shadow: ReleaseShare
    change: RoutingChange
    def __init__(self, generation: _Optional[int] = ..., followed_generation: _Optional[int] = ..., serving_release_id: _Optional[str] = ..., previous_release_id: _Optional[str] = ..., canary: _Optional[_Union[ReleaseShare, _Mapping]] = ..., shadow: _Optional[_Union[ReleaseShare, _Mapping]] = ..., change: _Optional[_Union[RoutingChange, _Mapping]] = ...) -> None: ...

class ReleaseShare(_message.Message):
    __slots__ = ("release_id", "percent")
    RELEASE_ID_FIELD_NUMBER: _ClassVar[int]
    PERCENT_FIELD_NUMBER: _ClassVar[int]
    release_id: str
    percent: float
    def __init__(self, release_id: _Optional[str] = ..., percent: _Optional[float] = ...) -> None: ...

class RoutingChange(_message.Message):
    __slots__ = ("action", "release_id", "who", "why", "forced", "change_time")
    ACTION_FIELD_NUMBER: _ClassVar[int]
    RELEASE_ID_FIELD_NUMBER: _ClassVar[int]
    WHO_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    FORCED_FIELD_NUMBER: _ClassVar[int]
    CHANGE_TIME_FIELD_NUMBER: _ClassVar[int]
    action: str
    release_id: str
    who: str
    why: str
    forced: bool
    change_time: _timestamp_pb2.Timestamp
    def __init__(self, action: _Optional[str] = ..., release_id: _Optional[str] = ..., who: _Optional[str] = ..., why: _Optional[str] = ..., forced: _Optional[bool] = ..., change_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...
