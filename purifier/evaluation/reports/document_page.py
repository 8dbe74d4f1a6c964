"""All that was measured, on one page; or one document on its own."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from impure.manifests.base.errors import InputError
from impure.manifests.base.files import write_text
from impure.purifier.evaluation.reports.document_section import document_section
from impure.purifier.evaluation.reports.documents import KINDS, find_documents, read_document
from impure.purifier.evaluation.reports.page import Section, render

MAX_IMAGES = 1 << 27  # bytes of all images that lie beside documents
TITLE = "Purification: what was measured"


def page_of_folders(folders: Sequence[Path]) -> tuple[str, int, list[str]]:
    """Every document below some folders on one page.

    Returns:
        The page, how many documents it shows, and a line for each document or image that it does not.

    Raises:
        InputError: A folder does not exist, or there is no document at all.
    """
    documents, complaints = find_documents(folders)
    sections: list[Section] = []
    size = 0
    for document in documents:
        try:
            section, refused = document_section(document)
        except InputError as error:
            complaints.append(f"{document.where}: {error}")
            continue
        complaints += refused
        size += sum(len(plot.uri) for plot in section.plots)
        if size > MAX_IMAGES:
            complaints.append(f"{document.where}: its images would make the page too large")
            section = replace(section, plots=())
        sections.append(section)
    if not sections:
        said = "".join(f"; {complaint}" for complaint in complaints[:3])
        raise InputError(
            f'{", ".join(map(str, folders))}: no evaluation found (JSON with the key "kind"){said}'
        )
    return render(TITLE, sections, complaints), len(sections), complaints


def write_document_page(path: Path) -> Path:
    """Write the page of a document, with the plots beside it, under its name with the ending .html.

    Raises:
        InputError: The document is broken, or of an unknown kind.
        WriteError: The folder cannot be written.
    """
    document = read_document(path, path.name)
    if document is None:
        raise InputError(f'{path}: no evaluation; it has no key "kind"')
    section, complaints = document_section(document)
    return write_text(path.with_suffix(".html"), render(KINDS[document.kind], [section], complaints))
