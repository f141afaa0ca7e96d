import datetime

from google.api import field_behavior_pb2 as _field_behavior_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from shopintent.v1 import product_pb2 as _product_pb2
from shopintent.v1 import user_event_pb2 as _user_event_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RecommendationSource(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RECOMMENDATION_SOURCE_UNSPECIFIED: _ClassVar[RecommendationSource]
    RECOMMENDATION_SOURCE_PERSONALIZED: _ClassVar[RecommendationSource]
    RECOMMENDATION_SOURCE_POPULAR: _ClassVar[RecommendationSource]
    RECOMMENDATION_SOURCE_TRENDING: _ClassVar[RecommendationSource]

class DegradedReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DEGRADED_REASON_UNSPECIFIED: _ClassVar[DegradedReason]
    DEGRADED_REASON_MODEL_UNAVAILABLE: _ClassVar[DegradedReason]
    DEGRADED_REASON_INDEX_UNAVAILABLE: _ClassVar[DegradedReason]
    DEGRADED_REASON_TEXT_ENCODER_UNAVAILABLE: _ClassVar[DegradedReason]
    DEGRADED_REASON_BEHAVIOR_UNAVAILABLE: _ClassVar[DegradedReason]
    DEGRADED_REASON_INTENT_UNAVAILABLE: _ClassVar[DegradedReason]
RECOMMENDATION_SOURCE_UNSPECIFIED: RecommendationSource
RECOMMENDATION_SOURCE_PERSONALIZED: RecommendationSource
RECOMMENDATION_SOURCE_POPULAR: RecommendationSource
RECOMMENDATION_SOURCE_TRENDING: RecommendationSource
DEGRADED_REASON_UNSPECIFIED: DegradedReason
DEGRADED_REASON_MODEL_UNAVAILABLE: DegradedReason
DEGRADED_REASON_INDEX_UNAVAILABLE: DegradedReason
DEGRADED_REASON_TEXT_ENCODER_UNAVAILABLE: DegradedReason
DEGRADED_REASON_BEHAVIOR_UNAVAILABLE: DegradedReason
DEGRADED_REASON_INTENT_UNAVAILABLE: DegradedReason

class PredictIntentRequest(_message.Message):
    __slots__ = ("visitor", "recent_events", "consistency_token")
    VISITOR_FIELD_NUMBER: _ClassVar[int]
    RECENT_EVENTS_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_TOKEN_FIELD_NUMBER: _ClassVar[int]
    visitor: _user_event_pb2.Visitor
    recent_events: _containers.RepeatedCompositeFieldContainer[_user_event_pb2.UserEvent]
    consistency_token: str
    def __init__(self, visitor: _Optional[_Union[_user_event_pb2.Visitor, _Mapping]] = ..., recent_events: _Optional[_Iterable[_Union[_user_event_pb2.UserEvent, _Mapping]]] = ..., consistency_token: _Optional[str] = ...) -> None: ...

class PredictIntentResponse(_message.Message):
    __slots__ = ("next_actions", "purchases", "expected_time_to_purchase", "expected_quantity", "model", "attribution_token", "degraded_reasons", "visit_purchase_probability")
    NEXT_ACTIONS_FIELD_NUMBER: _ClassVar[int]
    PURCHASES_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_TIME_TO_PURCHASE_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_QUANTITY_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_REASONS_FIELD_NUMBER: _ClassVar[int]
    VISIT_PURCHASE_PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    next_actions: _containers.RepeatedCompositeFieldContainer[NextActionPrediction]
    purchases: _containers.RepeatedCompositeFieldContainer[PurchasePrediction]
    expected_time_to_purchase: _duration_pb2.Duration
    expected_quantity: float
    model: ModelInfo
    attribution_token: str
    degraded_reasons: _containers.RepeatedScalarFieldContainer[DegradedReason]
    visit_purchase_probability: float
    def __init__(self, next_actions: _Optional[_Iterable[_Union[NextActionPrediction, _Mapping]]] = ..., purchases: _Optional[_Iterable[_Union[PurchasePrediction, _Mapping]]] = ..., expected_time_to_purchase: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., expected_quantity: _Optional[float] = ..., model: _Optional[_Union[ModelInfo, _Mapping]] = ..., attribution_token: _Optional[str] = ..., degraded_reasons: _Optional[_Iterable[_Union[DegradedReason, str]]] = ..., visit_purchase_probability: _Optional[float] = ...) -> None: ...

class RecommendRequest(_message.Message):
    __slots__ = ("visitor", "recent_events", "placement", "page_size", "filter", "view", "consistency_token")
    VISITOR_FIELD_NUMBER: _ClassVar[int]
    RECENT_EVENTS_FIELD_NUMBER: _ClassVar[int]
    PLACEMENT_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    VIEW_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_TOKEN_FIELD_NUMBER: _ClassVar[int]
    visitor: _user_event_pb2.Visitor
    recent_events: _containers.RepeatedCompositeFieldContainer[_user_event_pb2.UserEvent]
    placement: str
    page_size: int
    filter: ProductFilter
    view: _product_pb2.ProductView
    consistency_token: str
    def __init__(self, visitor: _Optional[_Union[_user_event_pb2.Visitor, _Mapping]] = ..., recent_events: _Optional[_Iterable[_Union[_user_event_pb2.UserEvent, _Mapping]]] = ..., placement: _Optional[str] = ..., page_size: _Optional[int] = ..., filter: _Optional[_Union[ProductFilter, _Mapping]] = ..., view: _Optional[_Union[_product_pb2.ProductView, str]] = ..., consistency_token: _Optional[str] = ...) -> None: ...

class RecommendResponse(_message.Message):
    __slots__ = ("recommendations", "model", "attribution_token", "degraded_reasons")
    RECOMMENDATIONS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_REASONS_FIELD_NUMBER: _ClassVar[int]
    recommendations: _containers.RepeatedCompositeFieldContainer[Recommendation]
    model: ModelInfo
    attribution_token: str
    degraded_reasons: _containers.RepeatedScalarFieldContainer[DegradedReason]
    def __init__(self, recommendations: _Optional[_Iterable[_Union[Recommendation, _Mapping]]] = ..., model: _Optional[_Union[ModelInfo, _Mapping]] = ..., attribution_token: _Optional[str] = ..., degraded_reasons: _Optional[_Iterable[_Union[DegradedReason, str]]] = ...) -> None: ...

class StreamIntentsRequest(_message.Message):
    __slots__ = ("visitor", "events", "consistency_token")
    VISITOR_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_TOKEN_FIELD_NUMBER: _ClassVar[int]
    visitor: _user_event_pb2.Visitor
    events: _containers.RepeatedCompositeFieldContainer[_user_event_pb2.UserEvent]
    consistency_token: str
    def __init__(self, visitor: _Optional[_Union[_user_event_pb2.Visitor, _Mapping]] = ..., events: _Optional[_Iterable[_Union[_user_event_pb2.UserEvent, _Mapping]]] = ..., consistency_token: _Optional[str] = ...) -> None: ...

class StreamIntentsResponse(_message.Message):
    __slots__ = ("intent", "recorded_count", "consistency_token", "degraded_reasons")
    INTENT_FIELD_NUMBER: _ClassVar[int]
    RECORDED_COUNT_FIELD_NUMBER: _ClassVar[int]
    CONSISTENCY_TOKEN_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_REASONS_FIELD_NUMBER: _ClassVar[int]
    intent: PredictIntentResponse
    recorded_count: int
    consistency_token: str
    degraded_reasons: _containers.RepeatedScalarFieldContainer[DegradedReason]
    def __init__(self, intent: _Optional[_Union[PredictIntentResponse, _Mapping]] = ..., recorded_count: _Optional[int] = ..., consistency_token: _Optional[str] = ..., degraded_reasons: _Optional[_Iterable[_Union[DegradedReason, str]]] = ...) -> None: ...

class NextActionPrediction(_message.Message):
    __slots__ = ("action", "probability")
    ACTION_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    action: str
    probability: float
    def __init__(self, action: _Optional[str] = ..., probability: _Optional[float] = ...) -> None: ...

class PurchasePrediction(_message.Message):
    __slots__ = ("horizon", "probability")
    HORIZON_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    horizon: _duration_pb2.Duration
    probability: float
    def __init__(self, horizon: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., probability: _Optional[float] = ...) -> None: ...

class Recommendation(_message.Message):
    __slots__ = ("product", "score", "source")
    PRODUCT_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    product: _product_pb2.Product
    score: float
    source: RecommendationSource
    def __init__(self, product: _Optional[_Union[_product_pb2.Product, _Mapping]] = ..., score: _Optional[float] = ..., source: _Optional[_Union[RecommendationSource, str]] = ...) -> None: ...

class ProductFilter(_message.Message):
    __slots__ = ("categories", "excluded_product_ids", "minimum_price", "maximum_price", "out_of_stock_included", "seen_products_included")
    CATEGORIES_FIELD_NUMBER: _ClassVar[int]
    EXCLUDED_PRODUCT_IDS_FIELD_NUMBER: _ClassVar[int]
    MINIMUM_PRICE_FIELD_NUMBER: _ClassVar[int]
    MAXIMUM_PRICE_FIELD_NUMBER: _ClassVar[int]
    OUT_OF_STOCK_INCLUDED_FIELD_NUMBER: _ClassVar[int]
    SEEN_PRODUCTS_INCLUDED_FIELD_NUMBER: _ClassVar[int]
    categories: _containers.RepeatedScalarFieldContainer[str]
    excluded_product_ids: _containers.RepeatedScalarFieldContainer[str]
    minimum_price: float
    maximum_price: float
    out_of_stock_included: bool
    seen_products_included: bool
    def __init__(self, categories: _Optional[_Iterable[str]] = ..., excluded_product_ids: _Optional[_Iterable[str]] = ..., minimum_price: _Optional[float] = ..., maximum_price: _Optional[float] = ..., out_of_stock_included: _Optional[bool] = ..., seen_products_included: _Optional[bool] = ...) -> None: ...

class ModelInfo(_message.Message):
    __slots__ = ("release_id", "model_name", "model_version")
    RELEASE_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    release_id: str
    model_name: str
    model_version: str
    def __init__(self, release_id: _Optional[str] = ..., model_name: _Optional[str] = ..., model_version: _Optional[str] = ...) -> None: ...
