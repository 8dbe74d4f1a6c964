"""Columns of plans and manifests, for Arrow and the type checker; with a change SCHEMA_VERSION goes up."""

from typing import TypedDict

import pyarrow as pa

SCHEMA_VERSION = 3

# The column `status`: every planned image has a row, stored or not.
STATUS_OK = "ok"
UNREADABLE = "unreadable"  # passed over when the plan was drawn, another image stands in
CHANGED = "changed"  # other pixels than when the plan was drawn
FAILED = "failed"  # could not be decoded any more, or the attack broke on it

PLAN = pa.schema(
    [
        ("shard", pa.int32()),  # which shard the image goes to
        ("source_id", pa.string()),  # path below the image root
        ("source_sha256", pa.string()),  # of the file's bytes
        ("split", pa.string()),
        ("label", pa.int32()),  # in the target's own label space
        ("wnid", pa.string()),
        ("target", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("clean_px_sha256", pa.string()),  # of the decoded uint8 RGB pixels the target sees, HxWx3, C order
        ("pred_clean", pa.int32()),
        ("conf_clean", pa.float32()),
        ("status", pa.string()),  # "ok", or why the image was passed over
        ("error", pa.string()),
    ]
)

MANIFEST = pa.schema(
    [
        ("key", pa.string()),
        ("shard", pa.int32()),
        ("index_in_shard", pa.int32()),  # null where no sample was stored
        ("source_id", pa.string()),
        ("source_sha256", pa.string()),
        ("split", pa.string()),
        ("label", pa.int32()),
        ("wnid", pa.string()),
        ("target", pa.string()),
        ("attack", pa.string()),
        ("preset", pa.string()),
        ("params_json", pa.string()),
        ("implementation", pa.string()),
        ("eps_255", pa.int32()),
        ("target_class", pa.int32()),  # class that a targeted attack steers to, -1: none in particular
        ("seed", pa.int64()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("clean_px_sha256", pa.string()),
        ("adv_px_sha256", pa.string()),
        ("pred_clean", pa.int32()),
        ("conf_clean", pa.float32()),
        ("pred_adv_float", pa.int32()),  # before rounding to 8 bits
        ("pred_adv", pa.int32()),  # on the stored bytes, fp32: the verdict
        ("conf_adv", pa.float32()),
        ("success", pa.bool_()),  # pred_adv == target_class, untargeted: pred_adv != label
        ("linf_255", pa.int32()),  # of the stored bytes, units of 1/255
        ("l2", pa.float32()),  # of the stored bytes, pixels in [0,1]
        ("proposal_linf_255", pa.float32()),  # how far the attack went before projection to eps
        ("grad_evals", pa.int32()),
        ("status", pa.string()),
        ("error", pa.string()),
        ("run_id", pa.string()),
    ]
)


class Row(TypedDict, total=False):
    """A row of a manifest or, with a part of the columns, of a plan.

    What only a readable image or a stored sample has is missing, or null, in the row of one that is none.
    """

    key: str
    shard: int
    index_in_shard: int | None
    source_id: str
    source_sha256: str
    split: str
    label: int
    wnid: str
    target: str
    attack: str
    preset: str
    params_json: str
    implementation: str
    eps_255: int
    target_class: int
    seed: int
    width: int | None
    height: int | None
    clean_px_sha256: str | None
    adv_px_sha256: str
    pred_clean: int
    conf_clean: float
    pred_adv_float: int
    pred_adv: int
    conf_adv: float
    success: bool
    linf_255: int
    l2: float
    proposal_linf_255: float
    grad_evals: int
    status: str
    error: str
    run_id: str
