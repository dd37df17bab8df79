"""vita-edge: VITA-1.5 on the device that talks.

The Python interface is in :mod:`vita_edge.runtime`; this package is only the face of the folders behind it.
"""

__version__ = "0.1.0"
