"""A comparison of models on one task: what is common to all programs, from the command line to the table."""

from .bench import Bench as Bench
from .compare import compare as compare
from .experiment import EXPERIMENTS as EXPERIMENTS
from .experiment import Experiment as Experiment
from .find_data import check_files as check_files
from .find_data import find_data as find_data
from .open_bench import open_bench as open_bench
from .parse import parse as parse
from .predict import predict as predict
from .report import read_answers as read_answers
from .report import report as report
from .rows import build_model as build_model
from .rows import row_folder as row_folder
from .rows import train_row as train_row
from .run_settings import RunSettings as RunSettings
from .scene_settings import SceneSettings as SceneSettings
from .task import Task as Task
