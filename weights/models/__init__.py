"""The table of each architecture, one file each. A new one is a file and a line here."""

from weights.architecture import Architecture
from weights.models.hgat import HGAT

ARCHITECTURES: dict[str, Architecture] = {table.name: table for table in (HGAT,)}
