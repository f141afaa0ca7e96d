"""What the trainer writes and the server reads: the release and everything in it."""

from shopintent.artifacts.layout import ReleaseFolder, ReleasesRoot
from shopintent.artifacts.manifest import Manifest, ReleaseError
from shopintent.artifacts.products import IndexedProduct, read_products, write_products

__all__ = [
    "IndexedProduct",
    "Manifest",
    "ReleaseError",
    "ReleaseFolder",
    "ReleasesRoot",
    "read_products",
    "write_products",
]
