"""The phantom: chest radiographs made to order, with exact masks, in NIH layout. See docs/phantom.md."""

from cxrlocus.data.phantom.film import Film, generate_film
from cxrlocus.data.phantom.parameters import Parameters
from cxrlocus.data.phantom.writer import write_phantom

__all__ = ["Film", "Parameters", "generate_film", "write_phantom"]
