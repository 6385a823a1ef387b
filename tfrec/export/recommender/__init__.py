"""The one-call recommender: one SavedModel that retrieves, filters, ranks and re-ranks."""

from tfrec.export.recommender.assemble import assemble
from tfrec.export.recommender.module import Recommendation

__all__ = ["Recommendation", "assemble"]
