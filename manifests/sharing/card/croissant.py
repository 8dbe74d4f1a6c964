"""Croissant 1.1 metadata (https://docs.mlcommons.org/croissant) of a collection's files and rows."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from impure.manifests.collection.schema import MANIFEST, SCHEMA_VERSION

CONFORMS_TO = "http://mlcommons.org/croissant/1.1"
MANIFESTS = "manifests"
SHARDS = "shards"

# The context that the format prescribes.
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "name": {"@container": "@language"},
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}


def croissant(
    *, name: str, description: str, licence: str, date: str, tars: Sequence[str], manifests: Sequence[str]
) -> dict[str, Any]:
    """Describe a collection in Croissant 1.1, with one record set: the manifests' rows.

    Args:
        name: Of the data set.
        description: In a sentence.
        licence: Its address.
        date: Day of publication, YYYY-MM-DD; empty where nobody knows.
        tars: Paths or globs of the shards.
        manifests: Paths or globs of the manifests.
    """
    metadata = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS_TO,
        "name": name,
        "description": description,
        "license": licence,
        "url": "https://arxiv.org/abs/2311.15339",
        "citeAs": "Adversarial Purification of Information Masking, arXiv 2311.15339",
        "version": f"{SCHEMA_VERSION}.0.0",
        "distribution": [
            _file_set(SHARDS, "WebDataset shards of image pairs", "application/x-tar", tars),
            _file_set(MANIFESTS, "One row per planned image", "application/x-parquet", manifests),
        ],
        "recordSet": [_record_set()],
    }
    return metadata | ({"datePublished": date} if date else {})


def _file_set(name: str, description: str, encoding: str, includes: Sequence[str]) -> dict[str, Any]:
    """Files of one kind."""
    return {
        "@type": "cr:FileSet",
        "@id": f"{name}-files",
        "name": f"{name}-files",
        "description": description,
        "encodingFormat": encoding,
        "includes": list(includes),
    }


def _record_set() -> dict[str, Any]:
    """The manifests' rows."""
    return {
        "@type": "cr:RecordSet",
        "@id": MANIFESTS,
        "name": MANIFESTS,
        "description": "One row for each planned image, failed ones too.",
        "field": [_field(column) for column in MANIFEST],
    }


def _field(column: pa.Field) -> dict[str, Any]:
    """One column of the manifests."""
    return {
        "@type": "cr:Field",
        "@id": f"{MANIFESTS}/{column.name}",
        "name": column.name,
        "dataType": _data_type(column.type),
        "source": {"fileSet": {"@id": f"{MANIFESTS}-files"}, "extract": {"column": column.name}},
    }


def _data_type(arrow: pa.DataType) -> str:
    """A column's type by its name in Croissant."""
    if pa.types.is_boolean(arrow):
        return "sc:Boolean"
    if pa.types.is_integer(arrow):
        return "sc:Integer"
    return "sc:Float" if pa.types.is_floating(arrow) else "sc:Text"
