from shopintent.trainer.data.mapping import Mapping, MappingError, load_mapping
from shopintent.trainer.data.prepare import PrepareError, prepare
from shopintent.trainer.data.prepared import Dataset, DatasetError

__all__ = [
    "Dataset",
    "DatasetError",
    "Mapping",
    "MappingError",
    "PrepareError",
    "load_mapping",
    "prepare",
]
