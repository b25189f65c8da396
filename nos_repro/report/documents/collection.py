"""Everything in a results folder as one document."""

from __future__ import annotations

from nos_repro.report.collection import Collection, FoundStudy
from nos_repro.report.documents.base import Document, document
from nos_repro.report.documents.claims import claims_document
from nos_repro.report.documents.search import search_document
from nos_repro.report.documents.study import study_document


def collection_document(collection: Collection) -> Document:
    """Every study and search, and the claims, each as the document that its own verb prints."""
    return document(
        "collection",
        studies=[found_document(found) for found in collection.studies],
        searches=[search_document(history, history.problems) for history in collection.searches],
        claims=claims_document(collection.judged, collection.beyond),
        left_out=collection.left_out,
        problems=collection.problems,
    )


def found_document(found: FoundStudy) -> Document:
    duels, problems = found.duels, found.store.problems
    return study_document(found.study, found.rows, found.verdicts, problems, duels=duels)
