"""From a shop's logs to one cleaned, sessionized and labeled dataset; and a simulated shop."""

from shopintent.trainer.data.mapping import Mapping, MappingError, load_mapping
from shopintent.trainer.data.prepare import PrepareError, prepare
from shopintent.trainer.data.prepared import Dataset, DatasetError
from shopintent.trainer.data.simulate import SimulationConfig, simulate

__all__ = [
    "Dataset",
    "DatasetError",
    "Mapping",
    "MappingError",
    "PrepareError",
    "SimulationConfig",
    "load_mapping",
    "prepare",
    "simulate",
]
