from google.api import field_behavior_pb2 as _field_behavior_pb2
from shopintent.v1 import user_event_pb2 as _user_event_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TrackEventsRequest(_message.Message):
    __slots__ = ("visitor", "events")
    VISITOR_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    visitor: _user_event_pb2.Visitor
    events: _containers.RepeatedCompositeFieldContainer[_user_event_pb2.UserEvent]
    def __init__(self, visitor: _Optional[_Union[_user_event_pb2.Visitor, _Mapping]] = ..., events: _Optional[_Iterable[_Union[_user_event_pb2.UserEvent, _Mapping]]] = ...) -> None: ...

class TrackEventsResponse(_message.Message):
    __slots__ = ("recorded_count", "unknown_product_ids", "consistency_token")
    RECORDED_COUNT_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_PRODUCT_IDS_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_TOKEN_FIELD_NUMBER: _ClassVar[int]
    recorded_count: int
    unknown_product_ids: _containers.RepeatedScalarFieldContainer[str]
    consistency_token: str
    def __init__(self, recorded_count: _Optional[int] = ..., unknown_product_ids: _Optional[_Iterable[str]] = ..., consistency_token: _Optional[str] = ...) -> None: ...
