from .draw_masks import draw_masks as draw_masks
from .draw_parsing import draw_parsing as draw_parsing
from .draw_routing import draw_routing as draw_routing
from .draw_segments import draw_segments as draw_segments
from .metrics_file import read_metrics as read_metrics
from .metrics_file import versions as versions
from .metrics_file import write_metrics as write_metrics
from .table import results_table as results_table
