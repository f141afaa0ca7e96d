"""From a shop's logs to one cleaned, sessionized and labeled dataset; and a simulated shop."""

from shopintent.trainer.data.mapping import Mapping
from shopintent.trainer.data.mapping_file import load_mapping, shipped_mappings
from shopintent.trainer.data.prepare import PrepareError, prepare
from shopintent.trainer.data.prepared import Dataset, DatasetError
from shopintent.trainer.data.simulate import SimulationConfig, SimulationError, simulate
from shopintent.trainer.data.tables import MappingError

__all__ = [
    "Dataset",
    "DatasetError",
    "Mapping",
    "MappingError",
    "PrepareError",
    "SimulationConfig",
    "SimulationError",
    "load_mapping",
    "prepare",
    "shipped_mappings",
    "simulate",
]
