"""Which errors are no faults of this program but of what it was given: said in one line each."""

from eval.ask.cache import CacheError
from eval.ask.connection import ServerError
from eval.ask.journal import JournalBusy
from eval.ask.predictions import PredictionsError
from eval.comparison.gates import GateError
from eval.comparison.pairing import CompareError
from eval.dataset import DatasetError
from eval.measures.similarity import SimilarityError
from eval.record import RecordError
from eval.score import ScoreError
from eval.task.bundle import BundleError
from eval.task.dialect import DialectError
from eval.task.example import ExampleError
from eval.task.schema import DdlError
from eval.workers import WorkersError

MISTAKES = (
    BundleError,
    CacheError,
    CompareError,
    DatasetError,
    DdlError,
    DialectError,
    ExampleError,
    GateError,
    JournalBusy,
    PredictionsError,
    RecordError,
    ScoreError,
    ServerError,
    SimilarityError,
    WorkersError,
)


def mistakes() -> tuple[type[Exception], ...]:
    """All of them. Two come with much that few runs need: SQLAlchemy, and what makes databases."""
    from eval.live.url import LiveDatabaseError
    from eval.suite.cache import SuiteError

    return (*MISTAKES, LiveDatabaseError, SuiteError)
