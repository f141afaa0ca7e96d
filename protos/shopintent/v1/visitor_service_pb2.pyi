import datetime

from google.api import field_behavior_pb2 as _field_behavior_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from shopintent.v1 import user_event_pb2 as _user_event_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DeleteVisitorRequest(_message.Message):
    __slots__ = ("visitor",)
    VISITOR_FIELD_NUMBER: _ClassVar[int]
    visitor: _user_event_pb2.Visitor
    def __init__(self, visitor: _Optional[_Union[_user_event_pb2.Visitor, _Mapping]] = ...) -> None: ...

class DeleteVisitorResponse(_message.Message):
    __slots__ = ("receipt_id", "delete_time", "stores")
    RECEIPT_ID_FIELD_NUMBER: _ClassVar[int]
    DELETE_TIME_FIELD_NUMBER: _ClassVar[int]
    STORES_FIELD_NUMBER: _ClassVar[int]
    receipt_id: str
    delete_time: _timestamp_pb2.Timestamp
    stores: _containers.RepeatedCompositeFieldContainer[StoreCount]
    def __init__(self, receipt_id: _Optional[str] = ..., delete_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., stores: _Optional[_Iterable[_Union[StoreCount, _Mapping]]] = ...) -> None: ...

class VerifyDeletionRequest(_message.Message):
    __slots__ = ("visitor",)
    VISITOR_FIELD_NUMBER: _ClassVar[int]
    visitor: _user_event_pb2.Visitor
    def __init__(self, visitor: _Optional[_Union[_user_event_pb2.Visitor, _Mapping]] = ...) -> None: ...

class VerifyDeletionResponse(_message.Message):
    __slots__ = ("deleted", "stores")
    DELETED_FIELD_NUMBER: _ClassVar[int]
    STORES_FIELD_NUMBER: _ClassVar[int]
    deleted: bool
    stores: _containers.RepeatedCompositeFieldContainer[StoreCount]
    def __init__(self, deleted: _Optional[bool] = ..., stores: _Optional[_Iterable[_Union[StoreCount, _Mapping]]] = ...) -> None: ...

class StoreCount(_message.Message):
    __slots__ = ("store", "unit", "count")
    STORE_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    store: str
    unit: str
    count: int
    def __init__(self, store: _Optional[str] = ..., unit: _Optional[str] = ..., count: _Optional[int] = ...) -> None: ...
