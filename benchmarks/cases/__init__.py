"""What is measured; importing this fills the registry."""

from . import experts as experts
from . import layers as layers
from . import mixtures as mixtures
from . import modulation as modulation
from . import parts as parts
from . import prefix as prefix
from . import scaling as scaling
from . import steps as steps
