"""Who decides whether an answer is right."""

from .contains_judge import ContainsJudge as ContainsJudge
from .endpoint_judge import EndpointJudge as EndpointJudge
from .exact_judge import ExactJudge as ExactJudge
from .judge_all import Judged as Judged
from .judge_all import judge_all as judge_all
from .judge_all import judged_accuracy as judged_accuracy
from .judge_all import yes_share as yes_share
from .normalised_judge import NormalisedJudge as NormalisedJudge
from .normalised_judge import words_of as words_of
from .read_reply import read_reply as read_reply
from .read_reply import verdict_in as verdict_in
from .verdict import Answered as Answered
from .verdict import Judge as Judge
from .verdict import Verdict as Verdict
