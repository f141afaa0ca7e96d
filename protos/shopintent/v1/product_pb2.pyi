from google.api import field_behavior_pb2 as _field_behavior_pb2
from google.type import money_pb2 as _money_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ProductView(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRODUCT_VIEW_UNSPECIFIED: _ClassVar[ProductView]
    PRODUCT_VIEW_ID: _ClassVar[ProductView]
    PRODUCT_VIEW_FULL: _ClassVar[ProductView]

class Availability(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    AVAILABILITY_UNSPECIFIED: _ClassVar[Availability]
    AVAILABILITY_IN_STOCK: _ClassVar[Availability]
    AVAILABILITY_OUT_OF_STOCK: _ClassVar[Availability]
PRODUCT_VIEW_UNSPECIFIED: ProductView
PRODUCT_VIEW_ID: ProductView
PRODUCT_VIEW_FULL: ProductView
AVAILABILITY_UNSPECIFIED: Availability
AVAILABILITY_IN_STOCK: Availability
AVAILABILITY_OUT_OF_STOCK: Availability

class Product(_message.Message):
    __slots__ = ("id", "title", "description", "brand", "categories", "price", "availability")
    ID_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    BRAND_FIELD_NUMBER: _ClassVar[int]
    CATEGORIES_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    AVAILABILITY_FIELD_NUMBER: _ClassVar[int]
    id: str
    title: str
    description: str
    brand: str
    categories: _containers.RepeatedScalarFieldContainer[str]
    price: _money_pb2.Money
    availability: Availability
    def __init__(self, id: _Optional[str] = ..., title: _Optional[str] = ..., description: _Optional[str] = ..., brand: _Optional[str] = ..., categories: _Optional[_Iterable[str]] = ..., price: _Optional[_Union[_money_pb2.Money, _Mapping]] = ..., availability: _Optional[_Union[Availability, str]] = ...) -> None: ...
